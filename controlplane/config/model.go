// Package config is the router's configuration: one strict YAML file, parsed
// with line and column, validated whole, printed back to itself, and compared
// with what runs. Its types stop at controlplane/router.
package config

import (
	"net/netip"
	"time"
)

// Config is one configuration. configs/reference.yaml explains every key.
type Config struct {
	System      System       `yaml:"system"`
	Cards       []Card       `yaml:"cards"`
	PrefixLists []PrefixList `yaml:"prefix-lists,omitempty"`
	ACLs        []ACL        `yaml:"acls,omitempty"`
	Sampling    *Sampling    `yaml:"sampling,omitempty"`
	Mirrors     []Mirror     `yaml:"mirrors,omitempty"`
	VRFs        []VRF        `yaml:"vrfs"`
	Interfaces  []Interface  `yaml:"interfaces"`
}

// System is what concerns the whole router.
type System struct {
	Hostname string `yaml:"hostname"`
	Trust    string `yaml:"trust,omitempty"` // directory of the keys that modules must be signed with
	// Management says who may ask; nil: root, on the local socket.
	Management *Management `yaml:"management,omitempty"`
	// Cluster makes this machine one of several; nil: a router of one machine.
	Cluster *Cluster `yaml:"cluster,omitempty"`
	// Forwarding is how flows are told apart, in VRFs that do not say.
	Forwarding Forwarding `yaml:"forwarding,omitempty"`
	// Express lets ports forward plain transit in the kernel, where they can; default false.
	Express *bool `yaml:"express,omitempty"`
}

// Forwarding says what the flow hash looks at, where several next hops share the flows.
type Forwarding struct {
	Hash      string `yaml:"hash,omitempty"`       // 5-tuple (default), 3-tuple
	FlowLabel *bool  `yaml:"flow-label,omitempty"` // IPv6: the flow label, too; default false
}

// Card is one line card: a process that forwards.
type Card struct {
	ID      uint16 `yaml:"id"`                // from 1
	Node    uint16 `yaml:"node,omitempty"`    // of the cluster that it runs on; default: this one
	Workers int    `yaml:"workers,omitempty"` // default 1
	// Cores are the processor cores of the workers, in turn; default: any.
	Cores []int  `yaml:"cores,omitempty"`
	Ports []Port `yaml:"ports,omitempty"` // only where a port needs settings; interfaces name devices
}

// Port holds settings of one device.
type Port struct {
	Device string `yaml:"device"`
	Mode   string `yaml:"mode,omitempty"` // auto (default), native, generic, afpacket
	Queues int    `yaml:"queues,omitempty"`
	// Express, if given, is the port's own choice in place of the system's.
	Express *bool `yaml:"express,omitempty"`
	// BusyPoll is for how long after a packet the worker polls the driver before it sleeps; default: it sleeps at once.
	BusyPoll time.Duration `yaml:"busy-poll,omitempty"`
	// BusyBudget is how many frames the driver handles in one poll; default 64.
	BusyBudget int `yaml:"busy-poll-budget,omitempty"`
}

// Interface is a routed interface: a device, or a VLAN on it.
type Interface struct {
	Name        string         `yaml:"name"` // up to 15 characters: also the name of its TAP
	Description string         `yaml:"description,omitempty"`
	Card        uint16         `yaml:"card"`
	Device      string         `yaml:"device"`
	VLAN        uint16         `yaml:"vlan,omitempty"`
	VRF         string         `yaml:"vrf,omitempty"` // empty: "default"
	Addresses   []netip.Prefix `yaml:"addresses"`
	MTU         int            `yaml:"mtu,omitempty"` // default 1500
	Shutdown    bool           `yaml:"shutdown,omitempty"`
	ProxyARP    bool           `yaml:"proxy-arp,omitempty"`    // answer ARP for what is reached through other interfaces
	Neighbors   []Neighbor     `yaml:"neighbors,omitempty"`    // static ARP and ND entries
	ACLIn       string         `yaml:"acl-in,omitempty"`       // ACL for received packets
	ACLOut      string         `yaml:"acl-out,omitempty"`      // and for packets that leave
	SourceCheck string         `yaml:"source-check,omitempty"` // of received packets (RFC 3704): strict, loose
	PolicerIn   *Policer       `yaml:"policer-in,omitempty"`
	PolicerOut  *Policer       `yaml:"policer-out,omitempty"`
	Sampling    uint32         `yaml:"sampling,omitempty"` // one of so many received frames is sampled; 0: none
}

// Neighbor is a static ARP or ND entry.
type Neighbor struct {
	Address netip.Addr `yaml:"address"`
	MAC     string     `yaml:"mac"`
}

// VRF is one routing instance. "default" exists without being listed.
type VRF struct {
	Name             string     `yaml:"name"`
	ID               uint32     `yaml:"id,omitempty"` // default: made from the name
	ResolveByDefault bool       `yaml:"resolve-by-default,omitempty"`
	Distances        Distances  `yaml:"distances,omitempty"`
	Forwarding       Forwarding `yaml:"forwarding,omitempty"` // default: the system's
	Limit            RouteLimit `yaml:"limit,omitempty"`
	Import           []Leak     `yaml:"import,omitempty"`
	Export           []Leak     `yaml:"export,omitempty"`
	Static           []Static   `yaml:"static,omitempty"`
	BGP              *BGP       `yaml:"bgp,omitempty"`
}

