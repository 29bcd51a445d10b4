package pipeline

import (
	"net/netip"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
	"godwit/dataplane/icmp"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// report tells the packet's sender of an error.
func (sp *SlowPath) report(now time.Time, e icmp.Error, m punt.Meta, packet []byte) {
	if !icmp.May(e, packet) {
		sp.drops.Add(dropNotTold)
		return
	}
	to, about := ends(packet)
	if !sp.limiter.Allow(now, to) {
		sp.drops.Add(dropLimited)
		return
	}
	var src netip.Addr
	if m.Host {
		src = about
	} else {
		src = sp.source(m, to)
	}
	b := icmp.Make(e, src, int(m.MTU), packet)
	switch {
	case b == nil:
		sp.drops.Add(dropNoSource)
	case m.Host:
		sp.tellHost(m, b)
	case to.Is6() && to.IsLinkLocalUnicast():
		sp.effects = append(sp.effects, Effect{Kind: Route, VRF: m.VRF, Interface: m.In, Data: b})
	default:
		sp.effects = append(sp.effects, Effect{Kind: Route, VRF: m.VRF, Data: b})
	}
}

// ends are source and destination of a valid packet.
func ends(packet []byte) (src, dst netip.Addr) {
	if packet[0]>>4 == 4 {
		return header.IPv4(packet).Src(), header.IPv4(packet).Dst()
	}
	return header.IPv6(packet).Src(), header.IPv6(packet).Dst()
}

// tellHost brings an error to our own host stack, in a frame on a TAP of the
// VRF. The error comes from the destination it is about: the stack refuses
// its own addresses as sources.
func (sp *SlowPath) tellHost(m punt.Meta, b []byte) {
	in := sp.interfaceOf(m.Out, m.VRF)
	if in == nil {
		sp.drops.Add(dropNoSource)
		return
	}
	typ := uint16(header.TypeIPv4)
	if b[0]>>4 == 6 {
		typ = header.TypeIPv6
	}
	f := make([]byte, header.EthernetLen+len(b))
	from := in.MAC
	from[0] ^= 2 // any address but the interface's own
	header.PutEthernet(f, in.MAC, from, typ)
	copy(f[header.EthernetLen:], b)
	sp.effects = append(sp.effects, Effect{Kind: Deliver, Interface: in.ID, Data: f})
}

// interfaceOf is the interface, or if it is not there any of the VRF that is up.
func (sp *SlowPath) interfaceOf(id fib.InterfaceID, vrf fib.VRF) *ethernet.Entry {
	if in := sp.table().Out(id); in != nil {
		return in
	}
	for in := range sp.table().All {
		if in.VRF == vrf && in.Up {
			return in
		}
	}
	return nil
}

// source is the address an error to the receiver comes from: the ingress
// interface's, or for a packet from another card the egress interface's, or
// any of the VRF.
func (sp *SlowPath) source(m punt.Meta, to netip.Addr) netip.Addr {
	for _, id := range []fib.InterfaceID{m.In, m.Out} {
		if in := sp.table().Out(id); in != nil && in.VRF == m.VRF {
			if a := addressFor(in, to); a.IsValid() {
				return a
			}
		}
	}
	for in := range sp.table().All {
		if in.VRF == m.VRF && in.Up {
			if a := addressFor(in, to); a.IsValid() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// addressFor picks an interface's address to talk to the receiver with: of
// its family and scope, of its prefix if there is one.
func addressFor(in *ethernet.Entry, to netip.Addr) (best netip.Addr) {
	for _, p := range in.Addresses {
		a := p.Addr()
		if a.Is4() != to.Is4() || (a.Is6() && a.IsLinkLocalUnicast() != to.IsLinkLocalUnicast()) {
			continue
		}
		if p.Contains(to) {
			return a
		}
		if !best.IsValid() {
			best = a
		}
	}
	return best
}
