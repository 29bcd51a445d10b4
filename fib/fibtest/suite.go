package fibtest

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"godwit/fib"
)

// Lookups is what forwarding workers call.
type Lookups interface {
	Lookup4(vrf fib.VRF, addr uint32) (group uint32)
	Lookup6(vrf fib.VRF, hi, lo uint64) (group uint32)
	LookupBatch4(vrf fib.VRF, addrs, groups []uint32)
	LookupBatch6(vrf fib.VRF, addrs [][2]uint64, groups []uint32)
}

// Tables is what the suite tests.
type Tables interface {
	fib.Applier
	Lookups
	Find(vrf fib.VRF, a netip.Addr) (fib.Route, fib.Group, bool)
	Walk(vrf fib.VRF, under, after netip.Prefix, f func(p netip.Prefix, group uint32) bool)
	Group(index uint32) fib.Group
	Digest(vrf fib.VRF) fib.Digest
}

// Rand returns random numbers from the seed in the environment variable
// FIB_SEED, or from the clock; the seed is printed when the test fails.
func Rand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FIB_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("FIB_SEED: %v", err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with FIB_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// Script makes random batches, most of them valid, that keep coming back to
// the same prefixes, groups and VRFs.
type Script struct {
	R    *rand.Rand
	VRFs int
}

// Addr returns an address out of a crowded part of the address space.
func (s *Script) Addr() netip.Addr {
	var a [16]byte
	for i := range a {
		if s.R.IntN(3) > 0 {
			a[i] = byte(s.R.Uint32()) & 0x13
		} else {
			a[i] = byte(s.R.Uint32())
		}
	}
	if s.R.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	a[0] = 0x20
	return netip.AddrFrom16(a)
}

// Prefix returns a prefix of any length, most often one that has relatives.
func (s *Script) Prefix() netip.Prefix {
	a := s.Addr()
	n := s.R.IntN(a.BitLen() + 1)
	if s.R.IntN(3) == 0 {
		n &^= 7
	}
	p, err := a.Prefix(n)
	if err != nil {
		panic(err)
	}
	return p
}

func (s *Script) group() fib.Group {
	g := fib.Group{ID: fib.GroupID(1 + s.R.IntN(12)), Kind: fib.Kind(s.R.IntN(4))}
	if g.Kind == fib.Forward {
		for range 1 + s.R.IntN(3) {
			g.NextHops = append(g.NextHops, fib.NextHop{Interface: fib.InterfaceID(1 + s.R.IntN(9)), Weight: uint8(s.R.IntN(4))})
		}
	}
	return g
}

// Change returns a change; it may delete a route of have.
func (s *Script) Change(have []Key) fib.Change {
	switch n := s.R.IntN(100); {
	case n < 10:
		return fib.Change{Op: fib.SetGroup, Group: s.group()}
	case n < 11:
		return fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: fib.GroupID(1 + s.R.IntN(12))}}
	case n < 40 && len(have) > 0:
		k := have[s.R.IntN(len(have))]
		return fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: k.VRF, Prefix: k.Prefix}}
	case n < 45:
		return fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: fib.VRF(s.R.IntN(s.VRFs)), Prefix: s.Prefix()}}
	}
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{
		VRF: fib.VRF(s.R.IntN(s.VRFs)), Prefix: s.Prefix(), Group: fib.GroupID(1 + s.R.IntN(12)),
	}}
}

// Run compares tables with their twin after each of a number of random batches.
func Run(t *testing.T, tables Tables, batches int) {
	s := &Script{R: Rand(t), VRFs: 3}
	twin := NewTwin()
	for i := range batches {
		b := s.batch(twin)
		before := twin.Routes()
		got, want := tables.Apply(b), twin.Apply(b)
		if (got == nil) != (want == nil) {
			t.Fatalf("batch %d: error %v, want %v", i, got, want)
		}
		for _, e := range []error{fib.ErrOutOfSequence, fib.ErrUnknownGroup, fib.ErrGroupInUse, fib.ErrBadRoute, fib.ErrBadGroup} {
			if errors.Is(got, e) != errors.Is(want, e) {
				t.Fatalf("batch %d: error %v, want %v", i, got, want)
			}
		}
		if want != nil && !reflect.DeepEqual(before, twin.Routes()) {
			t.Fatalf("batch %d: the twin changed", i)
		}
		s.compareLookups(t, tables, twin, b)
		if i%16 == 0 {
			CompareRoutes(t, tables, twin, s.VRFs)
		}
		if t.Failed() {
			t.Fatalf("after batch %d: %+v", i, b)
		}
	}
	CompareRoutes(t, tables, twin, s.VRFs)
}

