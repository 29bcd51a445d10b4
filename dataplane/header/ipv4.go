package header

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// IPv4Len is the length of an IPv4 header without options, bytes.
const IPv4Len = 20

// IP protocol numbers.
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoICMPv6   = 58
	ProtoDestOpts = 60
	ProtoSCTP     = 132
)

// Bits of the flags and fragment offset word.
const (
	FlagDF     = 0x4000
	FlagMF     = 0x2000
	offsetMask = 0x1fff
)

// IPv4 is a view of an IPv4 packet.
type IPv4 []byte

// IsValid tells that version, header length and total length fit the slice;
// it does not look at the checksum.
func (h IPv4) IsValid() bool {
	if len(h) < IPv4Len || h[0]>>4 != 4 {
		return false
	}
	hl, tl := h.HeaderLen(), h.TotalLen()
	return hl >= IPv4Len && hl <= tl && tl <= len(h)
}

// HeaderLen is the length of the header with options, bytes.
func (h IPv4) HeaderLen() int { return int(h[0]&0xf) * 4 }

// TOS is the type of service octet.
func (h IPv4) TOS() uint8 { return h[1] }

// TotalLen is the length of the packet, bytes.
func (h IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(h[2:4])) }

// ID is the identification.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[4:6]) }

// DF tells that the packet must not be fragmented.
func (h IPv4) DF() bool { return h[6]&(FlagDF>>8) != 0 }

// Fragment tells that the packet is a fragment, the first one included.
func (h IPv4) Fragment() bool {
	return binary.BigEndian.Uint16(h[6:8])&(FlagMF|offsetMask) != 0
}

// FragmentOffset is the offset of the payload, bytes.
func (h IPv4) FragmentOffset() int {
	return int(binary.BigEndian.Uint16(h[6:8])&offsetMask) * 8
}

// TTL is the time to live.
func (h IPv4) TTL() uint8 { return h[8] }

// Protocol is the payload's protocol.
func (h IPv4) Protocol() uint8 { return h[9] }

// Checksum is the header checksum.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:12]) }

// Src32 is the source address as a number.
func (h IPv4) Src32() uint32 { return binary.BigEndian.Uint32(h[12:16]) }

// Dst32 is the destination address as a number.
func (h IPv4) Dst32() uint32 { return binary.BigEndian.Uint32(h[16:20]) }

// Src is the source address.
func (h IPv4) Src() netip.Addr { return netip.AddrFrom4([4]byte(h[12:16])) }

// Dst is the destination address.
func (h IPv4) Dst() netip.Addr { return netip.AddrFrom4([4]byte(h[16:20])) }

// Payload is what follows the header, without link-layer padding.
func (h IPv4) Payload() []byte { return h[h.HeaderLen():h.TotalLen()] }

// ChecksumOK verifies the header checksum. The sum being zero does not depend
// on the order of bytes.
func (h IPv4) ChecksumOK() bool {
	if h[0]&0xf > 5 {
		return Fold(Sum(0, h[:h.HeaderLen()])) == 0xffff
	}
	b := (*[IPv4Len]byte)(h)
	s, c := bits.Add64(binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[8:16]), 0)
	s, c = bits.Add64(s, uint64(binary.LittleEndian.Uint32(b[16:20])), c)
	s = s>>32 + s&0xffffffff + c
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return s>>16+s&0xffff == 0xffff
}

// DecrementTTL takes one from the TTL (which is not 0) and updates the checksum
// (RFC 1624: the word TTL and protocol falls by 0x0100).
func (h IPv4) DecrementTTL() {
	h[8]--
	s := uint32(h.Checksum()) + 0x0100
	binary.BigEndian.PutUint16(h[10:12], uint16(s+(s+1)>>16))
}

// SetChecksum computes and writes the header checksum.
func (h IPv4) SetChecksum() {
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:12], Checksum(h[:h.HeaderLen()]))
}

// IPv4 option types (RFC 791, 2113).
const (
	OptEnd         = 0
	OptNop         = 1
	OptLooseSource = 131
	OptStrictSrc   = 137
)

// Options checks the form of the options: ok is false if a length is wrong;
// sourceRoute tells of a loose or strict source route.
func (h IPv4) Options() (sourceRoute, ok bool) {
	o := h[IPv4Len:h.HeaderLen()]
	for len(o) > 0 {
		switch o[0] {
		case OptEnd:
			return sourceRoute, true
		case OptNop:
			o = o[1:]
			continue
		case OptLooseSource, OptStrictSrc:
			sourceRoute = true
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return sourceRoute, false
		}
		o = o[o[1]:]
	}
	return sourceRoute, true
}

// PutIPv4 writes a header without options, checksum included, to b.
func PutIPv4(b []byte, totalLen int, id, flags uint16, tos, ttl, proto uint8, src, dst netip.Addr) {
	b[0], b[1] = 0x45, tos
	binary.BigEndian.PutUint16(b[2:4], uint16(totalLen))
	binary.BigEndian.PutUint16(b[4:6], id)
	binary.BigEndian.PutUint16(b[6:8], flags)
	b[8], b[9] = ttl, proto
	s, d := src.As4(), dst.As4()
	copy(b[12:16], s[:])
	copy(b[16:20], d[:])
	IPv4(b[:IPv4Len]).SetChecksum()
}
