package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/host/plugintest"
	"github.com/go-modelzoo/zoo/internal/scaffold"
)

func newPluginNew(a *app) *cobra.Command {
	m := scaffold.Module{Zoo: "latest", Go: "1.26"}
	var dir string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write the Go module of a new family, with a network to start from",
		Example: `  zoo plugin new ghostnet
  cd ghostnet && go mod tidy && go test ./... && go build -o plugins/ ./cmd/zoo-ghostnet`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m.Name = args[0]
			if dir == "" {
				dir = m.Name
			}
			if m.Zoo == "latest" {
				m.Zoo = requiredVersion(version())
			}
			if m.Replace != "" {
				abs, err := filepath.Abs(m.Replace)
				if err != nil {
					return err
				}
				m.Replace = abs
			}
			files, err := scaffold.Write(dir, m)
			if err != nil {
				return err
			}
			if m.Zoo == unreleased && m.Replace == "" {
				a.Note("this zoo is no release that Go could fetch: set its version in go.mod, or begin again with --replace FOLDER, a folder with zoo's source")
			}
			return a.Print(files, func(w io.Writer) error {
				for _, f := range files {
					fmt.Fprintln(w, filepath.Join(dir, f))
				}
				_, err := fmt.Fprintf(w, "\nnext: cd %s && go mod tidy && go test ./...\n", dir)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to make (default: NAME)")
	cmd.Flags().StringVar(&m.Path, "module", "", "Go module path (default: example.com/NAME)")
	cmd.Flags().StringVar(&m.Replace, "replace", "", "use zoo's source in this folder in place of a published version")
	return cmd
}

// requiredVersion is what go.mod requires of zoo: a release as it is, a build without a version the first one.
func requiredVersion(v string) string {
	if strings.HasPrefix(v, "v") {
		return v
	}
	return unreleased
}

// unreleased is no version that exists.
const unreleased = "v0.0.0"

func newPluginTest(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "test BINARY",
		Short: "Run the conformance kit against a plugin binary, whatever language it is written in",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			type result struct {
				Model string `json:"model,omitempty"`
				Check string `json:"check"`
				Error string `json:"error,omitempty"`
			}
			var results []result
			failed := 0
			c, err := a.config()
			if err != nil {
				return err
			}
			err = plugintest.Run(cmd.Context(), args[0], c.HostOptions(), func(c plugintest.Check) {
				r := result{c.Model, c.Name, ""}
				if c.Err != nil {
					failed++
					r.Error = c.Err.Error()
				}
				results = append(results, r)
			})
			if err != nil {
				return err
			}
			if err := a.Print(results, func(w io.Writer) error {
				for _, r := range results {
					mark := "ok  "
					if r.Error != "" {
						mark = "FAIL"
					}
					fmt.Fprintf(w, "%s %s\n", mark, strings.TrimSpace(r.Model+" "+r.Check))
					if r.Error != "" {
						fmt.Fprintf(w, "     %s\n", r.Error)
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%s fails %d of %d checks", args[0], failed, len(results))
			}
			return nil
		},
	}
}
