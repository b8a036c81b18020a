package weights

import (
	"errors"
	"fmt"

	"github.com/nlpodyssey/gopickle/types"
)

// findGlobal is the allow-list of what a pickle may name. Nothing that it returns does more than build a value in
// memory from its arguments.
func findGlobal(module, name string) (any, error) {
	if v, ok := globals[module+"."+name]; ok {
		return v, nil
	}
	if module == "torch" || module == "torch.cuda" {
		for d := range dtypes {
			if dtypes[d].storage == name && name != "" {
				return &storageClass{DType(d)}, nil
			}
		}
	}
	if module == "torch" && dtypeGlobals[name] {
		return inert{}, nil
	}
	return nil, refusedGlobal(module + "." + name)
}

// refusedGlobal is the error for a global that is not on the list; it wraps ErrRefused.
type refusedGlobal string

func (g refusedGlobal) Error() string {
	return fmt.Sprintf("%v: its pickle asks for %.100q, which holding weights does not need: if you trust the file, load it in Python and save its state dict alone", ErrRefused, string(g))
}

func (refusedGlobal) Unwrap() error { return ErrRefused }

// globals are the callables. The inert ones stand in what training programs keep beside the weights: options (as
// torchvision's and timm's programs have them, a Namespace), a best accuracy as a NumPy scalar, the milestones of a schedule.
var globals = map[string]types.Callable{
	"collections.OrderedDict":         function(newOrderedDict),
	"torch._utils._rebuild_tensor":    function(rebuildTensor),
	"torch._utils._rebuild_tensor_v2": function(rebuildTensor),
	"torch._utils._rebuild_parameter": function(rebuildParameter),
	"torch.Size":                      function(newSize),
	"torch.device":                    inert{},
	"collections.Counter":             inert{},
	"argparse.Namespace":              inert{},
	"__builtin__.set":                 inert{},
	"builtins.set":                    inert{},
	"__builtin__.bytes":               inert{},
	"__builtin__.frozenset":           inert{},
	"builtins.frozenset":              inert{},
	"__builtin__.bytearray":           inert{},
	"builtins.bytearray":              inert{},
	"_codecs.encode":                  inert{},
	"numpy.dtype":                     inert{},
	"numpy.core.multiarray.scalar":    inert{},
	"numpy._core.multiarray.scalar":   inert{},
}

// dtypeGlobals are the values torch.float32 and so on.
var dtypeGlobals = map[string]bool{
	"float64": true, "float32": true, "float16": true, "bfloat16": true,
	"int64": true, "int32": true, "int16": true, "int8": true, "uint8": true, "bool": true,
}

// storageClass is torch.FloatStorage and its like: a value that persistent ids refer to, not callable.
type storageClass struct{ dtype DType }

// callable is a function as the pickle machine calls it.
type callable struct {
	call func(args []any) (any, error)
}

// function returns a pointer, because a pickle may make the function a key of an OrderedDict, and funcs cannot be hashed.
func function(call func(args []any) (any, error)) *callable { return &callable{call} }

func (f *callable) Call(args ...any) (any, error) { return f.call(args) }

// inert is a global that may be named, called, instantiated and given a state, all without effect.
type inert struct{}

func (inert) Call(...any) (any, error) { return inert{}, nil }

func (inert) PyNew(...any) (any, error) { return inert{}, nil }

func (inert) PySetState(any) error { return nil }

// orderedDict is an OrderedDict. A pickle of a few kilobytes may make thousands of one list of pairs, or give thousands the
// same attributes: so the pairs stay where they are until dictItems wants them, and attributes, such as _metadata, are dropped.
type orderedDict struct {
	pairs      []any // what it was made of
	types.Dict       // what was set in it
}

func (*orderedDict) PySetState(any) error { return nil }

// newOrderedDict is OrderedDict(), or as Python 2 pickles it OrderedDict([[key, value], ...]).
func newOrderedDict(args []any) (any, error) {
	if len(args) == 0 {
		return &orderedDict{}, nil
	}
	pairs, ok := sequence(args[0])
	if !ok || len(args) > 1 {
		return nil, errors.New("collections.OrderedDict is given something that is not pairs")
	}
	return &orderedDict{pairs: pairs}, nil
}

// rebuildTensor is _rebuild_tensor(storage, offset, size, stride), and _v2 with requires_grad and hooks after it, and from
// PyTorch 2.0 on, where any is set, a dict of the bits that say how the storage reads: "neg" and, of complex numbers, "conj".
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("a tensor is described by too little")
	}
	s, ok := args[0].(*storage)
	if !ok {
		return nil, errors.New("a tensor is described without its storage")
	}
	offset, ok := args[1].(int)
	if !ok {
		return nil, errors.New("a tensor is described without its offset")
	}
	shape, ok := integers(args[2])
	if !ok {
		return nil, errors.New("a tensor is described without its size")
	}
	strides, ok := integers(args[3])
	if !ok {
		return nil, errors.New("a tensor is described without its strides")
	}
	v := &view{storage: s, offset: offset, shape: shape, strides: strides}
	if len(args) > 6 {
		bits, ok := args[6].(*types.Dict)
		v.negated = !ok || bits.Len() > 0
	}
	return v, nil
}

// rebuildParameter is _rebuild_parameter(data, requires_grad, hooks).
func rebuildParameter(args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("a parameter is described without its tensor")
	}
	v, ok := args[0].(*view)
	if !ok {
		return nil, errors.New("a parameter is described without its tensor")
	}
	return v, nil
}

// newSize is torch.Size(tuple).
func newSize(args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("torch.Size is given more than a tuple")
	}
	return args[0], nil
}

// sequence returns the values of a tuple or a list.
func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case *types.Tuple:
		return *v, true
	case *types.List:
		return *v, true
	}
	return nil, false
}

// integers returns the values of a tuple or a list of at most maxRank integers.
func integers(v any) ([]int, bool) {
	values, ok := sequence(v)
	if !ok || len(values) > maxRank {
		return nil, false
	}
	out := make([]int, len(values))
	for i := range values {
		if out[i], ok = values[i].(int); !ok {
			return nil, false
		}
	}
	return out, true
}
