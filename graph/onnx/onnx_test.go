package onnx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/graph/onnx"
	"github.com/go-modelzoo/zoo/internal/golden"
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
	python := "python3"
	if out, err := exec.Command(python, "-c", "import onnxruntime").CombinedOutput(); err != nil {
		t.Skipf("python3 with onnxruntime is needed (pip install onnxruntime): %v %s", err, out)
	}
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
			file := filepath.Join(t.TempDir(), "model.onnx")
			var model bytes.Buffer
			err := onnx.Write(&model, g, golden.Fill(g, c.Gain))
			if errors.Is(err, onnx.ErrUnevenBins) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, model.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(python, "-c", runtimeScript, file, c.Input.String())
			var stdin, stderr bytes.Buffer
			if err := binary.Write(&stdin, binary.LittleEndian, golden.Input("input", c.Input.N(), c.Input.Shape())); err != nil {
				t.Fatal(err)
			}
			cmd.Stdin, cmd.Stderr = &stdin, &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("ONNX Runtime: %v\n%s", err, stderr.String())
			}
			logits := make([]float32, len(out)/4)
			for i := range logits {
				logits[i] = math.Float32frombits(binary.LittleEndian.Uint32(out[4*i:]))
			}
			if e := golden.RelL2(logits, c.Logits); !(e <= 2e-5) {
				t.Errorf("relative error %.2g, tolerance 2e-5", e)
			}
		})
	}
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
	b := graph.NewBuilder(graph.Shape{C: 1, H: 5, W: 5}, 2)
	x := b.Features(b.AdaptiveAvgPool(b.Input(), graph.Square(3)))
	x = b.Linear("fc", b.Flatten(x), graph.Fc{Out: 2})
	b.Classifier("fc")
	b.Group("fc", "fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	err = onnx.Write(&bytes.Buffer{}, g, golden.Fill(g, 1))
	if !errors.Is(err, onnx.ErrUnevenBins) || !strings.Contains(err.Error(), "adaptive_avg_pool2d") {
		t.Fatalf("got %v, want an error that names the node", err)
	}
}
