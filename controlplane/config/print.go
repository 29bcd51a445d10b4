package config

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

// Marshal prints a configuration so that Parse gives it back. It holds secrets:
// see Redacted.
func Marshal(c *Config) ([]byte, error) {
	root, err := encode(reflect.ValueOf(*c))
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return b.Bytes(), nil
}

// encode is decode backwards. The library's own encoder takes the zero and the
// set netip.Addr for the same (neither has exported fields).
func encode(v reflect.Value) (*yaml.Node, error) {
	switch {
	case v.Kind() == reflect.Pointer:
		return encode(v.Elem())
	case v.Type() == durationType:
		return scalar("!!str", time.Duration(v.Int()).String()), nil
	case v.Type().Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return scalar("!!str", string(text)), err
	case v.Kind() == reflect.Struct:
		return encodeStruct(v)
	case v.Kind() == reflect.Slice:
		return encodeSlice(v)
	}
	n := &yaml.Node{}
	return n, n.Encode(v.Interface())
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func encodeStruct(v reflect.Value) (*yaml.Node, error) {
	if i, ok := shortField(v.Type()); ok {
		rest := reflect.New(v.Type()).Elem()
		rest.Set(v)
		rest.Field(i).SetZero()
		if rest.IsZero() && !v.Field(i).IsZero() {
			return encode(v.Field(i))
		}
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if strings.HasSuffix(field.Tag.Get("yaml"), ",omitempty") && v.Field(i).IsZero() {
			continue
		}
		val, err := encode(v.Field(i))
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, scalar("!!str", keyOf(field)), val)
	}
	return n, nil
}

// encodeSlice prints lists of plain values on one line.
func encodeSlice(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	for i := range v.Len() {
		item, err := encode(v.Index(i))
		if err != nil {
			return nil, err
		}
		if item.Kind != yaml.ScalarNode {
			n.Style = 0
		}
		n.Content = append(n.Content, item)
	}
	return n, nil
}
