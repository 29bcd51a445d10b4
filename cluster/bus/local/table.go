package local

import (
	"cmp"
	"iter"
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
	gone  bool   // removed, but still in a list
	gen   uint32 // of the connection to the name service that told of it (members only)
}

func (b *binding) event(up bool) bus.Event {
	return bus.Event{Up: up, Range: b.rng, Addr: bus.Address{Ref: b.ref}, Name: b.name}
}

// table is the name table. It is not safe for concurrent use.
type table struct {
	all    map[key]*binding
	byType map[uint32]*names
	turn   map[bus.Service]uint32
}

// names is the bindings of a type: of each socket a list in order of range.
type names struct {
	refs  []uint32 // in order
	lists map[uint32]*list
}

// list is the bindings of a socket. Those that are gone stay until they are
// half of the list, so that a process with many names that ends costs no more
// than it had.
type list struct {
	names []*binding
	gone  int
}

func (l *list) find(k key) (int, bool) {
	return slices.BinarySearchFunc(l.names, k, func(x *binding, k key) int { return compare(x.key, k) })
}

func newTable() table {
	return table{all: make(map[key]*binding), byType: make(map[uint32]*names), turn: make(map[bus.Service]uint32)}
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
	n := t.byType[b.rng.Type]
	if n == nil {
		n = &names{lists: make(map[uint32]*list)}
		t.byType[b.rng.Type] = n
	}
	l := n.lists[b.ref]
	if l == nil {
		l = &list{}
		n.lists[b.ref] = l
		at, _ := slices.BinarySearch(n.refs, b.ref)
		n.refs = slices.Insert(n.refs, at, b.ref)
	}
	if i, was := l.find(b.key); was {
		l.names[i] = p
		l.gone--
	} else {
		l.names = slices.Insert(l.names, i, p)
	}
	return true
}

// remove takes the binding out; nil if there is none.
func (t *table) remove(k key) *binding {
	b := t.all[k]
	if b == nil {
		return nil
	}
	delete(t.all, k)
	b.gone = true
	n := t.byType[k.rng.Type]
	l := n.lists[k.ref]
	if l.gone++; l.gone*2 <= len(l.names) {
		return b
	}
	l.names, l.gone = slices.DeleteFunc(l.names, func(b *binding) bool { return b.gone }), 0
	if len(l.names) > 0 {
		if cap(l.names) > 4*len(l.names) {
			l.names = slices.Clone(l.names)
		}
		return b
	}
	delete(n.lists, k.ref)
	if n.refs = slices.DeleteFunc(n.refs, func(ref uint32) bool { return ref == k.ref }); len(n.refs) == 0 {
		delete(t.byType, k.rng.Type)
	}
	return b
}

// of yields the bindings of a type.
func (t *table) of(typ uint32) iter.Seq[*binding] {
	return func(yield func(*binding) bool) {
		n := t.byType[typ]
		if n == nil {
			return
		}
		for _, ref := range n.refs {
			for _, b := range n.lists[ref].names {
				if !b.gone && !yield(b) {
					return
				}
			}
		}
	}
}

// overlapping returns the bindings that share an instance with the range.
func (t *table) overlapping(r bus.Range) []*binding {
	var found []*binding
	for b := range t.of(r.Type) {
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
	for b := range t.of(s.Type) {
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
