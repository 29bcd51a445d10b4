package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Encode writes a control message's body.
func Encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// Decode reads a control message's body strictly: an unknown field or anything
// behind the value is an error. An empty body is an error, too: "{}" is the
// shortest message.
func Decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("decode %T: %w", v, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("decode %T: data behind the value at byte %d", v, d.InputOffset())
	}
	return nil
}

// DecodeKind is Decode with the kind named in the error.
func DecodeKind(k Kind, body []byte, v any) error {
	if err := Decode(body, v); err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}
