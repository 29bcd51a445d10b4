package pipeline

import (
	"net/netip"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/icmp"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// Drop reasons of the slow path.
const (
	dropNotTold = iota
	dropLimited
	dropNoSource
	dropStale
	dropFragment
)

var slowReasons = []graph.DropReason{
	{Name: "icmp-not-allowed", Help: "no ICMP error may be sent about the packet (RFC 1812, 4.3.2.7; RFC 4443, 2.4)"},
	{Name: "icmp-limited", Help: "ICMP error above its rate"},
	{Name: "icmp-no-source", Help: "no own address to send the ICMP error from"},
	{Name: "interface-gone", Help: "the packet's interface went away while it was punted"},
	{Name: "malformed", Help: "punted packet that can't be handled"},
}

// SlowPath handles what the workers punt. The control goroutine uses it; time
// is told, effects are returned.
type SlowPath struct {
	state   *State
	limiter icmp.Limiter
	drops   *graph.Drops
	effects []Effect
}

// NewSlowPath makes the slow path of a card.
func NewSlowPath(s *State) *SlowPath {
	return &SlowPath{state: s, drops: graph.NewDrops("slow-path", slowReasons)}
}

// at notes the time.
func (sp *SlowPath) at(now time.Time) { sp.state.now = now }

func (sp *SlowPath) table() *ethernet.Table { return sp.state.view.Load().table }

// SetInterfaces replaces the card's interfaces, whole or, with an error, not
// at all. New addresses are announced to the link.
func (sp *SlowPath) SetInterfaces(now time.Time, list []Interface) error {
	sp.at(now)
	old := sp.table()
	t, err := sp.state.setInterfaces(list)
	if err != nil {
		return err
	}
	for e := range t.All {
		for _, p := range e.Addresses {
			if !announced(old.Out(e.ID), e, p.Addr()) {
				sp.state.neigh.Probe(e, p.Addr())
				sp.state.neigh.Announce(e, p.Addr())
			}
		}
	}
	return nil
}

// announced tells that the link knows the address of the interface already.
func announced(old, e *ethernet.Entry, a netip.Addr) bool {
	if old == nil || !old.Up || old.MAC != e.MAC || old.Port != e.Port || old.VLAN != e.VLAN {
		return false
	}
	for _, p := range old.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// SetStatic replaces the configured neighbours.
func (sp *SlowPath) SetStatic(now time.Time, list []StaticNeighbor) {
	sp.at(now)
	sp.state.neigh.SetStatic(now, list)
}

// Inherit takes a neighbour as an earlier process of the card knew it; false while its
// interface is down.
func (sp *SlowPath) Inherit(now time.Time, k neigh.Key, mac header.MAC) bool {
	sp.at(now)
	return sp.state.neigh.Inherit(now, k, mac)
}

// Pending counts the gateways that are asked for.
func (sp *SlowPath) Pending() int { return sp.state.neigh.Pending() }

// Tick runs what is due; call it every 100 ms.
func (sp *SlowPath) Tick(now time.Time) {
	sp.at(now)
	sp.state.neigh.Tick(now)
}

// HostFrame looks at a frame that the host stack sends out of an interface.
func (sp *SlowPath) HostFrame(now time.Time, in fib.InterfaceID, frame []byte) {
	sp.at(now)
	if e := sp.table().Out(in); e != nil {
		sp.state.neigh.HostFrame(now, e, frame)
	}
}

// SetPath tells that the path to a neighbour has failed, or works again: groups
// leave it, whatever ARP or ND say.
func (sp *SlowPath) SetPath(now time.Time, out fib.InterfaceID, neighbor netip.Addr, failed bool) {
	sp.at(now)
	sp.state.neigh.SetPath(neigh.KeyOf(out, neighbor), failed)
}

// Conflicts lists other stations that claim own addresses.
func (sp *SlowPath) Conflicts(now time.Time) []neigh.Conflict { return sp.state.neigh.Conflicts(now) }

// NeighborCount tells how many neighbours there are.
func (sp *SlowPath) NeighborCount() int { return sp.state.neigh.Len() }

// Neighbors lists the neighbours.
func (sp *SlowPath) Neighbors() []neigh.Entry { return sp.state.neigh.List() }

// ClearNeighbors forgets the neighbours that match, but configured ones.
func (sp *SlowPath) ClearNeighbors(now time.Time, match func(neigh.Entry) bool) int {
	sp.at(now)
	return sp.state.neigh.Clear(now, match)
}

// Drops lists the slow path's drop counters. Any goroutine.
func (sp *SlowPath) Drops() []graph.DropCount {
	return sp.state.neigh.Drops().Append(sp.drops.Append(nil))
}

// Punted handles one frame as it was received, or an IP packet if m.L3 is 0. The
// caller leaves frame alone until it has handled the effects.
func (sp *SlowPath) Punted(now time.Time, m punt.Meta, frame []byte) {
	sp.at(now)
	if int(m.L3) >= len(frame) {
		sp.drops.Add(dropFragment)
		return
	}
	packet := frame[m.L3:]
	switch m.Reason {
	case punt.ToARP, punt.ToND:
		sp.discovery(now, m, frame, packet)
	case punt.ToLocal, punt.ToGroup, punt.ToBFD: // BFD comes here on a card that has none
		sp.deliver(m.In, frame, packet)
	case punt.NeedNeighbor:
		sp.resolve(now, m, frame, packet)
	case punt.TooBig:
		if h := header.IPv4(packet); h.IsValid() && !h.DF() {
			sp.fragment(now, m, h)
			return
		}
		sp.report(now, icmp.TooBig, m, packet)
	default:
		sp.report(now, errorOf[m.Reason], m, packet)
	}
}

var errorOf = [punt.NumReasons]icmp.Error{
	punt.NeighborFailed: icmp.HostUnreachable,
	punt.TTLExpired:     icmp.TimeExceeded,
	punt.NoRoute:        icmp.NetUnreachable,
	punt.Rejected:       icmp.Prohibited,
	punt.BeyondScope:    icmp.BeyondScope,
}

// discovery handles ARP and ND; the host stack gets copies of answers.
func (sp *SlowPath) discovery(now time.Time, m punt.Meta, frame, packet []byte) {
	in := sp.table().Out(m.In)
	if in == nil {
		sp.drops.Add(dropStale)
		return
	}
	var copied bool
	if m.Reason == punt.ToARP {
		copied = sp.state.neigh.ARP(now, in, packet)
	} else if h := header.IPv6(packet); h.IsValid() {
		copied = sp.state.neigh.ND(now, in, h)
	} else {
		sp.drops.Add(dropFragment)
	}
	if copied {
		sp.deliver(m.In, frame, packet)
	}
}

// deliver gives the frame, without its tag, to the interface's TAP.
func (sp *SlowPath) deliver(in fib.InterfaceID, frame, packet []byte) {
	if in == 0 || len(frame)-len(packet) < header.EthernetLen {
		sp.drops.Add(dropStale)
		return
	}
	data := frame
	if l3 := len(frame) - len(packet); l3 != header.EthernetLen {
		data = make([]byte, header.EthernetLen+len(packet))
		copy(data, frame[:12])
		copy(data[12:], frame[l3-2:])
	}
	sp.effects = append(sp.effects, Effect{Kind: Deliver, Interface: in, Data: data})
}

// resolve sends a packet that waits for its neighbour's link-layer address. One
// that is for an own address of the egress interface has no Local route
// yet: it is the host stack's.
func (sp *SlowPath) resolve(now time.Time, m punt.Meta, frame, packet []byte) {
	out := sp.table().Out(m.Out)
	if out == nil || !m.NextHop.IsValid() {
		sp.drops.Add(dropStale)
		return
	}
	for _, p := range out.Addresses {
		if p.Addr() == m.NextHop {
			sp.deliver(m.In, frame, packet)
			return
		}
	}
	sp.state.neigh.Resolve(now, neigh.KeyOf(m.Out, m.NextHop), neigh.Packet{Data: packet, In: m.In, VRF: m.VRF, Host: m.Host})
}

func (sp *SlowPath) fragment(now time.Time, m punt.Meta, h header.IPv4) {
	list := ip.Fragment(h, int(m.MTU))
	if list == nil {
		sp.drops.Add(dropFragment)
		return
	}
	for _, f := range list {
		sp.state.neigh.Resolve(now, neigh.KeyOf(m.Out, m.NextHop), neigh.Packet{Data: f, In: m.In, VRF: m.VRF, Host: m.Host})
	}
}

// Drain returns what is to be done since the last Drain; the list is valid
// until the next call of any method. Call it after applying routes, too:
// new gateways are asked for.
func (sp *SlowPath) Drain() []Effect {
	for _, o := range sp.state.neigh.Drain() {
		switch o.Kind {
		case neigh.Transmit:
			sp.effects = append(sp.effects, Effect{Kind: Send, Interface: o.Interface, Data: o.Frame})
		case neigh.Unreachable:
			m := punt.Meta{In: o.Packet.In, VRF: o.Packet.VRF, Out: o.Interface, Host: o.Packet.Host}
			sp.report(sp.state.now, icmp.HostUnreachable, m, o.Packet.Data)
		case neigh.Notice:
			sp.effects = append(sp.effects, Effect{Kind: Notice, Interface: o.Interface, Text: o.Text})
		}
	}
	done := sp.effects
	sp.effects = nil
	return done
}
