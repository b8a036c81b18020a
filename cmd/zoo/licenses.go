package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/internal/ui"
)

// licenseResult is a row of `zoo licenses -o json`.
type licenseResult struct {
	Model   string `json:"model"`
	Tag     string `json:"tag"`
	License string `json:"license"`
	URL     string `json:"url,omitempty"`
}

func newLicenses(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "licenses",
		Short: "List the licence of every weights file of the index; one that its authors did not state is unknown",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			index, err := c.Hub.Index(cmd.Context())
			if err != nil {
				return err
			}
			var results []licenseResult
			counts := map[string]int{}
			for _, m := range index.Models {
				for _, w := range m.Weights {
					r := licenseResult{Model: m.Name, Tag: w.Tag, License: w.License}
					if w.Origin != nil {
						r.URL = w.Origin.URL
					}
					results = append(results, r)
					counts[w.License]++
				}
			}
			return a.Print(results, func(w io.Writer) error {
				rows := make([][]string, len(results))
				for i, r := range results {
					rows[i] = []string{r.Model, r.Tag, r.License}
				}
				if err := ui.Table(w, []string{"model", "weights", "licence"}, rows); err != nil {
					return err
				}
				fmt.Fprintln(w)
				for _, l := range slices.Sorted(maps.Keys(counts)) {
					fmt.Fprintf(w, "%4d  %s\n", counts[l], l)
				}
				return nil
			})
		},
	}
}
