package host

import (
	"fmt"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/mobilenet"
	"github.com/go-modelzoo/zoo/sdk"
)

// BenchmarkColdStart is from nothing to the first logits of a small network: starting, handshake, loading, inference, ending.
func BenchmarkColdStart(b *testing.B) {
	for b.Loop() {
		h := newHost(b, nil)
		s, err := h.Open(b.Context(), tinySpec(nil))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Infer(b.Context(), images(1, 0)); err != nil {
			b.Fatal(err)
		}
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBorder is a call whose computing takes next to nothing: what crossing to the plugin and back costs.
func BenchmarkBorder(b *testing.B) {
	s := open(b, newHost(b, nil), nil)
	in, err := s.NewTensor(b.Context(), 1, images(1, 0).Shape)
	if err != nil {
		b.Fatal(err)
	}
	copy(in.Data, images(1, 0).Data)
	for b.Loop() {
		if _, err := s.Infer(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
	if err := in.Release(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMobileNet is MobileNet V2 through the host. border-% is the share of the time that the plugin does not compute.
func BenchmarkMobileNet(b *testing.B) {
	h := newHost(b, func(o *Options) { o.Embedded = []sdk.Family{mobilenet.Family()} })
	s, err := h.Open(b.Context(), Spec{Network: Network{Family: "mobilenet", Model: "mobilenet_v2"}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			in, err := s.NewTensor(b.Context(), n, graph.Shape{C: 3, H: 224, W: 224})
			if err != nil {
				b.Fatal(err)
			}
			clear(in.Data)
			for range 5 {
				if _, err := s.Infer(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
			s.computed.Store(0)
			for b.Loop() {
				if _, err := s.Infer(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(100*(1-float64(s.computed.Load())/float64(b.Elapsed())), "border-%")
			if err := in.Release(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
