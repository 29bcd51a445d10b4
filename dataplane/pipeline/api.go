package pipeline

import (
	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// Interface is one routed interface of this card.
type Interface = ethernet.Interface

// FabricHeader goes with a packet that another card has looked up.
type FabricHeader struct {
	VRF     fib.VRF
	Out     fib.InterfaceID // egress interface, on the receiving card
	NextHop [16]byte        // the neighbour; IPv4 in mapped form (netip.Addr.As16)
}

// Sink is where one worker's pipeline puts packets. Every method takes
// ownership of the packets and never blocks.
type Sink interface {
	// Tx sends the frames of v, all for one port, and empties v.
	// Each frame's Out is its egress interface.
	Tx(port fib.PortID, v *graph.Vector)
	// Fabric hands a packet to another card; Data is the IP packet.
	Fabric(card fib.CardID, p *graph.Packet, h FabricHeader)
	// Punt hands a packet, already policed, to the slow path.
	punt.Sink
}

// Counters counts packets and bytes of one interface on one worker.
type Counters = graph.InterfaceCounters

// EffectKind says what the card shall do with an Effect.
type EffectKind uint8

// The kinds of effects.
const (
	// Send: Data is an untagged Ethernet frame to go out of Interface: hand it
	// to a worker's Pipeline.Inject.
	Send EffectKind = iota + 1
	// Route: Data is an IP packet of VRF made by the router: hand it to a
	// worker's Pipeline.HostInput. Interface, if not 0, is the egress
	// interface of a link-local destination (Packet.Out).
	Route
	// Deliver: Data is an untagged frame for the TAP of Interface. It may alias the
	// frame given to Punted.
	Deliver
	// Notice: Text is worth an operator's attention (rate-limited).
	Notice
)

// Effect is something the slow path wants done.
type Effect struct {
	Kind      EffectKind
	Interface fib.InterfaceID
	VRF       fib.VRF
	Data      []byte
	Text      string
}

// StaticNeighbor is a configured ARP or ND entry.
type StaticNeighbor = neigh.Static
