package ip

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/fib"
)

var now = time.Unix(1000, 0)

func iface(n uint16, vrf fib.VRF, addresses ...string) ethernet.Interface {
	i := ethernet.Interface{ID: fib.MakeInterfaceID(1, n), Name: "i", Port: fib.MakePortID(1, n), VRF: vrf, MTU: 1500,
		MAC: [6]byte{2, 0, 0, 0, 0, byte(n)}, Up: true}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
	}
	return i
}

// TestFragment cuts random packets, some twice, and puts them together.
func TestFragment(t *testing.T) {
	for range 500 {
		options := []byte{7, 3, 4, 0x94, 4, 0, 0, 1}[:rand.IntN(3)*4]
		if len(options) == 4 {
			options = []byte{0x94, 4, 0, 0} // router alert: copied
		}
		size := rand.IntN(4000) + 1
		b := make([]byte, header.IPv4Len+len(options)+size)
		for i := range size {
			b[len(b)-size+i] = byte(rand.Uint32())
		}
		header.PutIPv4(b, len(b), 77, 0, 3, 9, 17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"))
		copy(b[header.IPv4Len:], options)
		b[0] = 0x40 | byte(5+len(options)/4)
		header.IPv4(b).SetChecksum()
		mtu := 68 + rand.IntN(1500)
		list := Fragment(b, mtu)
		if rand.IntN(2) == 0 {
			var twice [][]byte
			for _, f := range list {
				twice = append(twice, Fragment(f, 60+rand.IntN(40))...)
			}
			list = twice
		}
		body := make([]byte, size)
		seen, last := 0, false
		for i, f := range list {
			h := header.IPv4(f)
			if !h.IsValid() || !h.ChecksumOK() || h.TotalLen() != len(f) || len(f) > mtu || h.ID() != 77 || h.TOS() != 3 || h.TTL() != 9 {
				t.Fatalf("fragment %x", f)
			}
			if _, ok := h.Options(); !ok || i == 0 && !bytes.Equal(f[header.IPv4Len:h.HeaderLen()], options) {
				t.Fatalf("options %x of %x", f[header.IPv4Len:h.HeaderLen()], options)
			}
			if i > 0 && len(options) > 0 && h.FragmentOffset() > 0 && !bytes.Contains(f[header.IPv4Len:h.HeaderLen()], []byte{0x94, 4}) {
				t.Fatalf("the copied option is missing in %x", f)
			}
			more := f[6]&0x20 != 0
			if len(list) > 1 && more && len(h.Payload())%8 != 0 {
				t.Fatal("length is no multiple of 8")
			}
			last = last || !more
			copy(body[h.FragmentOffset():], h.Payload())
			seen += len(h.Payload())
		}
		if !bytes.Equal(body, b[len(b)-size:]) || seen != size || !last {
			t.Fatalf("%d bytes put together of %d", seen, size)
		}
	}
	b := make([]byte, 100)
	header.PutIPv4(b, 100, 1, header.FlagDF, 0, 9, 17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"))
	if Fragment(b, 60) != nil || Fragment(b, 20) != nil {
		t.Error("DF or a hopeless MTU")
	}
}

// TestLocals against the plain list.
func TestLocals(t *testing.T) {
	var list []ethernet.Interface
	for n := range uint16(200) {
		a := netip.AddrFrom4([4]byte{10, byte(n), 0, 1}).String() + "/24"
		b := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(n), 15: 1}).String() + "/64"
		list = append(list, iface(n+1, fib.VRF(n%3), a, b))
	}
	table, err := ethernet.NewTable(1, list, ethernet.NewSlots())
	if err != nil {
		t.Fatal(err)
	}
	l := NewLocals(table)
	for n := range 256 {
		for vrf := range fib.VRF(4) {
			want := n < 200 && vrf == fib.VRF(n%3)
			if got := l.Own4(vrf, 10<<24|uint32(n)<<16|1); got != want {
				t.Errorf("10.%d.0.1 in %d: %v", n, vrf, got)
			}
			if got := l.Own6(vrf, 0x20010db8_0000_0000|uint64(n)<<16, 1); got != want {
				t.Errorf("v6 %d in %d: %v", n, vrf, got)
			}
		}
	}
	hits := 0
	for range 100000 {
		if l.maybe(hash4(1, rand.Uint32())) {
			hits++
		}
	}
	if hits > 5000 {
		t.Errorf("the filter lets %d of 100,000 random addresses through", hits)
	}
}

