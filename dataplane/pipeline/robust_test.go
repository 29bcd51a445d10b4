package pipeline

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/graph"
	"godwit/dataplane/neigh"
	"godwit/dataplane/porttest"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// seeds are frames of every sort that the pipeline handles.
func seeds(t testing.TB) [][]byte {
	allOnes := [6]byte{255, 255, 255, 255, 255, 255}
	return [][]byte{
		{}, udp(t, "10.0.1.10", "10.0.2.20", 20), udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 1400),
		udp(t, "2001:db8:1::10", "2001:db8:2::20", 20), udp(t, "10.0.1.10", "10.0.2.99", 20),
		udp(t, "10.0.1.10", "10.0.1.1", 20), udp(t, "fe80::a", "ff02::5", 20), udp(t, "10.0.1.10", "198.19.10.1", 20),
		udp(t, "10.0.1.10", "10.0.2.20", 20, ttl(1)), udp(t, "10.0.1.10", "203.0.113.9", 20),
		arp(t, layers.ARPRequest, hostA, "10.0.1.10", [6]byte{}, "10.0.1.1", allOnes),
		arp(t, layers.ARPReply, hostA, "10.0.1.77", mac1, "10.0.1.1", mac1),
		nd(t, hostA, mac1, "fe80::a", "fe80::1", 255, &layers.ICMPv6NeighborSolicitation{TargetAddress: addr("fe80::1").AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hostA[:]}}}, 135),
		nd(t, hostA, mac1, "fe80::a", "fe80::1", 255, &layers.ICMPv6NeighborAdvertisement{TargetAddress: addr("fe80::a").AsSlice(), Flags: 0x60,
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hostA[:]}}}, 136),
	}
}

// FuzzPipeline: arbitrary frames on a port, from the fabric, from the host
// stack and to be injected never panic and never lose a buffer; what is sent has
// at least an Ethernet header.
func FuzzPipeline(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, false)
		f.Add(s, true)
	}
	r := newRig(f, Options{})
	r.know()
	n := 0
	f.Fuzz(func(t *testing.T, frame []byte, fix bool) {
		if len(frame) > r.pool.Room() {
			return
		}
		if fix && len(frame) >= 14 { // get past the first checks
			copy(frame, mac1[:])
			frame[6] &^= 1
		}
		r.t = t
		r.now = r.now.Add(time.Second)
		r.slow.Tick(r.now)
		r.in(port1, frame, frame)
		if len(frame) > 14 {
			r.host(red, lan2, frame[14:])
			v := r.vector(frame[14:])
			r.pipe.FabricInput(r.now.UnixNano(), v, []FabricHeader{{red, lan2, addr("10.0.2.20").As16()}})
			v = r.vector(frame[14:])
			r.pipe.FabricInput(r.now.UnixNano(), v, []FabricHeader{{blue, tag2, addr("2001:db8::77").As16()}})
		}
		r.send(tag2, frame)
		r.settle()
		if r.pool.Free() != r.pool.Size() {
			t.Fatalf("%d buffers are lost", r.pool.Size()-r.pool.Free())
		}
		for _, p := range r.ports {
			for _, s := range p.Sent() {
				if len(s) < 14 {
					t.Fatalf("sent %x", s)
				}
			}
		}
		r.clear()
		if n++; n%500 == 0 { // the ports keep what they see
			for id := range r.ports {
				r.ports[id] = porttest.New(id, r.pool)
			}
		}
	})
}

// TestMutations runs the fuzz target's idea with random damage, a few thousand
// frames, in vectors that mix good and bad.
func TestMutations(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, Options{})
	r.know()
	all := seeds(t)
	for range 300 {
		var frames [][]byte
		for range 64 {
			f := append([]byte(nil), all[rnd.IntN(len(all))]...)
			for range rnd.IntN(4) {
				if len(f) > 0 {
					f[rnd.IntN(len(f))] = byte(rnd.Uint32())
				}
			}
			if rnd.IntN(8) == 0 {
				f = f[:rnd.IntN(len(f)+1)]
			}
			frames = append(frames, f)
		}
		r.in(port1, frames...)
		r.advance(100 * time.Millisecond)
		if r.pool.Free() != r.pool.Size() {
			t.Fatalf("%d buffers are lost", r.pool.Size()-r.pool.Free())
		}
	}
}

