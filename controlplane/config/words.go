package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, keyOf(t.Field(i)))
	}
	return keys
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

func fieldOf(t reflect.Type, key string) (int, bool) {
	for i := range t.NumField() {
		if keyOf(t.Field(i)) == key {
			return i, true
		}
	}
	return 0, false
}

// shortField is the field that a plain value stands for.
func shortField(t reflect.Type) (int, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("short") != "" {
			return i, true
		}
	}
	return 0, false
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return fmt.Sprintf("%q", n.Value)
	}
	return "something else"
}

// what names a value's type to a person.
func what(v reflect.Value) string {
	switch v.Interface().(type) {
	case netip.Prefix:
		return "a prefix"
	case netip.Addr:
		return "an IP address"
	case time.Duration:
		return "a duration"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a word"
	}
	return "a number in range"
}

// example shows a right value of the type.
func example(v reflect.Value) string {
	switch v.Interface().(type) {
	case netip.Prefix:
		return "for example 192.0.2.0/24 or 2001:db8::/32"
	case netip.Addr:
		return "for example 192.0.2.1 or 2001:db8::1"
	case time.Duration:
		return "for example 90s or 2m"
	}
	return ""
}

func limits(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("0 to %d", ^uint64(0)>>(64-v.Type().Bits()))
	}
	return ""
}

// suggest finds the nearest of the words, or lists them.
func suggest(word string, words []string) string {
	best, dist := "", 3
	for _, w := range words {
		if d := editDistance(word, w); d < dist {
			best, dist = w, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known: " + strings.Join(words, ", ")
}

// editDistance is Levenshtein's, for short words.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := prev
			if a[i-1] != b[j-1] {
				cost = 1 + min(prev, row[j], row[j-1])
			}
			prev, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}

// Keys lists every key that a configuration may have, each once.
func Keys() []string {
	seen := map[string]bool{}
	var keys []string
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textUnmarshaler) {
			return
		}
		for i := range t.NumField() {
			if key := keyOf(t.Field(i)); !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
			walk(t.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Config]())
	return keys
}

// Redacted is a copy of the configuration with its secrets replaced, to show to people.
func Redacted(c *Config) *Config {
	out := *c
	out.VRFs = append([]VRF(nil), c.VRFs...)
	for i := range out.VRFs {
		out.VRFs[i].Static = redactStatics(out.VRFs[i].Static)
		if out.VRFs[i].BGP == nil {
			continue
		}
		b := *out.VRFs[i].BGP
		b.Neighbors = append([]BGPNeighbor(nil), b.Neighbors...)
		for j := range b.Neighbors {
			if b.Neighbors[j].Password != "" {
				b.Neighbors[j].Password = "********"
			}
			b.Neighbors[j].BFD = b.Neighbors[j].BFD.redacted()
		}
		out.VRFs[i].BGP = &b
	}
	return &out
}

// redactStatics copies only what has a secret.
func redactStatics(list []Static) []Static {
	copied := false
	for i := range list {
		for j := range list[i].Via {
			b := list[i].Via[j].BFD
			if b.redacted() == b {
				continue
			}
			if !copied {
				list, copied = slices.Clone(list), true
			}
			list[i].Via = slices.Clone(list[i].Via)
			list[i].Via[j].BFD = b.redacted()
		}
	}
	return list
}
