package classifier

import (
	"context"
	"errors"

	"github.com/go-modelzoo/zoo/vision"
)

// Explanation tells which parts of an image speak for a class: a class activation map by Grad-CAM (package engine/train says how it is
// computed).
type Explanation struct {
	// Prediction is the class that is explained: that of LoadOptions.Outputs, else the image's most probable one.
	Prediction
	Height, Width int
	// Map has Height·Width values from 0 on, row by row, which divide what the network sees of the image (transforms.Preprocess.Region) into
	// as many equal cells. Only the ratios within a map mean something. If all are 0, no part of the image speaks for the class.
	Map []float32
}

// ErrNoActivationMap is returned by Explain of a model that was opened for other outputs.
var ErrNoActivationMap = errors.New(`the model was opened without a class activation map: name "logits" and "gradcam" in LoadOptions.Outputs`)

// Explain returns for each image which of its parts speak for a class. The model must have been opened with "logits" and a class activation
// map among LoadOptions.Outputs, such as "gradcam" (for the most probable class, on the features) or "gradcam@stage4:281". The first image
// that cannot be run ends it with an error that says which.
func (m *Model) Explain(ctx context.Context, images []*vision.Image) ([]Explanation, error) {
	out := make([]Explanation, 0, len(images))
	err := m.Stream(ctx, decoded(images), func(r Result) error {
		if r.Err != nil {
			return r.Err
		}
		e, err := m.Explanation(r)
		out = append(out, e)
		return err
	})
	return out, err
}

// Explanation makes one of an image's result in Stream.
func (m *Model) Explanation(r Result) (Explanation, error) {
	if m.logits < 0 || m.cam < 0 {
		return Explanation{}, ErrNoActivationMap
	}
	s := r.Shapes[m.cam]
	e := Explanation{Height: s.H, Width: s.W, Map: r.Outputs[m.cam]}
	for _, p := range m.Top(r.Outputs[m.logits], 0) {
		if m.class < 0 || p.Index == m.class {
			e.Prediction = p
			break
		}
	}
	return e, nil
}
