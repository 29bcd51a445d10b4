package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

// MaxSize bounds a configuration file in bytes: 100,000 static routes are some 8 MB.
const MaxSize = 64 << 20

// Error is one fault of a configuration: where it is, what it is, and what
// would be right.
type Error struct {
	File      string
	Line, Col int    // from 1; 0: the whole file
	Path      string // vrfs[1].static[3].prefix
	Msg       string
	Hint      string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Errors are all faults found, in the order of the file.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads, parses and validates a file.
func Load(path string) (*Config, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if st.Size() > MaxSize {
		return nil, fmt.Errorf("read configuration %s: %d bytes, at most %d", path, st.Size(), MaxSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse parses and validates a configuration whole; name is what errors call
// the file. The result has its defaults filled in. Any fault is an Errors.
func Parse(name string, data []byte) (*Config, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("parse %s: %d bytes, at most %d", name, len(data), MaxSize)
	}
	p := &parser{file: name, at: map[string]*yaml.Node{}}
	c := p.parse(data)
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	c.fillDefaults()
	v := &validator{c: c, p: p}
	v.validate()
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *Error) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
		})
		return nil, p.errs
	}
	return c, nil
}

// maxErrors stops a hopeless file from printing a book.
const maxErrors = 50

type parser struct {
	file string
	at   map[string]*yaml.Node // path → where its value stands
	errs Errors
}

func (p *parser) fail(n *yaml.Node, path, hint, format string, args ...any) {
	if len(p.errs) >= maxErrors {
		return
	}
	e := &Error{File: p.file, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if n != nil {
		e.Line, e.Col = n.Line, n.Column
	}
	p.errs = append(p.errs, e)
}

func (p *parser) parse(data []byte) *Config {
	c := &Config{}
	var doc yaml.Node
	if err := unmarshal(data, &doc); err != nil {
		p.failSyntax(err)
		return c
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return c // an empty file is an empty configuration
	}
	p.decode(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	return c
}

// unmarshal guards against panics of the YAML library on hostile input.
func unmarshal(data []byte, doc *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return yaml.Unmarshal(data, doc)
}

func (p *parser) failSyntax(err error) {
	e := &Error{File: p.file, Msg: strings.TrimPrefix(err.Error(), "yaml: "), Hint: "indent with spaces; a list item starts with \"- \""}
	var le *yaml.LoadError
	if errors.As(err, &le) {
		e.Line, e.Col, e.Msg = le.Mark.Line, max(le.Mark.Column, 1), le.Message
		if e.Line == 0 {
			e.Line, e.Col = le.ContextMark.Line, max(le.ContextMark.Column, 1)
		}
	}
	p.errs = append(p.errs, e)
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
)

// decode fills v from n, strictly, and notes where every value stands.
func (p *parser) decode(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		p.fail(n, path, "write the value out", "YAML anchors and aliases are not used here")
		return
	}
	p.at[path] = n
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "neighbors:" with nothing behind it is the zero value
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		p.decode(n, v.Elem(), path)
	case v.Addr().Type().Implements(textUnmarshaler) || v.Type() == durationType:
		p.decodeText(n, v, path)
	case v.Kind() == reflect.Struct:
		p.decodeStruct(n, v, path)
	case v.Kind() == reflect.Slice:
		p.decodeSlice(n, v, path)
	default:
		p.decodeScalar(n, v, path)
	}
}

func (p *parser) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if i, ok := shortField(v.Type()); ok && n.Kind == yaml.ScalarNode {
		p.decode(n, v.Field(i), join(path, keyOf(v.Type().Field(i))))
		return
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, path, "keys: "+strings.Join(keysOf(v.Type()), ", "), "want a mapping of keys, found %s", kindName(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		field, ok := fieldOf(v.Type(), key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			p.fail(key, at, suggest(key.Value, keysOf(v.Type())), "unknown key %q", key.Value)
		case seen[key.Value]:
			p.fail(key, at, "keep one of them", "key %q stands twice", key.Value)
		default:
			seen[key.Value] = true
			p.decode(val, v.Field(field), at)
		}
	}
}

func (p *parser) decodeSlice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		p.fail(n, path, "a list: [a, b], or lines that start with \"- \"", "want a list, found %s", kindName(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		p.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (p *parser) decodeText(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		p.fail(n, path, example(v), "want a single value, found %s", kindName(n))
		return
	}
	var err error
	if v.Type() == durationType {
		var d time.Duration
		d, err = time.ParseDuration(n.Value)
		v.SetInt(int64(d))
	} else {
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value))
	}
	if err != nil {
		p.fail(n, path, example(v), "%q is not %s", n.Value, what(v))
	}
}

func (p *parser) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		p.fail(n, path, "", "want a single value, found %s", kindName(n))
		return
	}
	if v.Kind() == reflect.String { // "vrf: 12" means the name "12"
		v.SetString(n.Value)
		return
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		p.fail(n, path, limits(v), "%q is not %s", n.Value, what(v))
	}
}
