package pipeline

import (
	"encoding/binary"
	"math/rand/v2"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/dataplane/sampling"
	"godwit/fib"
)

// Pipeline is one worker's nodes. The worker's goroutine uses it.
type Pipeline struct {
	state  *State
	view   *view // the nodes are set to it
	out    Sink
	counts *graph.Counts

	gate       *punt.Gate
	sampler    *sampling.Sampler
	eth        *ethernet.Input
	guard4     *ip.Guard
	guard6     *ip.Guard
	in4, in6   *ip.Input
	look4      *ip.Lookup
	look6      *ip.Lookup
	fwd4, fwd6 *ip.Forward
	egress     *ip.Egress
	fabric     graph.Dropper
	inject     graph.Dropper
	pool       *graph.Pool
	host4      graph.Vector
	host6      graph.Vector
}

// Drop reasons of fabric-input.
const (
	dropFabricMalformed = iota
	dropFabricInterface
	dropFabricBroadcast
)

var fabricReasons = []graph.DropReason{
	{Name: "malformed", Help: "no valid IP packet came through the fabric"},
	{Name: "unknown-interface", Help: "the egress interface is not on this card (a change under way?)"},
	{Name: "directed-broadcast", Help: "broadcast to a connected prefix, from outside (RFC 2644)"},
}

// Drop reasons of inject.
const (
	dropInjectRunt = iota
	dropInjectDown
	dropInjectHeadroom
	dropHostVersion
)

var injectReasons = []graph.DropReason{
	{Name: "runt", Help: "frame or packet from the host stack shorter than its header"},
	{Name: "interface-down", Help: "frame from the host stack for an interface that is down or gone"},
	{Name: "no-headroom", Help: "no room for the 802.1Q tag"},
	{Name: "bad-version", Help: "packet from the host stack is neither IPv4 nor IPv6"},
}

// New makes the nodes of one worker and joins them.
func New(s *State, pool *graph.Pool, out Sink) *Pipeline {
	counts := graph.NewCounts()
	gate := punt.NewGate(s.policers, out, counts, pool)
	sampler := sampling.NewSampler(rand.Uint64())
	p := &Pipeline{
		state: s, out: out, counts: counts, pool: pool, gate: gate, sampler: sampler,
		eth:    ethernet.NewInput(gate, sampler, counts, pool),
		in4:    ip.NewInput4(gate, counts, pool),
		in6:    ip.NewInput6(gate, counts, pool),
		egress: ip.NewEgress(out, counts),
		fabric: graph.Dropper{Drops: graph.NewDrops("fabric-input", fabricReasons), Counts: counts, Pool: pool},
		inject: graph.Dropper{Drops: graph.NewDrops("inject", injectReasons), Counts: counts, Pool: pool},
	}
	p.look4, p.look6 = ip.NewLookup(p.in4), ip.NewLookup(p.in6)
	p.guard4, p.guard6 = ip.NewGuard4(counts, pool), ip.NewGuard6(counts, pool)
	p.guard4.Groups, p.guard6.Groups = s.groups, s.groups
	p.fwd4 = ip.NewForward4(p.egress, p, gate, p.guard4, counts, pool)
	p.fwd6 = ip.NewForward6(p.egress, p, gate, p.guard6, counts, pool)
	for _, f := range []*ip.Forward{p.fwd4, p.fwd6} {
		f.Groups, f.Cache, f.Seed = s.groups, s.neigh.Cache(), s.seed
	}
	p.begin(0)
	return p
}

// begin makes the nodes see the state as it is now.
func (p *Pipeline) begin(now int64) {
	p.gate.Now, p.guard4.Now, p.guard6.Now = now, now, now
	v := p.state.view.Load()
	if v == p.view {
		return
	}
	p.view = v
	p.counts.Resize(v.table.Slots())
	p.sampler.Resize(v.table.Slots(), v.table.Sampled)
	p.eth.Table = v.table
	for _, n := range []*ip.Input{p.in4, p.in6} {
		n.Table, n.Locals = v.table, v.locals
	}
	p.look4.FIB, p.look6.FIB = v.fib, v.fib
	for _, g := range []*ip.Guard{p.guard4, p.guard6} {
		g.Table, g.FIB = v.table, v.fib
	}
	p.fwd4.Table, p.fwd6.Table = v.table, v.table
	p.fwd4.Hash, p.fwd6.Hash = v.hash, v.hash
	p.egress.Ports = v.table.Ports
	p.egress.Resize()
}

func (p *Pipeline) end() {
	p.egress.Flush()
	p.counts.Publish()
}

// Input forwards frames received on ports; each has Port set. v is emptied.
// now is monotonic, in ns.
func (p *Pipeline) Input(now int64, v *graph.Vector) {
	p.begin(now)
	p.eth.Process(v)
	p.guard4.Process(&p.eth.IP4)
	p.guard6.Process(&p.eth.IP6)
	p.route(&p.eth.IP4, &p.eth.IP6)
	p.end()
}

// route takes IP packets through validation, lookup and forwarding.
func (p *Pipeline) route(v4, v6 *graph.Vector) {
	if v4.N > 0 {
		p.in4.Process(v4)
		p.look4.Process(&p.in4.Valid)
		p.fwd4.Process(&p.in4.Valid)
	}
	if v6.N > 0 {
		p.in6.Process(v6)
		p.look6.Process(&p.in6.Valid)
		p.fwd6.Process(&p.in6.Valid)
	}
}

