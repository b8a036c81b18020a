package infer

// The maps of a network's first layers are large, and those of a whole batch fit into no cache; its last layers have the most
// weights, which should be read once for the whole batch. So a plan for a batch runs its early ops on groups of a few images,
// one group after the other, and the rest on all images at once. Maps that only early ops use exist for one group.

// groupLimits say which ops are early.
type groupLimits struct {
	maps    int // bytes that the operands and the result of an op may take together before its batch is divided
	weights int // bytes that the weights of all early ops may take: every group reads them again
}

var defaultGroups = groupLimits{maps: 24 << 20, weights: 8 << 20}

// divide marks the early ops and returns how many images a group has: all of them if there are no early ops. Chains, which go from
// image to image by themselves, are no reason for groups, but may be in them.
func (n *network) divide(images, threads int, chains chainLimits, limits groupLimits) int {
	size := func(o *op) int {
		if o.kind == kChain {
			return 0
		}
		total := o.out.bytes()
		o.reads(func(v **value) { total += (*v).bytes() })
		return total
	}
	count := 0
	for i, o := range n.ops {
		if o.kind == kCustom {
			return images // its operands are slices made once
		}
		if images*size(o) > limits.maps {
			count = i + 1
		}
	}
	weights, largest := 0, 0
	for i, o := range n.ops[:count] {
		for _, x := range flatten([]*op{o}) {
			weights += 4 * x.parameters()
		}
		if weights > limits.weights {
			count = i
			break
		}
		largest = max(largest, size(o))
	}
	group := images
	for group > 1 && (images%group != 0 || group*largest > limits.maps) {
		group--
	}
	if group == images {
		return images
	}
	cuts := map[*op]*bands{}
	for _, o := range n.ops[:count] {
		if o.kind == kChain {
			if cuts[o] = newBands(o.chain, group, threads, chains); cuts[o].broken {
				return images
			}
		}
	}
	for _, o := range n.ops[:count] {
		o.early = true
		if o.kind == kChain {
			o.cut(cuts[o])
		}
	}
	return group
}

// bytes returns what the value takes for one image.
func (v *value) bytes() int { return v.shape.Elements() * v.format.Size() }

// count sets how many images each root is for, and keeps the roots that more than one group is written to alive from the beginning.
func (n *network) count(roots []*root, images, group int) {
	late := map[*root]bool{}
	early := map[*root]bool{}
	for _, o := range n.ops {
		mark := func(v *value) {
			if o.early {
				early[v.root] = true
			} else {
				late[v.root] = true
			}
			if v.keep {
				late[v.root] = true
			}
		}
		o.reads(func(v **value) { mark(*v) })
		mark(o.out)
		o.sideOutputs(mark)
	}
	for _, r := range roots {
		r.images = images
		switch {
		case r.external || !early[r] || group == images:
		case late[r]:
			r.first = 0
		default:
			r.images = group
		}
		r.early = early[r]
	}
}
