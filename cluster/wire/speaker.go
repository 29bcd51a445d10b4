package wire

import (
	"net/netip"
	"time"
)

// SpeakerConfig is the whole desired state of one BGP speaker. Passwords are
// in here: never log it.
type SpeakerConfig struct {
	VRF             string        `json:"vrf"`
	AS              uint32        `json:"as"`
	RouterID        netip.Addr    `json:"router_id"`
	Port            uint16        `json:"port"`                // TCP port to listen on, 179
	GracefulRestart time.Duration `json:"graceful_restart_ns"` // restart time offered to peers; 0: off
	Multipath       int           `json:"multipath"`           // most equal paths for one prefix, from 1
	Neighbors       []SpeakerPeer `json:"neighbors"`
	Restarting      bool          `json:"restarting,omitempty"` // set R bit: the routing engine still holds routes of a speaker that died
	// AdvertiseFIB holds back prefixes that FIBState has not told.
	AdvertiseFIB bool `json:"advertise_fib,omitempty"`
	// Communities are the names that paths shall be told by, see RoutePath.
	Communities []string `json:"communities,omitempty"`
}

// SpeakerPeer is one BGP neighbour.
type SpeakerPeer struct {
	Address      netip.Addr    `json:"address"`
	Interface    string        `json:"interface,omitempty"` // zone of a link-local address
	AS           uint32        `json:"as"`
	LocalAS      uint32        `json:"local_as,omitempty"`
	LocalAddress netip.Addr    `json:"local_address,omitzero"`
	Description  string        `json:"description,omitempty"`
	Password     string        `json:"password,omitempty"`
	Passive      bool          `json:"passive,omitempty"`
	Multihop     uint8         `json:"multihop,omitempty"` // TTL of an eBGP session, 0: 1
	Port         uint16        `json:"port,omitempty"`
	HoldTime     time.Duration `json:"hold_time_ns,omitempty"` // 0: 90 s
	Families     []string      `json:"families"`               // "ipv4", "ipv6"
	Import       string        `json:"import"`                 // "accept", "reject" (default policy, explicit)
	Export       string        `json:"export"`                 // "accept", "reject", "local" (only redistributed routes)
	NextHopSelf  bool          `json:"next_hop_self,omitempty"`
	MaxPrefixes  uint32        `json:"max_prefixes,omitempty"`
	Shutdown     bool          `json:"shutdown,omitempty"`
}

// RouteChange is the speaker's best paths for one prefix; no path means
// withdrawn. Binary form in routes.go.
type RouteChange struct {
	Prefix netip.Prefix
	Paths  []RoutePath // best first, then equal ones (multipath)
}

// RoutePath is what the RIB needs to know of a BGP path.
type RoutePath struct {
	NextHop   netip.Addr // global, or link-local with the zone in Peer's interface
	Peer      netip.Addr // who announced it
	PeerAS    uint32     // equal to the speaker's AS: internal
	MED       uint32
	LocalPref uint32
	ASPathLen uint16
	// Communities are the names of SpeakerConfig.Communities that the path has, in
	// order and with spaces between.
	Communities string
}

// RouteAckBody acknowledges every route batch up to Seq: at most
// RouteWindow may be unacknowledged (backpressure).
type RouteAckBody struct {
	Seq uint64 `json:"seq"`
}

// RouteWindow is how many route batches a speaker may have unacknowledged. A
// batch is some 64 KiB, so this bounds what waits in the routing engine to
// about 2 MiB a speaker.
const RouteWindow = 32

// RedistRoute is one route of the RIB for BGP to announce.
type RedistRoute struct {
	Prefix   netip.Prefix `json:"prefix"`
	Protocol string       `json:"protocol"` // who has it: a prefix is announced while one does
	Withdraw bool         `json:"withdraw,omitempty"`
	Metric   uint32       `json:"metric,omitempty"`
}

// RedistBody announces and withdraws redistributed routes. With Replace, what
// is not listed is withdrawn. With More, the list goes on in the messages that
// follow, until one without it; nothing is announced or withdrawn before.
type RedistBody struct {
	Replace bool          `json:"replace,omitempty"`
	More    bool          `json:"more,omitempty"`
	Routes  []RedistRoute `json:"routes"`
}

// FIBStateBody tells a speaker with AdvertiseFIB which prefixes all line cards
// have acknowledged, and which are gone. Begin comes first in a session: what is not told
// until End is gone.
type FIBStateBody struct {
	Begin     bool           `json:"begin,omitempty"`
	End       bool           `json:"end,omitempty"`
	Installed []netip.Prefix `json:"installed,omitempty"`
	Gone      []netip.Prefix `json:"gone,omitempty"`
}

// PeerStatus is one neighbour as it is.
type PeerStatus struct {
	Address     netip.Addr `json:"address"`
	Description string     `json:"description,omitempty"`
	AS          uint32     `json:"as"`
	State       string     `json:"state"` // "idle", "connect", "active", "open-sent", "open-confirm", "established"; "shutdown"
	Since       time.Time  `json:"since,omitzero"`
	Received    uint64     `json:"received"` // prefixes in Adj-RIB-In
	Accepted    uint64     `json:"accepted"`
	Advertised  uint64     `json:"advertised"`
	Flaps       uint32     `json:"flaps"`
	MessagesIn  uint64     `json:"messages_in"`
	MessagesOut uint64     `json:"messages_out"`
	LastError   string     `json:"last_error,omitempty"`
}

// PeerList is the reply to GetPeers.
type PeerList struct {
	VRF      string       `json:"vrf"`
	AS       uint32       `json:"as"`
	RouterID netip.Addr   `json:"router_id"`
	Peers    []PeerStatus `json:"peers"`
}

// PeerReset clears a session.
type PeerReset struct {
	Address netip.Addr `json:"address"`
	Soft    bool       `json:"soft,omitempty"`
	Reason  string     `json:"reason,omitempty"` // told to the neighbour, and shown
}