// HostInput routes IP packets of the router itself: each has VRF set, its Data
// is the IP packet, and Out is 0 or, for a neighbour on the link, the egress interface.
// v is emptied.
func (p *Pipeline) HostInput(now int64, v *graph.Vector) {
	p.begin(now)
	p.host4.N, p.host6.N = 0, 0
	for _, q := range v.P[:v.N] {
		q.In, q.InSlot, q.L3, q.Flags = 0, 0, 0, graph.FromHost
		switch {
		case len(q.Data) < header.IPv4Len:
			p.inject.Drop(q, dropInjectRunt)
		case q.Out != 0 && header.IPv4(q.Data).IsValid():
			p.fwd4.To(q, neigh.Key4(q.Out, header.IPv4(q.Data).Dst32()))
		case q.Data[0]>>4 == 4:
			p.host4.Push(q)
		case q.Data[0]>>4 != 6:
			p.inject.Drop(q, dropHostVersion)
		case q.Out != 0 && header.IPv6(q.Data).IsValid():
			hi, lo := header.IPv6(q.Data).Dst64()
			p.fwd6.To(q, neigh.Key{Interface: q.Out, Hi: hi, Lo: lo})
		default:
			p.host6.Push(q)
		}
	}
	v.N = 0
	p.route(&p.host4, &p.host6)
	p.end()
}

// FabricInput sends packets that another card has looked up and counted down;
// Data is the IP packet, h[i] belongs to v.P[i]. v is emptied.
func (p *Pipeline) FabricInput(now int64, v *graph.Vector, h []FabricHeader) {
	p.begin(now)
	for i, q := range v.P[:v.N] {
		q.In, q.InSlot, q.L3, q.Flags, q.VRF = 0, 0, 0, graph.Transit, h[i].VRF
		in := p.view.table.Out(h[i].Out)
		key := neigh.Key16(h[i].Out, h[i].NextHop)
		h4, h6 := header.IPv4(q.Data), header.IPv6(q.Data)
		switch {
		case in == nil:
			p.fabric.Drop(q, dropFabricInterface)
		case h4.IsValid():
			dst := h4.Dst32()
			if key == neigh.Key4(in.ID, dst) && in.IsBroadcast(dst) {
				p.fabric.Drop(q, dropFabricBroadcast)
				continue
			}
			q.Data = q.Data[:h4.TotalLen()]
			p.fwd4.To(q, key)
		case h6.IsValid():
			q.Data = q.Data[:h6.TotalLen()]
			p.fwd6.To(q, key)
		default:
			p.fabric.Drop(q, dropFabricMalformed)
		}
	}
	v.N = 0
	p.end()
}

// Fabric hands a packet to another card, without its link-layer header. It is for the nodes.
func (p *Pipeline) Fabric(q *graph.Packet, card fib.CardID, out fib.InterfaceID, nextHop [16]byte) {
	q.Data = q.Data[q.L3:]
	q.L3 = 0
	p.out.Fabric(card, q, FabricHeader{VRF: q.VRF, Out: out, NextHop: nextHop})
}

// Inject sends complete Ethernet frames without a tag out of the interface in
// Out: the slow path's, and what the host stack sends through a TAP. v is emptied.
func (p *Pipeline) Inject(v *graph.Vector) {
	p.begin(p.gate.Now)
	for _, q := range v.P[:v.N] {
		q.In, q.InSlot, q.Flags = 0, 0, graph.FromHost
		e := p.view.table.Out(q.Out)
		switch {
		case len(q.Data) < header.EthernetLen:
			p.inject.Drop(q, dropInjectRunt)
		case e == nil || !e.Up:
			p.inject.Drop(q, dropInjectDown)
		case e.VLAN != 0 && !p.tag(q, e.VLAN):
			p.inject.Drop(q, dropInjectHeadroom)
		default:
			p.egress.Send(q, e.PortSlot, e.Slot)
		}
	}
	v.N = 0
	p.end()
}

func (p *Pipeline) tag(q *graph.Packet, vlan uint16) bool {
	if !p.pool.Grow(q, header.VLANLen) {
		return false
	}
	copy(q.Data[:12], q.Data[header.VLANLen:])
	binary.BigEndian.PutUint16(q.Data[12:], header.TypeVLAN)
	binary.BigEndian.PutUint16(q.Data[14:], vlan)
	return true
}

// Samples is where this worker's sampled frames are; nil: there never were any. Any goroutine asks, one takes.
func (p *Pipeline) Samples() *sampling.Ring { return p.sampler.Ring() }

// Counters reports what this worker counted for each interface that is there. Any goroutine.
func (p *Pipeline) Counters(f func(fib.InterfaceID, Counters)) {
	for e := range p.state.view.Load().table.All {
		f(e.ID, p.counts.Read(int(e.Slot)))
	}
}

// CountersOf is what this worker counted for an interface's slot. Any goroutine.
func (p *Pipeline) CountersOf(slot uint16) Counters { return p.counts.Read(int(slot)) }

// Drops lists this worker's drop counters, in the order of the nodes. Any goroutine.
func (p *Pipeline) Drops() []graph.DropCount {
	var list []graph.DropCount
	for _, d := range []*graph.Drops{p.eth.Drops(), p.guard4.Drops(), p.guard6.Drops(), p.in4.Drops(), p.in6.Drops(), p.fwd4.Drops(), p.fwd6.Drops(),
		p.gate.Drops(), p.fabric.Drops, p.inject.Drops} {
		list = d.Append(list)
	}
	return list
}
