package pipeline

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/graph"
	"godwit/dataplane/neigh"
	"godwit/dataplane/porttest"
	"godwit/dataplane/punt"
	"godwit/fib"
	"godwit/fib/patricia"
)

const (
	red  fib.VRF = 1
	blue fib.VRF = 2

	maxPool = 512
)

var (
	port1, port2 = fib.MakePortID(1, 7), fib.MakePortID(1, 0x1234)
	lan1         = fib.MakeInterfaceID(1, 10) // port 1, red, 10.0.1.1/24
	lan2         = fib.MakeInterfaceID(1, 20) // port 2, red, 10.0.2.1/24
	tag1         = fib.MakeInterfaceID(1, 30) // port 1, VLAN 100, blue, 10.0.1.1/24
	tag2         = fib.MakeInterfaceID(1, 40) // port 2, VLAN 200, blue, 10.0.2.1/24, MTU 1400
	far          = fib.MakeInterfaceID(2, 50) // on card 2

	mac1  = [6]byte{2, 0, 0, 0, 0, 1} // of port 1
	mac2  = [6]byte{2, 0, 0, 0, 0, 2}
	hostA = [6]byte{2, 0, 0, 0, 0xaa, 1} // 10.0.1.10, on port 1
	hostB = [6]byte{2, 0, 0, 0, 0xbb, 2} // 10.0.2.20, on port 2
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, prefix(s))
	}
	return p
}

func testInterfaces() []Interface {
	return []Interface{
		{ID: lan1, Name: "lan1", Port: port1, VRF: red, MTU: 1500, MAC: mac1, Up: true,
			Addresses: prefixes("10.0.1.1/24", "2001:db8:1::1/64", "fe80::1/64")},
		{ID: lan2, Name: "lan2", Port: port2, VRF: red, MTU: 1500, MAC: mac2, Up: true,
			Addresses: prefixes("10.0.2.1/24", "2001:db8:2::1/64", "fe80::2/64")},
		{ID: tag1, Name: "tag1", Port: port1, VLAN: 100, VRF: blue, MTU: 1500, MAC: mac1, Up: true,
			Addresses: prefixes("10.0.1.1/24", "2001:db8:1::1/64", "fe80::1/64")},
		{ID: tag2, Name: "tag2", Port: port2, VLAN: 200, VRF: blue, MTU: 1400, MAC: mac2, Up: true,
			Addresses: prefixes("10.0.2.1/24", "2001:db8:2::1/64", "fe80::2/64")},
	}
}

type fabricPacket struct {
	card fib.CardID
	data []byte
	h    FabricHeader
}

// rig is a card with one worker, memory ports, and a slow path whose effects
// are carried out at once.
type rig struct {
	t      testing.TB
	state  *State
	tables *patricia.Tables
	pool   *graph.Pool
	pipe   *Pipeline
	slow   *SlowPath
	ports  map[fib.PortID]*porttest.Port
	now    time.Time
	seq    uint64

	manual  bool // punts stay in queue until the test handles them
	queue   []punted
	punts   []punt.Meta
	taps    map[fib.InterfaceID][][]byte
	fabric  []fabricPacket
	notices []string
}

type punted struct {
	m     punt.Meta
	frame []byte
}

func newRig(t testing.TB, o Options) *rig {
	r := &rig{t: t, state: NewState(1, o), pool: porttest.NewPool(maxPool), now: time.Unix(1000, 0),
		ports: make(map[fib.PortID]*porttest.Port), taps: make(map[fib.InterfaceID][][]byte)}
	r.tables = patricia.New(r.state)
	t.Cleanup(func() { r.tables.Close() })
	r.state.SetFIB(r.tables)
	r.pipe = New(r.state, r.pool, r)
	r.slow = NewSlowPath(r.state)
	for _, id := range []fib.PortID{port1, port2} {
		r.ports[id] = porttest.New(id, r.pool)
		r.ports[id].KeepOnFailure(t)
	}
	if err := r.slow.SetInterfaces(r.now, testInterfaces()); err != nil {
		t.Fatal(err)
	}
	r.routes()
	r.settle()
	r.clear()
	t.Cleanup(r.checkPool)
	return r
}

