package train

// random is SplitMix64 (Steele, Lea and Flood, 2014): small, fast, and its whole state is one number.
type random struct{ state uint64 }

func (r *random) uint64() uint64 {
	r.state += 0x9E3779B97F4A7C15
	z := r.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// uniform returns a number in [0, 1).
func (r *random) uniform() float64 { return float64(r.uint64()>>11) / (1 << 53) }
