package classifier

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/vision"
)

// Tap describes a place in a network whose feature map it gives out, as timm's feature_info does.
type Tap struct {
	// Name is "stageN" for the last map of stride 2ᴺ; a network begins with the finest that it has, stage0, stage1 or stage2.
	Name string `json:"name"`
	// Stride is the number of input pixels between two pixels of the map.
	Stride   int `json:"stride"`
	Channels int `json:"channels"`
}

// FeatureMap is one image's feature map.
type FeatureMap struct {
	Tap
	Height, Width int
	// Data is HWC: Height·Width rows of Channels values.
	Data []float32
}

// ErrNoTaps is returned by Features of a model that was not opened with LoadOptions.Taps.
var ErrNoTaps = errors.New("the model was opened without its feature taps: set LoadOptions.Taps")

// Taps describes the feature taps of a model, from the finest to the coarsest. Nothing is downloaded.
func (c *Client) Taps(ctx context.Context, ref string) (_ []Tap, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	ck, err := c.Architecture(ctx, ref)
	if err != nil {
		return nil, err
	}
	return c.taps(ctx, ck)
}

func (c *Client) taps(ctx context.Context, ck *Checkpoint) ([]Tap, error) {
	g, err := c.Host.Build(ctx, ck.Network())
	if err != nil {
		return nil, err
	}
	list := make([]Tap, len(g.Taps))
	for i, t := range g.Taps {
		list[i] = Tap{t.Name, t.Stride, t.Node.Shape.C}
	}
	return list, nil
}

// Features returns each image's feature maps at all taps, from the finest to the coarsest: what detection, segmentation and
// retrieval build on. The model must have been opened with LoadOptions.Taps. An image that cannot be run is an error that says which.
func (m *Model) Features(ctx context.Context, images []*vision.Image) ([][]FeatureMap, error) {
	if len(m.taps) == 0 {
		return nil, ErrNoTaps
	}
	out := make([][]FeatureMap, 0, len(images))
	err := m.Stream(ctx, decoded(images), func(r Result) error {
		if r.Err != nil {
			return r.Err
		}
		maps := make([]FeatureMap, len(m.taps))
		first := len(r.Outputs) - len(m.taps) // after LoadOptions.Outputs
		for i, t := range m.taps {
			data, s := r.Outputs[first+i], r.Shapes[first+i]
			if want := (graph.Shape{C: t.Channels, H: s.H, W: s.W}); s != want || len(data) != s.Elements() {
				return fmt.Errorf("the plugin gave a map of %v for %s, which has %d channels", s, t.Name, t.Channels)
			}
			maps[i] = FeatureMap{Tap: t, Height: s.H, Width: s.W, Data: data}
		}
		out = append(out, maps)
		return nil
	})
	return out, err
}
