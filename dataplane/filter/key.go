package filter

import (
	"encoding/binary"

	"godwit/dataplane/header"
)

// Key is what rules look at in a packet.
type Key struct {
	Family             uint8 // 4, 6; 0: not IP, or malformed
	Protocol           uint8 // behind extension headers
	DSCP               uint8
	Flags              uint8 // of TCP
	ICMPType           uint8
	Later              bool // a fragment behind the first
	Transport          bool // the ports, or flags, or the type, are there
	VLAN               uint16
	SrcPort, DstPort   uint16
	SrcHi, SrcLo       uint64 // IPv4: in the low 32 bits of Lo
	DstHi, DstLo       uint64
	HopLimit, ICMPCode uint8
}

// Frame reads a key out of an Ethernet frame.
func (k *Key) Frame(f []byte) {
	*k = Key{}
	if len(f) < header.EthernetLen {
		return
	}
	typ, l3 := binary.BigEndian.Uint16(f[12:]), header.EthernetLen
	if typ == header.TypeVLAN && len(f) >= header.EthernetLen+header.VLANLen {
		k.VLAN = binary.BigEndian.Uint16(f[14:]) & 0xfff
		typ, l3 = binary.BigEndian.Uint16(f[16:]), header.EthernetLen+header.VLANLen
	}
	vlan := k.VLAN
	switch typ {
	case header.TypeIPv4:
		k.IPv4(f[l3:])
	case header.TypeIPv6:
		k.IPv6(f[l3:])
	}
	k.VLAN = vlan
}

// IPv4 reads a key out of an IPv4 packet.
func (k *Key) IPv4(b []byte) {
	*k = Key{}
	h := header.IPv4(b)
	if !h.IsValid() {
		return
	}
	k.Family, k.Protocol, k.DSCP, k.HopLimit = 4, h.Protocol(), h.TOS()>>2, h.TTL()
	k.SrcLo, k.DstLo = uint64(h.Src32()), uint64(h.Dst32())
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		k.Later = true
		return
	}
	k.transport(h.Payload())
}

// extensions is how many extension headers are followed; a packet with more has no ports.
const extensions = 8

// IPv6 reads a key out of an IPv6 packet.
func (k *Key) IPv6(b []byte) {
	*k = Key{}
	h := header.IPv6(b)
	if !h.IsValid() {
		return
	}
	k.Family, k.Protocol, k.HopLimit = 6, h.NextHeader(), h.HopLimit()
	k.DSCP = uint8(binary.BigEndian.Uint16(b)>>6) & 63
	k.SrcHi, k.SrcLo = h.Src64()
	k.DstHi, k.DstLo = h.Dst64()
	b = b[header.IPv6Len:h.TotalLen()]
	for range extensions {
		switch k.Protocol {
		case header.ProtoHopByHop, header.ProtoRouting, header.ProtoDestOpts:
			if len(b) < 8 || len(b) < 8+int(b[1])*8 {
				return
			}
			k.Protocol, b = b[0], b[8+int(b[1])*8:]
		case header.ProtoFragment:
			if len(b) < 8 {
				return
			}
			k.Protocol = b[0]
			if binary.BigEndian.Uint16(b[2:])>>3 != 0 {
				k.Later = true
				return
			}
			b = b[8:]
		default:
			k.transport(b)
			return
		}
	}
}

func (k *Key) transport(b []byte) {
	switch k.Protocol {
	case header.ProtoTCP:
		if len(b) >= 14 {
			k.Transport, k.Flags = true, b[13]
			k.SrcPort, k.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case header.ProtoUDP, header.ProtoSCTP:
		if len(b) >= 4 {
			k.Transport = true
			k.SrcPort, k.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case header.ProtoICMP, header.ProtoICMPv6:
		if len(b) >= 2 {
			k.Transport, k.ICMPType, k.ICMPCode = true, b[0], b[1]
		}
	}
}

// ports tells that the packet has ports, here.
func (k *Key) ports() bool {
	return k.Transport && k.Protocol != header.ProtoICMP && k.Protocol != header.ProtoICMPv6
}
