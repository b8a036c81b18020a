package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/go-modelzoo/zoo/weights/internal/pickle"
)

// legacyMagic and legacyProtocol are the first two values of a file of torch.save before 1.6.
var legacyMagic, _ = new(big.Int).SetString("1950a86a20f9469cfc6c", 16)

const legacyProtocol = 1001

// readLegacyPTH reads the format of torch.save before 1.6 (_use_new_zipfile_serialization=False since): the pickles of
// the magic number, the protocol version, facts about the machine, the object, and the list of storage keys; then for
// each key the number of elements in 8 bytes, and the elements.
func readLegacyPTH(f *File, data []byte) error {
	f.format = LegacyPTH
	rest := data
	next := func() (any, error) {
		v, n, err := pickle.Load(rest, pickle.Env{Global: findGlobal})
		if err == nil {
			rest = rest[n:]
		}
		return v, err
	}

	magic, err := next()
	if err != nil {
		return err
	}
	if n, ok := magic.(*big.Int); !ok || n.Cmp(legacyMagic) != 0 {
		return errors.New("is a Python pickle, but not one of torch.save: save the model's state dict with torch.save")
	}
	version, err := next()
	if err != nil {
		return err
	}
	if version != legacyProtocol {
		return fmt.Errorf("has protocol %.40s of torch.save, where only %d is known", fmt.Sprint(version), legacyProtocol)
	}
	machine, err := next()
	if err != nil {
		return err
	}
	facts, ok := dictItems(machine)
	if !ok {
		return errors.New("lacks the facts about the machine that wrote it")
	}
	for _, it := range facts {
		if it.key == "little_endian" && it.value != true {
			return errors.New("was written on a big-endian machine: save it again on a little-endian one")
		}
	}

	c, err := runCheckpoint(rest)
	if err != nil {
		return err
	}
	rest = rest[c.length:]
	list, err := next()
	if err != nil {
		return err
	}
	keys, ok := sequence(list)
	if !ok {
		return errors.New("lacks the list of its storages")
	}
	if err := c.fill(keys, rest); err != nil {
		return err
	}
	return c.stateDict(f, len(data))
}

// fill gives each storage its bytes: those after the pickles, in the order of keys.
func (c *checkpoint) fill(keys []any, rest []byte) error {
	for _, k := range keys {
		key, ok := k.(string)
		s := c.storages[key]
		if !ok || s == nil {
			return fmt.Errorf("lists storage %.80q, which its pickle does not refer to", fmt.Sprint(k))
		}
		if s.data != nil {
			return fmt.Errorf("lists storage %.80q twice", key)
		}
		if len(rest) < 8 {
			return fmt.Errorf("is truncated before storage %.80q: download it again", key)
		}
		n := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if n > math.MaxInt || int(n) != s.len {
			return fmt.Errorf("has storage %.80q of %d elements where its pickle says %d", key, n, s.len)
		}
		size := s.len * s.dtype.Size()
		if size > len(rest) {
			return fmt.Errorf("is truncated: storage %.80q has %d bytes, the file %d more: download it again", key, size, len(rest))
		}
		s.data, rest = rest[:size:size], rest[size:]
	}
	for _, s := range c.storages {
		if s.data == nil {
			return fmt.Errorf("lacks storage %.80q, which its pickle refers to", s.key)
		}
	}
	return nil
}