func (s *Script) batch(twin *Twin) fib.Batch {
	b := fib.Batch{Epoch: twin.Epoch, Seq: twin.Seq + 1}
	switch s.R.IntN(40) {
	case 0: // a replay begins
		b.Epoch, b.Seq = twin.Epoch+1+uint32(s.R.IntN(2)), 1
	case 1:
		b.Seq += uint64(s.R.IntN(3))
	case 2, 3:
		b.Sweep = true
	}
	have := make([]Key, 0, len(twin.routes))
	for k := range twin.routes {
		have = append(have, k)
	}
	slices.SortFunc(have, func(a, b Key) int { // so that the seed decides
		if a.VRF != b.VRF {
			return int(a.VRF) - int(b.VRF)
		}
		return a.Prefix.Compare(b.Prefix)
	})
	known := map[fib.GroupID]bool{}
	if b.Epoch == twin.Epoch {
		for id := range twin.groups {
			known[id] = true
		}
	}
	for range s.R.IntN(30) {
		c := s.Change(have)
		if c.Op == fib.SetRoute && !known[c.Route.Group] && s.R.IntN(50) > 0 {
			g := s.group()
			g.ID = c.Route.Group
			known[g.ID] = true
			b.Changes = append(b.Changes, fib.Change{Op: fib.SetGroup, Group: g})
		}
		if c.Op == fib.SetGroup {
			known[c.Group.ID] = true
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

// compareLookups looks up random addresses and those of the batch.
func (s *Script) compareLookups(t *testing.T, tables Tables, twin *Twin, b fib.Batch) {
	var addrs []netip.Addr
	for range 20 {
		addrs = append(addrs, s.Addr())
	}
	for _, c := range b.Changes {
		if c.Route.Prefix.IsValid() {
			addrs = append(addrs, c.Route.Prefix.Addr())
		}
	}
	for vrf := range fib.VRF(s.VRFs) {
		for _, a := range addrs {
			CompareLookup(t, tables, twin, vrf, a)
		}
	}
}

// CompareLookup compares the answers for one address.
func CompareLookup(t testing.TB, tables Tables, twin *Twin, vrf fib.VRF, a netip.Addr) {
	p, g, ok := twin.Find(vrf, a)
	r, found, has := tables.Find(vrf, a)
	if has != ok || ok && (r.Prefix != p || !reflect.DeepEqual(found, g)) {
		t.Errorf("VRF %d: %v: found %v %+v, want %v %+v", vrf, a, r.Prefix, found, p, g)
	}
	single, batch := lookup(tables, vrf, a)
	if single != batch {
		t.Errorf("VRF %d: %v: group %d alone, %d in a batch", vrf, a, single, batch)
	}
	if (single != 0) != ok || ok && !reflect.DeepEqual(tables.Group(single), g) {
		t.Errorf("VRF %d: %v: looked up %d %+v, want %v %+v", vrf, a, single, tables.Group(single), p, g)
	}
}

func lookup(l Lookups, vrf fib.VRF, a netip.Addr) (single, batch uint32) {
	var out [3]uint32
	if a.Is4() {
		b := a.As4()
		n := uint32(word(b[:]))
		l.LookupBatch4(vrf, []uint32{n ^ 1<<31, n, n + 1}, out[:])
		return l.Lookup4(vrf, n), out[1]
	}
	b := a.As16()
	hi, lo := word(b[:4])<<32|word(b[4:8]), word(b[8:12])<<32|word(b[12:])
	l.LookupBatch6(vrf, [][2]uint64{{^hi, lo}, {hi, lo}, {hi, ^lo}}, out[:])
	return l.Lookup6(vrf, hi, lo), out[1]
}

func word(b []byte) uint64 {
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

// CompareRoutes compares all routes of VRFs 0 to vrfs-1, their order and digests.
func CompareRoutes(t testing.TB, tables Tables, twin *Twin, vrfs int) {
	want := twin.Routes()
	n := 0
	for vrf := range fib.VRF(vrfs) {
		if got, want := tables.Digest(vrf), twin.Digest(vrf); got != want {
			t.Errorf("VRF %d: digest %v, want %v", vrf, got, want)
		}
		var last netip.Prefix
		tables.Walk(vrf, netip.Prefix{}, netip.Prefix{}, func(p netip.Prefix, index uint32) bool {
			if last.IsValid() && last.Compare(p) >= 0 && last.Addr().Compare(p.Addr()) >= 0 {
				t.Errorf("VRF %d: %v after %v", vrf, p, last)
			}
			last = p
			n++
			if g, ok := want[Key{vrf, p}]; !ok || !reflect.DeepEqual(tables.Group(index), g) {
				t.Errorf("VRF %d: %v to %+v, want %v %+v", vrf, p, tables.Group(index), ok, g)
			}
			return true
		})
	}
	if n != len(want) {
		t.Errorf("%d routes, want %d", n, len(want))
	}
}
