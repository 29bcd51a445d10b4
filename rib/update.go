package rib

import (
	"fmt"
	"net/netip"

	"godwit/fib"
)

// Protocol is where a route comes from. The order is the one of step 3 of the
// decision.
type Protocol uint8

// The protocols.
const (
	Local     Protocol = iota + 1 // an address of the router itself
	Connected                     // a subnet of an interface
	Static                        // configured
	BGP                           // from the VRF's speaker
	numProtocols
)

var protocolNames = [...]string{"none", "local", "connected", "static", "bgp"}

func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ParseProtocol reads the name of a protocol.
func ParseProtocol(s string) (Protocol, bool) {
	for p := Local; p < numProtocols; p++ {
		if protocolNames[p] == s {
			return p, true
		}
	}
	return 0, false
}

// The administrative distances of protocols that can't be told otherwise.
const (
	DistanceConnected = 0
	DistanceStatic    = 1 // where a static route names none
	DistanceEBGP      = 20
	DistanceIBGP      = 200
)

// Update is one of the types below.
type Update interface{ apply(*Table) error }

// AddVRF makes a VRF; one that exists stays as it is.
type AddVRF struct{ VRF fib.VRF }

// RemoveVRF removes a VRF and its routes; large tables go in slices (see More).
type RemoveVRF struct{ VRF fib.VRF }

// SetInterface makes or replaces an interface: its connected and local routes.
type SetInterface struct{ Interface Interface }

// RemoveInterface removes one.
type RemoveInterface struct{ ID fib.InterfaceID }

// Interface is a routed interface as the RIB sees it.
type Interface struct {
	ID        fib.InterfaceID
	Name      string
	VRF       fib.VRF
	Up        bool
	Addresses []netip.Prefix // with host bits
}

// SetStatic makes or replaces the static route of a prefix and distance.
type SetStatic struct {
	VRF   fib.VRF
	Route StaticRoute
}

// DeleteStatic deletes one.
type DeleteStatic struct {
	VRF      fib.VRF
	Prefix   netip.Prefix
	Distance uint8 // 0: DistanceStatic
}

// StaticRoute is a configured route.
type StaticRoute struct {
	Prefix   netip.Prefix
	Distance uint8 // 0: DistanceStatic
	Tag      uint32
	Kind     fib.Kind // Forward, Blackhole or Reject
	Vias     []Via    // Forward: 1 to fib.MaxNextHops
	// Tracks are addresses and interfaces that all have to be reachable, or up, for
	// the route to be usable; weights do not count.
	Tracks []Via
}

// Via is one next hop as a protocol says it: an address that is resolved
// through other routes, an interface, or an address on an interface.
type Via struct {
	Address   netip.Addr
	Interface fib.InterfaceID
	Weight    uint8   // 0: 1
	Backup    bool    // used while no other next hop of the route leads anywhere
	Foreign   bool    // the next hop is in VRF, not in the route's
	VRF       fib.VRF // with Foreign
}

// BGPRoutes sets or withdraws the best paths of prefixes, in order.
type BGPRoutes struct {
	VRF    fib.VRF
	Routes []BGPRoute
}

// BGPRoute is one prefix and its best paths, the best first; none: withdrawn.
// The Table keeps no reference to Paths.
type BGPRoute struct {
	Prefix netip.Prefix
	Paths  []Path
}

// Path is a BGP path.
type Path struct {
	NextHop   netip.Addr
	Interface fib.InterfaceID // of a link-local next hop
	Peer      netip.Addr
	PeerAS    uint32
	MED       uint32
	LocalPref uint32
	ASPathLen uint16
	Internal  bool // from a peer in our own AS
	// Communities are those that filters name, in order and with spaces between.
	Communities string
}

// MarkStale marks all routes of a protocol: they stay in use until they are
// set again, withdrawn, or swept.
type MarkStale struct {
	VRF      fib.VRF
	Protocol Protocol
}

// Sweep removes the routes that are still marked, in slices (see More).
type Sweep struct {
	VRF      fib.VRF
	Protocol Protocol
}

// BestChange tells that the chosen route of a prefix changed, where the old or
// the new one is connected, static, or leaked from another VRF.
type BestChange struct {
	VRF      fib.VRF
	Prefix   netip.Prefix
	Protocol Protocol // 0: gone, or another protocol's now
	Leaked   bool     // from another VRF, where Protocol has it
	Tag      uint32
}
