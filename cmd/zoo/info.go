package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newInfo(a *app) *cobra.Command {
	var system bool
	cmd := &cobra.Command{
		Use:   "info MODEL | --system",
		Short: "Describe a model (weights, licence, preprocessing, layer groups), or this machine",
		Example: `  zoo info resnet50
  zoo info resnet50 -o json
  zoo info --system`,
		Args: func(cmd *cobra.Command, args []string) error {
			if system && len(args) > 0 {
				return fmt.Errorf("--system describes this machine and takes no model")
			}
			if system {
				return nil
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if system {
				return a.system()
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			ck, err := c.Architecture(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			g, err := c.Host.Build(cmd.Context(), ck.Network())
			if err != nil {
				return err
			}
			return a.info(ck, g)
		},
	}
	cmd.Flags().BoolVar(&system, "system", false, "describe the processor, what runs on it, and where things are kept")
	return cmd
}

// modelInfo is what `zoo info -o json` prints.
type modelInfo struct {
	card.Card
	Groups []groupInfo `json:"groups"`
	Taps   []tapInfo   `json:"taps"`
	Path   string      `json:"path,omitempty"`
}

type groupInfo struct {
	Name   string `json:"name"`
	Params int64  `json:"params"`
}

type tapInfo struct {
	Name     string `json:"name"`
	Stride   int    `json:"stride"`
	Channels int    `json:"channels"`
}

// someNames shows the first names of classes.
func someNames(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		return " (" + strings.Join(names[:most], ", ") + ", …)"
	}
	return " (" + strings.Join(names, ", ") + ")"
}

func (a *app) info(ck *classifier.Checkpoint, g *graph.Graph) error {
	info := modelInfo{Card: ck.Card, Path: ck.Path}
	if ck.Card.Tag != "" { // an architecture alone has no names
		info.Labels = classifier.Labels(&ck.Card)
	}
	for _, gr := range g.Groups {
		var n int64
		for _, p := range gr.Params {
			if !p.Role.Buffer() {
				n += int64(p.Elements())
			}
		}
		info.Groups = append(info.Groups, groupInfo{gr.Name, n})
	}
	for _, t := range g.Taps {
		info.Taps = append(info.Taps, tapInfo{t.Name, t.Stride, t.Node.Shape.C})
	}
	info.Params, info.MACs = g.NumParams(), g.MACs()
	return a.Print(info, func(w io.Writer) error {
		k := &info.Card
		var rows [][]string
		row := func(name, format string, args ...any) {
			rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
		}
		row("name", "%s", k.Name)
		if k.Family != "" {
			row("family", "%s", k.Family)
		}
		row("parameters", "%s", ui.Count(info.Params))
		row("MACs", "%s for one %s image", ui.Count(info.MACs), g.Input)
		row("classes", "%d%s", g.Classes, someNames(info.Labels))
		if k.Tag != "" {
			row("weights", "%s", k.Tag)
		}
		row("licence", "%s", k.License)
		p := k.Preprocess
		if p.Resize > 0 {
			row("resize", "shorter side to %d, %s", p.Resize, p.Interpolation)
		}
		if p.Crop > 0 {
			row("crop", "centre %d×%d", p.Crop, p.Crop)
		}
		row("normalise", "mean %v, std %v", p.Mean, p.Std)
		for _, m := range slices.Sorted(maps.Keys(k.Metrics)) {
			row(m, "%g %%", k.Metrics[m])
		}
		if k.Base != nil {
			row("made from", "%s:%s (%s)", k.Base.Name, k.Base.Tag, k.Base.Weights)
		}
		if info.Path != "" {
			row("file", "%s (%s)", info.Path, k.Weights.Digest)
		}
		var groups, taps []string
		for _, gr := range info.Groups {
			groups = append(groups, fmt.Sprintf("%s (%s)", gr.Name, ui.Count(gr.Params)))
		}
		for _, t := range info.Taps {
			taps = append(taps, fmt.Sprintf("%s (stride %d, %d channels)", t.Name, t.Stride, t.Channels))
		}
		row("layer groups", "%s", strings.Join(groups, ", "))
		row("feature taps", "%s", strings.Join(taps, ", "))
		return ui.Table(w, nil, rows)
	})
}
