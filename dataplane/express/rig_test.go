package express_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"godwit/dataplane/express"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/porttest"
	"godwit/dataplane/punt"
	"godwit/dataplane/xdp"
	"godwit/fib"
	"godwit/fib/patricia"
)

// The world: ports 1 to 3 with interfaces of VRFs 0, 7 and 65535, overlapping; port 4 has
// no device to redirect to.
const ports = 4

var vrfs = []fib.VRF{0, 7, 65535}

func portID(i int) fib.PortID             { return fib.MakePortID(1, uint16(i)) }
func ifaceID(port, k int) fib.InterfaceID { return fib.MakeInterfaceID(1, uint16(port*10+k)) }
func portMAC(i int) [6]byte               { return [6]byte{2, 0, 0, 0, 0, byte(i)} }
func hostMAC(port, vrf, host int) [6]byte { return [6]byte{2, 1, byte(port), byte(vrf), 0, byte(host)} }
func host4(port, host int) netip.Addr     { return netip.AddrFrom4([4]byte{10, byte(port), 0, byte(host)}) }
func host6(port, host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(port), 15: byte(host)})
}

// tagOf is the VLAN of a VRF's interface on each port.
func tagOf(vrf int) uint16 { return []uint16{0, 100, 4094}[vrf] }

// rig is a card's state with two readers: a pipeline, and the XDP program.
type rig struct {
	t      testing.TB
	state  *pipeline.State
	tables *patricia.Tables
	slow   *pipeline.SlowPath
	pipe   *pipeline.Pipeline
	pool   *graph.Pool
	now    time.Time
	seq    uint64
	list   []pipeline.Interface

	x    *xdp.Express
	port []*xdp.ExpressPort // from 1
	flat *express.Tables

	sent  []sent
	other int // punts and frames for other cards
}

type sent struct {
	port  fib.PortID
	frame []byte
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, now: time.Unix(1000, 0), pool: porttest.NewPool(256), state: pipeline.NewState(1, pipeline.Options{HashSeed: 0x123456789abcdef})}
	var err error
	if r.x, err = xdp.NewExpress(); err != nil {
		t.Fatal(err)
	}
	grace := express.NewGrace()
	r.flat = express.New(r.x.State, r.x, grace, 0x123456789abcdef)
	r.tables = patricia.New(r.state)
	r.state.SetFIB(r.tables)
	r.state.SetExpress(r.flat)
	r.tables.SetMirror(r.flat)
	reader := r.tables.NewReader()
	reader.Online()
	stop, done := make(chan struct{}), make(chan error)
	go func() { done <- grace.Run(stop, reader, r.x.Wait) }()
	r.slow = pipeline.NewSlowPath(r.state)
	r.pipe = pipeline.New(r.state, r.pool, r)
	r.port = append(r.port, nil)
	for i := 1; i <= ports; i++ {
		p, err := r.x.Load(1)
		if err != nil {
			t.Fatal(err)
		}
		r.port = append(r.port, p)
		r.flat.AddPort(portID(i), p.Port)
		r.flat.SetOn(portID(i), true)
	}
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, p := range r.port[1:] {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := r.x.Close(); err != nil {
			t.Error(err)
		}
		if r.pool.Free() != r.pool.Size() {
			t.Errorf("%d of %d buffers are free", r.pool.Free(), r.pool.Size())
		}
		r.tables.Close()
	})
	r.build()
	return r
}

