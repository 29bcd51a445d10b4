package ip

import (
	"godwit/dataplane/ethernet"
	"godwit/dataplane/filter"
	"godwit/dataplane/graph"
	"godwit/dataplane/guard"
	"godwit/dataplane/header"
	"godwit/fib"
)

// Drop reasons of ip4-guard and ip6-guard.
const (
	dropDenied = iota
	dropSource
	dropPoliced
	dropDeniedOut
	dropPolicedOut
)

var guardReasons = []graph.DropReason{
	{Name: "acl-in", Help: "denied by the ingress interface's access list"},
	{Name: "urpf", Help: "the source has no way back, or not through this interface (RFC 3704)"},
	{Name: "policed-in", Help: "above the ingress interface's policer"},
	{Name: "acl-out", Help: "denied by the egress interface's access list"},
	{Name: "policed-out", Help: "above the egress interface's policer"},
}

// Guard is the node ip4-guard or ip6-guard: it applies the policies of interfaces to received packets, in front of
// ip-input, and for Forward to packets that leave. What is malformed, neighbour discovery, and what the router itself
// sends passes.
type Guard struct {
	// Set by the pipeline between vectors.
	Table  *ethernet.Table
	Groups *Groups
	FIB    FIB
	Now    int64

	name string
	ip6  bool
	drop graph.Dropper
	key  filter.Key
	// Sources to look up, and whose they are.
	addr4  [1]uint32
	addr6  [1][2]uint64
	groups [1]uint32
}

// NewGuard4 makes a worker's ip4-guard.
func NewGuard4(counts *graph.Counts, pool *graph.Pool) *Guard {
	return newGuard("ip4-guard", false, counts, pool)
}

// NewGuard6 makes a worker's ip6-guard.
func NewGuard6(counts *graph.Counts, pool *graph.Pool) *Guard {
	return newGuard("ip6-guard", true, counts, pool)
}

func newGuard(name string, ip6 bool, counts *graph.Counts, pool *graph.Pool) *Guard {
	return &Guard{name: name, ip6: ip6, drop: graph.Dropper{Drops: graph.NewDrops(name, guardReasons), Counts: counts, Pool: pool}}
}

// Name is the node's name.
func (n *Guard) Name() string { return n.name }

// Nexts are the nodes that follow.
func (n *Guard) Nexts() []string { return []string{n.name[:4] + "input"} }

// Drops are the node's drop counters.
func (n *Guard) Drops() *graph.Drops { return n.drop.Drops }

// Process leaves in v what the ingress interfaces' policies let in.
func (n *Guard) Process(v *graph.Vector) {
	if !n.Table.GuardsIn {
		return
	}
	kept := 0
	for _, p := range v.P[:v.N] {
		in := n.Table.Slot(p.InSlot)
		if in == nil || in.Ingress == nil || n.enters(p, in.Ingress) {
			v.P[kept] = p
			kept++
		}
	}
	v.N = kept
}

// read reads the packet's key; false: it is malformed.
func (n *Guard) read(b []byte) bool {
	if n.ip6 {
		n.key.IPv6(b)
	} else {
		n.key.IPv4(b)
	}
	return n.key.Family != 0
}

// discovery tells that the packet is neighbour discovery, which has a hop limit of 255 (RFC 4861).
func (n *Guard) discovery() bool {
	k := &n.key
	return k.Family == 6 && k.Protocol == header.ProtoICMPv6 && k.Transport && k.HopLimit == 255 && k.ICMPType >= 133 && k.ICMPType <= 137
}

// enters applies an ingress policy; it reports whether the packet is kept.
func (n *Guard) enters(p *graph.Packet, pol *guard.Policy) bool {
	if int(p.L3) >= len(p.Data) || !n.read(p.Data[p.L3:]) || n.discovery() {
		return true
	}
	switch {
	case !pol.Permits(n.Now, &n.key):
		n.drop.Drop(p, dropDenied)
	case pol.RPF != guard.NoRPF && !n.reachable(p, pol.RPF):
		pol.Spoofed()
		n.drop.Drop(p, dropSource)
	case !n.within(p, pol):
		n.drop.Drop(p, dropPoliced)
	default:
		return true
	}
	return false
}

// reachable checks the source: by the routes of the interface's VRF, the default route included.
func (n *Guard) reachable(p *graph.Packet, mode guard.RPF) bool {
	if n.ip6 {
		if n.key.SrcHi>>54 == 0xfe80>>6 || n.key.SrcHi|n.key.SrcLo == 0 {
			return true // of the link; or no address yet
		}
		n.addr6[0] = [2]uint64{n.key.SrcHi, n.key.SrcLo}
		n.FIB.LookupBatch6(p.VRF, n.addr6[:], n.groups[:])
	} else {
		n.addr4[0] = uint32(n.key.SrcLo)
		if n.addr4[0] == 0 && n.key.DstLo == 1<<32-1 {
			return true // a host that asks for an address (DHCP)
		}
		n.FIB.LookupBatch4(p.VRF, n.addr4[:], n.groups[:])
	}
	if n.groups[0] == 0 {
		return false
	}
	g := n.Groups.Get(n.groups[0])
	if g == nil || g.Kind != fib.Forward {
		return false
	}
	if mode == guard.Loose {
		return true
	}
	for _, m := range g.members {
		if m.Out == p.In {
			return true
		}
	}
	return false
}

// within measures the packet, and marks it if it is above the rate.
func (n *Guard) within(p *graph.Packet, pol *guard.Policy) bool {
	if pol.Policer == nil {
		return true
	}
	c := pol.Policer.Meter(n.Now, len(p.Data)-int(p.L3))
	if c == guard.Yellow {
		if dscp := pol.Policer.Exceed(); dscp >= 0 {
			n.mark(p.Data[p.L3:], uint8(dscp))
		}
	}
	return c != guard.Red
}

// mark sets the DSCP; the ECN bits stay (RFC 3168).
func (n *Guard) mark(b []byte, dscp uint8) {
	if n.ip6 {
		b[0] = b[0]&0xf0 | dscp>>2
		b[1] = b[1]&0x3f | dscp<<6
		return
	}
	h := header.IPv4(b)
	from := uint16(b[0])<<8 | uint16(b[1])
	b[1] = b[1]&3 | dscp<<2
	sum := header.Update16(h.Checksum(), from, uint16(b[0])<<8|uint16(b[1]))
	b[10], b[11] = byte(sum>>8), byte(sum)
}

// leaves applies the egress interface's policy; it reports whether the packet goes on.
func (n *Guard) leaves(p *graph.Packet, out fib.InterfaceID) bool {
	if p.Flags&graph.FromHost != 0 {
		return true
	}
	e := n.Table.Out(out)
	if e == nil || e.Egress == nil || !n.read(p.Data[p.L3:]) {
		return true
	}
	switch {
	case !e.Egress.Permits(n.Now, &n.key):
		n.drop.Drop(p, dropDeniedOut)
	case !n.within(p, e.Egress):
		n.drop.Drop(p, dropPolicedOut)
	default:
		return true
	}
	return false
}