// TestGroups: spread by weight in buckets, replaced, freed; gateways pinned as
// long as a group needs them.
func TestGroups(t *testing.T) {
	table, err := ethernet.NewTable(1, []ethernet.Interface{iface(1, 0, "10.0.0.1/24")}, ethernet.NewSlots())
	if err != nil {
		t.Fatal(err)
	}
	nt := neigh.New(neigh.DefaultLimits)
	nt.SetInterfaces(now, table)
	g := NewGroups(1, nt)
	one := fib.MakeInterfaceID(1, 1)
	hop := func(last, weight byte) fib.NextHop {
		return fib.NextHop{Interface: one, Gateway: netip.AddrFrom4([4]byte{10, 0, 0, last}), Weight: weight}
	}
	get := func(i uint32) *Group { return g.get(*g.pages.Load(), i) }
	for _, weights := range [][]byte{{1, 1}, {1, 2, 5}, {0, 3}, {200, 100}, {255, 254, 253, 1, 2}, {4, 4, 4}} {
		var hops []fib.NextHop
		total := 0
		for i, w := range weights {
			hops = append(hops, hop(byte(10+i), w))
			total += int(max(w, 1))
		}
		g.Set(now, 5000, fib.Group{ID: 9, Kind: fib.Forward, NextHops: hops})
		got := get(5000)
		n := 0
		buckets := got.table
		if got.one == nil {
			n = len(buckets)
		}
		for i, w := range weights {
			c := 0
			for _, b := range buckets {
				if m := got.members[b]; m.Adj.Addr() == hops[i].Gateway {
					c++
				}
			}
			if share := float64(c) / float64(n); share < 0.9*float64(max(w, 1))/float64(total)-0.001 || share > 1.1*float64(max(w, 1))/float64(total)+0.001 {
				t.Errorf("weights %v: member %d has %d of %d buckets", weights, i, c, n)
			}
		}
		if got.pick(0) != got.members[buckets[0]] || got.pick(^uint32(0)) != got.members[buckets[n-1]] {
			t.Errorf("weights %v: buckets %v", weights, buckets)
		}
		for i := range weights {
			if a := nt.Cache().Find(neigh.KeyOf(one, hops[i].Gateway)); a == nil || a != got.members[i].Adj {
				t.Errorf("gateway %d is not in the cache", i)
			}
		}
	}
	g.Free(now, 5000)
	if get(5000) != nil || get(1<<20) != nil || get(3) != nil {
		t.Error("a group is left")
	}
	for i := range 10 {
		nt.Tick(now.Add(time.Duration(i) * 2 * time.Second))
	}
	if n := nt.Len(); n != 0 {
		t.Errorf("%d gateways are left", n)
	}
}

// tableTwin answers with VRF and address, so that a mix-up shows.
type tableTwin struct{ calls int }

func (f *tableTwin) LookupBatch4(vrf fib.VRF, addrs []uint32, groups []uint32) {
	f.calls++
	for i, a := range addrs {
		groups[i] = uint32(vrf)<<16 | a
	}
}

func (f *tableTwin) LookupBatch6(vrf fib.VRF, addrs [][2]uint64, groups []uint32) {
	f.calls++
	for i, a := range addrs {
		groups[i] = uint32(vrf)<<16 | uint32(a[1])
	}
}

// TestLookup: each packet gets its own VRF's answer, with one batch a VRF where they are few.
func TestLookup(t *testing.T) {
	pool, err := graph.NewPool(make([]byte, 64*2048), 2048)
	if err != nil {
		t.Fatal(err)
	}
	gate := punt.NewGate(punt.NewPolicers([punt.NumClasses]punt.Rate{}), nil, graph.NewCounts(), pool)
	for _, in := range []*Input{NewInput4(gate, graph.NewCounts(), pool), NewInput6(gate, graph.NewCounts(), pool)} {
		for vrfs := 1; vrfs <= 64; vrfs *= 4 {
			f := &tableTwin{}
			look := NewLookup(in)
			look.FIB = f
			seen := map[fib.VRF]bool{}
			var v graph.Vector
			for i := range uint32(64) {
				p := &graph.Packet{VRF: fib.VRF(rand.IntN(vrfs))}
				seen[p.VRF] = true
				in.Addr4[i], in.Addr6[i] = i, [2]uint64{0, uint64(i)}
				v.Push(p)
			}
			look.Process(&v)
			for i, p := range v.P[:v.N] {
				if p.Group != uint32(p.VRF)<<16|uint32(i) {
					t.Fatalf("%d VRFs: packet %d of VRF %d got %#x", vrfs, i, p.VRF, p.Group)
				}
			}
			if vrfs <= 4 && f.calls != len(seen) || f.calls < len(seen) || f.calls > v.N+len(seen) {
				t.Errorf("%d lookups for %d VRFs", f.calls, len(seen))
			}
			v.N = 0
			look.Process(&v)
		}
	}
}

func FuzzFragment(f *testing.F) {
	f.Add([]byte{0x46, 0, 0, 60, 0, 0, 0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x94, 4, 0, 0}, 40)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		if h := header.IPv4(b); h.IsValid() {
			n := 0
			for _, x := range Fragment(h, mtu) {
				if !header.IPv4(x).IsValid() || len(x) > mtu {
					t.Errorf("fragment %x for %d", x, mtu)
				}
				if n += len(x); n > 1<<20 {
					t.Fatal("too much")
				}
			}
		}
	})
}
