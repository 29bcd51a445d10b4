// Package icmp makes ICMP and ICMPv6 errors about packets that were not
// forwarded (RFC 792, 1812 section 4.3, 4443), decides when none may be sent,
// and limits their rate. Slow path only.
package icmp

import (
	"encoding/binary"
	"net/netip"

	"godwit/dataplane/header"
)

// Error is what goes wrong, for both families.
type Error uint8

// The errors.
const (
	TimeExceeded Error = iota
	NetUnreachable
	HostUnreachable
	Prohibited
	TooBig
	BeyondScope // IPv6 only
)

type code struct{ typ, code uint8 }

var codes4 = map[Error]code{
	TimeExceeded:    {header.ICMPTimeExceeded, 0},
	NetUnreachable:  {header.ICMPUnreachable, header.CodeNetUnreach},
	HostUnreachable: {header.ICMPUnreachable, header.CodeHostUnreach},
	Prohibited:      {header.ICMPUnreachable, header.CodeAdminProhibit},
	TooBig:          {header.ICMPUnreachable, header.CodeFragNeeded},
}

var codes6 = map[Error]code{
	TimeExceeded:    {header.ICMPv6TimeExceeded, 0},
	NetUnreachable:  {header.ICMPv6Unreachable, header.Code6NoRoute},
	HostUnreachable: {header.ICMPv6Unreachable, header.Code6AddrUnreach},
	Prohibited:      {header.ICMPv6Unreachable, header.Code6AdminProhibit},
	TooBig:          {header.ICMPv6TooBig, 0},
	BeyondScope:     {header.ICMPv6Unreachable, header.Code6BeyondScope},
}

const (
	hops = 64
	tos  = 0xc0 // internetwork control (RFC 1812, 4.3.2.5)
	// The most bytes of an error: RFC 1812, 4.3.2.3; RFC 4443, 2.4 c.
	max4 = 576
	max6 = 1280
	head = 8 // bytes of ICMP header before the quoted packet
)

// May tells that an error about the packet may be sent at all: not about
// errors, not about packets for groups, not about later fragments, not to
// what is no host's address (RFC 1812, 4.3.2.7; RFC 4443, 2.4 e).
func May(e Error, packet []byte) bool {
	switch {
	case len(packet) > 0 && packet[0]>>4 == 4:
		return may4(packet)
	case len(packet) > 0 && packet[0]>>4 == 6:
		return may6(e, packet)
	}
	return false
}

func may4(h header.IPv4) bool {
	if !h.IsValid() || h.FragmentOffset() != 0 {
		return false
	}
	s := h.Src().As4()
	if s[0] == 0 || s[0] == 127 || s[0] >= 224 || h[16] >= 224 {
		return false
	}
	if h.Protocol() != header.ProtoICMP {
		return true
	}
	b := h.Payload()
	return len(b) > 0 && !isError4(b[0])
}

// isError4: what is not known as a query counts as an error.
func isError4(typ uint8) bool {
	switch typ {
	case header.ICMPEcho, header.ICMPEchoReply, 9, 10, 13, 14, 15, 16, 17, 18:
		return false
	}
	return true
}

func may6(e Error, h header.IPv6) bool {
	if !h.IsValid() {
		return false
	}
	src := h.Src()
	if src.IsUnspecified() || src.IsMulticast() || src.IsLoopback() || (h.Dst().IsMulticast() && e != TooBig) {
		return false
	}
	proto, off, ok := h.Transport()
	if !ok || proto != header.ProtoICMPv6 {
		return proto != header.ProtoFragment // a later fragment, unless it is too big
	}
	return off < h.TotalLen() && h[off] >= header.ICMPv6FirstInfo && h[off] != header.NDRedirect
}

// Make makes the error about the packet, as an IP packet from src to the
// packet's source; nil if none may be sent. mtu is TooBig's.
func Make(e Error, src netip.Addr, mtu int, packet []byte) []byte {
	if !May(e, packet) {
		return nil
	}
	if packet[0]>>4 == 4 {
		return make4(e, src, mtu, packet)
	}
	return make6(e, src, mtu, packet)
}

func make4(e Error, src netip.Addr, mtu int, h header.IPv4) []byte {
	c, ok := codes4[e]
	if !ok || !src.Is4() {
		return nil
	}
	quote := h[:min(h.TotalLen(), max4-header.IPv4Len-head)]
	b := make([]byte, header.IPv4Len+head+len(quote))
	m := b[header.IPv4Len:]
	m[0], m[1] = c.typ, c.code
	if e == TooBig {
		binary.BigEndian.PutUint16(m[6:8], uint16(mtu)) // RFC 1191, 4
	}
	copy(m[head:], quote)
	binary.BigEndian.PutUint16(m[2:4], header.Checksum(m))
	header.PutIPv4(b, len(b), 0, 0, tos, hops, header.ProtoICMP, src, h.Src())
	return b
}

func make6(e Error, src netip.Addr, mtu int, h header.IPv6) []byte {
	if src.Is4() || !src.IsValid() {
		return nil
	}
	c := codes6[e]
	quote := h[:min(h.TotalLen(), max6-header.IPv6Len-head)]
	b := make([]byte, header.IPv6Len+head+len(quote))
	m := b[header.IPv6Len:]
	m[0], m[1] = c.typ, c.code
	if e == TooBig {
		binary.BigEndian.PutUint32(m[4:8], uint32(mtu))
	}
	copy(m[head:], quote)
	header.PutIPv6(b, len(m), tos, header.ProtoICMPv6, hops, src, h.Src())
	header.SetChecksum6(src, h.Src(), m)
	return b
}
