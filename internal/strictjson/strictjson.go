// Package strictjson reads JSON that people write, in which a mistake must not be taken for an absence. Its function is safe for concurrent use.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Unmarshal is json.Unmarshal of an object; fields that into does not have are errors, and so is anything behind the object.
func Unmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the object: remove it")
	}
	return nil
}
