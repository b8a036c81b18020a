package infer

import "slices"

// The maps of a network's first layers are large, and those of a whole batch fit into no cache; its last layers have the most
// weights, which should be read once for the whole batch. So a plan for a batch runs its early ops on groups of a few images,
// one group after the other, and the rest on all images at once. Maps that only early ops use exist for one group.
//
// If the batch can be divided evenly among the threads, each thread takes a shard of it and runs the early ops on its groups by
// itself. Threads then wait for each other once instead of after every op, none of them is held up where an op has little to
// divide, and while one needs the memory another may need the matrix unit.

// division is how the early ops go through a batch.
type division struct {
	shards int // that go on at the same time, a thread each; 1 means that all threads work on each op together
	group  int // images in a group; as many as there are if there are no early ops
}

// groupLimits say which ops are early.
type groupLimits struct {
	maps    int // bytes that the operands and the result of an op may take together before its batch is divided into groups
	shard   int // the same for one of several shards
	weights int // bytes that the weights of all early ops may take where all threads work together: every group reads them again
	// An op with more than light bytes of weights is not run in shards that compute fewer than pixels of its result: each shard reads
	// all weights, and the threads together read them once.
	light, pixels int
}

var defaultGroups = groupLimits{maps: 24 << 20, shard: 48 << 20, weights: 8 << 20, light: 1 << 20, pixels: 128}

// shard marks the ops that shards run, which become early, and returns how many shards there are.
func (n *network) shard(images, threads int, limits groupLimits) int {
	if threads == 1 || images%threads != 0 {
		return 1
	}
	for i, o := range n.ops {
		s := o.out.shape
		heavy := 4*o.parameters() > limits.light && images/threads*s.H*s.W < limits.pixels
		if o.kind == kCustom || heavy {
			if !slices.ContainsFunc(n.ops[:i], func(o *op) bool { return o.kind == kConv }) {
				return 1
			}
			break
		}
		o.early = true
	}
	return threads
}

// divide chooses the groups, and marks the early ops unless shard has done so. Chains, which go from image to image by themselves, are
// no reason for groups, but may be in them.
func (n *network) divide(images, threads, shards int, chains chainLimits, limits groupLimits) division {
	size := func(o *op) int {
		if o.kind == kChain {
			return 0
		}
		total := o.out.bytes()
		o.reads(func(v **value) { total += (*v).bytes() })
		return total
	}
	if shards > 1 {
		largest := 0
		for _, o := range n.ops {
			if o.early {
				largest = max(largest, size(o))
			}
		}
		return division{shards, groupOf(images/shards, largest, limits.shard)}
	}
	whole := division{shards: 1, group: images}
	count := 0
	for i, o := range n.ops {
		if o.kind == kCustom {
			return whole // its operands are slices made once
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
	early, group := n.ops[:count], groupOf(images, largest, limits.maps)
	if group == images {
		return whole
	}
	cuts := map[*op]*bands{}
	for _, o := range early {
		if o.kind == kChain {
			if cuts[o] = newBands(o.chain, group, threads, chains); cuts[o].broken {
				return whole
			}
		}
	}
	for _, o := range early {
		o.early = true
		if o.kind == kChain {
			o.cut(cuts[o])
		}
	}
	return division{1, group}
}

// groupOf returns how many of the images make a group, such that all groups are equal and none takes more than most bytes if that is
// possible.
func groupOf(images, bytes, most int) int {
	group := images
	for group > 1 && (images%group != 0 || group*bytes > most) {
		group--
	}
	return group
}

// bytes returns what the value takes for one image.
func (v *value) bytes() int { return v.shape.Elements() * v.format.Size() }

// count sets how many images each root is for, and keeps the roots that more than one group is written to alive from the beginning.
func (n *network) count(roots []*root, images int, d division) {
	for _, o := range n.ops {
		mark := func(v *value) {
			if o.early {
				v.root.early = true
			} else {
				v.root.late = true
			}
			if v.keep {
				v.root.late = true
			}
		}
		o.reads(func(v **value) { mark(*v) })
		mark(o.out)
		o.sideOutputs(mark)
	}
	for _, r := range roots {
		r.images = images
		switch {
		case r.own():
			r.images = d.group
		case r.early:
			r.first = 0
		}
	}
}
