package header

import (
	"encoding/binary"
	"math/bits"

	"godwit/fib"
)

const (
	mix1 = 0xa0761d6478bd642f
	mix2 = 0xe7037ed1a0b428db
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hasPorts tells of protocols that begin with source and destination port.
func hasPorts(proto uint8) bool {
	return proto == ProtoTCP || proto == ProtoUDP || proto == ProtoSCTP
}

// FlowHash4 hashes addresses, protocol and, if asked, ports; a fragment, the first one too,
// without ports, so that all fragments of a packet go one way. The packet is valid.
func FlowHash4(seed uint64, fields fib.HashFields, h IPv4) uint32 {
	l4 := uint64(h.Protocol())
	if hl := h.HeaderLen(); fields&fib.HashNoPorts == 0 && hasPorts(h.Protocol()) && !h.Fragment() && h.TotalLen() >= hl+4 {
		l4 |= uint64(binary.BigEndian.Uint32(h[hl:])) << 8
	}
	x := mix(binary.BigEndian.Uint64(h[12:20])^seed^mix1, l4^mix2)
	return uint32(mix(x^seed, mix1) >> 32)
}

// FlowHash6 is FlowHash4 for IPv6; a packet with extension headers is hashed
// without ports. The flow label stays the same along a flow (RFC 6437), also in
// fragments.
func FlowHash6(seed uint64, fields fib.HashFields, h IPv6) uint32 {
	l4 := uint64(h.NextHeader())
	if fields&fib.HashLabel != 0 {
		l4 |= uint64(h.FlowLabel()) << 40
	}
	if fields&fib.HashNoPorts == 0 && hasPorts(h.NextHeader()) && h.TotalLen() >= IPv6Len+4 {
		l4 |= uint64(binary.BigEndian.Uint32(h[IPv6Len:])) << 8
	}
	shi, slo := h.Src64()
	dhi, dlo := h.Dst64()
	x := mix(shi^seed^mix1, slo^mix2)
	x = mix(x^dhi, dlo^mix1)
	x = mix(x^seed, l4^mix2)
	return uint32(mix(x^seed, mix1) >> 32)
}
