//go:build unix

package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// pythonPlugin installs testdata/python as version 0.1.0 of family mean, or skips the test.
func pythonPlugin(t *testing.T) func(*Options) {
	t.Helper()
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import grpc, google.protobuf, cryptography").CombinedOutput(); err != nil {
		t.Skipf("the plugin in Python needs %s with grpcio, protobuf and cryptography: %v: %s", python, err, out)
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "mean", "0.1.0")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/python/zoo-mean")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "zoo-mean"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	desc, err := proto.Marshal(&descriptorpb.FileDescriptorSet{
		File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(zoov1.File_zoo_v1_plugin_proto)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "plugin.desc"), desc, 0o644); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Dirs = append(o.Dirs, dir) }
}

func TestPluginInPythonServesTheSameContract(t *testing.T) {
	h := newHost(t, pythonPlugin(t))
	p, m, err := h.Model(t.Context(), "mean")
	if err != nil {
		t.Fatal(err)
	}
	if p.String() != "mean 0.1.0" || p.Protocol != 1 || m.Input != (graph.Shape{C: 3, H: 8, W: 8}) {
		t.Errorf("plugin %+v, model %+v", p, m)
	}
	g, err := h.Build(t.Context(), Network{Family: "mean", Model: "mean", Classes: 4})
	if err != nil {
		t.Fatal(err)
	}
	if g.NumParams() != 8 || g.Node("mean").Op.Kind() != "mean_of_image" {
		t.Errorf("%d parameters, %v", g.NumParams(), g.Node("mean").Op)
	}
	s, err := h.Open(t.Context(), Spec{Network: Network{Family: "mean", Model: "mean", Classes: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := &Tensor{N: 2, Shape: graph.Shape{C: 1, H: 1, W: 2}, Data: []float32{1, 2, -3, 4}}
	out, err := s.Infer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{1.5, 2.5, 3.5, 0.5, 1.5, 2.5}; !slices.Equal(out[0].Data, want) {
		t.Errorf("logits %v, want %v", out[0].Data, want)
	}
	// Larger than a message: in chunks.
	in = &Tensor{N: 3, Shape: graph.Shape{C: 3, H: 400, W: 400}, Data: make([]float32, 3*3*400*400)}
	if _, err := s.Infer(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = h.Open(t.Context(), Spec{Network: Network{Family: "mean", Model: "mode"}})
	oneLine(t, err, `family mean has no model "mode"`)
}

func TestBinaryThatIsNamedServesWithItsFolder(t *testing.T) {
	var o Options
	pythonPlugin(t)(&o)
	h := newHost(t, func(given *Options) { given.Binaries = []string{filepath.Join(o.Dirs[0], "mean", "0.1.0", "zoo-mean")} })
	if p, _, err := h.Model(t.Context(), "mean"); err != nil || p.Version != "0.1.0" {
		t.Errorf("%v serves, %v", p, err)
	}
}
