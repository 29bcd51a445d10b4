package compiled

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// random returns random numbers from the seed in FIB_SEED, or from the clock;
// the seed is printed when the test fails.
func random(t testing.TB) *rand.Rand {
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

type twinKey struct {
	vrf uint32
	f   Family
	key Key
	n   uint
}

// twin holds routes in a map and in a list: a lookup scans the list, or tries each length in the map.
type twin struct {
	groups map[twinKey]uint32
	list   []twinKey
	at     map[twinKey]int // index in list
}

func newTwin() *twin { return &twin{groups: map[twinKey]uint32{}, at: map[twinKey]int{}} }

func (w *twin) set(k twinKey, group uint32) {
	if _, ok := w.groups[k]; !ok {
		w.at[k] = len(w.list)
		w.list = append(w.list, k)
	}
	w.groups[k] = group
}

func (w *twin) remove(k twinKey) {
	i, ok := w.at[k]
	if !ok {
		return
	}
	last := w.list[len(w.list)-1]
	w.list[i], w.at[last] = last, i
	w.list = w.list[:len(w.list)-1]
	delete(w.at, k)
	delete(w.groups, k)
}

// scan is the longest prefix that has the address: its length and group.
func (w *twin) scan(vrf uint32, f Family, a Key) (n uint, group uint32) {
	for _, k := range w.list {
		if k.vrf == vrf && k.f == f && k.n >= n && CommonBits(k.key, a) >= k.n {
			n, group = k.n, w.groups[k]
		}
	}
	return n, group
}

// longest is scan by trying every length up to most.
func (w *twin) longest(vrf uint32, f Family, a Key, most int) (n uint, group uint32) {
	for ; most >= 0; most-- {
		if g, ok := w.groups[twinKey{vrf, f, a.Mask(uint(most)), uint(most)}]; ok {
			return uint(most), g
		}
	}
	return 0, 0
}

// rig is a space, its twin, and a copy by mirror.
type rig struct {
	t    testing.TB
	r    *rand.Rand
	s    *Space
	twin *twin
	copy copied
}

// copied is a mirror. What it is written is stored at once.
type copied struct {
	words  []uint32
	reader *Reader
}

func (c *copied) Write(first uint32, words []uint32) {
	if need := int(first) + len(words); need > len(c.words) {
		c.words = append(c.words, make([]uint32, need-len(c.words))...)
	}
	copy(c.words[first:], words)
}

func newRig(t testing.TB) *rig {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, r: random(t), s: s, twin: newTwin()}
	g.copy.reader = s.NewReader()
	g.copy.reader.Online()
	s.SetMirror(&g.copy)
	t.Cleanup(func() {
		g.copy.reader.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *rig) set(k twinKey, group uint32) {
	g.twin.set(k, group)
	g.s.Set(k.vrf, k.f, k.key, k.n, group)
}

func (g *rig) remove(k twinKey) {
	if _, ok := g.twin.groups[k]; !ok {
		return
	}
	g.twin.remove(k)
	n, group := uint(0), uint32(0)
	if k.n > 0 {
		n, group = g.twin.longest(k.vrf, k.f, k.key, int(k.n)-1)
	}
	g.s.Delete(k.vrf, k.f, k.key, k.n, n, group)
}

// settle ends a set of changes: the copy has it all, and memory comes back.
func (g *rig) settle() {
	g.t.Helper()
	g.s.Seal()
	g.copy.reader.Quiescent()
	if n := g.s.Reclaim(); n != 0 {
		g.t.Fatalf("%d blocks wait for nobody", n)
	}
}

// prefix makes a prefix of a crowded part of the address space: most of them
// have relatives.
func (g *rig) prefix(vrf uint32, f Family) twinKey {
	k, most := g.addr(f), uint(32)
	if f == IPv6 {
		most = 128
		if g.r.IntN(3) > 0 {
			most = 64
		}
	}
	n := g.r.UintN(most + 1)
	if g.r.IntN(2) == 0 {
		n = most/2 + g.r.UintN(most/4+1)
	}
	return twinKey{vrf, f, k.Mask(n), n}
}

func (g *rig) addr(f Family) Key {
	hi, lo := g.r.Uint64()&0x0f13_ff17_0301_8003, g.r.Uint64()&0x8001_0000_0000_0003
	if g.r.IntN(4) == 0 {
		hi ^= g.r.Uint64() >> g.r.UintN(64)
	}
	if f == IPv4 {
		return Key{Hi: hi &^ 0xffffffff}
	}
	return Key{hi, lo}
}

// readWords looks up in a copy of the words, as the package comment says.
func readWords(word []uint32, vrf uint32, f Family, a Key) (group uint32, rounds int) {
	bit := func(i uint32) uint32 {
		if i < 64 {
			return uint32(a.Hi>>(63-i)) & 1
		}
		return uint32(a.Lo>>(127-i)) & 1
	}
	e, pos := word[4*vrf+uint32(f)], uint32(0)
	for ; e>>31 != 0; rounds++ {
		w, ref := 4*(e>>28&7), e&0x0fffffff
		if w != 0 {
			index := uint32(0)
			for i := range w {
				index = index<<1 | bit(pos+i)
			}
			e, pos = word[ref+index], pos+w
			continue
		}
		n, same := word[ref+4], true
		for i := range n {
			same = same && word[ref+i/32]>>(31-i%32)&1 == bit(i)
		}
		if same {
			e, pos = word[ref+5], n
		} else {
			e = word[ref+6]
		}
	}
	if group = e & 0xfffff; group == 0 {
		group = word[4*vrf+uint32(f)+1]
	}
	return group, rounds
}

// compare looks addresses up in every way.
func (g *rig) compare(vrf uint32, f Family, addrs []Key, want func(Key) uint32) {
	g.t.Helper()
	n := len(addrs)
	a4, a6 := make([]uint32, n), make([][2]uint64, n)
	for i, a := range addrs {
		a4[i], a6[i] = uint32(a.Hi>>32), [2]uint64{a.Hi, a.Lo}
	}
	batch := func(gathers bool) []uint32 {
		had := g.s.gathers
		g.s.gathers = gathers && had
		out := make([]uint32, n+3)
		if f == IPv4 {
			g.s.LookupBatch4(vrf, a4, out)
		} else {
			g.s.LookupBatch6(vrf, a6, out)
		}
		g.s.gathers = had
		return out
	}
	plain, gathered := batch(false), batch(true)
	if out := plain[n] | plain[n+1] | plain[n+2] | gathered[n] | gathered[n+1] | gathered[n+2]; out != 0 {
		g.t.Fatalf("wrote behind %d addresses: %v %v", n, plain[n:], gathered[n:])
	}
	for i, a := range addrs {
		var single uint32
		if f == IPv4 {
			single = g.s.Lookup4(vrf, a4[i])
		} else {
			single = g.s.Lookup6(vrf, a.Hi, a.Lo)
		}
		read, rounds := readWords(g.copy.words, vrf, f, a)
		if w := want(a); single != w || plain[i] != w || gathered[i] != w || read != w {
			g.t.Fatalf("VRF %d family %d %016x%016x: single %d, batch %d, gathered %d, copy %d, want %d",
				vrf, f, a.Hi, a.Lo, single, plain[i], gathered[i], read, w)
		}
		if most := map[Family]int{IPv4: 16, IPv6: 64}[f]; rounds > most {
			g.t.Fatalf("family %d %016x%016x: %d rounds", f, a.Hi, a.Lo, rounds)
		}
	}
}

// scanned compares with the scan of the list.
func (g *rig) scanned(vrf uint32, f Family) func(Key) uint32 {
	return func(a Key) uint32 {
		_, group := g.twin.scan(vrf, f, a)
		return group
	}
}
