package finetune

import (
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
)

// average is an exponential moving average of all parameters and buffers. The decay rises with the number of steps, (1+t)/(10+t), up
// to the one asked for, so that the first, random weights do not stay in it (as in TensorFlow's ExponentialMovingAverage).
type average struct {
	decay  float64
	steps  int
	values engine.ParamMap
}

func newAverage(decay float64, params *train.Params) *average {
	a := &average{decay: decay, values: engine.ParamMap{}}
	for _, p := range params.All() {
		a.values[p.Name()] = append([]float32(nil), p.Values()...)
	}
	return a
}

func (a *average) update(params *train.Params) {
	d := float32(min(a.decay, float64(1+a.steps)/float64(10+a.steps)))
	move := 1 - d // in this form what is frozen stays to the bit
	a.steps++
	for _, p := range params.All() {
		v := a.values[p.Name()]
		for i, x := range p.Values() {
			v[i] += move * (x - v[i])
		}
	}
}
