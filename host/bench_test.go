package host

import "testing"

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
