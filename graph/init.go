package graph

import (
	"fmt"
	"math"
)

// Init is the distribution that a parameter is drawn from before training.
type Init struct {
	kind initKind
	a    float64
}

type initKind uint8

const (
	initDefault initKind = iota // PyTorch's default of the layer
	initConstant
	initNormal
	initTruncNormal
	initUniform
	initKaimingNormalFanOut
	initKaimingNormalFanIn
	initUniformFanIn
	initUniformFanOut
)

// The distributions that torchvision's models use; names follow torch.nn.init. Fans are those of the parameter's shape
// (the kernel area times input channels per group, or times output channels).
var (
	// DefaultInit is PyTorch's default for convolutions and linear layers: uniform within ±1/√fan_in.
	DefaultInit = Init{}
	// KaimingNormalFanOut is normal with standard deviation √(2/fan_out) (He et al., 2015).
	KaimingNormalFanOut = Init{kind: initKaimingNormalFanOut}
	// KaimingNormalFanIn is normal with standard deviation √(2/fan_in).
	KaimingNormalFanIn = Init{kind: initKaimingNormalFanIn}
	// KaimingUniformFanIn is uniform within ±√(6/fan_in).
	KaimingUniformFanIn = Init{initUniformFanIn, 6}
	// UniformFanOut is uniform within ±√(1/fan_out), torchvision's for the classifier of EfficientNet.
	UniformFanOut = Init{initUniformFanOut, 1}
	// KaimingUniformFanOutSigmoid is uniform within ±√(3/fan_out), torchvision's for the classifier of MNASNet.
	KaimingUniformFanOutSigmoid = Init{initUniformFanOut, 3}
)

// Constant sets every value to v.
func Constant(v float64) Init { return Init{initConstant, v} }

// Normal has mean 0 and the given standard deviation.
func Normal(std float64) Init { return Init{initNormal, std} }

// TruncNormal is Normal cut off at ±2 (absolute, as torch.nn.init.trunc_normal_ does by default).
func TruncNormal(std float64) Init { return Init{initTruncNormal, std} }

// Uniform lies within ±bound.
func Uniform(bound float64) Init { return Init{initUniform, bound} }

// Initialise draws values for a parameter. The result depends on the seed and on the parameter alone (its name, shape and Init,
// and for a bias the weight beside it), so a network is the same on every machine and in every process.
func (p *Param) Initialise(seed uint64) []float32 {
	values := make([]float32, p.Elements())
	fanIn, fanOut := p.fans()
	r := newStream(seed, p.Name)
	normal := func(std float64) {
		for i := range values {
			values[i] = float32(std * r.normal())
		}
	}
	uniform := func(bound float64) {
		for i := range values {
			values[i] = float32(bound * (2*r.uniform() - 1))
		}
	}
	switch p.Init.kind {
	case initConstant:
		for i := range values {
			values[i] = float32(p.Init.a)
		}
	case initNormal:
		normal(p.Init.a)
	case initTruncNormal:
		for i := range values {
			x := 3.0
			for math.Abs(x) > 2 {
				x = p.Init.a * r.normal()
			}
			values[i] = float32(x)
		}
	case initUniform:
		uniform(p.Init.a)
	case initKaimingNormalFanOut:
		normal(math.Sqrt(2 / fanOut))
	case initKaimingNormalFanIn:
		normal(math.Sqrt(2 / fanIn))
	case initUniformFanIn:
		uniform(math.Sqrt(p.Init.a / fanIn))
	case initUniformFanOut:
		uniform(math.Sqrt(p.Init.a / fanOut))
	default:
		uniform(1 / math.Sqrt(fanIn))
	}
	return values
}

// fans returns PyTorch's fan_in and fan_out. A bias takes those of the weight beside it.
func (p *Param) fans() (in, out float64) {
	shape := p.Shape
	if len(shape) < 2 && p.Node != nil {
		if w := p.Node.Param(Weight); w != nil && len(w.Shape) >= 2 {
			shape = w.Shape
		}
	}
	if len(shape) < 2 {
		n := float64(max(p.Elements(), 1))
		return n, n
	}
	area := 1
	for _, d := range shape[2:] {
		area *= d
	}
	return float64(shape[1] * area), float64(shape[0] * area)
}

// Initialise draws all parameters and buffers of the graph, keyed by name. See Param.Initialise.
func (g *Graph) Initialise(seed uint64) map[string][]float32 {
	values := make(map[string][]float32, len(g.Params))
	for _, p := range g.Params {
		values[p.Name] = p.Initialise(seed)
	}
	return values
}

// stream is SplitMix64 (Steele, Lea and Flood, 2014) seeded by a name.
type stream struct {
	state uint64
	spare float64
	has   bool
}

func newStream(seed uint64, name string) *stream {
	h := uint64(0xcbf29ce484222325) // FNV-1a
	for _, c := range []byte(fmt.Sprintf("%d/%s", seed, name)) {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return &stream{state: h}
}

func (s *stream) uniform() float64 {
	s.state += 0x9E3779B97F4A7C15
	z := s.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return float64((z^z>>31)>>11) / (1 << 53)
}

// normal is the polar method (Marsaglia and Bray, 1964).
func (s *stream) normal() float64 {
	if s.has {
		s.has = false
		return s.spare
	}
	for {
		u, v := 2*s.uniform()-1, 2*s.uniform()-1
		q := u*u + v*v
		if q == 0 || q >= 1 {
			continue
		}
		f := math.Sqrt(-2 * math.Log(q) / q)
		s.spare, s.has = v*f, true
		return u * f
	}
}