// routes installs what the RIB would for the interfaces, and some routes.
func (r *rig) routes() {
	glean := func(id fib.GroupID, out fib.InterfaceID) fib.Change {
		return set(id, fib.Forward, fib.NextHop{Interface: out})
	}
	via := func(id fib.GroupID, out fib.InterfaceID, gw string) fib.Change {
		return set(id, fib.Forward, fib.NextHop{Interface: out, Gateway: addr(gw)})
	}
	changes := []fib.Change{
		glean(1, lan1), glean(2, lan2), glean(3, tag1), glean(4, tag2),
		set(5, fib.Local), set(6, fib.Blackhole), set(7, fib.Reject),
		via(8, lan2, "10.0.2.20"), via(9, lan2, "2001:db8:2::20"),
		set(10, fib.Forward, fib.NextHop{Interface: far, Gateway: addr("10.9.0.1")}),
		set(11, fib.Forward, fib.NextHop{Interface: far}),
		via(12, lan2, "fe80::20"),
	}
	for _, v := range []struct {
		vrf  fib.VRF
		a, b fib.GroupID
	}{{red, 1, 2}, {blue, 3, 4}} {
		changes = append(changes, route(v.vrf, "10.0.1.0/24", v.a), route(v.vrf, "10.0.2.0/24", v.b),
			route(v.vrf, "2001:db8:1::/64", v.a), route(v.vrf, "2001:db8:2::/64", v.b),
			route(v.vrf, "10.0.1.1/32", 5), route(v.vrf, "10.0.2.1/32", 5),
			route(v.vrf, "2001:db8:1::1/128", 5), route(v.vrf, "2001:db8:2::1/128", 5))
	}
	changes = append(changes, route(red, "198.18.0.0/16", 8), route(red, "2001:db8:8000::/33", 9),
		route(red, "198.19.6.0/24", 6), route(red, "198.19.7.0/24", 7), route(red, "2001:db8:7000::/36", 7),
		route(red, "198.19.10.0/24", 10), route(red, "198.19.11.0/24", 11), route(red, "2001:db8:4000::/36", 12))
	r.apply(changes...)
}

func set(id fib.GroupID, k fib.Kind, hops ...fib.NextHop) fib.Change {
	return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: k, NextHops: hops}}
}

func route(vrf fib.VRF, p string, g fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: prefix(p), Group: g}}
}

func (r *rig) apply(changes ...fib.Change) {
	r.t.Helper()
	r.seq++
	if err := r.tables.Apply(fib.Batch{Epoch: 1, Seq: r.seq, Changes: changes}); err != nil {
		r.t.Fatal(err)
	}
}

// Tx, Fabric and Punt make the rig a Sink.
func (r *rig) Tx(port fib.PortID, v *graph.Vector) { r.ports[port].Tx(v) }

func (r *rig) Fabric(card fib.CardID, p *graph.Packet, h FabricHeader) {
	r.fabric = append(r.fabric, fabricPacket{card, bytes.Clone(p.Data), h})
	r.pool.Put(p)
}

func (r *rig) Punt(p *graph.Packet, m punt.Meta) {
	r.queue = append(r.queue, punted{m, bytes.Clone(p.Data)})
	r.punts = append(r.punts, m)
	r.pool.Put(p)
}

// in receives frames on a port and carries out all that follows.
func (r *rig) in(port fib.PortID, frames ...[]byte) {
	r.t.Helper()
	r.ports[port].Put(frames...)
	var v graph.Vector
	for r.ports[port].Waiting() > 0 {
		if err := r.ports[port].Rx(&v); err != nil {
			r.t.Fatal(err)
		}
		r.pipe.Input(r.now.UnixNano(), &v)
		r.flush()
	}
	r.settle()
}

func (r *rig) flush() {
	for _, p := range r.ports {
		p.Flush()
	}
}

// settle runs the slow path until nothing is left.
func (r *rig) settle() {
	for !r.manual {
		queue := r.queue
		r.queue = nil
		for _, q := range queue {
			r.slow.Punted(r.now, q.m, q.frame)
			r.effects()
		}
		r.effects()
		if len(r.queue) == 0 {
			break
		}
	}
	r.flush()
}

func (r *rig) effects() {
	for _, e := range r.slow.Drain() {
		switch e.Kind {
		case Send:
			r.send(e.Interface, e.Data)
		case Route:
			r.host(e.VRF, e.Interface, e.Data)
		case Deliver:
			r.taps[e.Interface] = append(r.taps[e.Interface], bytes.Clone(e.Data))
		case Notice:
			r.notices = append(r.notices, e.Text)
		}
	}
}

func (r *rig) vector(data []byte) *graph.Vector {
	var v graph.Vector
	p := r.pool.Get()
	p.Data = append(p.Data, data...)
	p.Out, p.VRF = 0, 0
	v.Push(p)
	return &v
}

func (r *rig) send(out fib.InterfaceID, frame []byte) {
	v := r.vector(frame)
	v.P[0].Out = out
	r.pipe.Inject(v)
	r.flush()
}

func (r *rig) host(vrf fib.VRF, out fib.InterfaceID, packet []byte) {
	v := r.vector(packet)
	v.P[0].Out, v.P[0].VRF = out, vrf
	r.pipe.HostInput(r.now.UnixNano(), v)
	r.flush()
}

func (r *rig) advance(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(100 * time.Millisecond)
		r.slow.Tick(r.now)
		r.settle()
	}
}

// clear forgets what was recorded.
func (r *rig) clear() {
	for _, p := range r.ports {
		p.Sent()
	}
	r.punts, r.fabric, r.notices = nil, nil, nil
	r.taps = make(map[fib.InterfaceID][][]byte)
}