// TestAllocations: a vector of transit packets, of drops, and of policed punts
// costs no allocation.
func TestAllocations(t *testing.T) {
	changes, dst := oneRoute()
	changes = append(changes, route(red, "2001:db8:8000::/33", 2), set(60, fib.Blackhole), route(red, "203.0.113.0/24", 60),
		set(61, fib.Forward, fib.NextHop{Interface: lan2, Gateway: gateway(1)}, fib.NextHop{Interface: tag2, Gateway: gateway(2)}),
		route(red, "192.0.2.0/24", 61), set(62, fib.Forward, fib.NextHop{Interface: lan2}), route(red, "10.0.2.0/24", 62),
		set(63, fib.Forward, fib.NextHop{Interface: far}), route(red, "198.51.100.0/24", 63))
	for name, list := range map[string][]netip.Addr{
		"one route": dst, "IPv6": {addr("2001:db8:8000::1")}, "dropped": {addr("203.0.113.1")}, "no route": {addr("9.9.9.9")},
		"ECMP": {addr("192.0.2.1")}, "connected": {addr("10.0.2.101")}, "other card": {addr("198.51.100.1")},
		"mixed": {addr("198.18.0.1"), addr("2001:db8:8000::1"), addr("203.0.113.1")}, "unresolved": {addr("10.0.2.77")},
	} {
		b := newBench(t, changes, list)
		for i := range 20 {
			b.round(i)
		}
		if n := testing.AllocsPerRun(200, func() { b.round(0) }); n != 0 {
			t.Errorf("%s: %v allocations a vector", name, n)
		}
		if b.pool.Free() != b.pool.Size() {
			t.Errorf("%s: buffers lost", name)
		}
	}
}

// TestConcurrentControl forwards on two workers while the control side changes
// all it can. Run with -race. No packet leaves with half a rewrite.
func TestConcurrentControl(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 2 {
		pool := porttest.NewPool(maxPool)
		check := &checker{t: t, pool: pool}
		pipe := New(r.state, pool, check)
		reader := r.tables.NewReader()
		frames := [][]byte{udp(t, "10.0.1.10", "10.0.2.20", 20), udp(t, "10.0.1.10", "198.18.0.9", 20),
			udp(t, "2001:db8:1::10", "2001:db8:2::20", 20), udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 20), udp(t, "10.0.1.10", "10.0.2.50", 20)}
		workers.Go(func() {
			reader.Online()
			defer reader.Offline()
			for n := 0; ; n++ {
				select {
				case <-stop:
					if pool.Free() != pool.Size() {
						t.Errorf("%d buffers are lost", pool.Size()-pool.Free())
					}
					return
				default:
				}
				var v graph.Vector
				for i := range 32 {
					p := pool.Get()
					p.Data = append(p.Data, frames[(n+i)%len(frames)]...)
					p.Port = port1
					v.Push(p)
				}
				pipe.Input(int64(n), &v)
				reader.Quiescent()
			}
		})
	}
	other := testInterfaces()
	other[1].MTU, other[3].MTU = 1300, 1300
	for i := range 400 {
		r.now = r.now.Add(50 * time.Millisecond)
		list := testInterfaces()
		if i%2 == 0 {
			list = other
		}
		if i%20 == 7 {
			list = list[:2]
		}
		if err := r.slow.SetInterfaces(r.now, list); err != nil {
			t.Error(err)
		}
		gw := netip.AddrFrom4([4]byte{10, 0, 2, byte(20 + i%3)})
		r.apply(set(8, fib.Forward, fib.NextHop{Interface: lan2, Gateway: gw}, fib.NextHop{Interface: lan2, Gateway: addr("10.0.2.20")}),
			route(red, "198.18.0.0/24", fib.GroupID(6+i%3)))
		mac := [6]byte{2, 0, 0, 0, 0xbb, byte(i)}
		r.in(port2, arp(t, layers.ARPReply, mac, "10.0.2.50", mac2, "10.0.2.1", mac2))
		if i%5 == 0 {
			r.slow.SetStatic(r.now, nil)
			r.know()
			r.slow.ClearNeighbors(r.now, func(e neigh.Entry) bool { return e.Address == addr("10.0.2.50") })
		}
		r.slow.Tick(r.now)
		r.settle()
		r.clear()
	}
	close(stop)
	workers.Wait()
}

// checker is a Sink that looks at frames.
type checker struct {
	t    *testing.T
	pool *graph.Pool
}

func (c *checker) Tx(port fib.PortID, v *graph.Vector) {
	for _, p := range v.P[:v.N] {
		tagged := p.Data[12] == 0x81
		if port != port2 || [6]byte(p.Data[6:12]) != mac2 || p.Data[0] != 2 || p.Data[4] != 0xbb || tagged != (p.Out == tag2) {
			c.t.Errorf("frame %x on port %#x for interface %#x", p.Data[:20], uint32(port), uint32(p.Out))
		}
		c.pool.Put(p)
	}
	v.N = 0
}
func (c *checker) Fabric(_ fib.CardID, p *graph.Packet, _ FabricHeader) { c.pool.Put(p) }
func (c *checker) Punt(p *graph.Packet, _ punt.Meta)                    { c.pool.Put(p) }
