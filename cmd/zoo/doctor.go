package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check processor, store, plugins, registries and clock, and say what to do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open()
			if err != nil {
				return err
			}
			checks := c.Diagnose(cmd.Context())
			bad := 0
			for _, k := range checks {
				if k.Status == classifier.Bad {
					bad++
				}
			}
			if err := a.Print(checks, func(w io.Writer) error {
				rows := make([][]string, len(checks))
				for i, k := range checks {
					rows[i] = []string{string(k.Status), k.Name, k.Detail}
				}
				return ui.Table(w, nil, rows)
			}); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks failed: each says what to do", bad, len(checks))
			}
			return nil
		},
	}
}
