package onnx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/graph/onnx"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins"
)

// runtimeScript runs a model on float32 values from standard input and writes the logits to standard output.
const runtimeScript = `
import sys, numpy, onnxruntime
s = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
x = numpy.frombuffer(sys.stdin.buffer.read(), dtype="<f4").reshape([int(d) for d in sys.argv[2].split("x")])
sys.stdout.buffer.write(s.run(["logits"], {"input": x})[0].tobytes())
`

// TestRuntimeGivesTheGoldenLogits exports networks and has ONNX Runtime compute the goldens.
func TestRuntimeGivesTheGoldenLogits(t *testing.T) {
	needsRuntime(t)
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Params > 30e6 {
			continue // the same operators in larger
		}
		t.Run(strings.TrimSuffix(filepath.Base(c.Path), ".json"), func(t *testing.T) {
			t.Parallel()
			g := build(t, c)
			logits, err := runtimeLogits(t, g, golden.Fill(g, c.Gain), golden.Input("input", c.Input.N(), c.Input.Shape()), c.Input.String())
			if errors.Is(err, onnx.ErrUnevenBins) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if e := golden.RelL2(logits, c.Logits); !(e <= 2e-5) {
				t.Errorf("relative error %.2g, tolerance 2e-5", e)
			}
		})
	}
}

// TestPoolingEndsWhereTorchsDoes rounds up the size of poolings whose last window would begin behind the map: opset 17 has that window, PyTorch
// has not.
func TestPoolingEndsWhereTorchsDoes(t *testing.T) {
	needsRuntime(t)
	for _, s := range []graph.Shape{{C: 2, H: 7, W: 8}, {C: 2, H: 10, W: 10}} {
		b := graph.NewBuilder(s, 3)
		var all []*graph.Node
		for i, p := range []graph.Pool{
			{Stride: graph.HW(2, 3)},
			{Kernel: graph.Square(2), Stride: graph.HW(2, 3), Pad: graph.Square(1)},
			{Kernel: graph.Square(2), Stride: graph.HW(2, 3), Pad: graph.Square(1), ExcludePad: true},
			{Kernel: graph.HW(3, 2), Stride: graph.HW(2, 3), Pad: graph.HW(1, 0)},
		} {
			p.Ceil = true
			x := b.Concat(b.MaxPool(b.Input(), p), b.AvgPool(b.Input(), p))
			all = append(all, b.Scope("fc").Linear(fmt.Sprint(i), b.Flatten(x), graph.Fc{Out: 3}))
		}
		b.Features(b.Input())
		b.Classifier("fc")
		b.Group("fc", "fc")
		g, err := b.Finish(b.Add(all...))
		if err != nil {
			t.Fatal(err)
		}
		params, input := golden.Fill(g, 1), golden.Input("input", 2, s)
		want, err := reference.Run(g, params, reference.NHWC(input, 2, s), 2)
		if err != nil {
			t.Fatal(err)
		}
		logits, err := runtimeLogits(t, g, params, input, fmt.Sprintf("2x%v", s))
		if err != nil {
			t.Fatal(err)
		}
		if e := golden.RelL2(logits, want[0].Float32()); !(e <= 2e-5) {
			t.Errorf("%v: relative error %.2g", s, e)
		}
	}
}

func needsRuntime(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("python3", "-c", "import onnxruntime").CombinedOutput(); err != nil {
		t.Skipf("python3 with onnxruntime is needed (pip install onnxruntime): %v %s", err, out)
	}
}

// runtimeLogits exports a network and has ONNX Runtime compute the logits of images (NCHW) of a shape such as 2x3x224x224.
func runtimeLogits(t *testing.T, g *graph.Graph, params engine.Params, images []float32, shape string) ([]float32, error) {
	t.Helper()
	var model, stdin, stderr bytes.Buffer
	if err := onnx.Write(&model, g, params); err != nil {
		return nil, err
	}
	file := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(file, model.Bytes(), 0o600); err != nil {
		return nil, err
	}
	if err := binary.Write(&stdin, binary.LittleEndian, images); err != nil {
		return nil, err
	}
	cmd := exec.Command("python3", "-c", runtimeScript, file, shape)
	cmd.Stdin, cmd.Stderr = &stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime: %w\n%s", err, stderr.String())
	}
	logits := make([]float32, len(out)/4)
	return logits, binary.Read(bytes.NewReader(out), binary.LittleEndian, logits)
}

func build(t *testing.T, c golden.Forward) *graph.Graph {
	t.Helper()
	for _, f := range plugins.All() {
		if m, ok := f.Model(c.Model); ok {
			g, err := m.Graph(c.Input.Shape(), c.LogitsShape[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
	}
	t.Fatalf("no family has %s", c.Model)
	return nil
}

// TestUnevenBinsAreNamed asks for a pooling that ONNX has no operator for.
func TestUnevenBinsAreNamed(t *testing.T) {
	err := writeOf(t, graph.Shape{C: 1, H: 5, W: 5}, func(b *graph.Builder) *graph.Node { return b.AdaptiveAvgPool(b.Input(), graph.Square(3)) })
	if !errors.Is(err, onnx.ErrUnevenBins) || !strings.Contains(err.Error(), "adaptive_avg_pool2d") {
		t.Fatalf("got %v, want an error that names the node", err)
	}
}

// TestEvenResponseNormIsNamed asks for a norm over two channels: in PyTorch one and the channel before, in ONNX one and the channel after.
func TestEvenResponseNormIsNamed(t *testing.T) {
	err := writeOf(t, graph.Shape{C: 3, H: 2, W: 2}, func(b *graph.Builder) *graph.Node {
		return b.LocalResponseNorm(b.Input(), graph.LocalResponseNorm{Size: 2, Alpha: 1, Beta: 0.75, K: 1})
	})
	if err == nil || !strings.Contains(err.Error(), "local_response_norm") {
		t.Fatalf("got %v, want an error that names the node", err)
	}
}

// writeOf exports a network of the given features and a linear layer.
func writeOf(t *testing.T, input graph.Shape, features func(*graph.Builder) *graph.Node) error {
	t.Helper()
	b := graph.NewBuilder(input, 2)
	x := b.Linear("fc", b.Flatten(b.Features(features(b))), graph.Fc{Out: 2})
	b.Classifier("fc")
	b.Group("fc", "fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	return onnx.Write(&bytes.Buffer{}, g, golden.Fill(g, 1))
}
