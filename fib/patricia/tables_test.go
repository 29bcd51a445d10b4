package patricia_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"godwit/fib"
	"godwit/fib/fibtest"
	"godwit/fib/patricia"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hooks checks the life of group indices.
type hooks struct {
	t    testing.TB
	live map[uint32]fib.Group
}

func (h *hooks) GroupSet(index uint32, g fib.Group) { h.live[index] = g }
func (h *hooks) GroupFree(index uint32) {
	if _, ok := h.live[index]; !ok {
		h.t.Errorf("group %d freed, was not set", index)
	}
	delete(h.live, index)
}

func newTables(t testing.TB) (*patricia.Tables, *hooks) { return newTablesWith(t, patricia.Ordered) }

func newTablesWith(t testing.TB, trees patricia.Trees) (*patricia.Tables, *hooks) {
	h := &hooks{t, map[uint32]fib.Group{}}
	tb := patricia.NewWith(h, trees)
	t.Cleanup(func() {
		if err := tb.Close(); err != nil {
			t.Error(err)
		}
	})
	return tb, h
}

func set(vrf fib.VRF, p string, g fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p), Group: g}}
}

func del(vrf fib.VRF, p string) fib.Change {
	return fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p)}}
}

func group(id fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: fib.Blackhole}}
}

func ungroup(id fib.GroupID) fib.Change {
	return fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: id}}
}

func mustApply(t testing.TB, tb *patricia.Tables, epoch uint32, seq uint64, sweep bool, c ...fib.Change) {
	t.Helper()
	if err := tb.Apply(fib.Batch{Epoch: epoch, Seq: seq, Sweep: sweep, Changes: c}); err != nil {
		t.Fatal(err)
	}
}

func TestAgainstTwin(t *testing.T) {
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			tb, h := newTablesWith(t, [...]patricia.Trees{patricia.Ordered, patricia.Kentik}[i%2])
			batches := 600
			if patricia.RaceDetector {
				batches = 150
			}
			fibtest.Run(t, tb, batches)
			if n := tb.Stats().Groups; n != len(h.live) {
				t.Errorf("%d groups, %d announced", n, len(h.live))
			}
		})
	}
}

// A refused batch leaves no trace, whatever it did before the bad change.
func TestRefusedWhole(t *testing.T) {
	bad := map[string]struct {
		change fib.Change
		want   error
	}{
		"host bits":     {fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: netip.MustParsePrefix("10.0.0.1/8"), Group: 1}}, fib.ErrBadRoute},
		"IPv4-mapped":   {set(0, "::ffff:10.0.0.0/104", 1), fib.ErrBadRoute},
		"no prefix":     {fib.Change{Op: fib.DeleteRoute}, fib.ErrBadRoute},
		"VRF":           {set(65536, "10.0.0.0/8", 1), fib.ErrBadRoute},
		"unknown group": {set(0, "10.0.0.0/8", 99), fib.ErrUnknownGroup},
		"delete group":  {ungroup(99), fib.ErrUnknownGroup},
		"group in use":  {ungroup(1), fib.ErrGroupInUse},
		"group shape":   {fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 1}}, fib.ErrBadGroup},
	}
	for name, c := range bad {
		for _, epoch := range []uint32{1, 2} {
			t.Run(fmt.Sprint(name, epoch), func(t *testing.T) {
				tb, h := newTables(t)
				mustApply(t, tb, 1, 1, false, group(1), group(2), set(0, "192.0.2.0/24", 1), set(0, "::/0", 2), set(7, "10.0.0.0/8", 2))
				before, live := dump(tb), len(h.live)
				seq := uint64(2)
				if epoch == 2 {
					seq = 1
				}
				err := tb.Apply(fib.Batch{Epoch: epoch, Seq: seq, Sweep: true, Changes: []fib.Change{
					group(3), {Op: fib.SetGroup, Group: fib.Group{ID: 1, Kind: fib.Reject}}, set(0, "192.0.2.0/24", 3), del(0, "::/0"),
					group(4), ungroup(4), group(4), set(0, "2001:db8::/32", 1), set(9, "10.0.0.0/8", 3), set(0, "0.0.0.0/0", 3), c.change,
				}})
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if after := dump(tb); !reflect.DeepEqual(before, after) {
					t.Errorf("changed from %v\nto %v", before, after)
				}
				if len(h.live) != live {
					t.Errorf("%d groups announced, want %d", len(h.live), live)
				}
				mustApply(t, tb, 1, 2, false, set(0, "10.0.0.0/8", 1))
			})
		}
	}
}

func dump(tb *patricia.Tables) (all []string) {
	s := tb.Stats()
	for i := range s.VRFs {
		s.VRFs[i].Bytes = 0
	}
	all = append(all, fmt.Sprint(s))
	for _, v := range s.VRFs {
		tb.Walk(v.VRF, netip.Prefix{}, netip.Prefix{}, func(p netip.Prefix, g uint32) bool {
			all = append(all, fmt.Sprint(v.VRF, p, tb.Group(g)))
			return true
		})
	}
	all = append(all, fmt.Sprint(tb.Lookup4(0, 0xc0000201), tb.Lookup4(0, 0x01010101), tb.Lookup6(0, 1, 1), tb.Lookup4(9, 0x0a000001)))
	return all
}

