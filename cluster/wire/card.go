package wire

import (
	"net/netip"
	"time"

	"godwit/fib"
)

// CardConfig is the whole desired state of one line card. The card applies the
// difference to what it has; applying the same again changes nothing. BFD keys are
// in here: never log it.
type CardConfig struct {
	Card       fib.CardID        `json:"card"`
	Workers    int               `json:"workers"`         // forwarding workers, from 1
	Cores      []int             `json:"cores,omitempty"` // of the workers, in turn; none: any
	FabricDir  string            `json:"fabric_dir"`      // where the shared-memory rings between cards live
	Cards      []fib.CardID      `json:"cards"`           // all cards of the chassis
	CaptureMax int               `json:"capture_max"`     // captures at a time
	VRFs       []VRFConfig       `json:"vrfs"`
	Ports      []PortConfig      `json:"ports"`      // this card's
	Interfaces []InterfaceConfig `json:"interfaces"` // this card's
	Neighbors  []StaticNeighbor  `json:"neighbors,omitempty"`
	BFD        []BFDSession      `json:"bfd,omitempty"`
	Sampling   *SamplingConfig   `json:"sampling,omitempty"` // nil: nobody is told
	Mirrors    []MirrorConfig    `json:"mirrors,omitempty"`
	ACLs       []ACLConfig       `json:"acls,omitempty"` // that interfaces use
	// Hold: ports that are not listed come later; what an earlier process of the card left on them stays.
	Hold bool `json:"hold,omitempty"`
	// Complete: the card has all routes that its former process had. It may know that otherwise, by a sweep.
	Complete bool `json:"complete,omitempty"`
}

// VRFConfig is a VRF as a line card sees it.
type VRFConfig struct {
	ID    fib.VRF `json:"id"`
	Name  string  `json:"name"`
	NetNS string  `json:"netns"` // path of the host stack's namespace
	TUN   string  `json:"tun"`   // name of the VRF's multi-queue TUN in it (already made); empty: none
	// Hash is what the flow hash looks at; 0 is the 5-tuple.
	Hash fib.HashFields `json:"hash,omitempty"`
}

// PortConfig is one physical port.
type PortConfig struct {
	ID     fib.PortID `json:"id"`
	Device string     `json:"device"` // kernel device in the line card's namespace
	Mode   string     `json:"mode"`   // "auto", "native", "generic", "afpacket"
	Queues int        `json:"queues"` // 0: as many as the device has
	// Express lets plain transit be forwarded in the kernel where the device can.
	Express bool `json:"express,omitempty"`
	// BusyPoll is for how many µs after a packet the worker polls the driver; 0: it sleeps at once.
	BusyPoll int `json:"busy_poll,omitempty"`
	// BusyBudget is how many frames a poll takes; 0: the default.
	BusyBudget int `json:"busy_poll_budget,omitempty"`
}

// InterfaceConfig is one routed interface.
type InterfaceConfig struct {
	ID        fib.InterfaceID `json:"id"`
	Name      string          `json:"name"`
	Port      fib.PortID      `json:"port"`
	VLAN      uint16          `json:"vlan,omitempty"` // 802.1Q tag, 0: untagged
	VRF       fib.VRF         `json:"vrf"`
	MTU       int             `json:"mtu"`            // of the IP packet, in bytes
	Addresses []netip.Prefix  `json:"addresses"`      // with host bits: 192.0.2.1/24; includes the IPv6 link-local
	TAP       string          `json:"tap"`            // name of the TAP in the VRF's namespace (already made, persistent, MAC and addresses set)
	Down      bool            `json:"down,omitempty"` // administratively
	ProxyARP  bool            `json:"proxy_arp,omitempty"`
	Ingress   *GuardConfig    `json:"ingress,omitempty"` // of received packets; nil: all are let in
	Egress    *GuardConfig    `json:"egress,omitempty"`
	Sample    uint32          `json:"sample,omitempty"` // one of so many received frames is sampled; 0: none
}

// StaticNeighbor is a configured ARP or ND entry.
type StaticNeighbor struct {
	Interface fib.InterfaceID `json:"interface"`
	Address   netip.Addr      `json:"address"`
	MAC       string          `json:"mac"`
}

