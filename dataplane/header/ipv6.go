package header

import (
	"encoding/binary"
	"net/netip"
)

// IPv6Len is the length of the fixed IPv6 header, bytes.
const IPv6Len = 40

// IPv6 is a view of an IPv6 packet.
type IPv6 []byte

// IsValid tells that version and payload length fit the slice.
func (h IPv6) IsValid() bool {
	return len(h) >= IPv6Len && h[0]>>4 == 6 && h.TotalLen() <= len(h)
}

// TotalLen is the length of the packet, bytes.
func (h IPv6) TotalLen() int { return IPv6Len + int(binary.BigEndian.Uint16(h[4:6])) }

// FlowLabel is the flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h[0:4]) & 0xfffff }

// NextHeader is the type of the first header behind the fixed one.
func (h IPv6) NextHeader() uint8 { return h[6] }

// HopLimit is the hop limit.
func (h IPv6) HopLimit() uint8 { return h[7] }

// Src64 is the source address as two numbers.
func (h IPv6) Src64() (hi, lo uint64) {
	return binary.BigEndian.Uint64(h[8:16]), binary.BigEndian.Uint64(h[16:24])
}

// Dst64 is the destination address as two numbers.
func (h IPv6) Dst64() (hi, lo uint64) {
	return binary.BigEndian.Uint64(h[24:32]), binary.BigEndian.Uint64(h[32:40])
}

// Src is the source address.
func (h IPv6) Src() netip.Addr { return netip.AddrFrom16([16]byte(h[8:24])) }

// Dst is the destination address.
func (h IPv6) Dst() netip.Addr { return netip.AddrFrom16([16]byte(h[24:40])) }

// Transport finds the upper-layer header behind extension headers: its
// protocol and its offset in h. A fragment other than the first, or a chain
// that does not fit, has ok false.
func (h IPv6) Transport() (proto uint8, off int, ok bool) {
	proto, off = h.NextHeader(), IPv6Len
	end := h.TotalLen()
	for range 8 { // more extension headers than a sane packet has
		switch proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts:
			if off+8 > end {
				return proto, off, false
			}
			proto, off = h[off], off+8+int(h[off+1])*8
		case ProtoFragment:
			if off+8 > end || binary.BigEndian.Uint16(h[off+2:])&0xfff8 != 0 {
				return proto, off, false
			}
			proto, off = h[off], off+8
		default:
			return proto, off, off <= end
		}
	}
	return proto, off, false
}

// PutIPv6 writes a fixed header to b.
func PutIPv6(b []byte, payload int, class, next, hops uint8, src, dst netip.Addr) {
	binary.BigEndian.PutUint32(b[0:4], 6<<28|uint32(class)<<20)
	binary.BigEndian.PutUint16(b[4:6], uint16(payload))
	b[6], b[7] = next, hops
	s, d := src.As16(), dst.As16()
	copy(b[8:24], s[:])
	copy(b[24:40], d[:])
}
