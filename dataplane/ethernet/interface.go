package ethernet

import (
	"net/netip"

	"godwit/dataplane/guard"
	"godwit/fib"
)

// Interface is one routed interface of this card, as plain values.
type Interface struct {
	ID        fib.InterfaceID
	Name      string
	Port      fib.PortID
	VLAN      uint16 // 802.1Q tag, 0: untagged
	VRF       fib.VRF
	MTU       int // of the IP packet, bytes
	MAC       [6]byte
	Addresses []netip.Prefix // with host bits; includes the IPv6 link-local address
	Up        bool
	Ingress   *guard.Policy // of received packets; nil: none
	Egress    *guard.Policy // of sent ones
	Sample    uint32        // one of so many received frames is sampled; 0: none
	ProxyARP  bool          // answer for addresses that are reached through other interfaces (RFC 1027)
}
