package header

import "encoding/binary"

// Sizes of link-layer headers, bytes.
const (
	EthernetLen = 14
	VLANLen     = 4 // what an 802.1Q tag adds
)

// EtherTypes.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100 // 802.1Q C-tag
	TypeQinQ = 0x88a8 // 802.1ad S-tag
	TypeIPv6 = 0x86dd
	// MinEtherType: smaller values are lengths of 802.3 frames (LLC: STP, IS-IS).
	MinEtherType = 0x0600
)

// MAC is a 48-bit address.
type MAC = [6]byte

// Broadcast is the broadcast MAC address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Unicast tells that the address is one station's: not group, not zero.
func Unicast(m MAC) bool { return m[0]&1 == 0 && m != MAC{} }

// Ethernet is a view of an Ethernet II header.
type Ethernet []byte

// IsValid tells that the header is whole.
func (e Ethernet) IsValid() bool { return len(e) >= EthernetLen }

// Dst is the destination MAC address.
func (e Ethernet) Dst() MAC { return MAC(e[0:6]) }

// Src is the source MAC address.
func (e Ethernet) Src() MAC { return MAC(e[6:12]) }

// Dst48 is the destination as a number, for comparing.
func (e Ethernet) Dst48() uint64 { return binary.BigEndian.Uint64(e[0:8]) >> 16 }

// Group tells that the destination is a multicast or the broadcast address.
func (e Ethernet) Group() bool { return e[0]&1 != 0 }

// Type is the EtherType, or the tag's TPID.
func (e Ethernet) Type() uint16 { return binary.BigEndian.Uint16(e[12:14]) }

// MAC48 makes a number of a MAC address, as Dst48 does.
func MAC48(m MAC) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(binary.BigEndian.Uint32(m[2:]))
}

// PutEthernet writes an Ethernet header to b.
func PutEthernet(b []byte, dst, src MAC, typ uint16) {
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
	binary.BigEndian.PutUint16(b[12:14], typ)
}
