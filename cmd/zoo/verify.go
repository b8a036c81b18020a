package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/weights"
)

// findingResult is something that `zoo verify` found, in JSON.
type findingResult struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Warning bool   `json:"warning"`

	pinned bool // see hub.Finding.Pinned
}

func newVerify(a *app) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify [MODEL|FILE]...",
		Short: "Read every byte of the store, or of weights files, and compare: digests, signatures, pins, NaN",
		Example: `  zoo verify
  zoo verify resnet50 checkpoint.pth`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var refs []string
			found := []findingResult{}
			for _, arg := range args {
				if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
					list, err := verifyFile(cmd.Context(), arg)
					if err != nil {
						return err
					}
					found = append(found, list...)
					continue
				}
				refs = append(refs, arg)
			}
			if len(refs) > 0 || len(args) == 0 {
				c, err := a.open()
				if err != nil {
					return err
				}
				list, err := c.Hub.Verify(cmd.Context(), repair, refs...)
				if err != nil {
					return err
				}
				for _, f := range list {
					found = append(found, findingResult{
						Name: f.Name, Problem: strings.TrimPrefix(f.Err.Error(), f.Name+": "), Warning: f.Warning, pinned: f.Pinned(),
					})
				}
			}
			bad, damaged := 0, 0
			for _, f := range found {
				if !f.Warning {
					bad++
				}
				if !f.Warning && !f.pinned {
					damaged++
				}
			}
			if err := a.Print(found, func(w io.Writer) error {
				for _, f := range found {
					kind := "damaged"
					switch {
					case f.Warning:
						kind = "warning"
					case f.pinned:
						kind = "refused"
					}
					fmt.Fprintf(w, "%s: %s: %s\n", kind, f.Name, f.Problem)
				}
				if len(found) == 0 {
					fmt.Fprintln(w, "all is as it should be")
				}
				return nil
			}); err != nil {
				return err
			}
			if bad > 0 && damaged == 0 {
				return fmt.Errorf("%s found: nothing is damaged, but zoo.lock pins other weights", plural.Count(bad, "problem", "problems"))
			}
			if bad > 0 && repair {
				return fmt.Errorf("%s found: damaged files are forgotten, pull or import them again", plural.Count(bad, "problem", "problems"))
			}
			if bad > 0 {
				return fmt.Errorf("%s found: `zoo verify --repair` forgets damaged files, so that the next pull fetches them again", plural.Count(bad, "problem", "problems"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove damaged blobs, so that the next pull fetches them again")
	return cmd
}

// verifyFile checks a checkpoint's structure, checksums and values.
func verifyFile(ctx context.Context, path string) (found []findingResult, err error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	list, err := weights.Verify(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		text := strings.TrimPrefix(x.String(), path+": ")
		found = append(found, findingResult{Name: path, Problem: text, Warning: true})
	}
	return found, nil
}
