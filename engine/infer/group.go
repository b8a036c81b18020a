package infer

import "slices"

// The maps of a network's first layers are large, and those of a whole batch fit into no cache; its last layers have the most
// weights, which should be read once for the whole batch. So a plan for a batch runs its early ops on groups of a few images,
// one group after the other, and the rest on all images at once. Maps that only early ops use exist for one group.
//
// If the batch can be divided evenly among the threads, each thread takes a shard of it and runs the early ops on its groups by
// itself. Threads then wait for each other once instead of after every op, none of them is held up where an op has little to
// divide, and while one needs the memory another may need the matrix unit. The first ops of a shard have smaller groups than the
// others: what a core reads again before it has touched some 16 MB comes much faster.

// phase is a part of a plan, all of whose ops run on a group of images before the next group's turn.
type phase uint8

const (
	near  phase = iota // of shards: the ops with the largest maps, on groups so small that these stay within reach
	early              // what else runs on groups of images
	late               // on the whole batch
)

// division is how a batch goes through the phases.
type division struct {
	shards int       // that go through the first phases at the same time, a thread each; 1: all threads work on each op together
	groups [late]int // images in a group; as many as a shard has where a phase has no ops
}

// groupLimits say which ops are in which phase.
type groupLimits struct {
	maps    int // bytes that the operands and the result of an op may take together before its batch is divided into groups
	shard   int // the same for one of several shards
	reach   int // the same for the ops of the near phase
	weights int // bytes that the weights of all ops of a phase may take that every group reads again
	// An op with more than light bytes of weights is not run in shards that compute fewer than pixels of its result: each shard reads
	// all weights, and the threads together read them once.
	light, pixels int
}

var defaultGroups = groupLimits{maps: 24 << 20, shard: 48 << 20, reach: 12 << 20, weights: 8 << 20, light: 1 << 20, pixels: 128}

// shard marks the ops that shards run, and returns how many shards there are.
func (n *network) shard(images, threads int, limits groupLimits) int {
	for _, o := range n.ops {
		o.phase = late
	}
	if threads == 1 || images%threads != 0 {
		return 1
	}
	count := slices.IndexFunc(n.ops, func(o *op) bool {
		s := o.out.shape
		heavy := o.weightBytes() > limits.light && images/threads*s.H*s.W < limits.pixels
		return o.kind == kCustom || heavy
	})
	if count < 0 {
		count = len(n.ops)
	} else if !slices.ContainsFunc(n.ops[:count], func(o *op) bool { return o.kind == kConv }) {
		return 1
	}
	for _, o := range n.ops[:count] {
		o.phase = early
	}
	return threads
}

// nearby marks the ops of the near phase among those of a shard, and returns how many images are in a group.
func (n *network) nearby(images int, limits groupLimits) (group int) {
	count, weights, largest := 0, 0, 0
	for i, o := range n.ops {
		if weights += o.weightBytes(); o.phase != early || weights > limits.weights {
			break
		}
		if size := o.touched(); images*size > limits.reach {
			count, largest = i+1, max(largest, size)
		}
	}
	if group = groupOf(images, largest, limits.reach); group < images {
		for _, o := range n.ops[:count] {
			o.phase = near
		}
	}
	return group
}

// touched returns what the operands and the results of the op take for one image, as far as they are not within a chain.
func (o *op) touched() int {
	total := o.out.bytes()
	o.reads(func(v **value) { total += (*v).bytes() })
	o.sideOutputs(func(v *value) { total += v.bytes() })
	return total
}

// weightBytes returns what the weights of the op, or of a chain's ops, take in float32.
func (o *op) weightBytes() int {
	total := 0
	for _, x := range flatten([]*op{o}) {
		total += 4 * x.parameters()
	}
	return total
}

// divide chooses the groups, and marks the early ops unless shard has done so. Chains, which go from image to image by themselves, are
// no reason for groups, but may be in them.
func (n *network) divide(images, threads, shards int, chains chainLimits, limits groupLimits) division {
	size := func(o *op) int {
		if o.kind == kChain {
			return 0
		}
		return o.touched()
	}
	if shards > 1 {
		nearby, largest := n.nearby(images/shards, limits), 0
		for _, o := range n.ops {
			if o.phase == early {
				largest = max(largest, size(o))
			}
		}
		return division{shards, [late]int{nearby, groupOf(images/shards, largest, limits.shard)}}
	}
	whole := division{1, [late]int{images, images}}
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
		if weights += o.weightBytes(); weights > limits.weights {
			count = i
			break
		}
		largest = max(largest, size(o))
	}
	first, group := n.ops[:count], groupOf(images, largest, limits.maps)
	if group == images {
		return whole
	}
	cuts := map[*op]*bands{}
	for _, o := range first {
		if o.kind == kChain {
			if cuts[o] = newBands(o.chain, group, threads, chains); cuts[o].broken {
				return whole
			}
		}
	}
	for _, o := range first {
		o.phase = early
		if o.kind == kChain {
			o.cut(cuts[o])
		}
	}
	return division{1, [late]int{images, group}}
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
			v.root.begins, v.root.ends = min(v.root.begins, o.phase), max(v.root.ends, o.phase)
			if v.keep {
				v.root.ends = late
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
			r.images = d.groups[r.begins]
		case r.seen():
			r.first = 0
		}
	}
}
