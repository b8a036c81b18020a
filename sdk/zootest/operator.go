package zootest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/panicked"
)

// Gradients checks a family's own operator, for parameters as Builder.Custom takes them and inputs of the given shapes. It holds Backward against
// finite differences of Forward at noise between -2 and 2, and wants that Forward writes its whole output, that Backward adds to what the gradients
// hold and leaves out those that are nil, and that neither changes its operands. At a kink any slope between those of the two sides will do.
//
//	func TestPReLU(t *testing.T) {
//		zootest.Gradients(t, prelu{}, []graph.CustomParam{{Name: "weight", Shape: []int{5}}}, graph.Shape{C: 5, H: 3, W: 2})
//	}
//
// It is not for an operator whose gradient is meant to differ from the derivative, such as rounding that is trained straight through.
func Gradients(t testing.TB, op graph.Custom, params []graph.CustomParam, in ...graph.Shape) {
	t.Helper()
	if err := checkOperator(op, params, in); err != nil {
		t.Errorf("operator %s: %v", op.Kind(), err)
	}
}

// operation is an operator with operands.
type operation struct {
	op       graph.Custom
	shapes   []graph.Shape
	in       [][]float32
	params   [][]float32
	elements int // of the output
}

const operatorBatch = 2

func checkOperator(op graph.Custom, params []graph.CustomParam, in []graph.Shape) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %s", panicked.Text(r))
		}
	}()
	out, err := op.Infer(in)
	if err != nil {
		return err
	}
	o := operation{op: op, shapes: in, elements: operatorBatch * out.Elements()}
	total := 0
	for _, s := range in {
		total += operatorBatch * s.Elements()
	}
	for _, p := range params {
		n := 1
		for _, d := range p.Shape {
			n *= d
		}
		total += n
		o.params = append(o.params, make([]float32, n))
	}
	values := images(1, graph.Shape{C: total + o.elements, H: 1, W: 1})
	take := func(n int) []float32 {
		taken := values[:n:n]
		values = values[n:]
		return taken
	}
	for _, s := range in {
		o.in = append(o.in, take(operatorBatch*s.Elements()))
	}
	for i, p := range o.params {
		o.params[i] = take(len(p))
	}
	return o.check(take(o.elements))
}

// check takes the derivative of the sum of the outputs with the given weights.
func (o operation) check(weights []float32) error {
	before := o.copies()
	base := o.forward(0)
	if !slices.EqualFunc(base, o.forward(7), same) {
		return errors.New("the output is not wholly written by Forward: what was there before shows")
	}
	gradient, onOnes := o.backward(weights, 0), o.backward(weights, 1)
	o.op.Backward(make([][]float32, len(o.in)), make([][]float32, len(o.params)), weights, o.in, o.params, o.shapes, operatorBatch) // none is wanted
	for i, operand := range o.operands() {
		if !slices.EqualFunc(operand, before[i], same) {
			return fmt.Errorf("%s was changed by Forward or Backward", o.name(i))
		}
	}
	var f faults
	for i, operand := range o.operands() {
		scale := 0.0
		for _, g := range gradient[i] {
			scale = max(scale, math.Abs(float64(g)))
		}
		for j := range spread(len(operand)) {
			g := float64(gradient[i][j])
			if d := float64(onOnes[i][j]) - 1 - g; !(math.Abs(d) <= 1e-4+1e-3*scale) {
				f.add("Backward does not add to the gradient of %s: element %d is %.4g on top of 0 and %.4g on top of 1", o.name(i), j, g, onOnes[i][j])
				break
			}
			left, right := o.slope(operand, j, -step, base, weights), o.slope(operand, j, step, base, weights)
			if tolerance := 1e-3 + 1e-2*max(scale, math.Abs(left), math.Abs(right)); !(g >= min(left, right)-tolerance && g <= max(left, right)+tolerance) {
				f.add("gradient of %s: Backward says %.4g for element %d, the differences of Forward %.4g and %.4g", o.name(i), g, j, left, right)
			}
		}
	}
	return f.err()
}

// step is that of the differences: what float32 rounds is small beside it.
const step = 1.0 / 128

// slope is the difference that a step of one value makes to the weighted sum of outputs, by the step.
func (o operation) slope(operand []float32, j int, by float32, base, weights []float32) float64 {
	saved := operand[j]
	operand[j] += by
	moved := o.forward(0)
	by = operand[j] - saved
	operand[j] = saved
	sum := 0.0
	for k, w := range weights {
		sum += float64(w) * (float64(moved[k]) - float64(base[k]))
	}
	return sum / float64(by)
}

func (o operation) forward(fill float32) []float32 {
	out := slices.Repeat([]float32{fill}, o.elements)
	o.op.Forward(out, o.in, o.params, o.shapes, operatorBatch)
	return out
}

func (o operation) backward(gradOut []float32, fill float32) [][]float32 {
	var gradients [][]float32
	for _, operand := range o.operands() {
		gradients = append(gradients, slices.Repeat([]float32{fill}, len(operand)))
	}
	o.op.Backward(gradients[:len(o.in)], gradients[len(o.in):], gradOut, o.in, o.params, o.shapes, operatorBatch)
	return gradients
}

func (o operation) operands() [][]float32 { return slices.Concat(o.in, o.params) }

func (o operation) copies() [][]float32 {
	var list [][]float32
	for _, operand := range o.operands() {
		list = append(list, slices.Clone(operand))
	}
	return list
}

func (o operation) name(operand int) string {
	if operand < len(o.in) {
		return fmt.Sprintf("input %d", operand)
	}
	return fmt.Sprintf("parameter %d", operand-len(o.in))
}

// spread yields up to 64 indices below n, the first and the last among them.
func spread(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		const most = 64
		for i := range min(n, most) {
			j := i
			if n > most {
				j = i * (n - 1) / (most - 1)
			}
			if !yield(j) {
				return
			}
		}
	}
}

func same(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
