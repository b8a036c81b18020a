package graph

import "fmt"

// Role says what a parameter is to its operator.
type Role uint8

// Roles. Those from RunningMean on are buffers: saved with the model, not trained by the optimiser.
const (
	Weight Role = iota
	Bias
	Scale // layer scale (ConvNeXt)
	RunningMean
	RunningVar
	NumBatchesTracked // an int64 scalar that no operator reads; optional in checkpoints
)

var roleNames = [...]string{"weight", "bias", "scale", "running_mean", "running_var", "num_batches_tracked"}

// String returns PyTorch's attribute name for the role.
func (r Role) String() string { return roleNames[r] }

// Buffer reports whether the parameter is a buffer and not trained.
func (r Role) Buffer() bool { return r >= RunningMean }

// Param is a named parameter or buffer of a node.
type Param struct {
	// Name is the key in PyTorch's state_dict, such as "layer1.0.conv1.weight".
	Name string
	// Shape is PyTorch's; a scalar has no dimensions.
	Shape []int
	Role  Role
	// Init is the distribution of the values before training.
	Init Init
	// Node is the operator that owns the parameter.
	Node *Node
}

// checkSize refuses the shape of a parameter that is empty or larger than any network has.
func checkSize(shape []int) error {
	size := int64(1)
	for _, d := range shape {
		if d < 1 || d > maxChannels || size*int64(d) > 1<<34 {
			return fmt.Errorf("shape %v is out of range", shape)
		}
		size *= int64(d)
	}
	return nil
}

// Elements returns the number of values.
func (p *Param) Elements() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}