// know resolves hosts A and B in both VRFs, by configuration.
func (r *rig) know() {
	var list []StaticNeighbor
	for _, s := range []struct {
		i   fib.InterfaceID
		a   string
		mac [6]byte
	}{{lan1, "10.0.1.10", hostA}, {tag1, "10.0.1.10", hostA}, {lan2, "10.0.2.20", hostB}, {tag2, "10.0.2.20", hostB},
		{lan1, "2001:db8:1::10", hostA}, {tag1, "2001:db8:1::10", hostA}, {lan2, "2001:db8:2::20", hostB},
		{tag2, "2001:db8:2::20", hostB}, {lan2, "fe80::20", hostB}} {
		list = append(list, StaticNeighbor{Interface: s.i, Address: addr(s.a), MAC: s.mac})
	}
	r.slow.SetStatic(r.now, list)
	r.settle()
	r.clear()
}

// checkPool finds lost and doubled buffers.
func (r *rig) checkPool() {
	if r.pool.Free() != r.pool.Size() {
		r.t.Errorf("%d of %d buffers are lost", r.pool.Size()-r.pool.Free(), r.pool.Size())
		return
	}
	seen := make(map[uint64]bool)
	for range r.pool.Size() {
		p := r.pool.Get()
		if seen[p.Addr()] {
			r.t.Errorf("buffer %d is in the pool twice", p.Addr())
		}
		seen[p.Addr()] = true
	}
}

// drops returns the drop counters that are not zero.
func (r *rig) drops() map[string]uint64 {
	m := make(map[string]uint64)
	for _, d := range graph.MergeDrops(r.pipe.Drops(), r.slow.Drops()) {
		if d.Count > 0 {
			m[d.Node+"/"+d.Reason] = d.Count
		}
	}
	return m
}

func (r *rig) neighbor(i fib.InterfaceID, a string) *neigh.Entry {
	for _, e := range r.slow.Neighbors() {
		if e.Interface == i && e.Address == addr(a) {
			return &e
		}
	}
	return nil
}

// sentOne wants exactly one frame sent on the port and returns it decoded, all
// checksums verified.
func (r *rig) sentOne(port fib.PortID) gopacket.Packet {
	r.t.Helper()
	list := r.ports[port].Sent()
	if len(list) != 1 {
		r.t.Fatalf("%d frames sent on port %#x, want 1; drops %v", len(list), uint32(port), r.drops())
	}
	return decode(r.t, list[0])
}

func (r *rig) sentNone(port fib.PortID) {
	r.t.Helper()
	if list := r.ports[port].Sent(); len(list) != 0 {
		r.t.Fatalf("%d frames sent on port %#x, want none: %v", len(list), uint32(port), decode(r.t, list[0]))
	}
}

func decode(t testing.TB, frame []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Fatalf("decode %x: %v", frame, p.ErrorLayer().Error())
	}
	for _, l := range p.Layers() {
		if c, ok := l.(checksummed); ok {
			if err := c.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	err, wrong := p.VerifyChecksums()
	if err != nil {
		t.Fatalf("verify checksums of %v: %v", p, err)
	}
	for _, w := range wrong {
		t.Fatalf("wrong checksum in %v: %+v", p, w)
	}
	return p
}

// checksummed is a layer whose checksum covers a pseudo-header.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if c, ok := l.(checksummed); ok {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

func ether(src, dst [6]byte, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: typ}
}

// udp makes a UDP frame from host A through port 1, IPv4 or IPv6 by the addresses;
// edit may change the IP header before it is written.
func udp(t testing.TB, src, dst string, payload int, edit ...any) []byte {
	return udpVLAN(t, 0, src, dst, payload, edit...)
}

func udpVLAN(t testing.TB, vlan uint16, src, dst string, payload int, edit ...any) []byte {
	t.Helper()
	s, d := addr(src), addr(dst)
	u := &layers.UDP{SrcPort: 5000, DstPort: 6000}
	body := gopacket.Payload(bytes.Repeat([]byte{0xa5}, payload))
	var network gopacket.SerializableLayer
	typ := layers.EthernetTypeIPv4
	if s.Is4() {
		h := &layers.IPv4{Version: 4, TTL: 64, Id: 77, Protocol: layers.IPProtocolUDP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
		network = h
		apply(edit, h)
	} else {
		h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
		network, typ = h, layers.EthernetTypeIPv6
		apply(edit, h)
	}
	e := ether(hostA, mac1, typ)
	apply(edit, e)
	apply(edit, u)
	ls := []gopacket.SerializableLayer{e, network, u, body}
	if vlan != 0 {
		e.EthernetType = layers.EthernetTypeDot1Q
		ls = []gopacket.SerializableLayer{e, &layers.Dot1Q{VLANIdentifier: vlan, Type: typ}, network, u, body}
	}
	return serialize(t, ls...)
}

func apply[T any](edits []any, to T) {
	for _, e := range edits {
		if f, ok := e.(func(T)); ok {
			f(to)
		}
	}
}

func ttl(n uint8) func(*layers.IPv4)  { return func(h *layers.IPv4) { h.TTL = n } }
func hops(n uint8) func(*layers.IPv6) { return func(h *layers.IPv6) { h.HopLimit = n } }
func df(h *layers.IPv4)               { h.Flags = layers.IPv4DontFragment }
