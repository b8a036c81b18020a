package main

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/chart"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// comparison is a row of `zoo compare -o json`.
type comparison struct {
	Name       string  `json:"name"`
	Family     string  `json:"family"`
	Params     int64   `json:"params"`
	MACs       int64   `json:"macs"`
	Top1       float64 `json:"top1,omitempty"` // on ImageNet-1k, where known
	MSPerImage float64 `json:"ms_per_image,omitempty"`
}

func newCompare(a *app) *cobra.Command {
	var file string
	var measure bool
	var batch int
	cmd := &cobra.Command{
		Use:   "compare MODEL|GLOB...",
		Short: "Compare models in a table and a bubble chart: accuracy against cost, area by parameters",
		Example: `  zoo compare 'resnet*' 'vgg*' mobilenet_v2 --chart models.svg
  zoo compare resnet18 resnet50 --measure --chart measured.png`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			format := strings.TrimPrefix(filepath.Ext(file), ".")
			if file != "" && format != "svg" && format != "png" {
				return usagef("--chart %s: the file must end in .svg or .png", file)
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			rows, err := a.compare(cmd, c, args, measure, batch)
			if err != nil {
				return err
			}
			if file != "" {
				if err := classifier.WriteFile(file, func(w io.Writer) error { return drawComparison(w, format, rows, measure) }); err != nil {
					return err
				}
			}
			return a.Print(rows, func(w io.Writer) error { return printComparison(w, rows, measure) })
		},
	}
	cmd.Flags().StringVar(&file, "chart", "", "draw a chart to this .svg or .png file")
	cmd.Flags().BoolVar(&measure, "measure", false, "measure each model on this machine, and draw accuracy against milliseconds")
	cmd.Flags().IntVar(&batch, "batch", 1, "images that run together when measuring")
	return cmd
}

func (a *app) compare(cmd *cobra.Command, c *classifier.Client, patterns []string, measure bool, batch int) ([]comparison, error) {
	if batch < 1 {
		return nil, usagef("--batch must be at least 1")
	}
	all, err := c.List(cmd.Context())
	if err != nil {
		return nil, err
	}
	var rows []comparison
	for _, p := range patterns {
		matched := false
		for _, e := range all {
			ok, err := path.Match(p, e.Name)
			if err != nil {
				return nil, usagef("pattern %q is malformed: use *, ? and [a-z] as in a shell", p)
			}
			if !ok {
				continue
			}
			matched = true
			if slices.ContainsFunc(rows, func(r comparison) bool { return r.Name == e.Name }) {
				continue
			}
			if e.MACs == 0 { // an architecture that the index does not describe
				if err := countUp(cmd, c, &e); err != nil {
					return nil, err
				}
			}
			if e.Classes != 1000 { // its accuracy is on other images than ImageNet's
				e.Top1 = 0
			}
			rows = append(rows, comparison{Name: e.Name, Family: e.Family, Params: e.Params, MACs: e.MACs, Top1: e.Top1})
		}
		if !matched {
			return nil, fmt.Errorf("no model matches %q; `zoo list` shows all", p)
		}
	}
	if measure {
		bars := a.Progress()
		defer bars.Close()
		meter := bars.Items("measuring", "models", int64(len(rows)))
		for i := range rows {
			if rows[i].MSPerImage, err = measureOne(cmd, c, rows[i].Name, batch); err != nil {
				return nil, err
			}
			meter.Set(int64(i+1), 0)
		}
		meter.Done()
	}
	slices.SortFunc(rows, func(x, y comparison) int { return cmp.Compare(x.MACs, y.MACs) })
	return rows, nil
}

// countUp takes the size and the cost of a network from its graph.
func countUp(cmd *cobra.Command, c *classifier.Client, e *classifier.Entry) error {
	ck, err := c.Architecture(cmd.Context(), e.Name)
	if err != nil {
		return err
	}
	g, err := c.Host.Build(cmd.Context(), ck.Network())
	if err != nil {
		return err
	}
	e.Params, e.MACs = g.NumParams(), g.MACs()
	return nil
}

func measureOne(cmd *cobra.Command, c *classifier.Client, name string, batch int) (float64, error) {
	ck, err := c.Architecture(cmd.Context(), name)
	if err != nil {
		return 0, err
	}
	m, err := c.Open(cmd.Context(), ck, classifier.LoadOptions{})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	r, err := m.Bench(cmd.Context(), classifier.BenchOptions{Batch: batch, Warmup: 2, Runs: 5, Duration: 500 * time.Millisecond})
	return r.MSPerImage, err
}

func printComparison(w io.Writer, rows []comparison, measured bool) error {
	header := []string{"model", "family", "params", "gmacs", "top-1"}
	if measured {
		header = append(header, "ms/image")
	}
	table := make([][]string, len(rows))
	for i, r := range rows {
		table[i] = []string{r.Name, r.Family, millions(r.Params), giga(r.MACs), percent(r.Top1)}
		if measured {
			table[i] = append(table[i], fmt.Sprintf("%.2f", r.MSPerImage))
		}
	}
	return ui.Table(w, header, table)
}

// drawComparison draws the models whose accuracy on ImageNet is known.
func drawComparison(w io.Writer, format string, rows []comparison, measured bool) error {
	var bubbles []chart.Bubble
	for _, r := range rows {
		if r.Top1 == 0 {
			continue
		}
		b := chart.Bubble{Name: r.Name, Family: r.Family, X: float64(r.MACs) / 1e9, Accuracy: r.Top1, Params: r.Params}
		if measured {
			b.X = r.MSPerImage
		}
		bubbles = append(bubbles, b)
	}
	if len(bubbles) == 0 {
		return fmt.Errorf("none of these models has a published accuracy on ImageNet to draw: leave --chart out, or name others")
	}
	label := "billions of multiply-accumulates"
	if measured {
		label = "milliseconds an image on this machine"
	}
	return chart.Write(w, format, "Accuracy against cost; area shows parameters", label, bubbles)
}
