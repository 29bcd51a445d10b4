package mgmt

import (
	"net/netip"
	"time"

	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// Version says what runs.
type Version struct {
	Product  string        `json:"product"` // "godwit"
	Version  string        `json:"version"`
	BuildID  string        `json:"build_id,omitempty"`
	Go       string        `json:"go"`
	Hostname string        `json:"hostname,omitempty"`
	Kernel   string        `json:"kernel,omitempty"`
	Instance string        `json:"instance"`
	Started  time.Time     `json:"started"` // of the routing engine
	Uptime   time.Duration `json:"uptime_ns"`
}

// Modules lists the router's processes.
type Modules struct {
	Modules []wire.ModuleStatus `json:"modules"`
	Members []Member            `json:"members"` // the line cards that are configured
}

// Member is a line card's membership of the chassis.
type Member struct {
	Card   fib.CardID `json:"card"`
	Node   uint32     `json:"node,omitempty"` // of the cluster
	State  string     `json:"state"`          // "absent", "asking", "joining" (its snapshot is on the way), "up"
	Since  time.Time  `json:"since"`
	Joins  int        `json:"joins"`            // how often it has joined
	Reason string     `json:"reason,omitempty"` // why it left last
	TookMS int64      `json:"took_ms"`          // from joining to ports up, the last time
}

// VRFs lists the routing instances.
type VRFs struct {
	VRFs []VRF `json:"vrfs"`
}

// VRF is one routing instance.
type VRF struct {
	Name       string   `json:"name"`
	ID         fib.VRF  `json:"id"`
	NetNS      string   `json:"netns"`
	Interfaces []string `json:"interfaces"`
	Routes4    int      `json:"routes4"` // installed prefixes
	Routes6    int      `json:"routes6"`
	Prefixes   int      `json:"prefixes"`         // with a candidate, both families: what the limit counts
	Leaked     int      `json:"leaked,omitempty"` // candidates from other VRFs
	Limit      int      `json:"limit,omitempty"`
	LimitState string   `json:"limit_state,omitempty"` // "clear", "near", "reached"
	Refused    uint64   `json:"refused,omitempty"`     // routes left out for the limit, since the start
}

// Interfaces lists the routed interfaces.
type Interfaces struct {
	Interfaces []Interface `json:"interfaces"`
}

// Interface is one routed interface, as configured and as it is.
type Interface struct {
	Name        string          `json:"name"`
	ID          fib.InterfaceID `json:"id"`
	Description string          `json:"description,omitempty"`
	VRF         string          `json:"vrf"`
	Card        uint16          `json:"card"`
	Device      string          `json:"device"`
	VLAN        uint16          `json:"vlan,omitempty"`
	Admin       string          `json:"admin"`            // "up", "down"
	State       string          `json:"state"`            // "up", "down"
	Reason      string          `json:"reason,omitempty"` // why down
	Since       time.Time       `json:"since,omitzero"`
	MAC         string          `json:"mac,omitempty"`
	MTU         int             `json:"mtu"`
	Addresses   []netip.Prefix  `json:"addresses"` // with host bits; includes the link-local one
	Mode        string          `json:"mode,omitempty"`
	Queues      int             `json:"queues,omitempty"`
	// Express tells how much of plain transit is forwarded in the kernel (wire.PortStatus), and why not all.
	Express       string        `json:"express,omitempty"`
	ExpressReason string        `json:"express_reason,omitempty"`
	Counters      wire.Counters `json:"counters"`
}

// Route is one prefix of the RIB.
type Route struct {
	VRF       string       `json:"vrf"`
	Prefix    netip.Prefix `json:"prefix"`
	Installed bool         `json:"installed"` // one of the candidates is in the FIB
	Group     fib.GroupID  `json:"group,omitempty"`
	// Candidates in the order of the decision; one is Chosen if Installed.
	// Without detail or lookup only the chosen one (or, if none is usable, all).
	Candidates []Candidate `json:"candidates"`
}

// Candidate is one protocol's offer for a prefix.
type Candidate struct {
	Protocol string `json:"protocol"`       // "local", "connected", "static", "bgp"
	From     string `json:"from,omitempty"` // VRF that it is leaked from
	Distance uint8  `json:"distance"`
	Tag      uint32 `json:"tag,omitempty"`
	Kind     string `json:"kind"` // "forward", "local", "blackhole", "reject"
	Chosen   bool   `json:"chosen"`
	Reason   string `json:"reason,omitempty"` // why chosen, or why not
	Stale    bool   `json:"stale,omitempty"`  // kept from before a restart of the protocol
	// NextHops are what the protocol said.
	NextHops []RouteNextHop `json:"next_hops"`
	// Tracks are what a static route depends on beside its next hops.
	Tracks []RouteNextHop `json:"tracks,omitempty"`
	// Resolved is where packets go: interface and neighbour.
	Resolved []ResolvedHop `json:"resolved"`
	Paths    []BGPPath     `json:"bgp_paths,omitempty"`
}

// RouteNextHop is a next hop as a protocol gave it.
type RouteNextHop struct {
	Address   netip.Addr `json:"address,omitzero"`
	Interface string     `json:"interface,omitempty"`
	VRF       string     `json:"vrf,omitempty"` // of the next hop, if not the one that the route was made in
	Weight    uint8      `json:"weight,omitempty"`
	Backup    bool       `json:"backup,omitempty"` // used while no other next hop can be
	Usable    bool       `json:"usable"`
	// Chain tells how the address was resolved, one line a step (detail only).
	Chain []string `json:"chain,omitempty"`
}

// ResolvedHop is one member of the next-hop group.
type ResolvedHop struct {
	Interface string     `json:"interface"`
	Gateway   netip.Addr `json:"gateway,omitzero"` // zero: the destination itself is the neighbour
	Weight    uint8      `json:"weight,omitempty"`
	Backup    bool       `json:"backup,omitempty"` // used while no other next hop can be
}

// BGPPath is what the RIB knows of a BGP path.
type BGPPath struct {
	NextHop   netip.Addr `json:"next_hop"`
	Peer      netip.Addr `json:"peer"`
	PeerAS    uint32     `json:"peer_as"`
	Internal  bool       `json:"internal,omitempty"`
	MED       uint32     `json:"med"`
	LocalPref uint32     `json:"local_pref"`
	ASPathLen uint16     `json:"as_path_length"`
	// Communities are those that a filter names.
	Communities []string `json:"communities,omitempty"`
}

// RouteQuery selects routes.
type RouteQuery struct {
	VRF      string       // empty: all VRFs (only "default" with Address)
	Family   int          // 4, 6; 0: both
	Address  netip.Addr   // longest match for it
	Prefix   netip.Prefix // this prefix exactly, or with Longer it and its more-specifics
	Longer   bool
	Protocol string     // "connected", "static", ...; "leaked": from another VRF
	NextHop  netip.Addr // given or resolved
	Tag      uint32     // 0: any
	Detail   bool       // all candidates, reasons and resolution chains
}

// RouteChangeQuery selects from the route change log.
type RouteChangeQuery struct {
	VRF    string       // empty: all
	Prefix netip.Prefix // it and its more-specifics
	Count  int          // the newest so many; 0: 100
}

// RouteChanges is what the change log has, the oldest first.
type RouteChanges struct {
	Changes []RouteChange `json:"changes"`
	Total   uint64        `json:"total"` // since the start, of all VRFs; the log is bounded
}

// RouteChange is one change of what forwards a prefix.
type RouteChange struct {
	Time   time.Time    `json:"time"`
	VRF    string       `json:"vrf"`
	Prefix netip.Prefix `json:"prefix"`
	Old    *Installed   `json:"old,omitempty"` // nil: it was not in the FIB
	New    *Installed   `json:"new,omitempty"` // nil: it is not any more
}

// Installed is a chosen route in the change log.
type Installed struct {
	Protocol string      `json:"protocol"`
	From     string      `json:"from,omitempty"` // VRF that it is leaked from
	Group    fib.GroupID `json:"group"`
}

// FIBQuery selects routes of line cards.
type FIBQuery struct {
	Card    uint16 // 0: all
	VRF     string // empty: all
	Address netip.Addr
	Prefix  netip.Prefix // it and its more-specifics
}

// FIBRoute is one route as a line card forwards it.
type FIBRoute struct {
	Card     uint16        `json:"card"`
	VRF      string        `json:"vrf"`
	Prefix   netip.Prefix  `json:"prefix"`
	Group    uint32        `json:"group"`
	Kind     string        `json:"kind"`
	NextHops []ResolvedHop `json:"next_hops"`
	// ExpressPackets and ExpressBytes went the express way by the group, which other prefixes share.
	ExpressPackets uint64 `json:"express_packets,omitempty"`
	ExpressBytes   uint64 `json:"express_bytes,omitempty"`
}

// FIBSummary compares the routing engine and its line cards.
type FIBSummary struct {
	Routes4 int       `json:"routes4"` // installed by the RIB, all VRFs
	Routes6 int       `json:"routes6"`
	Groups  int       `json:"groups"`
	Cards   []FIBCard `json:"cards"`
}

// FIBCard is one line card's tables and how far it follows.
type FIBCard struct {
	Card      uint16              `json:"card"`
	Connected bool                `json:"connected"`
	Epoch     uint32              `json:"epoch"`
	Sent      uint64              `json:"sent"`      // last batch sent in the epoch
	Acked     uint64              `json:"acked"`     // last batch acknowledged
	Converged bool                `json:"converged"` // everything sent is acknowledged
	Groups    int                 `json:"groups"`
	VRFs      []FIBVRF            `json:"vrfs"`
	Bytes     int                 `json:"bytes"`     // of all VRFs
	Neighbors int                 `json:"neighbors"` // ARP and ND entries
	Switches  uint64              `json:"switches"`  // groups that left or took back a member by the card's own decision
	Workers   []wire.WorkerStatus `json:"workers,omitempty"`
	Error     string              `json:"error,omitempty"`
}

// FIBConsistency compares the RIB and what each line card forwards by.
type FIBConsistency struct {
	Cards []FIBCheck `json:"cards"`
}

// FIBCheck is one card's comparison: by digests, and only where those differ route by route.
type FIBCheck struct {
	Card        uint16          `json:"card"`
	State       string          `json:"state"` // "consistent", "different", "behind" (changes are under way), "unknown"
	Error       string          `json:"error,omitempty"`
	VRFs        []FIBVRFCheck   `json:"vrfs"`
	Groups      bool            `json:"groups"` // the next-hop groups are equal
	Differences []FIBDifference `json:"differences"`
	More        int             `json:"more,omitempty"` // differences that are not listed
}

// FIBVRFCheck compares one VRF.
type FIBVRFCheck struct {
	VRF    string `json:"vrf"`
	Equal  bool   `json:"equal"`
	RIB    int    `json:"rib"`    // routes installed
	Card   int    `json:"card"`   // routes on the card
	Digest string `json:"digest"` // of the RIB's, hexadecimal
}

// FIBDifference is one route that differs.
type FIBDifference struct {
	VRF    string       `json:"vrf"`
	Prefix netip.Prefix `json:"prefix"`
	What   string       `json:"what"` // "missing on the card", "not in the RIB", "other next hops"
}

// FIBVRF counts one VRF's routes on a card.
type FIBVRF struct {
	VRF     string `json:"vrf"`
	Routes4 int    `json:"routes4"`
	Routes6 int    `json:"routes6"`
	Bytes   int    `json:"bytes"`
}

// FIBTraceQuery describes a packet to trace.
type FIBTraceQuery struct {
	VRF      string // empty: default
	Address  netip.Addr
	From     netip.Addr // zero: unspecified; it counts for the flow hash only
	Protocol string     // "tcp", "udp" or a number; empty: udp if a port is given
	SrcPort  uint16
	DstPort  uint16
	Card     uint16 // that receives it; 0: every card
}

// FIBTraces tells what the line cards would do with a packet.
type FIBTraces struct {
	Traces []FIBTrace `json:"traces"`
}

// FIBTrace is one card's way of a packet, computed by the card from the tables that its workers use.
type FIBTrace struct {
	Card    uint16         `json:"card"` // that receives the packet
	VRF     string         `json:"vrf"`
	Prefix  netip.Prefix   `json:"prefix,omitzero"` // that matched
	Group   uint32         `json:"group,omitempty"`
	Kind    string         `json:"kind,omitempty"`
	Hash    uint32         `json:"hash"` // of the flow
	Members []FIBTraceHop  `json:"members"`
	Egress  FIBTraceEgress `json:"egress"`
	Error   string         `json:"error,omitempty"` // the card does not answer
}

// FIBTraceHop is one member of the group.
type FIBTraceHop struct {
	Interface string     `json:"interface"`
	Gateway   netip.Addr `json:"gateway,omitzero"` // zero: the destination itself
	Backup    bool       `json:"backup,omitempty"` // for when no other member lives
	Dead      bool       `json:"dead,omitempty"`   // its port is down or it does not answer: others stand in
	Chosen    bool       `json:"chosen,omitempty"`
}

// FIBTraceEgress is the end of the way.
type FIBTraceEgress struct {
	Card      uint16     `json:"card,omitempty"` // that sends the packet
	Interface string     `json:"interface,omitempty"`
	Neighbor  netip.Addr `json:"neighbor,omitzero"`
	State     string     `json:"state,omitempty"` // of the neighbour; "none" if there is none yet
	MAC       string     `json:"mac,omitempty"`
	MTU       int        `json:"mtu,omitempty"`
	Result    string     `json:"result"` // "sent", "queued", "local", or the name of the drop reason
}

// NeighborQuery selects neighbours; zero fields match all.
type NeighborQuery struct {
	VRF       string
	Interface string
	Address   netip.Addr
}

// Neighbors lists ARP and ND entries.
type Neighbors struct {
	Neighbors []Neighbor `json:"neighbors"`
}

// Neighbor is one ARP or ND entry of a line card.
type Neighbor struct {
	VRF       string        `json:"vrf"`
	Interface string        `json:"interface"`
	Address   netip.Addr    `json:"address"`
	MAC       string        `json:"mac,omitempty"`
	State     string        `json:"state"` // see wire.Neighbor
	Age       time.Duration `json:"age_ns"`
}

// BGP lists the speakers.
type BGP struct {
	Speakers []Speaker `json:"speakers"`
}

// Speaker is the BGP speaker of a VRF.
type Speaker struct {
	VRF       string            `json:"vrf"`
	AS        uint32            `json:"as"`
	RouterID  netip.Addr        `json:"router_id"`
	Connected bool              `json:"connected"` // the process is there
	Synced    bool              `json:"synced"`    // all peers' initial tables are in
	Stale     bool              `json:"stale"`     // its routes are kept from before a restart
	Batches   uint64            `json:"batches"`   // route batches applied since it connected
	Changes   uint64            `json:"changes"`   // prefixes in them
	Backlog   int               `json:"backlog"`   // changes received and not yet applied
	Peers     []wire.PeerStatus `json:"peers"`
	Error     string            `json:"error,omitempty"` // why Peers is not known
}

// BFD shows the BFD sessions, by card, VRF and neighbor.
type BFD struct {
	Sessions []BFDSession `json:"sessions"`
	Cards    []BFDCard    `json:"cards"`
}

// BFDSession is one BFD session.
type BFDSession struct {
	Card          uint16   `json:"card"`
	VRFName       string   `json:"vrf"`
	InterfaceName string   `json:"interface,omitempty"` // none: several hops
	Clients       []string `json:"clients"`             // "bgp", "static 10.0.0.0/8"
	wire.BFDStatus
}

// BFDCard is what a card counts beside the sessions.
type BFDCard struct {
	Card     uint16      `json:"card"`
	Sessions int         `json:"sessions"`
	Up       int         `json:"up"`
	Sent     uint64      `json:"sent"`
	Received uint64      `json:"received"`
	Echoes   uint64      `json:"echoes"` // echo packets reflected
	LateMost int64       `json:"late_most_us"`
	LateLong uint64      `json:"late_over_5ms"`
	Drops    []wire.Drop `json:"drops"`
	Error    string      `json:"error,omitempty"` // why nothing is known
}

// Bus shows the bus: its bindings, and links and nodes as the routing engine
// sees them.
type Bus struct {
	Names []wire.NameEntry `json:"names"`
	Links []BusLink        `json:"links"`
	Nodes []BusNode        `json:"nodes"`
	// Multicasts are of route changes, on the transports that carry them once to a node.
	Multicasts []BusMulticast `json:"multicasts"`
	Downloads  []BusDownload  `json:"downloads"`
}

// BusMulticast counts what the routing engine has multicast to line cards on a transport.
type BusMulticast struct {
	Transport string `json:"transport"`
	Sent      uint64 `json:"sent"`
	Bytes     uint64 `json:"bytes"`
	Failed    uint64 `json:"failed"`
	Busy      uint64 `json:"busy"` // batches that went by unicast, because too many multicasts waited
}

// BusDownload counts how batches of route changes went to a line card.
type BusDownload struct {
	Card  uint16             `json:"card"`
	Takes bool               `json:"takes"` // multicasts, at present
	Named uint64             `json:"named"` // batches sent by multicast, and named in the session
	Again uint64             `json:"again"` // of them, those that the card asked for and got by unicast
	Whole uint64             `json:"whole"` // batches sent by unicast
	Seen  *wire.FIBCastStats `json:"seen,omitempty"`
	Error string             `json:"error,omitempty"` // why nothing is seen
}

// BusLink is a supervised link to another process or, between machines, node.
type BusLink struct {
	Transport   string `json:"transport"` // "local", "tipc"
	Name        string `json:"name"`
	Peer        uint32 `json:"peer"`
	Up          bool   `json:"up"`
	Active      bool   `json:"active"` // carries messages now
	ToleranceMS int64  `json:"tolerance_ms"`
	SilentMS    int64  `json:"silent_ms"` // since the peer was heard; -1: not known
}

// BusNode is a machine of the bus. Of a bus of one machine that is node 0.
type BusNode struct {
	Node  uint32   `json:"node"`
	Up    bool     `json:"up"`
	Own   bool     `json:"own,omitempty"` // the routing engine's
	Cards []Member `json:"cards"`         // that are configured there
}

// Events holds each module's event-core statistics.
type Events struct {
	Modules []ModuleEvents `json:"modules"`
}

// ModuleEvents is one module's.
type ModuleEvents struct {
	Module string       `json:"module"`
	Stats  *event.Stats `json:"stats,omitempty"`
	Error  string       `json:"error,omitempty"`
}

// Traces holds the last events of each module.
type Traces struct {
	Modules []ModuleTrace `json:"modules"`
}

// ModuleTrace is one module's, oldest event first.
type ModuleTrace struct {
	Module string             `json:"module"`
	Events []event.TraceEntry `json:"events"`
	Error  string             `json:"error,omitempty"`
}

// Drops holds each line card's named drop counters.
type Drops struct {
	Cards []CardDrops `json:"cards"`
}

// CardDrops is one card's.
type CardDrops struct {
	Card  uint16      `json:"card"`
	Drops []wire.Drop `json:"drops"`
	Error string      `json:"error,omitempty"`
}

// Applied is the result of check and apply.
type Applied struct {
	Changes []string `json:"changes"` // what differs from the configuration in force, one line each
	Applied bool     `json:"applied"` // false for check
}

// Done is the result of a request without one of its own.
type Done struct {
	Message string `json:"message"`
}

// PingQuery asks for echo requests from a VRF's host stack.
type PingQuery struct {
	VRF      string
	Address  netip.Addr
	Source   netip.Addr
	Count    int           // 0: 5
	Size     int           // payload bytes, at least 8; 0: 56
	Interval time.Duration // 0: 1 s, at least 1 ms
	Timeout  time.Duration // of one reply, 0: 1 s
	TTL      int           // 0: the host's default
	DF       bool          // don't fragment
}

// PingLine is one line of a ping: the result of one request, or the summary
// that ends the stream.
type PingLine struct {
	Seq     int           `json:"seq,omitempty"` // from 1
	From    netip.Addr    `json:"from,omitzero"`
	Bytes   int           `json:"bytes,omitempty"`
	RTT     time.Duration `json:"rtt_ns,omitempty"`
	Error   string        `json:"error,omitempty"` // "timeout", or what was answered or refused
	Summary *PingSummary  `json:"summary,omitempty"`
}

// PingSummary ends a ping.
type PingSummary struct {
	Sent     int           `json:"sent"`
	Received int           `json:"received"`
	Min      time.Duration `json:"min_ns"`
	Avg      time.Duration `json:"avg_ns"`
	Max      time.Duration `json:"max_ns"`
}

// CaptureQuery asks for the frames of an interface.
type CaptureQuery struct {
	Interface string
	Snap      int // bytes kept of a frame; 0: all
	Count     int // frames; 0: until the client goes
	Match
}

// UpgradeQuery starts a module again, from its file or from another one.
type UpgradeQuery struct {
	Module string
	File   string // absolute path on the router; empty: the installed one
}

// ResetQuery clears a BGP session.
type ResetQuery struct {
	VRF     string
	Address netip.Addr
	Soft    bool
}

// ErrorBody is the body of an answer that is an error.
type ErrorBody struct {
	Error string `json:"error"`
}
