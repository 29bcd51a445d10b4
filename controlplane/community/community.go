// Package community knows the communities of BGP routes as configurations name
// them, and tells which of a list of names a route has. The routing engine gets
// those names only: of a full table's 180,000 sets of attributes that leaves
// as many as the configuration distinguishes.
package community

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a Filter.
const (
	Max     = 64  // names
	MaxText = 768 // bytes of all names with spaces between: what a route may carry to the routing engine
)

// wellKnown are the names of the well-known communities (RFC 1997, 7999, 8326, 3765).
var wellKnown = map[string]uint32{
	"graceful-shutdown": 0xffff0000, "blackhole": 0xffff029a, "no-export": 0xffffff01,
	"no-advertise": 0xffffff02, "no-export-subconfed": 0xffffff03, "no-peer": 0xffffff04,
}

// kind is the attribute that a community is in.
type kind uint8

const (
	standard kind = iota // RFC 1997
	large                // RFC 8092
	extended             // RFC 4360
)

// value is a community, padded on the left: 4, 12 or 8 bytes of three words.
type value [3]uint32

// pattern is what a name stands for: the values that are equal in the bits of mask.
type pattern struct {
	kind       kind
	want, mask value
}

// anyNumber stands for each number in a name.
const anyNumber = "*"

// Check tells what is wrong with a name: a well-known name; 65000:100 (standard);
// 65000:1:2 (large); rt:65000:100, soo:192.0.2.1:100 (extended: route target, site
// of origin). "*" stands for any number, in an extended one for the last only.
func Check(name string) error {
	_, err := parse(name)
	return err
}

func parse(name string) (pattern, error) {
	bad := func() (pattern, error) {
		return pattern{}, fmt.Errorf("parse community %q: want 65000:100, 65000:1:2, rt:65000:100, soo:192.0.2.1:100 or a well-known name; * is any number", name)
	}
	if v, ok := wellKnown[name]; ok {
		return pattern{standard, value{2: v}, value{2: 1<<32 - 1}}, nil
	}
	f := strings.Split(name, ":")
	switch {
	case len(f) == 3 && (f[0] == "rt" || f[0] == "soo"):
		return parseExtended(name, f)
	case len(f) == 3:
		p := pattern{kind: large}
		for i, s := range f {
			var ok bool
			if p.want[i], p.mask[i], ok = number(s, 32); !ok {
				return bad()
			}
		}
		return p, nil
	case len(f) == 2:
		hi, hiMask, ok1 := number(f[0], 16)
		lo, loMask, ok2 := number(f[1], 16)
		if !ok1 || !ok2 {
			return bad()
		}
		return pattern{standard, value{2: hi<<16 | lo}, value{2: hiMask<<16 | loMask}}, nil
	}
	return bad()
}

// parseExtended reads a two-octet AS, IPv4 or four-octet AS specific community.
func parseExtended(name string, f []string) (pattern, error) {
	bad := fmt.Errorf("parse community %q: want %s:65000:100, %s:192.0.2.1:100 or * for the last number", name, f[0], f[0])
	subtype := uint32(0x02)
	if f[0] == "soo" {
		subtype = 0x03
	}
	const all = 1<<32 - 1
	if as, err := strconv.ParseUint(f[1], 10, 16); err == nil {
		n, mask, ok := number(f[2], 32)
		if !ok {
			return pattern{}, bad
		}
		return pattern{extended, value{1: subtype<<16 | uint32(as), 2: n}, value{1: all, 2: mask}}, nil
	}
	n, mask, ok := number(f[2], 16)
	if !ok {
		return pattern{}, bad
	}
	typ, admin := uint32(0x02), uint32(0)
	if as, err := strconv.ParseUint(f[1], 10, 32); err == nil {
		admin = uint32(as)
	} else if a, err := netip.ParseAddr(f[1]); err == nil && a.Is4() {
		x := a.As4()
		typ, admin = 0x01, binary.BigEndian.Uint32(x[:])
	} else {
		return pattern{}, bad
	}
	return pattern{extended, value{1: typ<<24 | subtype<<16 | admin>>16, 2: admin<<16 | n}, value{1: all, 2: 0xffff<<16 | mask}}, nil
}

// number reads a number of so many bits, or "*".
func number(s string, bits int) (n, mask uint32, ok bool) {
	if s == anyNumber {
		return 0, 0, true
	}
	x, err := strconv.ParseUint(s, 10, bits)
	return uint32(x), uint32(uint64(1)<<bits - 1), err == nil
}

// Filter tells which of its names a route has. The zero Filter has none. It is
// not safe for concurrent use.
type Filter struct {
	names    []string
	patterns []pattern
	exact    map[exactKey]uint64 // bits of the names without "*"
	wild     []int               // names with "*"
	found    uint64
	words    map[uint64]string // by bits: the names in order, with spaces between
}

type exactKey struct {
	kind kind
	v    value
}

// NewFilter makes a filter of at most Max names.
func NewFilter(names []string) (*Filter, error) {
	f := &Filter{names: slices.Compact(slices.Sorted(slices.Values(names))), exact: map[exactKey]uint64{}, words: map[uint64]string{0: ""}}
	if len(f.names) > Max {
		return nil, fmt.Errorf("filter communities: %d names, at most %d", len(f.names), Max)
	}
	if n := len(strings.Join(f.names, " ")); n > MaxText {
		return nil, fmt.Errorf("filter communities: %d bytes of names, at most %d", n, MaxText)
	}
	for i, name := range f.names {
		p, err := parse(name)
		if err != nil {
			return nil, err
		}
		f.patterns = append(f.patterns, p)
		if p.mask == full[p.kind] {
			f.exact[exactKey{p.kind, p.want}] |= 1 << i
		} else {
			f.wild = append(f.wild, i)
		}
	}
	return f, nil
}

// full are the masks of names without "*".
var full = [...]value{
	standard: {2: 1<<32 - 1}, large: {1<<32 - 1, 1<<32 - 1, 1<<32 - 1}, extended: {1: 1<<32 - 1, 2: 1<<32 - 1},
}

// Empty tells whether there are no names to look for.
func (f *Filter) Empty() bool { return f == nil || len(f.names) == 0 }

// Standard notes a standard community of the route in hand.
func (f *Filter) Standard(c uint32) { f.note(standard, value{2: c}) }

// Large notes a large one.
func (f *Filter) Large(global, local1, local2 uint32) { f.note(large, value{global, local1, local2}) }

// Extended notes an extended one; of the types that have no name, none is found.
func (f *Filter) Extended(c [8]byte) {
	f.note(extended, value{1: binary.BigEndian.Uint32(c[:4]), 2: binary.BigEndian.Uint32(c[4:])})
}

func (f *Filter) note(k kind, v value) {
	f.found |= f.exact[exactKey{k, v}]
	for _, i := range f.wild {
		p := &f.patterns[i]
		if p.kind == k && v[0]&p.mask[0] == p.want[0] && v[1]&p.mask[1] == p.want[1] && v[2]&p.mask[2] == p.want[2] {
			f.found |= 1 << i
		}
	}
}

// Names returns the names of what was noted since the last time, in order and
// with spaces between.
func (f *Filter) Names() string {
	bits := f.found
	f.found = 0
	s, ok := f.words[bits]
	if !ok {
		var list []string
		for i, name := range f.names {
			if bits&(1<<i) != 0 {
				list = append(list, name)
			}
		}
		s = strings.Join(list, " ")
		if len(f.words) < maxWords {
			f.words[bits] = s
		}
	}
	return s
}

// maxWords bounds the combinations of names that are remembered.
const maxWords = 4096
