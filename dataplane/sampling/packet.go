package sampling

import (
	"encoding/binary"
	"net/netip"

	"godwit/dataplane/header"
)

// Packet is what the first bytes of a frame tell of it; what is not there is zero.
type Packet struct {
	Tagged           bool
	VLAN             uint16
	Priority         uint8
	Type             uint16 // EtherType, behind a tag
	L3               int    // offset of the IP header
	Src, Dst         netip.Addr
	Protocol         uint8 // behind extension headers
	TOS              uint8
	Length           uint16 // of the IP packet
	SrcPort, DstPort uint16
	TCPFlags         uint8
}

// Decode reads a frame that may be cut off anywhere.
func Decode(f []byte) (p Packet) {
	if len(f) < header.EthernetLen {
		return p
	}
	p.Type, p.L3 = binary.BigEndian.Uint16(f[12:]), header.EthernetLen
	if p.Type == header.TypeVLAN && len(f) >= header.EthernetLen+header.VLANLen {
		tci := binary.BigEndian.Uint16(f[14:])
		p.Tagged, p.VLAN, p.Priority = true, tci&0xfff, uint8(tci>>13)
		p.Type, p.L3 = binary.BigEndian.Uint16(f[16:]), header.EthernetLen+header.VLANLen
	}
	b := f[p.L3:]
	switch {
	case p.Type == header.TypeIPv4 && len(b) >= header.IPv4Len && b[0]>>4 == 4:
		p.decode4(b)
	case p.Type == header.TypeIPv6 && len(b) >= header.IPv6Len && b[0]>>4 == 6:
		p.decode6(b)
	}
	return p
}

func (p *Packet) decode4(b []byte) {
	h := header.IPv4(b)
	p.Src, p.Dst, p.Protocol, p.TOS, p.Length = h.Src(), h.Dst(), h.Protocol(), h.TOS(), uint16(h.TotalLen())
	if hl := h.HeaderLen(); h.FragmentOffset() == 0 && hl >= header.IPv4Len && len(b) >= hl {
		p.transport(b[hl:])
	}
}

// decode6 follows extension headers as far as there are bytes, eight at most.
func (p *Packet) decode6(b []byte) {
	h := header.IPv6(b)
	p.Src, p.Dst, p.Protocol = h.Src(), h.Dst(), h.NextHeader()
	p.TOS, p.Length = uint8(binary.BigEndian.Uint16(b)>>4), uint16(min(h.TotalLen(), 65535))
	b = b[header.IPv6Len:]
	for range 8 {
		switch p.Protocol {
		case header.ProtoHopByHop, header.ProtoRouting, header.ProtoDestOpts:
			if len(b) < 8 || len(b) < 8+int(b[1])*8 {
				return
			}
			p.Protocol, b = b[0], b[8+int(b[1])*8:]
		case header.ProtoFragment:
			if len(b) < 8 {
				return
			}
			p.Protocol = b[0]
			if binary.BigEndian.Uint16(b[2:])>>3 != 0 {
				return
			}
			b = b[8:]
		default:
			p.transport(b)
			return
		}
	}
}

// transport reads ports and flags.
func (p *Packet) transport(b []byte) {
	switch p.Protocol {
	case header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP:
	default:
		return
	}
	if len(b) < 4 {
		return
	}
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if p.Protocol == header.ProtoTCP && len(b) >= 14 {
		p.TCPFlags = b[13]
	}
}
