package conformance

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
	"github.com/go-modelzoo/zoo/weights"
)

// TestGoldenThroughPlugin sends one golden of every family through a plugin process of that family: weights as a file, images and logits
// through shared memory.
func TestGoldenThroughPlugin(t *testing.T) {
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	// The case of the fewest parameters and pixels stands for its family.
	chosen := map[string]golden.Forward{}
	cost := func(c golden.Forward) int64 { return c.Params + 100*int64(c.Input.N()*c.Input[2]*c.Input[3]) }
	for _, c := range cases {
		f, _ := find(t, c.Model)
		if other, ok := chosen[f.Name]; !ok || cost(c) < cost(other) {
			chosen[f.Name] = c
		}
	}
	h, err := host.New(host.Options{Embedded: plugins.All(), StartTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	var results table
	defer results.print()
	for _, f := range plugins.All() {
		t.Run(f.Name, func(t *testing.T) {
			c, ok := chosen[f.Name]
			if !ok {
				t.Fatal("there is no golden")
			}
			if testing.Short() && !small(c) {
				t.Skip("large: run without -short")
			}
			_, m := find(t, c.Model)
			n, shape, classes := c.Input.N(), c.Input.Shape(), c.LogitsShape[1]
			s, err := h.Open(t.Context(), host.Spec{
				Network:   host.Network{Family: f.Name, Model: c.Model, Classes: classes, Input: shape},
				Weights:   host.Weights{Path: file(t, m, c)},
				Precision: engine.Highest,
			})
			if err != nil {
				t.Fatal(err)
			}
			x, err := s.NewTensor(t.Context(), n, shape)
			if err != nil {
				t.Fatal(err)
			}
			copy(x.Data, reference.NHWC(golden.Input("input", n, shape), n, shape))
			out, err := s.Infer(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			tolerance, _ := c.Tolerance(engine.Highest)
			results.add(t, row{
				model: c.Model, input: c.Input.String(), what: "logits from plugin", precision: engine.Highest,
				error: golden.RelL2(out[0].Data, c.Logits), tolerance: tolerance,
			})
			if err := x.Release(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// file writes the parameters of a case to a checkpoint.
func file(t *testing.T, m sdk.Model, c golden.Forward) string {
	t.Helper()
	g, err := m.Graph(c.Input.Shape(), c.LogitsShape[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	params := golden.Fill(g, c.Gain)
	var tensors []weights.Tensor
	for _, p := range g.Params {
		if p.Role == graph.NumBatchesTracked {
			tensors = append(tensors, weights.FromInt64(p.Name, p.Shape, []int64{0}))
		} else {
			tensors = append(tensors, weights.FromFloat32(p.Name, p.Shape, params[p.Name]))
		}
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := weights.WriteSafetensors(out, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
