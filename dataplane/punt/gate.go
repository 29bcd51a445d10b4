package punt

import "godwit/dataplane/graph"

// Gate is one worker's way out to the slow path: it polices, then hands on to
// the Sink.
type Gate struct {
	Now      int64 // monotonic ns, set once per round
	drop     graph.Dropper
	policers *Policers
	sink     Sink
}

// gateReasons: one for each class, in order.
var gateReasons = []graph.DropReason{
	{Name: "policed-arp", Help: "ARP above the rate of its class"},
	{Name: "policed-nd", Help: "neighbour or router discovery above the rate of its class"},
	{Name: "policed-local-bgp", Help: "BGP for the router above the rate of its class"},
	{Name: "policed-local-icmp", Help: "ICMP for the router above the rate of its class"},
	{Name: "policed-local-other", Help: "other packets for the router above the rate of their class"},
	{Name: "policed-exception", Help: "too many packets to fragment at a time"},
	{Name: "policed-unresolved", Help: "too many packets for unresolved neighbours at a time: a scan of a connected prefix?"},
	{Name: "policed-multicast", Help: "link-local multicast or broadcast above the rate of its class"},
	{Name: "policed-bfd", Help: "BFD of neighbors on the link above the rate of its class"},
	{Name: "policed-bfd-multihop", Help: "BFD from several hops away above the rate of its class"},
}

// NewGate makes a worker's gate.
func NewGate(policers *Policers, sink Sink, counts *graph.Counts, pool *graph.Pool) *Gate {
	return &Gate{
		drop:     graph.Dropper{Drops: graph.NewDrops("punt", gateReasons), Counts: counts, Pool: pool},
		policers: policers, sink: sink,
	}
}

// Drops are the gate's drop counters.
func (g *Gate) Drops() *graph.Drops { return g.drop.Drops }

// Punt hands the packet to the slow path, or drops it if its class is over its rate.
func (g *Gate) Punt(p *graph.Packet, m Meta) {
	if !g.policers.Allow(g.Now, m.Class) {
		g.drop.Drop(p, int(m.Class))
		return
	}
	g.out(p, m)
}

// Report hands on a packet that the caller has counted as dropped already, for an
// ICMP error to be made of it. What is over the rate ends here uncounted.
func (g *Gate) Report(p *graph.Packet, m Meta) {
	m.Class = Exception
	if !g.policers.Allow(g.Now, Exception) {
		g.drop.Pool.Put(p)
		return
	}
	g.out(p, m)
}

func (g *Gate) out(p *graph.Packet, m Meta) {
	m.In, m.VRF, m.L3, m.Host = p.In, p.VRF, p.L3, p.Flags&graph.FromHost != 0
	g.drop.Counts.Punt(p.InSlot)
	g.sink.Punt(p, m)
}