// CardResult is the reply to SetCard: what could not be done (a device that is
// missing is retried by the card; the rest works).
type CardResult struct {
	Problems []string `json:"problems,omitempty"`
}

// FIBAckBody acknowledges every batch up to Seq of the epoch; with Error, the
// batch after Seq was refused and the publisher must start a new epoch.
type FIBAckBody struct {
	Epoch uint32 `json:"epoch"`
	Seq   uint64 `json:"seq"`
	Error string `json:"error,omitempty"`
}

// Counters counts packets and bytes.
type Counters struct {
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	Drops     uint64 `json:"drops"` // sum of the named drops on ingress here
	Punts     uint64 `json:"punts"` // to the host stack or the slow path
	// Express counts the packets, of the received ones, that took the express way.
	Express uint64 `json:"express,omitempty"`
}

// PortStatus is one port as it is.
type PortStatus struct {
	ID     fib.PortID `json:"id"`
	Device string     `json:"device"`
	Up     bool       `json:"up"`             // carrier, and attached
	Mode   string     `json:"mode,omitempty"` // "native copy", "native zerocopy", "generic", "afpacket"
	Queues int        `json:"queues"`
	MAC    string     `json:"mac,omitempty"`
	Reason string     `json:"reason,omitempty"` // why down, or why not native
	// Express says how much of plain transit takes the express way: "on"; "receive": what other ports
	// send here does not; "transmit": what arrives here does not; "off".
	Express       string            `json:"express,omitempty"`
	ExpressReason string            `json:"express_reason,omitempty"` // why not "on"
	Counters      Counters          `json:"counters"`
	Interfaces    []InterfaceStatus `json:"interfaces"`
}

// InterfaceStatus is one routed interface as it is.
type InterfaceStatus struct {
	ID       fib.InterfaceID `json:"id"`
	Name     string          `json:"name"`
	VLAN     uint16          `json:"vlan,omitempty"`
	VRF      fib.VRF         `json:"vrf"`
	Up       bool            `json:"up"`
	Counters Counters        `json:"counters"`
}

// PortList is the reply to GetPorts.
type PortList struct {
	Card  fib.CardID   `json:"card"`
	Ports []PortStatus `json:"ports"`
}

// NeighborQuery selects neighbours; zero fields match all.
type NeighborQuery struct {
	VRF       *fib.VRF        `json:"vrf,omitempty"`
	Interface fib.InterfaceID `json:"interface,omitempty"`
	Address   netip.Addr      `json:"address,omitzero"`
}

// Neighbor is one ARP or ND entry.
type Neighbor struct {
	Interface fib.InterfaceID `json:"interface"`
	VRF       fib.VRF         `json:"vrf"`
	Address   netip.Addr      `json:"address"`
	MAC       string          `json:"mac,omitempty"`
	State     string          `json:"state"` // "incomplete", "reachable", "stale", "probe", "permanent", "failed", "duplicate" (another station claims our address)
	Age       time.Duration   `json:"age_ns"`
}

// NeighborList is the reply to GetNeighbors.
type NeighborList struct {
	Neighbors []Neighbor `json:"neighbors"`
}

// FIBQuery selects routes of a VRF, in order of prefix, a page at a time.
type FIBQuery struct {
	VRF     fib.VRF      `json:"vrf"`
	Address netip.Addr   `json:"address,omitzero"` // longest match for it only
	Prefix  netip.Prefix `json:"prefix,omitzero"`  // it and its more-specifics
	After   netip.Prefix `json:"after,omitzero"`   // continue behind this one
	Limit   int          `json:"limit"`            // 0: 10,000
}

// FIBEntry is one route as the card forwards it.
type FIBEntry struct {
	Prefix   netip.Prefix  `json:"prefix"`
	Group    uint32        `json:"group"`
	Kind     string        `json:"kind"`
	NextHops []fib.NextHop `json:"next_hops,omitempty"`
	// ExpressPackets and ExpressBytes went the express way by the group, which other prefixes share.
	ExpressPackets uint64 `json:"express_packets,omitempty"`
	ExpressBytes   uint64 `json:"express_bytes,omitempty"`
}

