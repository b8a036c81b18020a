package train

// random is SplitMix64 (Steele, Lea and Flood, 2014): small, fast, its whole state is one number, and any number of the sequence can be had
// without those before it.
type random struct{ state uint64 }

const golden = 0x9E3779B97F4A7C15

// take returns the next n numbers of the sequence.
func (r *random) take(n int) random {
	from := *r
	r.state += golden * uint64(n)
	return from
}

func (r random) uint64(i int) uint64 {
	z := r.state + golden*uint64(i+1)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// uniform returns number i of what follows, in [0, 1).
func (r random) uniform(i int) float64 { return float64(r.uint64(i)>>11) / (1 << 53) }
