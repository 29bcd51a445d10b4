package local

import (
	"cmp"
	"slices"

	"godwit/cluster/bus"
)

// key identifies a binding: one socket may bind several ranges.
type key struct {
	ref uint32
	rng bus.Range
}

// binding is one entry of the name table.
type binding struct {
	key
	pid  int
	name string
	// local bindings are the member's own knowledge: its node and links.
	local bool
	gen   uint32 // of the connection to the name service that told of it (members only)
}

func (b *binding) event(up bool) bus.Event {
	return bus.Event{Up: up, Range: b.rng, Addr: bus.Address{Ref: b.ref}, Name: b.name}
}

// table is the name table. It is not safe for concurrent use.
type table struct {
	all    map[key]*binding
	byType map[uint32][]*binding // in order of ref, then range
	turn   map[bus.Service]uint32
}

func newTable() table {
	return table{all: make(map[key]*binding), byType: make(map[uint32][]*binding), turn: make(map[bus.Service]uint32)}
}

func compare(a, b key) int {
	return cmp.Or(cmp.Compare(a.ref, b.ref), cmp.Compare(a.rng.Type, b.rng.Type),
		cmp.Compare(a.rng.Lower, b.rng.Lower), cmp.Compare(a.rng.Upper, b.rng.Upper))
}

// add puts the binding in and reports whether it is new.
func (t *table) add(b binding) bool {
	if old, ok := t.all[b.key]; ok {
		old.gen = b.gen
		return false
	}
	p := &b
	t.all[b.key] = p
	list := t.byType[b.rng.Type]
	i, _ := slices.BinarySearchFunc(list, b.key, func(x *binding, k key) int { return compare(x.key, k) })
	t.byType[b.rng.Type] = slices.Insert(list, i, p)
	return true
}

// remove takes the binding out; nil if there is none.
func (t *table) remove(k key) *binding {
	b := t.all[k]
	if b == nil {
		return nil
	}
	delete(t.all, k)
	list := t.byType[k.rng.Type]
	i, _ := slices.BinarySearchFunc(list, k, func(x *binding, k key) int { return compare(x.key, k) })
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(t.byType, k.rng.Type)
	} else {
		t.byType[k.rng.Type] = list
	}
	return b
}

// overlapping returns the bindings that share an instance with the range.
func (t *table) overlapping(r bus.Range) []*binding {
	var found []*binding
	for _, b := range t.byType[r.Type] {
		if b.rng.Overlaps(r) {
			found = append(found, b)
		}
	}
	return found
}

// maxTurns bounds the round-robin memory; above, turns start again.
const maxTurns = 4096

// pick returns the refs bound to the service, the one whose turn it is first.
func (t *table) pick(s bus.Service) []uint32 {
	var refs []uint32
	for _, b := range t.byType[s.Type] {
		if b.rng.Contains(s) && (len(refs) == 0 || refs[len(refs)-1] != b.ref) {
			refs = append(refs, b.ref)
		}
	}
	if len(refs) < 2 {
		return refs
	}
	if len(t.turn) > maxTurns {
		clear(t.turn)
	}
	n := int(t.turn[s] % uint32(len(refs)))
	t.turn[s]++
	return append(refs[n:len(refs):len(refs)], refs[:n]...)
}
