package codec

import (
	"fmt"
	"os"

	"github.com/go-modelzoo/zoo/weights"
)

// Spans returns the runs of a safetensors file: its header, then its tensors in their order. It checks the file as
// weights.Open does.
func Spans(path string) ([]Span, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	if f.Format() != weights.Safetensors {
		return nil, fmt.Errorf("%s is %s and not safetensors", path, f.Format())
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	header := info.Size()
	spans := []Span{{Width: 1}}
	for t := range f.All() { // the tensors fill the file behind the header without a hole: Open checked it
		n := int64(t.Len()) * int64(t.DType.Size())
		header -= n
		spans = append(spans, Span{Bytes: n, Width: t.DType.Size()})
	}
	spans[0].Bytes = header
	return spans, nil
}
