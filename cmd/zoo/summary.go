package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// layerRow is a line of `zoo summary -o json`.
type layerRow struct {
	Name           string `json:"name"`
	Operator       string `json:"operator"`
	Output         [3]int `json:"output"`
	Params         int64  `json:"params"`
	MACs           int64  `json:"macs"`
	ReceptiveField [2]int `json:"receptive_field"`
	Training       bool   `json:"training_only,omitempty"`
}

func newSummary(a *app) *cobra.Command {
	var input string
	var options map[string]string
	var classes int
	cmd := &cobra.Command{
		Use:   "summary MODEL",
		Short: "Print a network layer by layer: output shape, parameters, multiply-accumulates, receptive field",
		Example: `  zoo summary resnet50
  zoo summary vgg16 --input 3x320x320
  zoo summary resnet_custom --option layers=1,1 --option widths=64,128 --classes 2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			shape, err := parseInput(input)
			if err != nil {
				return err
			}
			if classes < 0 {
				return usagef("%d classes: give at least 1", classes)
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Architecture(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			overrideCard(&ck.Card, shape, options, classes)
			g, err := c.Host.Build(cmd.Context(), ck.Network())
			if err != nil {
				return err
			}
			return a.summary(args[0], g)
		},
	}
	cmd.Flags().StringVar(&input, "input", "", "image shape CxHxW (default: the model's)")
	cmd.Flags().StringToStringVar(&options, "option", nil, "model option `NAME=VALUE` (repeatable)")
	cmd.Flags().IntVar(&classes, "classes", 0, "classes of the classifier (default: the model's)")
	return cmd
}

func (a *app) summary(name string, g *graph.Graph) error {
	rows := g.Summary()
	layers := make([]layerRow, len(rows))
	for i, r := range rows {
		s := r.Node.Shape
		layers[i] = layerRow{
			Name: r.Node.Name, Operator: r.Node.Op.Kind(), Output: [3]int{s.C, s.H, s.W}, Params: r.Params, MACs: r.MACs,
			ReceptiveField: [2]int{r.ReceptiveField.H, r.ReceptiveField.W}, Training: r.Training,
		}
	}
	total := struct {
		Model  string     `json:"model"`
		Input  [3]int     `json:"input"`
		Params int64      `json:"params"`
		MACs   int64      `json:"macs"`
		Groups []string   `json:"groups"`
		Layers []layerRow `json:"layers"`
	}{name, [3]int{g.Input.C, g.Input.H, g.Input.W}, g.NumParams(), g.MACs(), nil, layers}
	for _, gr := range g.Groups {
		total.Groups = append(total.Groups, gr.Name)
	}
	return a.Print(total, func(w io.Writer) error {
		table := make([][]string, len(layers))
		for i, l := range layers {
			op := l.Operator
			if l.Training {
				op += " (training)"
			}
			table[i] = []string{l.Name, op, fmt.Sprintf("%dx%dx%d", l.Output[0], l.Output[1], l.Output[2]), count(l.Params), count(l.MACs), fmt.Sprintf("%dx%d", l.ReceptiveField[0], l.ReceptiveField[1])}
		}
		if err := ui.Table(w, []string{"layer", "operator", "output", "params", "macs", "receptive field"}, table); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\n%s parameters, %s multiply-accumulates for one %s image, %s of float32 weights\nlayer groups: %s\n",
			ui.Count(total.Params), ui.Count(total.MACs), g.Input, ui.Bytes(4*total.Params), strings.Join(total.Groups, " "))
		return err
	})
}

// count prints nothing for zero, so that the layers that hold or do something stand out.
func count(n int64) string {
	if n == 0 {
		return ""
	}
	return ui.Count(n)
}
