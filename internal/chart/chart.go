// Package chart draws the bubble chart of `zoo compare`: accuracy against cost, the area of a bubble showing the number of parameters,
// after Canziani, Paszke and Culurciello, "An Analysis of Deep Neural Network Models for Practical Applications" (2016), fig. 2.
package chart

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Bubble is a model.
type Bubble struct {
	Name, Family string
	X            float64 // cost
	Accuracy     float64 // percent
	Params       int64
}

// Size of the drawing.
const (
	width  = 10 * vg.Inch
	height = 6.5 * vg.Inch
	// areaPerMillion is a bubble's area in square points for a million parameters.
	areaPerMillion = 12.0
)

// Write draws the bubbles as "svg" or "png". xLabel names the cost and its unit.
func Write(w io.Writer, format, title, xLabel string, bubbles []Bubble) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text = xLabel
	p.Y.Label.Text = "top-1 accuracy on ImageNet-1k (%)"
	p.Add(plotter.NewGrid())
	var families []string
	for _, b := range bubbles {
		if !slices.Contains(families, b.Family) {
			families = append(families, b.Family)
		}
	}
	slices.Sort(families)
	colors := palette.Rainbow(max(len(families), 2), palette.Blue, palette.Red, 0.9, 0.8, 0.6).Colors()
	for i, family := range families {
		if err := add(p, family, colors[i], bubbles); err != nil {
			return err
		}
	}
	p.Legend.Top = false
	p.X.Min = 0
	switch format {
	case "svg":
		c := vgsvg.New(width, height)
		p.Draw(draw.New(c))
		_, err := c.WriteTo(w)
		return err
	case "png":
		c := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
		p.Draw(draw.New(c))
		_, err := c.WriteTo(w)
		return err
	}
	return fmt.Errorf("chart format %q is unknown: use svg or png", format)
}

// add draws a family's bubbles and their names.
func add(p *plot.Plot, family string, c color.Color, bubbles []Bubble) error {
	var points plotter.XYs
	var names []string
	var radii []vg.Length
	for _, b := range bubbles {
		if b.Family == family {
			points = append(points, plotter.XY{X: b.X, Y: b.Accuracy})
			names = append(names, b.Name)
			radii = append(radii, vg.Points(math.Sqrt(areaPerMillion*float64(b.Params)/1e6/math.Pi)))
		}
	}
	scatter, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	scatter.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		return draw.GlyphStyle{Color: c, Radius: max(radii[i], 2), Shape: draw.CircleGlyph{}}
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: names})
	if err != nil {
		return err
	}
	p.Add(scatter, labels)
	scatter.GlyphStyle = draw.GlyphStyle{Color: c, Radius: 4, Shape: draw.CircleGlyph{}}
	p.Legend.Add(family, scatter)
	return nil
}
