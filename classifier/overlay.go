package classifier

import (
	"fmt"
	"image"
	"image/color"
	"slices"

	"gonum.org/v1/plot/palette/moreland"

	"github.com/go-modelzoo/zoo/vision"
)

const (
	// overlayOpacity is that of the colour where the map is largest; elsewhere it is in proportion.
	overlayOpacity = 0.75
	// unseenBrightness is that of the parts of an image that the network does not see.
	unseenBrightness = 0.4
)

// Overlay draws the map of an image's explanation over the image, in its size: the more a part speaks for the class, the more it is covered,
// with colours from black over red to white. What preprocessing cuts off is darker.
func (m *Model) Overlay(img *vision.Image, e Explanation) (*image.NRGBA, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	if len(e.Map) == 0 || len(e.Map) != e.Height*e.Width {
		return nil, fmt.Errorf("a map of %d×%d has %d values", e.Height, e.Width, len(e.Map))
	}
	colors, err := heat()
	if err != nil {
		return nil, err
	}
	peak := slices.Max(e.Map)
	left, top, width, height := m.Preprocess().Region(img.Width, img.Height)
	columns, rows := interpolation(img.Width, left, width, e.Width), interpolation(img.Height, top, height, e.Height)
	out := img.NRGBA()
	for y, r := range rows {
		for x, c := range columns {
			pixel := out.Pix[out.PixOffset(x, y):][:3]
			if !r.inside || !c.inside {
				for i, v := range pixel {
					pixel[i] = uint8(unseenBrightness * float32(v))
				}
				continue
			}
			if peak == 0 {
				continue
			}
			upper, lower := e.Map[r.from*e.Width:][:e.Width], e.Map[r.to*e.Width:][:e.Width]
			value := ((1-r.part)*((1-c.part)*upper[c.from]+c.part*upper[c.to]) + r.part*((1-c.part)*lower[c.from]+c.part*lower[c.to])) / peak
			over, opacity := colors[int(value*float32(len(colors)-1))], overlayOpacity*value
			for i, v := range [3]uint8{over.R, over.G, over.B} {
				pixel[i] = uint8((1-opacity)*float32(pixel[i]) + opacity*float32(v) + 0.5)
			}
		}
	}
	return out, nil
}

// between says where a pixel lies: part of the way from one cell's centre to another's.
type between struct {
	from, to int
	part     float32
	inside   bool // the region
}

// interpolation finds, for each of n pixels along an axis, its place among the cells that divide the region (bilinear interpolation, as
// PyTorch's with align_corners=False).
func interpolation(n int, start, extent float64, cells int) []between {
	list := make([]between, n)
	for i := range list {
		at := (float64(i) + 0.5 - start) / extent
		centre := min(max(at*float64(cells)-0.5, 0), float64(cells-1))
		list[i] = between{int(centre), min(int(centre)+1, cells-1), float32(centre - float64(int(centre))), at >= 0 && at < 1}
	}
	return list
}

// heat is Moreland's extended black body scale ("Why We Use Bad Color Maps and What You Can Do About It", 2016), from small to large.
func heat() ([256]color.NRGBA, error) {
	var list [256]color.NRGBA
	scale := moreland.ExtendedBlackBody()
	scale.SetMax(1)
	for i := range list {
		c, err := scale.At(float64(i) / float64(len(list)-1))
		if err != nil {
			return list, err
		}
		list[i], _ = color.NRGBAModel.Convert(c).(color.NRGBA)
	}
	return list, nil
}