// build makes interfaces, neighbours and routes.
func (r *rig) build() {
	var static []pipeline.StaticNeighbor
	var changes []fib.Change
	for port := 1; port <= ports; port++ {
		for v, vrf := range vrfs {
			id := ifaceID(port, v)
			r.list = append(r.list, pipeline.Interface{ID: id, Name: fmt.Sprint(port, v), Port: portID(port), VLAN: tagOf(v), VRF: vrf,
				MTU: 1500 - 100*v, MAC: portMAC(port), Up: true,
				Addresses: []netip.Prefix{netip.PrefixFrom(host4(port, 1), 24), netip.PrefixFrom(host6(port, 1), 64), netip.MustParsePrefix("fe80::1/64")}})
			for h := 2; h < 10; h++ {
				for _, a := range []netip.Addr{host4(port, h), host6(port, h)} {
					static = append(static, pipeline.StaticNeighbor{Interface: id, Address: a, MAC: hostMAC(port, v, h)})
				}
			}
			glean := fib.GroupID(1000 + port*10 + v)
			changes = append(changes, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: glean, NextHops: []fib.NextHop{{Interface: id}}}},
				route(vrf, netip.PrefixFrom(host4(port, 0), 24), glean), route(vrf, netip.PrefixFrom(host6(port, 0), 64), glean),
				fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 1, Kind: fib.Local}},
				route(vrf, netip.PrefixFrom(host4(port, 1), 32), 1), route(vrf, netip.PrefixFrom(host6(port, 1), 128), 1))
		}
	}
	r.interfaces()
	for slot := range uint16(ports - 1) { // the ports in order of their slots; port 4 has no device
		if err := r.x.SetDevice(slot, 1); err != nil {
			r.t.Fatal(err)
		}
	}
	r.slow.SetStatic(r.now, static)
	r.apply(changes...)
}

func (r *rig) interfaces() {
	if err := r.slow.SetInterfaces(r.now, r.list); err != nil {
		r.t.Fatal(err)
	}
	r.slow.Drain()
}

func route(vrf fib.VRF, p netip.Prefix, g fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: p.Masked(), Group: g}}
}

func (r *rig) apply(changes ...fib.Change) {
	r.t.Helper()
	r.seq++
	if err := r.tables.Apply(fib.Batch{Epoch: 1, Seq: r.seq, Changes: changes}); err != nil {
		r.t.Fatal(err)
	}
	r.slow.Drain()
}

// Tx, Fabric and Punt make the rig the pipeline's sink.
func (r *rig) Tx(port fib.PortID, v *graph.Vector) {
	for _, p := range v.P[:v.N] {
		r.sent = append(r.sent, sent{port, append([]byte(nil), p.Data...)})
		r.pool.Put(p)
	}
	v.N = 0
}

func (r *rig) Fabric(_ fib.CardID, p *graph.Packet, _ pipeline.FabricHeader) {
	r.other++
	r.pool.Put(p)
}

func (r *rig) Punt(p *graph.Packet, _ punt.Meta) {
	r.other++
	r.pool.Put(p)
}

// slowWay sends a frame through the pipeline.
func (r *rig) slowWay(port int, frame []byte) (sent, bool) {
	r.sent, r.other = r.sent[:0], 0
	p := r.pool.Get()
	p.Data = append(p.Data, frame...)
	p.Port = portID(port)
	var v graph.Vector
	v.Push(p)
	r.pipe.Input(int64(r.seq), &v)
	if len(r.sent) == 1 {
		return r.sent[0], true
	}
	return sent{}, false
}

// counts are the pipeline's and the program's counters of all interfaces.
func (r *rig) counts() (slow, fast map[fib.InterfaceID]pipeline.Counters) {
	slow, fast = make(map[fib.InterfaceID]pipeline.Counters), make(map[fib.InterfaceID]pipeline.Counters)
	slot := uint16(0)
	r.pipe.Counters(func(id fib.InterfaceID, c pipeline.Counters) {
		slot++ // in the order of the slots, which count from 1
		slow[id] = c
		n := r.x.Traffic(slot)
		fast[id] = pipeline.Counters{RxPackets: n.RxPackets, RxBytes: n.RxBytes, TxPackets: n.TxPackets, TxBytes: n.TxBytes, Drops: n.Drops}
	})
	return slow, fast
}

// prefixes and groups of a random world.
func (r *rig) randomGroup(g *rand.Rand, id fib.GroupID, vrf int) fib.Change {
	group := fib.Group{ID: id}
	switch k := g.IntN(20); {
	case k == 0:
		group.Kind = fib.Blackhole
	case k == 1:
		group.Kind = fib.Reject
	case k == 2:
		group.Kind = fib.Local
	default:
		n := 1
		if k > 10 {
			n = 1 + g.IntN(20)
		}
		for range n {
			port := 1 + g.IntN(ports)
			nh := fib.NextHop{Interface: ifaceID(port, vrf), Gateway: host4(port, 2+g.IntN(10)), Weight: uint8(g.IntN(4)), Backup: g.IntN(4) == 0}
			switch g.IntN(12) {
			case 0:
				if n == 1 { // a connected prefix among several members is AF_XDP's
					nh.Gateway = netip.Addr{}
				}
			case 1:
				nh.Interface = fib.MakeInterfaceID(2, 5)
			case 2, 3, 4:
				nh.Gateway = host6(port, 2+g.IntN(10))
			case 5:
				nh.Interface = ifaceID(port, g.IntN(len(vrfs))) // leaked
			}
			group.NextHops = append(group.NextHops, nh)
		}
	}
	return fib.Change{Op: fib.SetGroup, Group: group}
}

