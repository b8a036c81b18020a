package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// WriteSafetensors writes tensors, and metadata where it is not empty. The same arguments give the same bytes: tensors
// stand in the order given, those of larger elements before those of smaller, so that all are aligned to their type
// when the file is mapped (the header is padded to 8 bytes); metadata stands first, sorted by key.
func WriteSafetensors(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	if err := checkWritable(tensors); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	tensors = slices.Clone(tensors)
	slices.SortStableFunc(tensors, func(a, b Tensor) int { return cmp.Compare(b.DType.Size(), a.DType.Size()) })

	header, err := safetensorsHeader(tensors, metadata)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	for _, t := range tensors {
		data, err := t.Bytes()
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			return fmt.Errorf("write safetensors: tensor %q: %w", t.Name, err)
		}
	}
	return nil
}

// safetensorsHeader returns the length and the padded JSON.
func safetensorsHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	comma := "{"
	field := func(key string, value any) error {
		b.WriteString(comma)
		comma = ","
		if err := writeJSON(&b, key); err != nil {
			return err
		}
		b.WriteByte(':')
		return writeJSON(&b, value)
	}
	if len(metadata) > 0 {
		if err := field(metadataKey, metadata); err != nil { // json sorts the keys of a map
			return nil, err
		}
	}
	at := 0
	for _, t := range tensors {
		size, _ := byteLen(t.Shape, t.DType)
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		err := field(t.Name, struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}{t.DType.String(), shape, [2]int{at, at + size}})
		if err != nil {
			return nil, err
		}
		at += size
	}
	if comma == "{" {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	header := b.Bytes()
	if len(header)-8 > maxHeader {
		return nil, fmt.Errorf("the header has %d bytes, of at most %d", len(header)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	return header, nil
}

// writeJSON writes v as the reference implementation does, without escaping <, > and &.
func writeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the line end
	return nil
}

// checkWritable finds what no format can hold.
func checkWritable(tensors []Tensor) error {
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		switch {
		case t.Name == metadataKey:
			return fmt.Errorf("a tensor cannot be called %s", metadataKey)
		case !utf8.ValidString(t.Name):
			return fmt.Errorf("tensor name %q is not UTF-8", t.Name)
		case seen[t.Name]:
			return fmt.Errorf("two tensors are called %q", t.Name)
		case !t.DType.known():
			return fmt.Errorf("tensor %q has no values", t.Name)
		}
		if size, ok := byteLen(t.Shape, t.DType); !ok || t.strides == nil && size != len(t.data) {
			return fmt.Errorf("tensor %q was given shape %v, which its values do not have", t.Name, t.Shape)
		}
		seen[t.Name] = true
	}
	return nil
}
