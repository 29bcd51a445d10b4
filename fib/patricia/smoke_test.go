package patricia

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"godwit/fib"
)

func TestSmoke(t *testing.T) {
	tb := New(nil)
	defer tb.Close()
	r := rand.New(rand.NewPCG(1, 2))
	b := fib.Batch{Seq: 1}
	for g := 1; g < 10; g++ {
		b.Changes = append(b.Changes, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: fib.GroupID(g), Kind: fib.Blackhole}})
	}
	if err := tb.Apply(b); err != nil {
		t.Fatal(err)
	}
	m := map[netip.Prefix]uint32{}
	look := func(a netip.Addr) uint32 {
		for n := a.BitLen(); n >= 0; n-- {
			p, _ := a.Prefix(n)
			if g, ok := m[p]; ok {
				return g
			}
		}
		return 0
	}
	addr := func(v6 bool) netip.Addr {
		var x [16]byte
		for i := range x {
			x[i] = byte(r.Uint32())
			if r.IntN(2) == 0 {
				x[i] &= 0x11
			}
		}
		if v6 {
			return netip.AddrFrom16(x)
		}
		return netip.AddrFrom4([4]byte(x[:4]))
	}
	for i := 0; i < 60000; i++ {
		v6 := r.IntN(2) == 0
		a := addr(v6)
		p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
		g := uint32(1 + r.IntN(9))
		c := fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: fib.GroupID(g)}}
		if del := i / 10000 % 2; r.IntN(10) < 2+6*del {
			c.Op = fib.DeleteRoute
			if len(m) > 0 && r.IntN(4) > 0 {
				for p = range m {
					break
				}
			}
			v6 = p.Addr().Is6()
			c.Route.Prefix = p
			delete(m, p)
		} else {
			m[p] = g
		}
		if err := tb.Apply(fib.Batch{Seq: uint64(i + 2), Changes: []fib.Change{c}}); err != nil {
			t.Fatal(err)
		}
		for j := 0; j < 5; j++ {
			a := addr(v6)
			if j == 0 {
				a = p.Addr()
			}
			k := keyOf(a)
			var got uint32
			if v6 {
				got = tb.Lookup6(0, k.Hi, k.Lo)
			} else {
				got = tb.Lookup4(0, uint32(k.Hi>>32))
			}
			want := look(a)
			rt, _, _ := tb.Find(0, a)
			if got != want || rt.Group != fib.GroupID(want) {
				t.Fatalf("step %d %v %v: %v: got %d, tree %v, want %d", i, c.Op, p, a, got, rt, want)
			}
		}
	}
	t.Log(len(m), tb.Stats())
	for p := range m {
		tb.Apply(fib.Batch{Seq: tb.seq + 1, Changes: []fib.Change{{Op: fib.DeleteRoute, Route: fib.Route{Prefix: p}}}})
	}
	t.Log(tb.Stats())
}