// FIBList is the reply to GetFIB; More tells to continue After the last one.
type FIBList struct {
	Entries []FIBEntry `json:"entries"`
	More    bool       `json:"more,omitempty"`
}

// WorkerStatus is one forwarding worker.
type WorkerStatus struct {
	Cores   []int  `json:"cores"`  // that it may run on
	Urgent  bool   `json:"urgent"` // it runs before ordinary threads
	Packets uint64 `json:"packets"`
	Sleeps  uint64 `json:"sleeps"`
}

// FIBStats is the reply to GetFIBStats.
type FIBStats struct {
	Card   fib.CardID    `json:"card"`
	Epoch  uint32        `json:"epoch"`
	Seq    uint64        `json:"seq"`
	Groups int           `json:"groups"`
	VRFs   []FIBVRFStats `json:"vrfs"`
	// GroupSum is patricia's sum over the groups.
	GroupSum  uint64         `json:"group_sum"`
	Neighbors int            `json:"neighbors"`
	Switches  uint64         `json:"switches"` // groups that left or took back a member by the card's own decision
	Workers   []WorkerStatus `json:"workers,omitempty"`
	Casts     FIBCastStats   `json:"casts"`
}

// FIBVRFStats counts one VRF's routes and memory.
type FIBVRFStats struct {
	VRF     fib.VRF `json:"vrf"`
	Routes4 int     `json:"routes4"`
	Routes6 int     `json:"routes6"`
	Bytes   int     `json:"bytes"`
	Sum     uint64  `json:"sum"` // fib.Digest of the routes
}

// TraceQuery asks a card what it would do with a packet.
type TraceQuery struct {
	VRF      fib.VRF    `json:"vrf"`
	From     netip.Addr `json:"from,omitzero"`
	To       netip.Addr `json:"to"`
	Protocol uint8      `json:"protocol,omitempty"` // 6 TCP, 17 UDP; 0: ports do not count
	SrcPort  uint16     `json:"src_port,omitempty"`
	DstPort  uint16     `json:"dst_port,omitempty"`
	// Out and NextHop: another card has looked it up.
	Out     fib.InterfaceID `json:"out,omitempty"`
	NextHop netip.Addr      `json:"next_hop,omitzero"`
}

// TraceMember is one member of the next-hop group.
type TraceMember struct {
	Interface fib.InterfaceID `json:"interface"`
	Gateway   netip.Addr      `json:"gateway,omitzero"` // zero: the destination itself
	Dead      bool            `json:"dead,omitempty"`
	Backup    bool            `json:"backup,omitempty"`
	Chosen    bool            `json:"chosen,omitempty"`
}

// TraceResult is the reply to TraceFIB.
type TraceResult struct {
	Card    fib.CardID      `json:"card"`
	Prefix  netip.Prefix    `json:"prefix,omitzero"` // that matched
	Group   uint32          `json:"group,omitempty"`
	Kind    string          `json:"kind,omitempty"`
	Hash    uint32          `json:"hash"`
	Members []TraceMember   `json:"members,omitempty"`
	Egress  fib.CardID      `json:"egress,omitempty"` // another card that sends it
	Out     fib.InterfaceID `json:"out,omitempty"`
	NextHop netip.Addr      `json:"next_hop,omitzero"`
	State   string          `json:"state,omitempty"` // of the neighbour; "none" if there is none yet
	MAC     string          `json:"mac,omitempty"`
	MTU     int             `json:"mtu,omitempty"`
	Result  string          `json:"result"` // "sent", "fabric", "queued", "local", or the name of the drop reason
}

// Drop is a named drop counter.
type Drop struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
	Help   string `json:"help,omitempty"`
}

// DropList is the reply to GetDrops.
type DropList struct {
	Card  fib.CardID `json:"card"`
	Drops []Drop     `json:"drops"`
}

// CaptureRequest starts or stops a capture on an interface.
type CaptureRequest struct {
	Interface fib.InterfaceID `json:"interface"`
	Snap      int             `json:"snap"`            // bytes kept of a frame, 0: all
	Rules     []FilterRule    `json:"rules,omitempty"` // what none permits is not captured; none: all
}