func TestSequence(t *testing.T) {
	tb, _ := newTables(t)
	mustApply(t, tb, 3, 1, false)
	for _, b := range []fib.Batch{{Epoch: 3, Seq: 1}, {Epoch: 3, Seq: 3}, {Epoch: 2, Seq: 2}, {Epoch: 4, Seq: 2}, {Epoch: 4}} {
		if err := tb.Apply(b); !errors.Is(err, fib.ErrOutOfSequence) {
			t.Errorf("%d/%d: %v", b.Epoch, b.Seq, err)
		}
	}
	mustApply(t, tb, 3, 2, false)
}

// Epochs that no sweep ends use up the generations; the last one's sweep
// still removes what it has not set, and only that.
func TestManyUnsweptEpochs(t *testing.T) {
	tb, _ := newTables(t)
	mustApply(t, tb, 1, 1, false, group(1), set(0, "10.0.0.0/8", 1))
	for e := uint32(2); e < 60; e++ {
		mustApply(t, tb, e, 1, false, group(1), set(0, fmt.Sprintf("10.%d.0.0/16", e), 1))
	}
	if n := tb.Stats().VRFs[0].Routes4; n != 59 {
		t.Fatalf("%d routes before the sweep", n)
	}
	mustApply(t, tb, 60, 1, true, group(1), set(0, "10.7.0.0/16", 1))
	if s := tb.Stats(); s.VRFs[0].Routes4 != 1 || s.Groups != 1 {
		t.Fatalf("after the sweep: %+v", s)
	}
}

// Memory and indices come back after a grace period, not before.
func TestGrace(t *testing.T) {
	tb, h := newTables(t)
	r := tb.NewReader()
	defer r.Close()
	mustApply(t, tb, 1, 1, false, group(1), set(0, "10.0.0.0/8", 1))
	r.Online()
	held := tb.Lookup4(0, 0x0a000001)
	mustApply(t, tb, 1, 2, false, del(0, "10.0.0.0/8"), ungroup(1), group(2))
	if _, ok := h.live[held]; !ok {
		t.Fatal("index freed while a reader may hold it")
	}
	if tb.Reclaim() == 0 {
		t.Fatal("nothing waits")
	}
	r.Quiescent()
	if n := tb.Reclaim(); n != 0 {
		t.Fatalf("%d wait for nobody", n)
	}
	if _, ok := h.live[held]; ok {
		t.Fatal("index not freed")
	}
	r.Offline()
	mustApply(t, tb, 1, 3, false, ungroup(2))
	if n := tb.Reclaim(); n != 0 {
		t.Fatalf("%d wait for an offline reader", n)
	}
}

func TestDropVRF(t *testing.T) {
	tb, _ := newTables(t)
	mustApply(t, tb, 1, 1, false, group(1), set(5, "10.0.0.0/8", 1), set(5, "::/0", 1), set(6, "10.0.0.0/8", 1))
	tb.DropVRF(5)
	if tb.Lookup4(5, 0x0a000001) != 0 || tb.Lookup6(5, 1, 1) != 0 || tb.Lookup4(6, 0x0a000001) == 0 {
		t.Error("wrong VRF dropped")
	}
	mustApply(t, tb, 1, 2, false, del(6, "10.0.0.0/8"), ungroup(1))
}

