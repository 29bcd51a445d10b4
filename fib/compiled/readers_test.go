package compiled

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Readers look up while the writer sets and deletes. A route's group is its
// length and one of a fixed set of prefixes, so each answer must be such a
// prefix around the address, at least as long as the one that stays.
func TestReadersAndWriter(t *testing.T) {
	families(t, readersAndWriter)
}

func readersAndWriter(t *testing.T, f Family) {
	g := newRig(t)
	const vrf = 3
	known := map[twinKey]bool{}
	var list []twinKey
	base := twinKey{vrf, f, g.addr(f).Mask(4), 4}
	routes, steps := 3000, 60_000
	if raceDetector {
		routes, steps = 600, 4000
	}
	for range routes {
		k := g.prefix(vrf, f)
		if k.n <= base.n {
			continue
		}
		m := k.key.Mask(base.n)
		k.key.Hi = k.key.Hi&^m.Hi | base.key.Hi
		known[k] = true
		list = append(list, k)
	}
	known[base] = true
	g.set(base, uint32(base.n))
	list = append(list, base)
	addrs := make([]Key, 4096)
	for i := range addrs {
		addrs[i] = g.within(list[g.r.IntN(len(list))])
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var rounds [2]atomic.Int64
	for id := range rounds {
		r := g.s.NewReader()
		wg.Go(func() {
			defer r.Close()
			r.Online()
			for from := id; !stop.Load(); from = (from + 61) % (len(addrs) - 64) {
				if !g.readSome(vrf, f, addrs[from:from+64], base.n, known) {
					return
				}
				r.Quiescent()
				rounds[id].Add(1)
			}
		})
	}
	for i := range steps {
		k := list[g.r.IntN(len(list)-1)]
		if g.r.IntN(3) == 0 != (i > steps/2) {
			g.remove(k)
		} else {
			g.set(k, uint32(k.n))
		}
		if i%64 == 0 {
			g.s.Seal()
			g.copy.reader.Quiescent()
			g.s.Reclaim()
		}
	}
	for !t.Failed() && min(rounds[0].Load(), rounds[1].Load()) < 3 { // until both have read
		g.set(base, uint32(base.n))
	}
	stop.Store(true)
	wg.Wait()
	g.settle()
	if !t.Failed() {
		g.compare(vrf, f, addrs[:200], g.scanned(vrf, f))
	}
}

// readSome looks addresses up alone and in a batch.
func (g *rig) readSome(vrf uint32, f Family, addrs []Key, least uint, known map[twinKey]bool) bool {
	var a4, out [64]uint32
	var a6 [64][2]uint64
	for i, a := range addrs {
		a4[i], a6[i] = uint32(a.Hi>>32), [2]uint64{a.Hi, a.Lo}
	}
	if f == IPv4 {
		g.s.LookupBatch4(vrf, a4[:], out[:])
	} else {
		g.s.LookupBatch6(vrf, a6[:], out[:])
	}
	for i, a := range addrs {
		single := uint32(0)
		if f == IPv4 {
			single = g.s.Lookup4(vrf, a4[i])
		} else {
			single = g.s.Lookup6(vrf, a.Hi, a.Lo)
		}
		for _, n := range []uint32{single, out[i]} {
			if uint(n) < least || !known[twinKey{vrf, f, a.Mask(uint(n)), uint(n)}] {
				g.t.Errorf("%016x%016x: %d, no prefix of this length has it", a.Hi, a.Lo, n)
				return false
			}
		}
	}
	return true
}

// A block waits for every online reader, and for none that is offline.
func TestGrace(t *testing.T) {
	g := newRig(t)
	a, b := g.s.NewReader(), g.s.NewReader()
	defer a.Close()
	g.set(twinKey{0, IPv4, Key4(0x0a000000), 24}, 1)
	a.Online()
	g.s.Clear(0, IPv4)
	stamp := g.s.Seal()
	g.copy.reader.Quiescent()
	b.Online() // has seen nothing of what went
	if g.s.Passed(stamp) || g.s.Reclaim() == 0 {
		t.Error("memory came back under a reader")
	}
	a.Quiescent()
	if !g.s.Passed(stamp) || g.s.Reclaim() != 0 {
		t.Error("memory waits for nobody")
	}
	b.Close()
	a.Offline()
	g.set(twinKey{0, IPv4, Key4(0x0a000000), 24}, 1)
	g.s.Clear(0, IPv4)
	g.settle()
}
