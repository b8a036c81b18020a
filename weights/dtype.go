package weights

import "fmt"

// DType is the type of a tensor's elements, named as in safetensors.
type DType uint8

// The types that are read and written. The zero DType is none of them.
const (
	_ DType = iota
	F64
	F32
	F16
	BF16
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool // one byte, 0 or 1
)

// dtypes has a row for each DType: its name in safetensors, its size in bytes, and the class of PyTorch storage that
// holds it ("" where PyTorch has none).
var dtypes = [...]struct {
	name    string
	size    int
	storage string
}{
	F64:  {"F64", 8, "DoubleStorage"},
	F32:  {"F32", 4, "FloatStorage"},
	F16:  {"F16", 2, "HalfStorage"},
	BF16: {"BF16", 2, "BFloat16Storage"},
	I64:  {"I64", 8, "LongStorage"},
	I32:  {"I32", 4, "IntStorage"},
	I16:  {"I16", 2, "ShortStorage"},
	I8:   {"I8", 1, "CharStorage"},
	U64:  {"U64", 8, ""},
	U32:  {"U32", 4, ""},
	U16:  {"U16", 2, ""},
	U8:   {"U8", 1, "ByteStorage"},
	Bool: {"BOOL", 1, "BoolStorage"},
}

func (d DType) known() bool { return d > 0 && int(d) < len(dtypes) }

// String returns the name that safetensors has for the type: "F32", "BF16", "BOOL".
func (d DType) String() string {
	if !d.known() {
		return fmt.Sprintf("dtype(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Size returns the bytes of one element.
func (d DType) Size() int {
	if !d.known() {
		return 0
	}
	return dtypes[d].size
}

// IsFloat says whether the type is one of the floating-point types.
func (d DType) IsFloat() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

func dtypeNamed(name string) (DType, error) {
	for d := range dtypes {
		if dtypes[d].name == name && name != "" {
			return DType(d), nil
		}
	}
	return 0, fmt.Errorf("type %.20q is not supported (F64, F32, F16, BF16, I8 to I64, U8 to U64 and BOOL are)", name)
}
