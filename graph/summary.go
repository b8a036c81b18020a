package graph

// Row is what a summary tells of one node.
type Row struct {
	Node *Node
	// Params counts the node's trainable values.
	Params int64
	// MACs counts multiply-accumulates for one image.
	MACs int64
	// ReceptiveField is the extent in input pixels that one output pixel depends on, height and width, ignoring borders; it is capped
	// at the input's size where a node sees all of it.
	ReceptiveField Pair
	// Training is set for nodes that only training computes (auxiliary classifiers).
	Training bool
}

// Summary returns one row a node, in order.
//
// Receptive fields follow Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks"
// (Distill, 2019), eq. 2: r += (k-1)·d·j and j *= s along a path, the largest over paths. Of an operator of a family's own, which tells no kernel, they are
// what its shapes tell: at least that.
func (g *Graph) Summary() []Row {
	needed := ancestors(g.Output)
	fields := g.fields()
	rows := make([]Row, len(g.Nodes))
	for i, n := range g.Nodes {
		row := Row{Node: n, MACs: n.Op.MACs(n.InputShapes(), n.Shape), ReceptiveField: fields[i].r, Training: !needed[n.ID]}
		for _, p := range n.Params {
			if !p.Role.Buffer() {
				row.Params += int64(p.Elements())
			}
		}
		rows[i] = row
	}
	return rows
}

// field is a node's receptive field and jump: input pixels that an output pixel sees, and between two output pixels.
type field struct{ r, jump Pair }

func (g *Graph) fields() []field {
	fields := make([]field, len(g.Nodes))
	for i, n := range g.Nodes {
		f := field{Square(1), Square(1)}
		for _, in := range n.Inputs {
			f.r.H = max(f.r.H, fields[in.ID].r.H)
			f.r.W = max(f.r.W, fields[in.ID].r.W)
			if in.Shape.IsVector() && !n.Shape.IsVector() {
				continue // a channel factor (squeeze-and-excite) has no raster
			}
			f.jump.H = max(f.jump.H, fields[in.ID].jump.H)
			f.jump.W = max(f.jump.W, fields[in.ID].jump.W)
		}
		switch op := n.Op.(type) {
		case Conv2d:
			f = op.Window.field(f)
		case MaxPool:
			f = op.Window.field(f)
		case AvgPool:
			f = op.Window.field(f)
		case Subsample:
			f.jump = Pair{f.jump.H * op.Stride, f.jump.W * op.Stride}
		case AdaptiveAvgPool:
			in := n.Inputs[0].Shape
			k := Pair{ceilDiv(in.H, op.Out.H), ceilDiv(in.W, op.Out.W)}
			f = Window{Kernel: k, Stride: k, Dilation: Square(1)}.field(f)
		case Flatten:
			f.r = Pair{g.Input.H, g.Input.W}
		case Custom, Foreign:
			for _, in := range n.Inputs {
				if s := in.Shape; s.H > n.Shape.H || s.W > n.Shape.W { // it is coarser, as far as shapes tell: by a whole number, up to a border
					k := Pair{max(nearest(s.H, n.Shape.H), 1), max(nearest(s.W, n.Shape.W), 1)}
					f = Window{Kernel: k, Stride: k, Dilation: Square(1)}.field(f)
					break
				}
			}
		}
		f.r = Pair{min(f.r.H, g.Input.H), min(f.r.W, g.Input.W)}
		fields[i] = f
	}
	return fields
}

// nearest returns the whole number nearest to a/b.
func nearest(a, b int) int { return (2*a + b) / (2 * b) }

// setStrides gives the taps the strides that the operators before them have.
func (g *Graph) setStrides() {
	fields := g.fields()
	for i := range g.Taps {
		g.Taps[i].Stride = fields[g.Taps[i].Node.ID].jump.H
	}
}

func (w Window) field(f field) field {
	return field{
		r:    Pair{f.r.H + (w.Kernel.H-1)*w.Dilation.H*f.jump.H, f.r.W + (w.Kernel.W-1)*w.Dilation.W*f.jump.W},
		jump: Pair{f.jump.H * w.Stride.H, f.jump.W * w.Stride.W},
	}
}
