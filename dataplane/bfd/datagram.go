package bfd

import (
	"encoding/binary"
	"net/netip"

	"godwit/dataplane/header"
)

// UDP ports (RFC 5881, 4; RFC 5883, 5).
const (
	PortControl  = 3784 // single hop
	PortEcho     = 3785
	PortMultihop = 4784
)

const (
	udpLen    = 8
	ttlMost   = 255
	tosCS6    = 0xc0  // network control
	firstPort = 49152 // source ports: RFC 5881, 4
)

// datagram is what a session needs to know of a received UDP datagram.
type datagram struct {
	src, dst netip.Addr
	ttl      uint8
	port     uint16 // destination
	payload  []byte
}

// parse reads an IP packet that carries UDP, without extension headers.
func parse(b []byte) (d datagram, why Drop) {
	var udp []byte
	var sum uint64
	switch h4, h6 := header.IPv4(b), header.IPv6(b); {
	case h4.IsValid() && h4.Protocol() == header.ProtoUDP && !h4.Fragment():
		d.src, d.dst, d.ttl, udp = h4.Src(), h4.Dst(), h4.TTL(), h4.Payload()
		sum = header.Sum(uint64(header.ProtoUDP)+uint64(len(udp)), b[12:20])
	case h6.IsValid() && h6.NextHeader() == header.ProtoUDP:
		d.src, d.dst, d.ttl, udp = h6.Src(), h6.Dst(), h6.HopLimit(), b[header.IPv6Len:h6.TotalLen()]
		sum = header.Sum(uint64(header.ProtoUDP)+uint64(len(udp)), b[8:40])
	default:
		return d, DropDatagram
	}
	if len(udp) < udpLen {
		return d, DropDatagram
	}
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if n < udpLen || n > len(udp) {
		return d, DropDatagram
	}
	if n != len(udp) { // the pseudo-header counts the datagram's own length
		sum += uint64(n) - uint64(len(udp))
		udp = udp[:n]
	}
	if udp[6]|udp[7] == 0 {
		if d.src.Is6() {
			return d, DropChecksum // RFC 8200, 8.1
		}
	} else if header.Fold(header.Sum(sum, udp)) != 0xffff {
		return d, DropChecksum
	}
	d.port, d.payload = binary.BigEndian.Uint16(udp[2:]), udp[udpLen:]
	return d, passed
}

// appendDatagram writes an IP packet with a UDP datagram behind b.
func appendDatagram(b []byte, src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	u := header.UDP{Src: src, Dst: dst, SrcPort: from, DstPort: to, TOS: tosCS6, TTL: ttlMost, Flags: header.FlagDF}
	return u.Append(b, payload)
}
