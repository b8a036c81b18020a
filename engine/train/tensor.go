package train

import (
	"sync"

	"github.com/nlpodyssey/spago/mat"

	"github.com/go-modelzoo/zoo/graph"
)

// featureMap is the value of a node in one step: a spaGO matrix whose gradient is the sum of its consumers' contributions, taken over
// rather than cloned and summed in the consumers' order rather than in that of their arrival.
type featureMap struct {
	*mat.Dense[float32]
	n     int // images
	shape graph.Shape
	data  []float32
	parts []*contribution // by consumer
	sum   *mat.Dense[float32]
	env   *env
	mu    sync.Mutex // guards parts and sum
}

// contribution is what one consumer adds to the gradient of a map.
type contribution struct {
	*mat.Dense[float32]
	data []float32
	slot int
}

func matrix(data []float32, rows, cols int) *mat.Dense[float32] {
	return mat.NewDense[float32](mat.WithShape(rows, cols), mat.WithBacking(data))
}

func newFeatureMap(data []float32, n int, shape graph.Shape, consumers int, e *env) *featureMap {
	return &featureMap{
		Dense: matrix(data, n*shape.H*shape.W, shape.C),
		n:     n, shape: shape, data: data,
		parts: make([]*contribution, consumers),
		env:   e,
	}
}

// Value implements mat.Tensor.
func (m *featureMap) Value() mat.Tensor { return m }

// release gives the values back.
func (m *featureMap) release() {
	m.env.buffers.put(m.data)
	m.data = nil
}

// AccGrad implements mat.Tensor: it takes over a contribution.
func (m *featureMap) AccGrad(g mat.Tensor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := g.(*contribution)
	m.parts[c.slot] = c
}

// Grad implements mat.Tensor. spaGO calls it when every consumer has contributed.
func (m *featureMap) Grad() mat.Tensor {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum == nil {
		var total []float32
		for i, c := range m.parts {
			switch {
			case c == nil:
				continue
			case total == nil:
				total = c.data
			default:
				m.env.add(total, c.data)
				m.env.buffers.put(c.data)
			}
			m.parts[i] = nil
		}
		if total == nil {
			return nil
		}
		m.sum = matrix(total, m.n*m.shape.H*m.shape.W, m.shape.C)
	}
	return m.sum
}

// HasGrad implements mat.Tensor.
func (m *featureMap) HasGrad() bool { return m.Grad() != nil }

// ZeroGrad implements mat.Tensor.
func (m *featureMap) ZeroGrad() { m.sum = nil }
