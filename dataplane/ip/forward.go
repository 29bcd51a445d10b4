package ip

import (
	"net/netip"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// Drop reasons of ip4-forward and ip6-forward.
const (
	dropNoRoute = iota
	dropBlackhole
	dropRejected
	dropTTL
	dropTooBig
	dropBroadcast
	dropScope
	dropUnresolved
	dropFailed
	dropDown
	dropLocalLoop
	dropHeadroom
)

var forwardReasons = []graph.DropReason{
	{Name: "no-route", Help: "no route to the destination; answered with ICMP unreachable"},
	{Name: "blackhole", Help: "the route is a blackhole"},
	{Name: "rejected", Help: "the route rejects; answered with ICMP administratively prohibited"},
	{Name: "ttl-expired", Help: "TTL or hop limit at its end; answered with ICMP time exceeded"},
	{Name: "too-big", Help: "larger than the egress MTU and not to be fragmented; answered with ICMP"},
	{Name: "directed-broadcast", Help: "broadcast to a connected prefix, from outside (RFC 2644)"},
	{Name: "beyond-scope", Help: "link-local source with a destination beyond the link"},
	{Name: "unresolved", Help: "the neighbour is being resolved and enough packets wait for it"},
	{Name: "neighbor-failed", Help: "the neighbour does not answer; answered with ICMP host unreachable"},
	{Name: "interface-down", Help: "the egress interface is down or gone"},
	{Name: "local-loop", Help: "from the host stack or another card, for the router itself"},
	{Name: "no-headroom", Help: "no room for the link-layer header"},
}

// Out is where Forward puts packets for other cards.
type Out interface {
	Fabric(p *graph.Packet, card fib.CardID, out fib.InterfaceID, nextHop [16]byte)
}

// Forward is the node ip4-forward or ip6-forward: group, flow hash, TTL,
// neighbour, rewrite.
type Forward struct {
	// Set by the pipeline between vectors.
	Table  *ethernet.Table
	Groups *Groups
	Cache  *neigh.Cache
	Seed   uint64 // of the flow hash
	Hash   *HashPlan

	name   string
	ip6    bool
	drop   graph.Dropper
	gate   *punt.Gate
	guard  *Guard
	egress *Egress
	out    Out
	adjs   [graph.VectorSize]*neigh.Adjacency
}

// NewForward4 makes a worker's ip4-forward, NewForward6 its ip6-forward.
func NewForward4(e *Egress, out Out, gate *punt.Gate, guard *Guard, counts *graph.Counts, pool *graph.Pool) *Forward {
	return newForward("ip4-forward", false, e, out, gate, guard, counts, pool)
}

// NewForward6 makes a worker's ip6-forward.
func NewForward6(e *Egress, out Out, gate *punt.Gate, guard *Guard, counts *graph.Counts, pool *graph.Pool) *Forward {
	return newForward("ip6-forward", true, e, out, gate, guard, counts, pool)
}

func newForward(name string, ip6 bool, e *Egress, out Out, gate *punt.Gate, guard *Guard, counts *graph.Counts, pool *graph.Pool) *Forward {
	return &Forward{name: name, ip6: ip6, gate: gate, guard: guard, egress: e, out: out,
		drop: graph.Dropper{Drops: graph.NewDrops(name, forwardReasons), Counts: counts, Pool: pool}}
}

// Name is the node's name.
func (n *Forward) Name() string { return n.name }

// Nexts are the nodes that follow.
func (n *Forward) Nexts() []string { return []string{"interface-output", "fabric", "punt"} }

// Drops are the node's drop counters.
func (n *Forward) Drops() *graph.Drops { return n.drop.Drops }

// Process takes all packets of v, whose Group is set: first the adjacency of
// each, then all rewrites, so that their memory is fetched together.
func (n *Forward) Process(v *graph.Vector) {
	pages := *n.Groups.pages.Load()
	m := 0
	for _, p := range v.P[:v.N] {
		g := n.Groups.get(pages, p.Group)
		var a *neigh.Adjacency
		if g != nil && g.adj != nil && p.Flags&graph.FromHost == 0 && !n.ip6 && p.Data[p.L3+8] > 1 {
			header.IPv4(p.Data[p.L3:]).DecrementTTL() // the common case of what adjacency does
			a = g.adj
			p.Out = a.Interface
		} else if a = n.adjacency(p, g); a == nil {
			continue
		}
		n.adjs[m], v.P[m] = a, p
		m++
	}
	n.sendAll(v.P[:m])
	v.N = 0
}

// sendAll sends packets whose adjacencies are set. Packets for one interface
// come in runs: they are counted so.
func (n *Forward) sendAll(packets []*graph.Packet) {
	var run uint16
	count, bytes := 0, 0
	for i, p := range packets {
		a := n.adjs[i]
		if n.Table.GuardsOut && !n.guard.leaves(p, a.Interface) {
			continue
		}
		rw := a.Rewrite()
		if rw == nil || len(p.Data)-int(p.L3) > rw.MTU || !write(n.drop.Pool, p, rw, n.ip6) {
			n.send(p, a)
			continue
		}
		a.Use()
		if rw.Slot != run {
			n.egress.counts.TxRun(run, count, bytes)
			run, count, bytes = rw.Slot, 0, 0
		}
		count++
		bytes += len(p.Data)
		n.egress.push(p, rw.PortSlot)
	}
	n.egress.counts.TxRun(run, count, bytes)
}

// adjacency finds the neighbour of a packet and counts down its TTL; nil if
// the packet ended or went another way.
func (n *Forward) adjacency(p *graph.Packet, g *Group) *neigh.Adjacency {
	if g == nil || p.Group == 0 {
		n.report(p, dropNoRoute, punt.Meta{Reason: punt.NoRoute})
		return nil
	}
	if g.Kind != fib.Forward {
		n.special(p, g.Kind)
		return nil
	}
	if !n.countDown(p) {
		return nil
	}
	m := g.one
	if m == nil {
		m = g.pick(n.hash(p))
	}
	p.Out = m.Out
	switch {
	case m.Adj != nil:
		return m.Adj
	case m.Card != 0:
		n.out.Fabric(p, m.Card, m.Out, m.gateway(n.dst(p)))
		return nil
	}
	return n.glean(p, m)
}

func (n *Forward) hash(p *graph.Packet) uint32 {
	if n.ip6 {
		return header.FlowHash6(n.Seed, n.Hash.Fields(p.VRF), header.IPv6(p.Data[p.L3:]))
	}
	return header.FlowHash4(n.Seed, n.Hash.Fields(p.VRF), header.IPv4(p.Data[p.L3:]))
}

func (n *Forward) dst(p *graph.Packet) netip.Addr {
	if n.ip6 {
		return header.IPv6(p.Data[p.L3:]).Dst()
	}
	return header.IPv4(p.Data[p.L3:]).Dst()
}

// countDown takes one from TTL or hop limit; it reports whether the packet goes on.
func (n *Forward) countDown(p *graph.Packet) bool {
	b := p.Data[p.L3:]
	if p.Flags&graph.FromHost != 0 {
		return true
	}
	ttl := &b[8]
	if n.ip6 {
		ttl = &b[7]
		if b[8] == 0xfe && b[9]&0xc0 == 0x80 {
			n.report(p, dropScope, punt.Meta{Reason: punt.BeyondScope})
			return false
		}
	}
	if *ttl <= 1 {
		n.report(p, dropTTL, punt.Meta{Reason: punt.TTLExpired})
		return false
	}
	if n.ip6 {
		*ttl--
	} else {
		header.IPv4(b).DecrementTTL()
	}
	return true
}

// special handles groups that do not forward.
func (n *Forward) special(p *graph.Packet, k fib.Kind) {
	switch k {
	case fib.Blackhole:
		n.drop.Drop(p, dropBlackhole)
	case fib.Reject:
		n.report(p, dropRejected, punt.Meta{Reason: punt.Rejected})
	default:
		n.local(p)
	}
}

// local gives the packet to the router itself.
func (n *Forward) local(p *graph.Packet) {
	switch {
	case p.In == 0:
		n.drop.Drop(p, dropLocalLoop)
	case n.ip6:
		n.gate.Punt(p, localMeta6(header.IPv6(p.Data[p.L3:])))
	default:
		n.gate.Punt(p, localMeta4(header.IPv4(p.Data[p.L3:])))
	}
}

// report drops a packet and has its sender told.
func (n *Forward) report(p *graph.Packet, reason int, m punt.Meta) {
	n.drop.Count(p, reason)
	m.Out = p.Out
	n.gate.Report(p, m)
}

// glean finds the destination itself as the neighbour.
func (n *Forward) glean(p *graph.Packet, m *Member) *neigh.Adjacency {
	in := n.Table.Out(m.Out)
	if in == nil {
		n.drop.Drop(p, dropDown)
		return nil
	}
	var k neigh.Key
	if n.ip6 {
		hi, lo := header.IPv6(p.Data[p.L3:]).Dst64()
		k = neigh.Key{Interface: m.Out, Hi: hi, Lo: lo}
	} else {
		dst := header.IPv4(p.Data[p.L3:]).Dst32()
		if in.IsBroadcast(dst) {
			n.drop.Drop(p, dropBroadcast)
			return nil
		}
		k = neigh.Key4(m.Out, dst)
	}
	return n.neighbor(p, k)
}

// neighbor finds an adjacency in the cache; without one the packet goes to
// the slow path.
func (n *Forward) neighbor(p *graph.Packet, k neigh.Key) *neigh.Adjacency {
	a := n.Cache.Find(k)
	if a == nil && (!n.Table.GuardsOut || n.guard.leaves(p, k.Interface)) { // the slow path asks no guard
		n.gate.Punt(p, punt.Meta{Reason: punt.NeedNeighbor, Class: punt.Unresolved, Out: k.Interface, NextHop: k.Addr()})
	}
	return a
}

// To sends a packet to the neighbour of a key.
func (n *Forward) To(p *graph.Packet, k neigh.Key) {
	p.Out = k.Interface
	if a := n.neighbor(p, k); a != nil {
		n.Send(p, a)
	}
}

// Send rewrites a packet for the neighbour and queues it for its port.
func (n *Forward) Send(p *graph.Packet, a *neigh.Adjacency) {
	if !n.Table.GuardsOut || n.guard.leaves(p, a.Interface) {
		n.send(p, a)
	}
}

// send is Send of a packet that may leave.
func (n *Forward) send(p *graph.Packet, a *neigh.Adjacency) {
	rw := a.Rewrite()
	switch {
	case rw == nil:
		n.unresolved(p, a)
		return
	case len(p.Data)-int(p.L3) > rw.MTU:
		n.tooBig(p, a, rw.MTU)
		return
	case !write(n.drop.Pool, p, rw, n.ip6):
		n.drop.Drop(p, dropHeadroom)
		return
	}
	a.Use()
	n.egress.Send(p, rw.PortSlot, rw.Slot)
}

func (n *Forward) unresolved(p *graph.Packet, a *neigh.Adjacency) {
	m := punt.Meta{Out: a.Interface, NextHop: a.Addr(), Class: punt.Unresolved}
	switch a.Mode() {
	case neigh.Hold:
		n.drop.Drop(p, dropUnresolved)
	case neigh.Failed:
		m.Reason = punt.NeighborFailed
		n.report(p, dropFailed, m)
	case neigh.Down:
		n.drop.Drop(p, dropDown)
	default:
		m.Reason = punt.NeedNeighbor
		n.gate.Punt(p, m)
	}
}

// tooBig has an IPv4 packet fragmented that may be, and reports the others.
func (n *Forward) tooBig(p *graph.Packet, a *neigh.Adjacency, mtu int) {
	m := punt.Meta{Reason: punt.TooBig, Class: punt.Exception, MTU: uint16(mtu), Out: a.Interface, NextHop: a.Addr()}
	if n.ip6 || header.IPv4(p.Data[p.L3:]).DF() {
		n.report(p, dropTooBig, m)
		return
	}
	n.gate.Punt(p, m)
}
