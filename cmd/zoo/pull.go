package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// modelResult describes a model of the store in JSON.
type modelResult struct {
	Reference string `json:"reference"` // what to ask for it by
	Name      string `json:"name"`
	Tag       string `json:"tag"`
	Digest    string `json:"digest"`
	Path      string `json:"path"`
	Source    string `json:"source"`
	License   string `json:"license"`
	Bytes     int64  `json:"bytes"`
}

func resultOf(m *hub.Model) modelResult {
	return modelResult{m.Reference(), m.Name, m.Tag, m.Digest.String(), m.Path, m.Source, m.Card.License, m.Card.Weights.Size}
}

func newPull(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pull MODEL[:TAG]...",
		Short: "Download weights, verify every byte, and keep them in the store",
		Example: `  zoo pull resnet50
  zoo pull resnet50:IMAGENET1K_V1 squeezenet1_1
  zoo pull oci://registry.example.org/models/ants-bees:local`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			var results []modelResult
			for _, ref := range args {
				m, err := c.Pull(cmd.Context(), ref)
				if err != nil {
					return err
				}
				results = append(results, resultOf(m))
			}
			return a.Print(results, func(w io.Writer) error {
				for _, r := range results {
					fmt.Fprintf(w, "%s from %s: %s, licence %s\n  %s\n", r.Reference, r.Source, ui.Bytes(r.Bytes), r.License, r.Digest)
				}
				return nil
			})
		},
	}
}
