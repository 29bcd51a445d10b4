package header

import (
	"encoding/binary"
	"net/netip"
)

// ARPLen is the length of an ARP packet for IPv4 over Ethernet, bytes.
const ARPLen = 28

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a view of an ARP packet (RFC 826).
type ARP []byte

// IsValid tells that it is a whole request or reply for IPv4 over Ethernet.
func (a ARP) IsValid() bool {
	return len(a) >= ARPLen && binary.BigEndian.Uint64(a[0:8])>>16 == 0x0001_0800_0604 &&
		(a.Op() == ARPRequest || a.Op() == ARPReply)
}

// Op is the operation.
func (a ARP) Op() uint16 { return binary.BigEndian.Uint16(a[6:8]) }

// SenderMAC is the sender's hardware address.
func (a ARP) SenderMAC() MAC { return MAC(a[8:14]) }

// Sender is the sender's protocol address.
func (a ARP) Sender() netip.Addr { return netip.AddrFrom4([4]byte(a[14:18])) }

// TargetMAC is the target's hardware address.
func (a ARP) TargetMAC() MAC { return MAC(a[18:24]) }

// Target is the target's protocol address.
func (a ARP) Target() netip.Addr { return netip.AddrFrom4([4]byte(a[24:28])) }

// PutARP writes an ARP packet to b.
func PutARP(b []byte, op uint16, smac MAC, sender netip.Addr, tmac MAC, target netip.Addr) {
	copy(b, []byte{0, 1, 8, 0, 6, 4})
	binary.BigEndian.PutUint16(b[6:8], op)
	s, t := sender.As4(), target.As4()
	copy(b[8:14], smac[:])
	copy(b[14:18], s[:])
	copy(b[18:24], tmac[:])
	copy(b[24:28], t[:])
}
