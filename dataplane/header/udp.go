package header

import (
	"encoding/binary"
	"net/netip"
)

// UDPLen is the length of a UDP header.
const UDPLen = 8

// UDP is what a datagram of the router needs beside its payload. The addresses are of one family.
type UDP struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	TOS, TTL         uint8
	ID, Flags        uint16 // IPv4: identification; FlagDF
}

// Append writes an IP packet with the datagram behind b.
func (u *UDP) Append(b, payload []byte) []byte {
	at := len(b)
	n := UDPLen + len(payload)
	hl := IPv4Len
	if u.Src.Is6() {
		hl = IPv6Len
	}
	b = append(b, make([]byte, hl+UDPLen)...)
	b = append(b, payload...)
	p := b[at:]
	udp := p[hl:]
	binary.BigEndian.PutUint16(udp[0:], u.SrcPort)
	binary.BigEndian.PutUint16(udp[2:], u.DstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(n))
	var addrs []byte
	if u.Src.Is6() {
		PutIPv6(p, n, u.TOS, ProtoUDP, u.TTL, u.Src, u.Dst)
		addrs = p[8:40]
	} else {
		PutIPv4(p, len(p), u.ID, u.Flags, u.TOS, u.TTL, ProtoUDP, u.Src, u.Dst)
		addrs = p[12:20]
	}
	sum := ^Fold(Sum(Sum(uint64(ProtoUDP)+uint64(n), addrs), udp))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return b
}