// Distances are the administrative distances of a VRF's protocols; 0 is the default.
type Distances struct {
	Static uint8 `yaml:"static,omitempty"`
	EBGP   uint8 `yaml:"ebgp,omitempty"`
	IBGP   uint8 `yaml:"ibgp,omitempty"`
}

// RouteLimit bounds the prefixes of a VRF, both families together.
type RouteLimit struct {
	Routes uint32 `yaml:"routes,omitempty"` // 0: no limit
	Warn   uint8  `yaml:"warn,omitempty"`   // percent
	Action string `yaml:"action,omitempty"` // warn (default), refuse
}

// Leak says which routes a VRF gives to others, or takes from them: those of
// VRFs that export a target go to VRFs that import it, as far as both filters
// let them. Alone, the target may be written without its key.
type Leak struct {
	Target     string   `yaml:"target" short:"true"` // 65000:1 or 192.0.2.1:1
	PrefixList string   `yaml:"prefix-list,omitempty"`
	Protocols  []string `yaml:"protocols,omitempty"`
	Tags       []uint32 `yaml:"tags,omitempty"`
	// Communities of BGP routes: 65000:100, 65000:1:2, rt:65000:100, soo:..., well-known names; * is any number.
	Communities []string `yaml:"communities,omitempty"`
	Distance    uint8    `yaml:"distance,omitempty"` // import only; default: the route's
}

// PrefixList is a list of rules for prefixes; the first that fits decides, and
// if none does the answer is no.
type PrefixList struct {
	Name  string       `yaml:"name"`
	Rules []PrefixRule `yaml:"rules"`
}

// PrefixRule fits a prefix, or with GE or LE those inside of it of such a length.
type PrefixRule struct {
	Prefix netip.Prefix `yaml:"prefix" short:"true"`
	GE     uint8        `yaml:"ge,omitempty"`
	LE     uint8        `yaml:"le,omitempty"`
	Deny   bool         `yaml:"deny,omitempty"`
}

// Static is a static route. Exactly one of Via (one or several: ECMP),
// Blackhole, Reject.
type Static struct {
	Prefix    netip.Prefix `yaml:"prefix"`
	Via       []Via        `yaml:"via,omitempty"`
	Blackhole bool         `yaml:"blackhole,omitempty"`
	Reject    bool         `yaml:"reject,omitempty"`
	Distance  uint8        `yaml:"distance,omitempty"` // default 1
	Tag       uint32       `yaml:"tag,omitempty"`
	Track     []Track      `yaml:"track,omitempty"` // all have to be reachable, or up
}

// Track is what a static route depends on beside its next hops.
type Track struct {
	Address   netip.Addr `yaml:"address,omitempty"`
	Interface string     `yaml:"interface,omitempty"`
	VRF       string     `yaml:"vrf,omitempty"` // default: the route's
}

// Via is one next hop of a static route: an address (resolved recursively), an
// interface, or both.
type Via struct {
	Address   netip.Addr `yaml:"address,omitempty"`
	Interface string     `yaml:"interface,omitempty"`
	VRF       string     `yaml:"vrf,omitempty"` // of the next hop; default: the route's
	Weight    uint8      `yaml:"weight,omitempty"`
	Backup    bool       `yaml:"backup,omitempty"` // carries flows only while no other next hop can
	BFD       *BFD       `yaml:"bfd,omitempty"`    // the next hop is usable while the session is up
}

// BGP is the speaker of a VRF.
type BGP struct {
	AS              uint32         `yaml:"as"`
	RouterID        netip.Addr     `yaml:"router-id"`
	Port            uint16         `yaml:"port,omitempty"`
	GracefulRestart *time.Duration `yaml:"graceful-restart,omitempty"` // restart time offered; default 120s; 0s is off
	Multipath       int            `yaml:"multipath,omitempty"`        // default 1
	Advertise       string         `yaml:"advertise,omitempty"`        // best (default), fib
	Redistribute    []Redistribute `yaml:"redistribute,omitempty"`
	Neighbors       []BGPNeighbor  `yaml:"neighbors"`
}

// Redistribute says which routes BGP announces. Alone, the source may be
// written without its key.
type Redistribute struct {
	From       string   `yaml:"from" short:"true"` // connected, static, leaked
	PrefixList string   `yaml:"prefix-list,omitempty"`
	Tags       []uint32 `yaml:"tags,omitempty"`
}

// BGPNeighbor is one peer.
type BGPNeighbor struct {
	Address      netip.Addr    `yaml:"address"`
	Description  string        `yaml:"description,omitempty"`
	AS           uint32        `yaml:"as"`
	LocalAS      uint32        `yaml:"local-as,omitempty"`
	LocalAddress netip.Addr    `yaml:"local-address,omitempty"`
	Password     string        `yaml:"password,omitempty"`
	Passive      bool          `yaml:"passive,omitempty"`
	Multihop     uint8         `yaml:"multihop,omitempty"`
	Port         uint16        `yaml:"port,omitempty"`
	HoldTime     time.Duration `yaml:"hold-time,omitempty"`
	Families     []string      `yaml:"families,omitempty"` // default: the family of the address
	Import       string        `yaml:"import"`             // accept, reject: always explicit
	Export       string        `yaml:"export"`             // accept, reject, local: always explicit
	NextHopSelf  bool          `yaml:"next-hop-self,omitempty"`
	MaxPrefixes  uint32        `yaml:"max-prefixes,omitempty"`
	Shutdown     bool          `yaml:"shutdown,omitempty"`
	BFD          *BFD          `yaml:"bfd,omitempty"`
}
