// Package fib is the vocabulary of forwarding: VRFs, interfaces, next hops,
// next-hop groups, routes, and the changes that carry them from a RIB to a
// line card. It holds nouns only and imports nothing but the standard library;
// the tables themselves are in fib/patricia.
package fib

import (
	"errors"
	"fmt"
	"net/netip"
)

// VRF identifies a virtual routing and forwarding instance, chassis-wide.
// 0 is the default VRF. Numbers are assigned by the configuration and stay the
// same while the VRF exists.
type VRF uint32

// DefaultVRF is the VRF of interfaces that name none.
const DefaultVRF VRF = 0

// CardID identifies a line card. 0 is no card.
type CardID uint16

// PortID identifies a physical port, chassis-wide: card number in the upper
// 16 bits, port number on the card in the lower.
type PortID uint32

// MakePortID joins a card and the port's number on it.
func MakePortID(card CardID, n uint16) PortID { return PortID(card)<<16 | PortID(n) }

// Card tells which line card owns the port.
func (p PortID) Card() CardID { return CardID(p >> 16) }

// InterfaceID identifies a routed interface (a port, or a VLAN on a port),
// chassis-wide, in the same form as PortID: card number in the upper 16 bits.
// 0 is no interface.
type InterfaceID uint32

// MakeInterfaceID joins a card and the interface's number on it (from 1).
func MakeInterfaceID(card CardID, n uint16) InterfaceID {
	return InterfaceID(card)<<16 | InterfaceID(n)
}

// Card tells which line card owns the interface.
func (i InterfaceID) Card() CardID { return CardID(i >> 16) }

// GroupID names a next-hop group within one epoch of one publisher. 0 is no
// group.
type GroupID uint32

// NextHop is one member of a group: an interface and the neighbour behind it.
type NextHop struct {
	// Interface is the egress interface.
	Interface InterfaceID
	// Gateway is the neighbour's address, without a zone. Invalid (the zero
	// Addr) means that the destination itself is the neighbour (a connected
	// prefix: glean).
	Gateway netip.Addr
	// Weight is the member's share of the flows, from 1; 0 means 1.
	Weight uint8
	// Backup members carry flows only while no other member can.
	Backup bool
}

// HashFields says what a flow hash looks at besides addresses and protocol. The
// zero value is the 5-tuple: the ports of TCP, UDP and SCTP.
type HashFields uint8

// The fields.
const (
	HashNoPorts HashFields = 1 << iota // the 3-tuple
	HashLabel                          // the IPv6 flow label (RFC 6438)
)

func (f HashFields) String() string {
	s := "5-tuple"
	if f&HashNoPorts != 0 {
		s = "3-tuple"
	}
	if f&HashLabel != 0 {
		s += " and flow label"
	}
	return s
}

// Kind says what a group does with a packet.
type Kind uint8

// The kinds of groups.
const (
	Forward   Kind = iota // to one of the next hops
	Local                 // to the router itself: punt to the interface's host stack
	Blackhole             // drop silently
	Reject                // drop, answer with ICMP unreachable (administratively prohibited)
)

