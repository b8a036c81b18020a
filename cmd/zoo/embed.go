package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/weights"
)

func newEmbed(a *app) *cobra.Command {
	var out, output string
	var skipBad bool
	cmd := &cobra.Command{
		Use:   "embed MODEL IMAGE|DIR... --out FILE.npy",
		Short: "Write the pooled features of images: a row an image, for search, clustering or a classifier of your own",
		Long:  `Write the pooled features of images as a NumPy array [images, channels], and beside it FILE.csv with the path of each row.`,
		Example: `  zoo embed resnet50 photos/ --out photos.npy
  zoo embed resnet50 photos/ --out maps.npy --features stage3`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if filepath.Ext(out) != ".npy" {
				return usagef("--out %s: the file must end in .npy", out)
			}
			if err := stdinOnce(args[1:]); err != nil {
				return err
			}
			items, err := imageItems(args[1:], cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			m, err := c.Load(cmd.Context(), args[0], classifier.LoadOptions{Outputs: []string{output}})
			if err != nil {
				return err
			}
			defer m.Close()
			return a.embed(cmd, m, items, out, skipBad)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "NumPy file to write")
	cmd.Flags().StringVar(&output, "features", "embedding", "embedding, or the name of a feature tap (which is written flattened)")
	cmd.Flags().BoolVar(&skipBad, "skip-bad", false, "leave out images that cannot be read, and name them")
	cmd.MarkFlagRequired("out")
	return cmd
}

func (a *app) embed(cmd *cobra.Command, m *classifier.Model, items []classifier.Item, out string, skipBad bool) error {
	var rows []float32
	var names, skipped []string
	width := 0
	err := a.stream(cmd, m, items, "embedding", func(r classifier.Result) error {
		if r.Err != nil && !skipBad {
			return fmt.Errorf("%w; --skip-bad leaves such images out", r.Err)
		}
		if r.Err != nil {
			skipped = append(skipped, r.Err.Error())
			return nil
		}
		if width == 0 {
			width = len(r.Outputs[0])
		}
		if len(r.Outputs[0]) != width {
			return fmt.Errorf("%s gives %d values where the images before gave %d: import the model with a crop, so that all images have one size", r.Item.Name, len(r.Outputs[0]), width)
		}
		rows = append(rows, r.Outputs[0]...)
		names = append(names, r.Item.Name)
		return nil
	})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return noneRead(skipped)
	}
	if err := classifier.WriteFile(out, func(w io.Writer) error { return weights.WriteNPY(w, []int{len(names), width}, rows) }); err != nil {
		return err
	}
	list := strings.TrimSuffix(out, ".npy") + ".csv"
	err = classifier.WriteFile(list, func(w io.Writer) error {
		c := csv.NewWriter(w)
		for _, n := range names {
			if err := c.Write([]string{n}); err != nil {
				return err
			}
		}
		c.Flush()
		return c.Error()
	})
	if err != nil {
		return err
	}
	for _, s := range skipped {
		a.Note("skipped: %s", s)
	}
	a.Note("wrote %s (%d × %d) and %s", out, len(names), width, list)
	return nil
}
