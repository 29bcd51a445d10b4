package pipeline

import (
	"net/netip"
	"slices"

	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

// Flow is a packet to trace: what lookup and flow hash look at. Without a
// protocol ports do not count.
type Flow struct {
	VRF              fib.VRF
	From, To         netip.Addr // From may be invalid: unspecified
	Protocol         uint8
	SrcPort, DstPort uint16
	// Out and NextHop, if set, stand for the lookup: another card has made it.
	Out     fib.InterfaceID
	NextHop netip.Addr
}

// TraceMember is one member of the group that a packet meets.
type TraceMember struct {
	Out     fib.InterfaceID
	Gateway netip.Addr // invalid: the destination itself
	Dead    bool       // its port is down, or it does not answer
	Backup  bool       // for when no other member lives
	Chosen  bool
}

// Trace is what a card does with a packet.
type Trace struct {
	Local   bool // an own address of an interface of this card
	Index   uint32
	Kind    fib.Kind
	Hash    uint32
	Members []TraceMember
	Card    fib.CardID      // that sends it, if not this one
	Out     fib.InterfaceID // egress interface
	NextHop netip.Addr      // neighbour
	State   string          // of the neighbour; "none" if there is none yet
	MAC     header.MAC
	MTU     int
	Result  string // "sent", "fabric", "queued", "local", or the name of the drop reason
}

// packet makes headers that hash as the flow's packets do.
func (f *Flow) packet() []byte {
	from := f.From
	if f.To.Is4() {
		if !from.IsValid() {
			from = netip.IPv4Unspecified()
		}
		b := make([]byte, header.IPv4Len+8)
		header.PutIPv4(b, len(b), 0, 0, 0, 64, f.Protocol, from, f.To)
		f.ports(b[header.IPv4Len:])
		return b
	}
	if !from.IsValid() {
		from = netip.IPv6Unspecified()
	}
	b := make([]byte, header.IPv6Len+8)
	header.PutIPv6(b, 8, 0, f.Protocol, 64, from, f.To)
	f.ports(b[header.IPv6Len:])
	return b
}

func (f *Flow) ports(b []byte) {
	b[0], b[1], b[2], b[3] = byte(f.SrcPort>>8), byte(f.SrcPort), byte(f.DstPort>>8), byte(f.DstPort)
}

// Trace tells what the workers would do with a packet, by their own tables. It
// changes nothing.
func (sp *SlowPath) Trace(f Flow) Trace {
	v := sp.state.view.Load()
	var t Trace
	if f.Out != 0 {
		t.Out, t.NextHop = f.Out, f.NextHop
		sp.traceNeighbor(&t)
		return t
	}
	p := f.packet()
	var groups [1]uint32
	if h := header.IPv4(p); f.To.Is4() {
		v.fib.LookupBatch4(f.VRF, []uint32{h.Dst32()}, groups[:])
		t.Local = v.locals.Own4(f.VRF, h.Dst32())
		t.Hash = header.FlowHash4(sp.state.seed, v.hash.Fields(f.VRF), h)
	} else {
		hi, lo := header.IPv6(p).Dst64()
		v.fib.LookupBatch6(f.VRF, [][2]uint64{{hi, lo}}, groups[:])
		t.Local = v.locals.Own6(f.VRF, hi, lo)
		t.Hash = header.FlowHash6(sp.state.seed, v.hash.Fields(f.VRF), header.IPv6(p))
	}
	t.Index = groups[0]
	sp.traceGroup(&t, f.To)
	return t
}

func (sp *SlowPath) traceGroup(t *Trace, to netip.Addr) {
	g := sp.state.groups.Get(t.Index)
	switch {
	case g == nil || t.Index == 0:
		t.Result = "no-route"
		return
	case g.Kind != fib.Forward:
		t.Kind = g.Kind
		t.Result = [...]string{fib.Local: "local", fib.Blackhole: "blackhole", fib.Reject: "rejected"}[g.Kind]
		return
	}
	m := g.Choose(t.Hash)
	members, dead := sp.state.groups.Members(t.Index)
	for i, x := range members {
		t.Members = append(t.Members, TraceMember{Out: x.Out, Gateway: x.Gateway(), Dead: dead[i], Backup: x.Backup, Chosen: x == m})
	}
	t.Out, t.NextHop = m.Out, m.Gateway()
	if !t.NextHop.IsValid() {
		t.NextHop = to
	}
	if m.Card != 0 {
		t.Card, t.Result = m.Card, "fabric"
		return
	}
	sp.traceNeighbor(t)
}

// traceNeighbor follows the packet from the egress interface on.
func (sp *SlowPath) traceNeighbor(t *Trace) {
	in := sp.table().Out(t.Out)
	t.State = "none"
	if e, ok := sp.state.neigh.Get(neigh.KeyOf(t.Out, t.NextHop)); ok {
		t.State, t.MAC = e.State.String(), e.MAC
	}
	switch {
	case in == nil || !in.Up:
		t.Result = "interface-down"
		return
	case t.NextHop.Is4() && in.IsBroadcast(header.IPv4(ip4Of(t.NextHop)).Dst32()):
		t.Result = "directed-broadcast"
		return
	case slices.ContainsFunc(in.Addresses, func(p netip.Prefix) bool { return p.Addr() == t.NextHop }):
		t.Result = "local"
		return
	}
	t.MTU = in.MTU
	a := sp.state.neigh.Cache().Find(neigh.KeyOf(t.Out, t.NextHop))
	switch {
	case a != nil && a.Rewrite() != nil:
		t.Result, t.MTU = "sent", a.Rewrite().MTU
	case a != nil && a.Mode() == neigh.Hold:
		t.Result = "unresolved"
	case a != nil && a.Mode() == neigh.Failed:
		t.Result = "neighbor-failed"
	case a != nil && a.Mode() == neigh.Down:
		t.Result = "interface-down"
	default:
		t.Result = "queued"
	}
}

// ip4Of is a header that holds a destination only.
func ip4Of(a netip.Addr) []byte {
	b := make([]byte, header.IPv4Len)
	x := a.As4()
	copy(b[16:], x[:])
	return b
}
