package weights

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nlpodyssey/gopickle/types"

	"github.com/go-modelzoo/zoo/weights/internal/pickle"
)

// What both formats of torch.save share: the pickle that holds the state dict, and how its tensors lie in storages.

// storage is a flat array that tensors are views of. The pickle gives its key, type and length; the container, later,
// its bytes.
type storage struct {
	key   string
	dtype DType
	len   int // elements
	data  []byte
}

// view is a tensor as the pickle has it: elements of a storage, from offset on, by strides (in elements).
type view struct {
	storage *storage
	offset  int
	shape   []int
	strides []int
	negated bool // PyTorch's neg bit is set: the storage has the values with the other sign
}

// checkpoint is the main pickle of a file, run.
type checkpoint struct {
	root     any
	storages map[string]*storage
	// length of the pickle in bytes.
	length int
}

// runCheckpoint runs the pickle at the start of data.
func runCheckpoint(data []byte) (*checkpoint, error) {
	c := &checkpoint{storages: map[string]*storage{}}
	var err error
	c.root, c.length, err = pickle.Load(data, pickle.Env{Global: findGlobal, Persistent: c.persistent})
	if g := refusedGlobal(""); errors.As(err, &g) && bytes.Contains(data, []byte("torch.nn.modules")) {
		return nil, fmt.Errorf("%w: it holds a whole model (torch.save(model)), whose pickle asks for %.100q: if you trust the file, load it in Python and save model.state_dict()", ErrRefused, string(g))
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// persistent resolves what torch.save puts outside the pickle: ("storage", class, key, location, elements), and in the
// old format a sixth value, by which one storage could be a part of another.
func (c *checkpoint) persistent(id any) (any, error) {
	fields, ok := sequence(id)
	if ok && len(fields) > 0 && fields[0] == "module" {
		return nil, fmt.Errorf("%w: it holds a whole Python module: save model.state_dict() instead", ErrRefused)
	}
	if !ok || len(fields) < 5 || len(fields) > 6 || fields[0] != "storage" {
		return nil, errors.New("refers to something outside its pickle that is not a storage")
	}
	class, okClass := fields[1].(*storageClass)
	key, okKey := fields[2].(string)
	n, okLen := fields[4].(int)
	if !okClass || !okKey || !okLen || n < 0 || n > math.MaxInt/class.dtype.Size() {
		return nil, errors.New("describes a storage wrongly")
	}
	if len(fields) == 6 && fields[5] != nil {
		return nil, fmt.Errorf("has storage %.80q as a part of another, as torch before 0.4 wrote them: load it in PyTorch and save it again", key)
	}
	s := c.storages[key]
	if s == nil {
		s = &storage{key: key, dtype: class.dtype, len: n}
		c.storages[key] = s
	}
	if s.dtype != class.dtype || s.len != n {
		return nil, fmt.Errorf("describes storage %.80q in two ways", key)
	}
	return s, nil
}

// stateDict takes the wrappers off the pickle's value and makes tensors of what is left. The storages must have
// their data. fileSize bounds what the tensors may amount to.
func (c *checkpoint) stateDict(f *File, fileSize int) error {
	items, err := unwrap(f, c.root)
	if err != nil {
		return err
	}
	var tensors []Tensor
	var left []string
	for _, it := range items {
		v, ok := it.value.(*view)
		if !ok {
			left = append(left, it.key)
			continue
		}
		if !it.text {
			return fmt.Errorf("has a tensor under a key that is no text (%s): load it in PyTorch, rename it and save it again", it.key)
		}
		if !utf8.ValidString(it.key) { // a text of Python 2, or bytes
			return fmt.Errorf("has a tensor whose name %.80q is not UTF-8: load it in PyTorch, rename it and save it again", it.key)
		}
		t, err := v.tensor(it.key)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
	}
	if len(left) > 0 {
		f.notes = append(f.notes, "left out what is not a tensor: "+abbreviate(left, 5))
	}
	stripPrefixes(f, &tensors)

	// Tensors may share a storage, but not so that the file stands for far more bytes than it has.
	total := 0
	for _, t := range tensors {
		size, _ := byteLen(t.Shape, t.DType)
		if total += size; total > sharing*fileSize {
			return fmt.Errorf("has tensors of more than %d times its own size, all in the same few bytes", sharing)
		}
	}
	f.adopt(tensors)
	return nil
}

// sharing is how many times over the tensors may use the bytes of their file. Tied weights use them twice.
const sharing = 8

// tensor checks that the view keeps inside its storage.
func (v *view) tensor(name string) (Tensor, error) {
	s := v.storage
	if v.negated {
		return Tensor{}, fmt.Errorf("has tensor %.80q stored with the other sign (PyTorch's neg bit): save it again with .resolve_neg()", name)
	}
	n, ok := elements(v.shape)
	if !ok || len(v.strides) != len(v.shape) {
		return Tensor{}, fmt.Errorf("has tensor %.80q of an impossible shape %v, strides %v", name, v.shape, v.strides)
	}
	t := Tensor{Name: name, DType: s.dtype, Shape: v.shape}
	if n == 0 {
		t.data = []byte{}
		return t, nil
	}
	last := v.offset // the last element it reaches
	for i, d := range v.shape {
		step := v.strides[i]
		if step < 0 || step > 0 && d-1 > (s.len-1)/step {
			last = s.len
			break
		}
		// Both terms are below the storage's length, which is a length of a slice.
		if last += (d - 1) * step; last >= s.len {
			break
		}
	}
	if v.offset < 0 || v.offset >= s.len || last >= s.len {
		return Tensor{}, fmt.Errorf("has tensor %.80q (shape %v, strides %v, offset %d) outside its storage of %d elements",
			name, v.shape, v.strides, v.offset, s.len)
	}
	if n > s.len {
		return Tensor{}, fmt.Errorf("has tensor %.80q of %d elements expanded from a storage of %d: save a contiguous copy", name, n, s.len)
	}
	size := s.dtype.Size()
	t.data = s.data[v.offset*size : (last+1)*size : (last+1)*size]
	if !rowMajor(v.shape, v.strides) {
		t.strides = v.strides
	}
	return t, nil
}

// item is an entry of a Python dictionary.
type item struct {
	key   string
	text  bool // the key is a text, else key only describes it
	value any
}

// dictItems returns the entries of a dict or an OrderedDict, in order, the last of equal texts alone; and false if v is
// neither.
func dictItems(v any) ([]item, bool) {
	var items []item
	at := map[string]int{}
	add := func(k, v any) {
		key, ok := k.(string)
		if !ok {
			key = "neither text nor integer"
			if n, isInt := k.(int); isInt {
				key = strconv.Itoa(n)
			}
			items = append(items, item{key, false, v})
			return
		}
		if i, again := at[key]; again {
			items[i].value = v
			return
		}
		at[key] = len(items)
		items = append(items, item{key, true, v})
	}
	switch d := v.(type) {
	case *types.Dict:
		for _, e := range *d {
			add(e.Key, e.Value)
		}
	case *orderedDict:
		for _, p := range d.pairs {
			kv, ok := sequence(p)
			if !ok || len(kv) != 2 {
				return nil, false
			}
			add(kv[0], kv[1])
		}
		for _, e := range d.Dict {
			add(e.Key, e.Value)
		}
	default:
		return nil, false
	}
	return items, true
}

// wrappers are the keys under which training programs put the state dict beside their own things, the first that is
// there wins; prefixes are what wrapping a model in another puts before every name.
var (
	wrappers = []string{"state_dict", "model_state_dict", "model", "net", "network", "module", "state_dict_ema", "model_ema", "ema"}
	prefixes = []string{"module.", "_orig_mod.", "model."} // DataParallel, torch.compile, Lightning
)

// averaged is the counter that torch.optim.swa_utils.AveragedModel keeps beside the weights it averages.
const averaged = "n_averaged"

// unwrap returns the entries of the state dict inside v.
func unwrap(f *File, v any) ([]item, error) {
	items, ok := dictItems(v)
	if !ok {
		if _, isTensor := v.(*view); isTensor {
			return nil, errors.New("holds one tensor and no state dict: save model.state_dict()")
		}
		return nil, errors.New("holds no state dict: save model.state_dict()")
	}
	// A wrapper in a wrapper in a wrapper is the deepest that makes sense; a dict may also contain itself.
	for range 3 {
		key, inner := wrapped(items)
		if inner == nil {
			break
		}
		note := fmt.Sprintf("took the state dict from %.80q", key)
		if len(items) > 1 {
			var others []string
			for _, it := range items {
				if it.key != key {
					others = append(others, it.key)
				}
			}
			note += ", left out " + abbreviate(others, 8)
		}
		f.notes = append(f.notes, note)
		items = inner
	}
	if !slices.ContainsFunc(items, func(it item) bool { _, ok := it.value.(*view); return ok }) {
		keys := make([]string, len(items))
		for i, it := range items {
			keys[i] = it.key
		}
		if len(keys) == 0 {
			return nil, errors.New("holds an empty dictionary and no weights")
		}
		return nil, fmt.Errorf("holds no state dict, only %s: save model.state_dict()", abbreviate(keys, 8))
	}
	return items, nil
}

// worthwhile says whether an entry is a tensor or may itself wrap a state dict. Options kept under "model" are neither.
func worthwhile(it item) bool {
	switch it.value.(type) {
	case *view:
		return it.text
	case *types.Dict, *orderedDict:
		return slices.Contains(wrappers, it.key)
	}
	return false
}

// wrapped returns the first of wrappers among items and what it holds.
func wrapped(items []item) (string, []item) {
	for _, w := range wrappers {
		for _, it := range items {
			if it.key != w {
				continue
			}
			if inner, ok := dictItems(it.value); ok && slices.ContainsFunc(inner, worthwhile) {
				return w, inner
			}
		}
	}
	return "", nil
}

// stripPrefixes takes away what stands before the names of all tensors.
func stripPrefixes(f *File, tensors *[]Tensor) {
	for range 3 {
		weights := *tensors
		counter := slices.IndexFunc(weights, func(t Tensor) bool { return t.Name == averaged })
		if counter >= 0 && len(weights) > 1 {
			weights = slices.Delete(slices.Clone(weights), counter, counter+1)
		}
		prefix := commonPrefix(weights)
		if prefix == "" {
			return
		}
		note := fmt.Sprintf("took %.80q off all names", prefix)
		if counter >= 0 {
			note += fmt.Sprintf(", left out %.80q", averaged)
		}
		f.notes = append(f.notes, note)
		for i := range weights {
			weights[i].Name = weights[i].Name[len(prefix):]
		}
		*tensors = weights
	}
}

// commonPrefix returns that of prefixes which all names have before something more, "" if there is none.
func commonPrefix(tensors []Tensor) string {
	for _, p := range prefixes {
		lacks := func(t Tensor) bool { return len(t.Name) <= len(p) || !strings.HasPrefix(t.Name, p) }
		if len(tensors) > 0 && !slices.ContainsFunc(tensors, lacks) {
			return p
		}
	}
	return ""
}

// abbreviate quotes the first n of names, and counts the others.
func abbreviate(names []string, n int) string {
	var b strings.Builder
	for i, name := range names {
		if i == n {
			fmt.Fprintf(&b, " and %d more", len(names)-n)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.80q", name)
	}
	return b.String()
}
