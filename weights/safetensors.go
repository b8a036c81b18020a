package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the longest safetensors header, the limit of the reference implementation.
const maxHeader = 100_000_000

// metadataKey is the one key of a safetensors header that is not a tensor.
const metadataKey = "__metadata__"

// readSafetensors reads the format of https://github.com/huggingface/safetensors#format under all the rules of its
// reference implementation: a bounded header of one JSON object, padded with spaces; no duplicate keys; offsets that
// cover the rest of the file without overlap or hole; a length that is that of the type and shape.
func readSafetensors(f *File, data []byte) error {
	f.format = Safetensors
	size := binary.LittleEndian.Uint64(data)
	rest := data[8:]
	switch {
	case size > maxHeader:
		return fmt.Errorf("has a safetensors header of %d bytes, of at most %d", size, maxHeader)
	case size > uint64(len(rest)):
		return fmt.Errorf("is truncated: its safetensors header has %d bytes, the file %d after it: download it again", size, len(rest))
	}
	header, body := rest[:size], rest[size:]

	entries, metadata, err := parseHeader(header)
	if err != nil {
		return fmt.Errorf("has a damaged safetensors header: %w", err)
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	tensors := make([]Tensor, len(entries))
	at := 0
	for i, e := range entries {
		if err := e.check(at, len(body)); err != nil {
			return err
		}
		at = e.end
		tensors[i] = Tensor{Name: e.name, DType: e.dtype, Shape: e.shape, data: body[e.begin:e.end:e.end]}
	}
	if at != len(body) {
		return fmt.Errorf("has %d bytes after its last tensor, that belong to none", len(body)-at)
	}
	f.metadata = metadata
	f.adopt(tensors)
	return nil
}

// entry is a tensor as the header has it. Offsets count from the end of the header.
type entry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int
}

// check holds an entry against where the one before it ends, and the size of what follows the header.
func (e *entry) check(previous, size int) error {
	want, ok := byteLen(e.shape, e.dtype)
	switch {
	case !ok:
		return fmt.Errorf("has tensor %.80q of an impossible shape %v", e.name, e.shape)
	case e.end < e.begin:
		return fmt.Errorf("has tensor %.80q that ends at %d, before it begins at %d", e.name, e.end, e.begin)
	case e.end-e.begin != want:
		return fmt.Errorf("has tensor %.80q of %v %s, which is %d bytes, in %d bytes", e.name, e.shape, e.dtype, want, e.end-e.begin)
	case e.end > size:
		return fmt.Errorf("is truncated: tensor %.80q ends at byte %d of the data, which has %d: download it again", e.name, e.end, size)
	case e.begin < previous:
		return fmt.Errorf("has tensor %.80q that overlaps another: it begins at %d, the one before ends at %d", e.name, e.begin, previous)
	case e.begin > previous:
		return fmt.Errorf("has a hole of %d bytes before tensor %.80q", e.begin-previous, e.name)
	}
	return nil
}

// parseHeader reads the JSON of a header by its tokens: decoding it into structs would take a key given twice, in
// another case, or a number such as 1e3.
func parseHeader(header []byte) ([]entry, map[string]string, error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("it is not a JSON object")
	}
	if !utf8.Valid(header) {
		return nil, nil, errors.New("it is not UTF-8")
	}
	var (
		entries  []entry
		metadata map[string]string
		d        = headerDecoder{json.NewDecoder(bytes.NewReader(header))}
	)
	d.UseNumber()
	err := d.object(func(name string) (err error) {
		if name == metadataKey {
			metadata, err = d.texts()
			return err
		}
		e, err := d.entry(name)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if tail := bytes.Trim(header[d.InputOffset():], " \t\r\n"); len(tail) > 0 {
		return nil, nil, fmt.Errorf("%d bytes follow its JSON", len(tail))
	}
	return entries, metadata, nil
}

// headerDecoder reads the JSON that a header may have, and nothing more.
type headerDecoder struct{ *json.Decoder }

func (d headerDecoder) token() (json.Token, error) {
	t, err := d.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return t, err
}

// delim reads the bracket r.
func (d headerDecoder) delim(r json.Delim) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != r {
		return fmt.Errorf("%.40v stands where %v should", t, r)
	}
	return nil
}

// object reads an object, having value read the value of each key. A key given twice is an error.
func (d headerDecoder) object(value func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %.80q comes twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%.80q: %w", key, err)
		}
	}
	return d.delim('}')
}

func (d headerDecoder) text() (string, error) {
	t, err := d.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%.40v is not a text", t)
	}
	return s, nil
}

// texts reads an object of texts.
func (d headerDecoder) texts() (map[string]string, error) {
	m := map[string]string{}
	err := d.object(func(key string) (err error) {
		m[key], err = d.text()
		return err
	})
	return m, err
}

// count reads a whole number of digits alone.
func (d headerDecoder) count() (int, error) {
	t, err := d.token()
	if err != nil {
		return 0, err
	}
	s, ok := t.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%.40v is not a number", t)
	}
	n, err := strconv.ParseUint(s.String(), 10, 64)
	if err != nil || n > math.MaxInt {
		return 0, fmt.Errorf("%.40s is not a size", s)
	}
	return int(n), nil
}

// counts reads an array of at most maxRank whole numbers.
func (d headerDecoder) counts() ([]int, error) {
	if err := d.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for d.More() {
		n, err := d.count()
		if err != nil {
			return nil, err
		}
		if len(list) == maxRank {
			return nil, fmt.Errorf("it has more than %d numbers", maxRank)
		}
		list = append(list, n)
	}
	return list, d.delim(']')
}

// entry reads what a header says of one tensor.
func (d headerDecoder) entry(name string) (entry, error) {
	e := entry{name: name}
	var offsets []int
	err := d.object(func(key string) (err error) {
		switch key {
		case "dtype":
			var s string
			if s, err = d.text(); err == nil {
				e.dtype, err = dtypeNamed(s)
			}
		case "shape":
			e.shape, err = d.counts()
		case "data_offsets":
			offsets, err = d.counts()
		default:
			err = errors.New("unknown key")
		}
		return err
	})
	switch {
	case err != nil:
		return e, err
	case e.dtype == 0:
		return e, errors.New("has no dtype")
	case e.shape == nil:
		return e, errors.New("has no shape")
	case len(offsets) != 2:
		return e, errors.New("has no pair of data_offsets")
	}
	e.begin, e.end = offsets[0], offsets[1]
	return e, nil
}
