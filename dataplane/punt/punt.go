// Package punt is the way from the workers' fast path to the slow path: why a
// packet leaves the fast path, the classes in which such packets are policed
// (control-plane protection, on by default), and the lock-free policers.
package punt

import (
	"fmt"
	"net/netip"

	"godwit/dataplane/graph"
	"godwit/fib"
)

// Class is a policer class: packets of one class compete with each other only.
type Class uint8

// The classes.
const (
	ARP         Class = iota
	ND                // neighbour and router discovery
	LocalBGP          // to the router: TCP port 179
	LocalICMP         // to the router: ICMP, ICMPv6 but ND
	LocalOther        // to the router: the rest
	Exception         // to be answered with an ICMP error, or to be fragmented
	Unresolved        // waits for the neighbour's link-layer address
	Multicast         // link-local multicast and broadcast for the host stack
	BFD               // of a neighbour on the link: its TTL says so
	BFDMultihop       // of a neighbour further away
	NumClasses
)

var classNames = [NumClasses]string{"arp", "nd", "local-bgp", "local-icmp", "local-other", "exception", "unresolved", "multicast", "bfd", "bfd-multihop"}

func (c Class) String() string {
	if c < NumClasses {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Reason says what the slow path is asked to do with a packet.
type Reason uint8

// The reasons.
const (
	ToARP          Reason = iota // an ARP packet
	ToND                         // an ND packet
	ToLocal                      // deliver to the host stack
	ToGroup                      // deliver to the host stack: multicast or broadcast
	NeedNeighbor                 // resolve NextHop on Out, then send
	NeighborFailed               // ICMP: host (address) unreachable
	TTLExpired                   // ICMP: time exceeded
	TooBig                       // fragment for MTU, or ICMP: fragmentation needed, packet too big
	NoRoute                      // ICMP: net unreachable, no route
	Rejected                     // ICMP: administratively prohibited
	BeyondScope                  // ICMPv6: beyond scope of source address
	ToBFD                        // BFD for the router: to the card's sessions, not to the slow path
	NumReasons
)

var reasonNames = [NumReasons]string{"arp", "nd", "local", "group", "need-neighbor", "neighbor-failed",
	"ttl-expired", "too-big", "no-route", "rejected", "beyond-scope", "bfd"}

func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Meta goes with a punted packet.
type Meta struct {
	Reason  Reason
	Class   Class
	L3      uint16 // offset of the IP header, or the ARP packet, in the frame; 0: there is no Ethernet header
	MTU     uint16 // TooBig: of the egress interface
	VRF     fib.VRF
	Host    bool            // made by the router's own host stack
	In      fib.InterfaceID // ingress; 0: from the host stack or another card
	Out     fib.InterfaceID // egress, where it is known
	NextHop netip.Addr      // NeedNeighbor, NeighborFailed: the neighbour on Out
}

// Deliver tells that the host stack is the packet's only destination: the
// frame, without a tag, goes to the TAP of the interface In and nowhere else.
func (m *Meta) Deliver() bool { return m.Reason == ToLocal || m.Reason == ToGroup }

// Sink takes packets out of a worker. It owns p from the call on and never
// blocks: what it can't take it counts and puts back into the pool.
type Sink interface {
	Punt(p *graph.Packet, m Meta)
}
