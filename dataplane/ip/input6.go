package ip

import (
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/punt"
)

// kind6 is what sort of address an IPv6 address is.
type kind6 uint8

const (
	global6 kind6 = iota
	unspecified6
	loopback6
	mapped6 // ::ffff:0:0/96
	linkLocal6
	multicast6
)

func classify6(hi, lo uint64) kind6 {
	switch {
	case hi == 0:
		switch {
		case lo == 0:
			return unspecified6
		case lo == 1:
			return loopback6
		case lo>>32 == 0xffff:
			return mapped6
		}
	case hi>>54 == 0xfe80>>6:
		return linkLocal6
	case hi>>56 == 0xff:
		return multicast6
	}
	return global6
}

// one6 handles one IPv6 packet; it returns the reason to drop it, or passed.
func (n *Input) one6(p *graph.Packet) int {
	h := header.IPv6(p.Data[p.L3:])
	switch {
	case len(h) < header.IPv6Len:
		return dropTruncated
	case h[0]>>4 != 6:
		return dropVersion
	case h.TotalLen() > len(h):
		return dropTruncated
	}
	p.Data = p.Data[:int(p.L3)+h.TotalLen()]
	h = header.IPv6(p.Data[p.L3:])
	shi, slo := h.Src64()
	dhi, dlo := h.Dst64()
	dst := classify6(dhi, dlo)
	if p.Flags&graph.FromHost == 0 {
		switch classify6(shi, slo) {
		case multicast6, loopback6, mapped6:
			return dropMartianSource
		case unspecified6:
			if dst != multicast6 {
				return dropMartianSource
			}
		case linkLocal6:
			return n.fromLink6(p, h, dst, shi, slo)
		default:
			if n.Locals.Own6(p.VRF, shi, slo) {
				return dropSpoofed
			}
		}
	}
	if dst != global6 || p.Flags&graph.LinkGroup != 0 {
		return n.special6(p, h, dst)
	}
	n.Addr6[n.Valid.N] = [2]uint64{dhi, dlo}
	n.Valid.Push(p)
	return passed
}

// fromLink6 handles a packet with a link-local source: it may be for the
// router, but never goes further (RFC 4291, 2.5.6).
func (n *Input) fromLink6(p *graph.Packet, h header.IPv6, dst kind6, shi, slo uint64) int {
	if in := n.Table.Slot(p.InSlot); in == nil || in.OwnLinkLocal(shi, slo) {
		return dropSpoofed
	}
	if dst != global6 || p.Flags&graph.LinkGroup != 0 {
		return n.special6(p, h, dst)
	}
	n.Addr6[n.Valid.N][0], n.Addr6[n.Valid.N][1] = h.Dst64()
	n.Valid.Push(p) // the lookup tells whether it is for us; Forward refuses the rest
	return passed
}

// special6 handles destinations that are not global unicast, and unicast
// packets in group frames.
func (n *Input) special6(p *graph.Packet, h header.IPv6, dst kind6) int {
	in := n.Table.Slot(p.InSlot)
	switch {
	case dst == loopback6, dst == unspecified6, dst == mapped6:
		return dropMartianDest
	case p.Flags&graph.FromHost != 0, in == nil:
		return dropBadHost // the host stack's go through a TAP
	case dst == multicast6:
		if h[25]&0xf != 2 { // scope: link-local
			return dropGroup
		}
		n.gate.Punt(p, groupMeta6(h))
		return passed
	case p.Flags&graph.LinkGroup != 0:
		return dropLinkGroup
	}
	if dhi, dlo := h.Dst64(); !in.OwnLinkLocal(dhi, dlo) {
		return dropLinkLocal
	}
	n.gate.Punt(p, localMeta6(h))
	return passed
}

// groupMeta6 sorts a link-local multicast packet.
func groupMeta6(h header.IPv6) punt.Meta {
	switch t := icmpType6(h); {
	case t == header.NDNeighborSolicit || t == header.NDNeighborAdvert:
		return punt.Meta{Reason: punt.ToND, Class: punt.ND}
	case t == header.NDRouterSolicit || t == header.NDRouterAdvert:
		return punt.Meta{Reason: punt.ToGroup, Class: punt.ND}
	}
	return punt.Meta{Reason: punt.ToGroup, Class: punt.Multicast}
}

// localMeta6 sorts a packet for one of the router's addresses.
func localMeta6(h header.IPv6) punt.Meta {
	switch t := icmpType6(h); {
	case t == header.NDNeighborSolicit || t == header.NDNeighborAdvert:
		return punt.Meta{Reason: punt.ToND, Class: punt.ND}
	case t >= header.NDRouterSolicit && t <= header.NDRedirect:
		return punt.Meta{Reason: punt.ToLocal, Class: punt.ND}
	case t >= 0:
		return punt.Meta{Reason: punt.ToLocal, Class: punt.LocalICMP}
	}
	m := punt.Meta{Reason: punt.ToLocal, Class: punt.LocalOther}
	switch h.NextHeader() {
	case header.ProtoTCP:
		if isBGP(h[header.IPv6Len:]) {
			m.Class = punt.LocalBGP
		}
	case header.ProtoUDP:
		bfdMeta(&m, h[header.IPv6Len:], h.HopLimit())
	}
	return m
}

// icmpType6 is the ICMPv6 type of a packet without extension headers; -1 if
// it is not ICMPv6. ND with extension headers is not answered: RFC 6980
// forbids fragments, nothing needs the others.
func icmpType6(h header.IPv6) int {
	if h.NextHeader() != header.ProtoICMPv6 || len(h) <= header.IPv6Len {
		return -1
	}
	return int(h[header.IPv6Len])
}

// isBGP tells that one of the ports is BGP's.
func isBGP(tcp []byte) bool {
	return len(tcp) >= 4 && (tcp[0] == 0 && tcp[1] == 179 || tcp[2] == 0 && tcp[3] == 179)
}

// bfdMeta has BFD taken out of what is for the host stack. On one hop, packets
// that a router has forwarded (RFC 5881, 5) can't use up what neighbours need.
func bfdMeta(m *punt.Meta, udp []byte, ttl uint8) {
	const control, echo, multihop = 3784, 3785, 4784
	if len(udp) < 8 {
		return
	}
	switch int(udp[2])<<8 | int(udp[3]) {
	case control, echo:
		m.Reason = punt.ToBFD
		if ttl == 255 {
			m.Class = punt.BFD
		}
	case multihop:
		m.Reason, m.Class = punt.ToBFD, punt.BFDMultihop
	}
}

// localMeta4 sorts a packet for one of the router's addresses.
func localMeta4(h header.IPv4) punt.Meta {
	m := punt.Meta{Reason: punt.ToLocal, Class: punt.LocalOther}
	switch {
	case h.Protocol() == header.ProtoICMP:
		m.Class = punt.LocalICMP
	case h.Protocol() == header.ProtoTCP && h.FragmentOffset() == 0 && isBGP(h[h.HeaderLen():]):
		m.Class = punt.LocalBGP
	case h.Protocol() == header.ProtoUDP && !h.Fragment():
		bfdMeta(&m, h[h.HeaderLen():], h.TTL())
	}
	return m
}
