package patricia

import (
	"errors"
	"net/netip"

	"godwit/fib"
	"godwit/fib/compiled"
)

// Hooks tells the forwarding plane about group indices. The writer calls it
// within Apply, DropVRF and Reclaim.
type Hooks interface {
	// GroupSet gives the content of an index, before a route leads to it, and
	// again when it changes.
	GroupSet(index uint32, g fib.Group)
	// GroupFree says that nobody can hold the index any more.
	GroupFree(index uint32)
}

// Reader is a forwarding worker's membership in grace periods.
type Reader = compiled.Reader

// ErrNoRoom refuses a batch when the tables might outgrow their memory.
var ErrNoRoom = errors.New("forwarding tables full")

// Tables is the forwarding tables of all VRFs.
type Tables struct {
	space  *compiled.Space
	hooks  Hooks
	vrfs   map[fib.VRF]*vrfTables
	groups groups
	epoch  uint32
	seq    uint64
	gen    uint32 // of the epoch
	ops    []op   // of the batch at hand
	trees  Trees

	ahead [aheadChanges]ahead
	sink  uint32 // as ordered.sink
}

type vrfTables struct{ v4, v6 *table }

func (v *vrfTables) routes() (n int) {
	for _, tb := range [...]*table{v.v4, v.v6} {
		if tb != nil {
			n += tb.routes
		}
	}
	return n
}

var _ fib.Applier = (*Tables)(nil)

// New returns empty tables; h may be nil. It panics when the system does not
// give the address space (512 MiB, none of it resident).
func New(h Hooks) *Tables { return NewWith(h, Ordered) }

// Trees selects the trees that the writer edits.
type Trees uint8

// The trees. Both hold the same routes and answer alike.
const (
	Ordered Trees = iota // B+ trees of ours: the default, see docs/fib.md
	Kentik               // Patricia trees of github.com/kentik/patricia: the oracle of our own
)

// NewWith is New with a choice of trees.
func NewWith(h Hooks, trees Trees) *Tables {
	s, err := compiled.New()
	if err != nil {
		panic(err)
	}
	if h == nil {
		h = noHooks{}
	}
	return &Tables{space: s, hooks: h, vrfs: map[fib.VRF]*vrfTables{}, groups: newGroups(), trees: trees}
}

type noHooks struct{}

func (noHooks) GroupSet(uint32, fib.Group) {}
func (noHooks) GroupFree(uint32)           {}

// Close gives the lookup memory back. No lookup may be under way or follow.
func (t *Tables) Close() error { return t.space.Close() }

// SetMirror starts a copy of the lookup tables elsewhere, nil ends it. Writer only.
func (t *Tables) SetMirror(m compiled.Mirror) { t.space.SetMirror(m) }

// UsedWords is how many words the lookup tables take, from word 0. Writer only.
func (t *Tables) UsedWords() uint32 { return t.space.Used() }

// NewReader registers a forwarding worker. Any goroutine.
func (t *Tables) NewReader() *Reader { return t.space.NewReader() }

// Lookup4 returns the index of the group that the address is routed to, 0 if
// there is no route. Any goroutine.
func (t *Tables) Lookup4(vrf fib.VRF, addr uint32) (group uint32) {
	return t.space.Lookup4(uint32(vrf), addr)
}

// Lookup6 is Lookup4 for an IPv6 address: its upper and lower 64 bits.
func (t *Tables) Lookup6(vrf fib.VRF, hi, lo uint64) (group uint32) {
	return t.space.Lookup6(uint32(vrf), hi, lo)
}

// LookupBatch4 does Lookup4 for each of addrs; groups is at least as long.
func (t *Tables) LookupBatch4(vrf fib.VRF, addrs, groups []uint32) {
	t.space.LookupBatch4(uint32(vrf), addrs, groups)
}

// LookupBatch6 does Lookup6 for each of addrs; groups is at least as long.
func (t *Tables) LookupBatch6(vrf fib.VRF, addrs [][2]uint64, groups []uint32) {
	t.space.LookupBatch6(uint32(vrf), addrs, groups)
}

// Reclaim gives memory and group indices free whose grace period is over, and
// returns how many still wait. Apply does so, too; a writer without batches
// calls it now and then while it returns more than 0.
func (t *Tables) Reclaim() int {
	waiting := t.space.Reclaim()
	g := &t.groups
	n := 0
	for n < len(g.limbo) && g.limbo[n].stamp != 0 && t.space.Passed(g.limbo[n].stamp) {
		t.hooks.GroupFree(g.limbo[n].index)
		g.free = append(g.free, g.limbo[n].index)
		n++
	}
	g.limbo = append(g.limbo[:0], g.limbo[n:]...)
	return waiting + len(g.limbo)
}

// settle ends a set of changes that readers have seen the end of.
func (t *Tables) settle() {
	stamp := t.space.Seal()
	for i := range t.groups.limbo {
		if t.groups.limbo[i].stamp == 0 {
			t.groups.limbo[i].stamp = stamp
		}
	}
	t.Reclaim()
}

// table is the table of a prefix, made if need be.
func (t *Tables) table(vrf fib.VRF, is4 bool) *table {
	v := t.vrfs[vrf]
	if v == nil {
		v = &vrfTables{}
		t.vrfs[vrf] = v
	}
	if is4 {
		if v.v4 == nil {
			v.v4 = t.newTable(compiled.IPv4)
		}
		return v.v4
	}
	if v.v6 == nil {
		v.v6 = t.newTable(compiled.IPv6)
	}
	return v.v6
}

func (t *Tables) newTable(f compiled.Family) *table {
	if t.trees == Kentik {
		return &table{editable: newSharded(f), family: f}
	}
	return &table{editable: newOrdered(f), family: f}
}

// find is table, but nil when there is none.
func (t *Tables) find(vrf fib.VRF, is4 bool) *table {
	v := t.vrfs[vrf]
	switch {
	case v == nil:
		return nil
	case is4:
		return v.v4
	}
	return v.v6
}

// DropVRF removes all routes of a VRF at once.
func (t *Tables) DropVRF(vrf fib.VRF) {
	v := t.vrfs[vrf]
	if v == nil {
		return
	}
	delete(t.vrfs, vrf)
	for _, tb := range [...]*table{v.v4, v.v6} {
		if tb == nil {
			continue
		}
		t.space.Clear(uint32(vrf), tb.family)
		t.space.Delete(uint32(vrf), tb.family, compiled.Key{}, 0, 0, 0)
		tb.each(compiled.Key{}, func(_ compiled.Key, tg tag) bool {
			t.groups.all[tg.group()].refs--
			t.endIfStale(tg.group())
			return true
		})
	}
	t.settle()
}

// endIfStale ends a group of an earlier epoch that has lost its last route.
func (t *Tables) endIfStale(index uint32) {
	if g := &t.groups.all[index]; g.live && g.refs == 0 && g.epoch != t.epoch {
		t.groups.end(index)
	}
}

func keyOf(a netip.Addr) compiled.Key {
	if a.Is4() {
		b := a.As4()
		return compiled.Key4(be32(b[:]))
	}
	b := a.As16()
	return compiled.Key{Hi: be64(b[:8]), Lo: be64(b[8:])}
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func be64(b []byte) uint64 { return uint64(be32(b))<<32 | uint64(be32(b[4:])) }

func prefixOf(f compiled.Family, k compiled.Key, n uint) netip.Prefix {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(k.Hi>>(56-8*i)), byte(k.Lo>>(56-8*i))
	}
	if f == compiled.IPv4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), int(n))
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), int(n))
}
