package neigh

import (
	"net/netip"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
)

var allNodes = netip.MustParseAddr("ff02::1")

// ndHops is the hop limit of all ND messages: it proves that none has been forwarded.
const ndHops = 255

func ndFrame(in *ethernet.Entry, dmac header.MAC, src, dst netip.Addr, typ, flags uint8, target netip.Addr) []byte {
	const at = header.EthernetLen + header.IPv6Len
	f := make([]byte, at+header.NDLen+header.NDOptLen)
	n := header.PutND(f[at:], typ, flags, target, in.MAC)
	header.PutEthernet(f, dmac, in.MAC, header.TypeIPv6)
	header.PutIPv6(f[header.EthernetLen:], n, 0, header.ProtoICMPv6, ndHops, src, dst)
	header.SetChecksum6(src, dst, f[at:at+n])
	return f
}

// probeFrame is the solicitation of duplicate address detection (RFC 4862, 5.4.2).
func probeFrame(in *ethernet.Entry, target netip.Addr) []byte {
	const at = header.EthernetLen + header.IPv6Len
	f := make([]byte, at+header.NDLen) // without the link-layer option
	src, dst := netip.IPv6Unspecified(), header.SolicitedNode(target)
	f[at] = header.NDNeighborSolicit
	a := target.As16()
	copy(f[at+8:], a[:])
	header.PutEthernet(f, header.MulticastMAC(dst), in.MAC, header.TypeIPv6)
	header.PutIPv6(f[header.EthernetLen:], header.NDLen, 0, header.ProtoICMPv6, ndHops, src, dst)
	header.SetChecksum6(src, dst, f[at:])
	return f
}

func (t *Table) solicit(in *ethernet.Entry, target netip.Addr, unicast header.MAC) {
	from := source(in, target)
	if !from.IsValid() {
		return
	}
	dst := header.SolicitedNode(target)
	dmac := header.MulticastMAC(dst)
	if unicast != (header.MAC{}) {
		dst, dmac = target, unicast
	}
	t.transmit(in.ID, ndFrame(in, dmac, from, dst, header.NDNeighborSolicit, 0, target))
}

func (t *Table) advertise(in *ethernet.Entry, target, dst netip.Addr, dmac header.MAC, flags uint8) {
	t.transmit(in.ID, ndFrame(in, dmac, target, dst, header.NDNeighborAdvert, flags, target))
}

// ND handles a neighbour solicitation or advertisement; ip is the whole
// packet. It reports whether the host stack wants a copy.
func (t *Table) ND(now time.Time, in *ethernet.Entry, ip header.IPv6) bool {
	msg := header.ND(ip[header.IPv6Len:ip.TotalLen()])
	if ip.HopLimit() != ndHops || ip.NextHeader() != header.ProtoICMPv6 || !msg.IsValid() ||
		!header.ChecksumOK6(ip.Src(), ip.Dst(), msg) {
		t.drops.Add(dropNDInvalid)
		return false
	}
	if msg.Type() == header.NDNeighborSolicit {
		t.solicited(now, in, ip, msg)
		return false
	}
	return t.advertised(now, in, ip, msg)
}

// solicited handles a solicitation (RFC 4861, 7.2.3).
func (t *Table) solicited(now time.Time, in *ethernet.Entry, ip header.IPv6, msg header.ND) {
	src, dst, target := ip.Src(), ip.Dst(), msg.Target()
	mac, known := msg.LinkAddr(header.NDOptSource)
	switch {
	case src.IsUnspecified():
		if known || dst != header.SolicitedNode(target) {
			t.drops.Add(dropNDInvalid)
			return
		}
		if owns(in, target) { // duplicate address detection of another: it is ours
			t.advertise(in, target, allNodes, header.MulticastMAC(allNodes), header.NAFlagRouter|header.NAFlagOverride)
		}
		return
	case owns(in, src):
		t.drops.Add(dropNDSpoof)
		t.conflict(now, in, src, mac)
		return
	case !onLink(in, src):
		t.drops.Add(dropNDOffLink)
		return
	case known && !header.Unicast(mac):
		t.drops.Add(dropNDInvalid)
		return
	case !owns(in, target):
		return
	}
	e := t.entries[KeyOf(in.ID, src)]
	if known {
		if e == nil {
			e = t.find(now, KeyOf(in.ID, src), false)
		}
		if e != nil {
			t.learn(now, e, mac, false)
		}
	}
	const flags = header.NAFlagRouter | header.NAFlagSolicited | header.NAFlagOverride
	switch {
	case known:
		t.advertise(in, target, src, mac, flags)
	case e != nil && e.adj.rewrite.Load() != nil: // a unicast probe need not carry the option
		t.advertise(in, target, src, e.mac, flags)
	default:
		t.answerLater(now, in, src, target, flags)
	}
}

// answerLater queues the advertisement until the asker is resolved.
func (t *Table) answerLater(now time.Time, in *ethernet.Entry, src, target netip.Addr, flags uint8) {
	f := ndFrame(in, header.MAC{}, target, src, header.NDNeighborAdvert, flags, target)
	t.Resolve(now, KeyOf(in.ID, src), Packet{Data: f[header.EthernetLen:], VRF: in.VRF})
}

// advertised handles an advertisement (RFC 4861, 7.2.5).
func (t *Table) advertised(now time.Time, in *ethernet.Entry, ip header.IPv6, msg header.ND) bool {
	target := msg.Target()
	mac, known := msg.LinkAddr(header.NDOptTarget)
	solicited := msg.Flags()&header.NAFlagSolicited != 0
	switch {
	case solicited && ip.Dst().IsMulticast(), known && !header.Unicast(mac):
		t.drops.Add(dropNDInvalid)
		return false
	case owns(in, target):
		t.drops.Add(dropNDSpoof)
		t.conflict(now, in, target, mac)
		return true // the host stack's duplicate address detection must see it
	}
	e := t.entries[KeyOf(in.ID, target)]
	if e == nil && solicited && known && onLink(in, target) && t.takeAsked(now, KeyOf(in.ID, target)) {
		e = t.find(now, KeyOf(in.ID, target), false)
	}
	if e == nil || e.state == Permanent {
		return true
	}
	if e.adj.rewrite.Load() == nil {
		if known && solicited {
			t.resolved(now, e, mac, Reachable)
		} else if known {
			t.resolved(now, e, mac, Stale)
		}
		return true
	}
	override := msg.Flags()&header.NAFlagOverride != 0
	switch changed := known && mac != e.mac; {
	case changed && !override:
		if e.state == Reachable {
			t.enter(e, Stale, now)
		}
	case changed && !solicited:
		t.resolved(now, e, mac, Stale)
	case changed:
		t.resolved(now, e, mac, Reachable)
	case solicited:
		t.resolved(now, e, e.mac, Reachable)
	}
	return true
}
