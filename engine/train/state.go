package train

import "fmt"

// Moments are what an optimiser remembers of a parameter, by PyTorch's names: First is momentum_buffer or exp_avg, Second exp_avg_sq or
// square_avg, each nil where the algorithm has none. Steps counts the parameter's updates.
type Moments struct {
	First, Second []float32
	Steps         int
}

// Moments returns the optimiser's memory of a parameter and whether it has been updated yet. The slices are live.
func (p *Param) Moments() (Moments, bool) {
	s, ok := p.spago.State.(*moments)
	if !ok {
		return Moments{}, false
	}
	return Moments{s.first, s.second, s.steps}, true
}

// SetMoments replaces the optimiser's memory of a parameter by a copy of m, as read from a checkpoint.
func (p *Param) SetMoments(m Moments) error {
	for _, v := range [][]float32{m.First, m.Second} {
		if v != nil && len(v) != len(p.data) {
			return fmt.Errorf("parameter %s: optimiser state of %d values for %d", p.Name(), len(v), len(p.data))
		}
	}
	p.spago.State = &moments{append([]float32(nil), m.First...), append([]float32(nil), m.Second...), m.Steps}
	return nil
}

// Steps returns how many batches have run. Together with the seed it is the state of the dropout masks.
func (t *Trainer) Steps() uint64 { return t.steps }

// SetSteps continues the sequence of dropout masks after the given number of batches.
func (t *Trainer) SetSteps(n uint64) { t.steps = n }