func randomPrefix(g *rand.Rand) netip.Prefix {
	if g.IntN(2) == 0 {
		a := netip.AddrFrom4([4]byte{byte(20 + g.IntN(3)), byte(g.IntN(4)), byte(g.IntN(256)), byte(g.IntN(256))})
		return netip.PrefixFrom(a, []int{0, 8, 12, 16, 20, 22, 24, 27, 30, 32}[g.IntN(10)]).Masked()
	}
	b := [16]byte{0x20, 2, byte(g.IntN(3)), byte(g.IntN(4)), byte(g.IntN(256)), 0, byte(g.IntN(2)), 7, byte(g.IntN(3)), 15: byte(g.IntN(256))}
	return netip.PrefixFrom(netip.AddrFrom16(b), []int{0, 20, 32, 36, 40, 48, 57, 64, 66, 127, 128}[g.IntN(11)]).Masked()
}

// randomFrame is mostly plain transit from a host on the port.
func randomFrame(g *rand.Rand, port int, known []netip.Prefix) []byte {
	v := g.IntN(len(vrfs))
	f := make([]byte, 18, 400)
	mac, src := portMAC(port), hostMAC(port, v, 2+g.IntN(8))
	l2 := 14
	var dst netip.Addr
	switch g.IntN(4) {
	case 0:
		dst = host4(1+g.IntN(ports), g.IntN(14))
	case 1:
		dst = host6(1+g.IntN(ports), g.IntN(14))
	default:
		dst = within(g, known[g.IntN(len(known))])
	}
	typ := uint16(header.TypeIPv6)
	if dst.Is4() {
		typ = header.TypeIPv4
	}
	header.PutEthernet(f, mac, src, typ)
	if tag := tagOf(v); tag != 0 {
		header.PutEthernet(f, mac, src, header.TypeVLAN)
		f[14], f[15], f[16], f[17] = byte(tag>>8), byte(tag), byte(typ>>8), byte(typ)
		l2 = 18
	}
	body := 4 + g.IntN(60)
	if g.IntN(20) == 0 {
		body = 1200 + g.IntN(280)
	}
	proto := []uint8{6, 17, 132, 1, 47, 58}[g.IntN(6)]
	ttl := []uint8{0, 1, 2, 64, 64, 64, 255}[g.IntN(7)]
	if dst.Is4() {
		b := make([]byte, header.IPv4Len+body)
		frag := []uint16{0, 0, 0, 0, header.FlagDF, header.FlagMF, 100}[g.IntN(7)]
		header.PutIPv4(b, len(b), uint16(g.Uint32()), frag, uint8(g.Uint32()), ttl, proto, host4(port, 2+g.IntN(200)), dst)
		f = append(f[:l2], b...)
	} else {
		b := make([]byte, header.IPv6Len+body)
		header.PutIPv6(b, body, 0, proto, ttl, host6(port, 2+g.IntN(200)), dst)
		b[1], b[2], b[3] = byte(g.IntN(16)), byte(g.Uint32()), byte(g.Uint32())
		f = append(f[:l2], b...)
	}
	for i := len(f) - body; i < len(f); i++ {
		f[i] = byte(g.Uint32())
	}
	for len(f) < 60 {
		f = append(f, byte(g.Uint32())) // padding
	}
	return f
}

func within(g *rand.Rand, p netip.Prefix) netip.Addr {
	if p.Bits() == 0 {
		p = randomPrefix(g)
	}
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		if g.IntN(2) == 0 {
			b[i/8] ^= 0x80 >> (i % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