var kindNames = [...]string{"forward", "local", "blackhole", "reject"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Group is a next-hop group: what many routes share. Routes carry its ID only,
// so a lost next hop changes one group and no route (prefix-independent
// convergence).
type Group struct {
	ID       GroupID
	Kind     Kind
	NextHops []NextHop // Forward only: at least one, at most MaxNextHops
}

// MaxNextHops bounds the members of a group.
const MaxNextHops = 64

// Route is one prefix of one VRF and the group that serves it.
type Route struct {
	VRF    VRF
	Prefix netip.Prefix // masked; IPv4 as 4 bytes, never IPv4-mapped
	Group  GroupID
}

// Op is what a Change does.
type Op uint8

// The operations of a Change.
const (
	SetGroup    Op = iota + 1 // Group: create or replace
	DeleteGroup               // Group.ID: must not be in use by a route of this epoch
	SetRoute                  // Route: create or replace; its group exists
	DeleteRoute               // Route.VRF and Route.Prefix; deleting what is not there is not an error
)

var opNames = [...]string{"op(0)", "set-group", "delete-group", "set-route", "delete-route"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Change sets or deletes one group or one route.
type Change struct {
	Op    Op
	Group Group // SetGroup, DeleteGroup
	Route Route // SetRoute, DeleteRoute
}

// Batch is a run of changes that is applied whole or not at all.
//
//  1. Seq counts from 1 within an epoch, without gaps.
//  2. A batch of a higher epoch than the last one opens a replay: nothing is
//     removed, group IDs start a new name space, routes of the old epoch go on
//     forwarding through their old groups until replaced.
//  3. A batch with Sweep set ends the replay: after its changes, every route
//     and group that this epoch has not set is removed.
//  4. A batch of a lower epoch, or out of sequence, is refused with ErrOutOfSequence.
type Batch struct {
	Epoch   uint32
	Seq     uint64
	Sweep   bool
	Changes []Change
}

// Applier takes batches in order: fib/patricia tables, a line card, a recorder.
type Applier interface {
	// Apply applies the batch whole or, with an error, not at all.
	Apply(Batch) error
}

// Errors of an Applier.
var (
	ErrOutOfSequence = errors.New("batch out of sequence")
	ErrUnknownGroup  = errors.New("unknown next-hop group")
	ErrGroupInUse    = errors.New("next-hop group in use")
	ErrBadRoute      = errors.New("bad route")
	ErrBadGroup      = errors.New("bad next-hop group")
)

// Validate checks the shape of a change: masked prefix, plain IPv4, group kind
// and members. It does not know what exists.
func (c *Change) Validate() error {
	switch c.Op {
	case SetGroup:
		return c.Group.validate()
	case DeleteGroup:
		if c.Group.ID == 0 {
			return fmt.Errorf("%w: id 0", ErrBadGroup)
		}
		return nil
	case SetRoute, DeleteRoute:
		return c.Route.validate(c.Op == SetRoute)
	}
	return fmt.Errorf("unknown operation %d", c.Op)
}

func (g *Group) validate() error {
	switch {
	case g.ID == 0:
		return fmt.Errorf("%w: id 0", ErrBadGroup)
	case g.Kind > Reject:
		return fmt.Errorf("%w %d: %v", ErrBadGroup, g.ID, g.Kind)
	case g.Kind == Forward && (len(g.NextHops) == 0 || len(g.NextHops) > MaxNextHops):
		return fmt.Errorf("%w %d: %d next hops, want 1 to %d", ErrBadGroup, g.ID, len(g.NextHops), MaxNextHops)
	case g.Kind != Forward && len(g.NextHops) > 0:
		return fmt.Errorf("%w %d: %v with next hops", ErrBadGroup, g.ID, g.Kind)
	}
	for _, nh := range g.NextHops {
		if nh.Interface == 0 {
			return fmt.Errorf("%w %d: next hop without interface", ErrBadGroup, g.ID)
		}
		if nh.Gateway.Is4In6() || nh.Gateway.Zone() != "" {
			return fmt.Errorf("%w %d: gateway %v is IPv4-mapped or zoned", ErrBadGroup, g.ID, nh.Gateway)
		}
	}
	return nil
}

func (r *Route) validate(set bool) error {
	switch {
	case !r.Prefix.IsValid():
		return fmt.Errorf("%w: invalid prefix", ErrBadRoute)
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("%w %v: host bits set", ErrBadRoute, r.Prefix)
	case r.Prefix.Addr().Is4In6():
		return fmt.Errorf("%w %v: IPv4-mapped", ErrBadRoute, r.Prefix)
	case set && r.Group == 0:
		return fmt.Errorf("%w %v: no group", ErrBadRoute, r.Prefix)
	}
	return nil
}
