// Package graph holds what the packet nodes share: packets and their pool,
// vectors, nodes, ports, and drop reasons.
//
// Ownership: a Pool belongs to one worker and is not safe for others. A Packet
// belongs to exactly one of: the pool's free list, a port's ring (fill, RX, TX,
// completion), or the code that took it from Rx or Get. Whoever holds it must
// hand it on: to Tx (which owns it from then on, whatever happens), or back to
// the Pool with Put.
package graph

import (
	"time"

	"godwit/fib"
)

// VectorSize is the most packets a vector holds: batches of 32 to 64 measured best.
const VectorSize = 64

// Packet is one frame in a buffer of a Pool, with what nodes learn about it.
// It fills one cache line.
type Packet struct {
	// Data is the frame, from the Ethernet header; it lies in the buffer.
	Data []byte
	// addr is the buffer's offset in the pool's memory.
	addr uint64

	// Set by the port, then by nodes; meaning only between nodes of one pass.
	Port   fib.PortID      // ingress port
	In     fib.InterfaceID // ingress interface
	Out    fib.InterfaceID // egress interface
	VRF    fib.VRF
	Group  uint32 // result of the lookup
	L3     uint16 // offset of the IP header in Data
	InSlot uint16 // dense number of In on this card, from 1; 0: no ingress interface here
	Flags  Flags
}

// Flags are what nodes remember of a packet.
type Flags uint8

// The flags.
const (
	// LinkGroup: received with a multicast or broadcast MAC address.
	LinkGroup Flags = 1 << iota
	// FromHost: made by the router itself: no TTL check, no TTL decrement.
	FromHost
	// Transit: looked up and counted down by another card.
	Transit
)

// Vector is a batch of packets. The slots behind N are undefined.
type Vector struct {
	N int
	P [VectorSize]*Packet
}

// Push appends a packet; the caller has checked that N < VectorSize.
func (v *Vector) Push(p *Packet) { v.P[v.N] = p; v.N++ }

// Port moves frames between a worker and one port's queues (of this worker).
// Every kind has the same behaviour: dataplane/xdp, dataplane/afpacket,
// dataplane/porttest.
type Port interface {
	ID() fib.PortID
	// Rx appends received packets to v until it is full or nothing waits; it
	// never blocks. It also refills what the port receives into.
	Rx(v *Vector) error
	// Tx owns all packets of v and empties it. What the port can't take is
	// counted and put back into the pool. Frames may leave later, at Flush.
	Tx(v *Vector) error
	// Flush kicks transmission where needed and reclaims sent buffers; called
	// once per worker round.
	Flush() error
	Close() error
}

// Poller is a Port that can be waited for.
type Poller interface {
	// Fds appends the descriptors whose readability means that Rx has work.
	Fds(fds []int) []int
}

// BusyPoller is a Port that may be worth asking again for some time after a packet,
// before its worker sleeps.
type BusyPoller interface {
	BusyPoll() time.Duration
}

// Node processes packets of a vector: no lock, no allocation, no block.
type Node interface {
	Name() string
	Nexts() []string
	Process(*Vector)
}
