package finetune

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// tensorboard writes TensorBoard's event files: TFRecords (tensorflow/core/lib/io/record_writer.h) of Event messages
// (tensorflow/core/util/event.proto).
type tensorboard struct{ *appendFile }

// scalar is a value with its name.
type scalar struct {
	tag   string
	value float64
}

// Field numbers of the messages.
const (
	eventWallTime    = 1 // double
	eventStep        = 2 // int64
	eventFileVersion = 3 // string
	eventSummary     = 5 // Summary
	summaryValue     = 1 // repeated Summary.Value
	valueTag         = 1 // string
	valueSimple      = 2 // float
)

// openTensorboard opens an event file, cut to a size; a new one gets its first record.
func openTensorboard(path string, size int64) (*tensorboard, error) {
	f, err := openAppend(path, size)
	if err != nil {
		return nil, err
	}
	t := &tensorboard{f}
	if size > 0 {
		return t, nil
	}
	event := wallTime(time.Now())
	event = protowire.AppendTag(event, eventFileVersion, protowire.BytesType)
	event = protowire.AppendString(event, "brain.Event:2")
	if err := t.record(event); err != nil {
		f.Close() // the error of writing says more
		return nil, err
	}
	return t, nil
}

func wallTime(now time.Time) []byte {
	event := protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type)
	return protowire.AppendFixed64(event, math.Float64bits(float64(now.UnixMicro())/1e6))
}

// write adds the values of a step.
func (t *tensorboard) write(now time.Time, step int, scalars []scalar) error {
	var summary []byte
	for _, s := range scalars {
		v := protowire.AppendTag(nil, valueTag, protowire.BytesType)
		v = protowire.AppendString(v, s.tag)
		v = protowire.AppendTag(v, valueSimple, protowire.Fixed32Type)
		v = protowire.AppendFixed32(v, math.Float32bits(float32(s.value)))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, v)
	}
	event := wallTime(now)
	event = protowire.AppendTag(event, eventStep, protowire.VarintType)
	event = protowire.AppendVarint(event, uint64(step))
	event = protowire.AppendTag(event, eventSummary, protowire.BytesType)
	event = protowire.AppendBytes(event, summary)
	return t.record(event)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is TFRecord's checksum.
func maskedCRC(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// record writes one record: length, its checksum, data, its checksum.
func (t *tensorboard) record(data []byte) error {
	r := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	r = binary.LittleEndian.AppendUint32(r, maskedCRC(r))
	r = append(r, data...)
	r = binary.LittleEndian.AppendUint32(r, maskedCRC(data))
	_, err := t.Write(r)
	return err
}