func TestWalkPages(t *testing.T) {
	tb, _ := newTables(t)
	c := []fib.Change{group(1)}
	for i := range 20_000 { // enough for shards
		c = append(c, set(0, fmt.Sprintf("%d.%d.%d.0/24", i%200, i/200, i%7), 1))
	}
	c = append(c, set(0, "0.0.0.0/0", 1), set(0, "2001:db8::/32", 1), set(0, "8.0.0.0/7", 1), set(0, "9.0.0.0/8", 1))
	mustApply(t, tb, 1, 1, false, c...)
	var all, paged []netip.Prefix
	tb.Walk(0, netip.Prefix{}, netip.Prefix{}, func(p netip.Prefix, _ uint32) bool { all = append(all, p); return true })
	for more := true; more; {
		var after netip.Prefix
		if len(paged) > 0 {
			after = paged[len(paged)-1]
		}
		n := 0
		tb.Walk(0, netip.Prefix{}, after, func(p netip.Prefix, _ uint32) bool {
			paged = append(paged, p)
			n++
			return n < 1000
		})
		more = n > 0
	}
	if len(all) != 20_004 || !reflect.DeepEqual(all, paged) {
		t.Errorf("%d routes at once, %d in pages", len(all), len(paged))
	}
	n := 0
	tb.Walk(0, netip.MustParsePrefix("8.0.0.0/7"), netip.Prefix{}, func(p netip.Prefix, _ uint32) bool {
		if !netip.MustParsePrefix("8.0.0.0/7").Overlaps(p) {
			t.Errorf("%v", p)
		}
		n++
		return true
	})
	if n != 202 {
		t.Errorf("%d routes within 8.0.0.0/7, want 202", n)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	tb, _ := newTables(t)
	mustApply(t, tb, 1, 1, false, group(1), set(0, "10.0.0.0/8", 1), set(0, "10.1.2.0/24", 1), set(0, "2001:db8::/32", 1))
	a4, a6, out := make([]uint32, 100), make([][2]uint64, 100), make([]uint32, 100)
	for i := range a4 {
		a4[i], a6[i] = 0x0a010200+uint32(i), [2]uint64{0x20010db800000000, uint64(i)}
	}
	r := tb.NewReader()
	defer r.Close()
	if n := testing.AllocsPerRun(100, func() {
		r.Online()
		tb.Lookup4(0, a4[1])
		tb.Lookup6(0, a6[1][0], a6[1][1])
		tb.LookupBatch4(0, a4, out)
		tb.LookupBatch6(0, a6, out)
		r.Quiescent()
		r.Offline()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Small VRFs are small: 4 KiB for 10 routes of any kind, nothing for none.
func TestSmallVRFs(t *testing.T) {
	s := &fibtest.Script{R: fibtest.Rand(t), VRFs: 1}
	tb, _ := newTables(t)
	mustApply(t, tb, 1, 1, false, group(1))
	for vrf := range fib.VRF(1000) {
		var c []fib.Change
		for range 10 {
			c = append(c, fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: s.Prefix(), Group: 1}})
		}
		mustApply(t, tb, 1, uint64(vrf)+2, false, c...)
	}
	for _, v := range tb.Stats().VRFs {
		if v.Bytes > 4096 {
			t.Errorf("VRF %d: %d bytes for %d+%d routes", v.VRF, v.Bytes, v.Routes4, v.Routes6)
		}
	}
	mustApply(t, tb, 2, 1, true)
	if s := tb.Stats(); len(s.VRFs) != 0 || s.Groups != 0 {
		t.Errorf("after a sweep of everything: %+v", s)
	}
}

// Two readers look up while a writer sets and deletes around prefixes that
// stay: those must always be found, through one of their two groups.
func TestReadersAndWriter(t *testing.T) {
	tb, _ := newTables(t)
	mustApply(t, tb, 1, 1, false, group(1), group(2), set(0, "10.0.0.0/8", 1), set(0, "2001:db8::/32", 1))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		r := tb.NewReader()
		wg.Go(func() {
			defer r.Close()
			out := make([]uint32, 64)
			a4, a6 := make([]uint32, 64), make([][2]uint64, 64)
			for n := uint32(0); !stop.Load(); n += 7919 {
				r.Online()
				for i := range a4 {
					a4[i] = 10<<24 | (n*2654435761+uint32(i)*40503)&0xffffff
					a6[i] = [2]uint64{0x20010db8<<32 | uint64(a4[i]), uint64(n)}
				}
				tb.LookupBatch4(0, a4, out)
				for i, g := range out {
					if g == 0 || tb.Lookup4(0, a4[i]) == 0 {
						t.Errorf("%#x: no route", a4[i])
						return
					}
				}
				tb.LookupBatch6(0, a6, out)
				for i, g := range out {
					if g == 0 || tb.Lookup6(0, a6[i][0], a6[i][1]) == 0 {
						t.Errorf("%#x: no route", a6[i])
						return
					}
				}
				r.Quiescent()
				r.Offline()
			}
		})
	}
	s := &fibtest.Script{R: fibtest.Rand(t), VRFs: 1}
	seq := uint64(1)
	batches := 300
	if patricia.RaceDetector {
		batches = 60
	}
	for range batches {
		var c []fib.Change
		for range 40 {
			p := s.Prefix()
			a := p.Addr().AsSlice()
			if a[0] = 10; len(a) == 16 {
				copy(a, []byte{0x20, 1, 0xd, 0xb8})
			}
			ad, _ := netip.AddrFromSlice(a)
			p, _ = ad.Prefix(min(p.Bits()+9*len(a)/4, ad.BitLen()))
			ch := fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: fib.GroupID(1 + s.R.IntN(2))}}
			if s.R.IntN(2) == 0 {
				ch.Op, ch.Route.Group = fib.DeleteRoute, 0
			}
			c = append(c, ch)
		}
		c = append(c, set(0, "10.0.0.0/8", fib.GroupID(1+s.R.IntN(2))), set(0, "2001:db8::/32", fib.GroupID(1+s.R.IntN(2))))
		seq++
		mustApply(t, tb, 1, seq, false, c...)
		runtime.Gosched()
	}
	stop.Store(true)
	wg.Wait()
	if n := tb.Reclaim(); n != 0 {
		t.Errorf("%d blocks wait after the readers have gone", n)
	}
}
