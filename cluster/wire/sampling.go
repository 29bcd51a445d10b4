package wire

import (
	"net/netip"
	"time"

	"godwit/fib"
)

// SamplingConfig says whom a card tells of sampled frames; which interfaces are
// sampled stands at the interfaces.
type SamplingConfig struct {
	Agent      netip.Addr        `json:"agent"`
	Header     int               `json:"header"`                // bytes of a frame
	Counters   time.Duration     `json:"counters_ns,omitempty"` // between counter samples; 0: none
	Templates  time.Duration     `json:"templates_ns"`
	Collectors []SampleCollector `json:"collectors"`
}

// SampleCollector takes the samples.
type SampleCollector struct {
	Name     string     `json:"name"`
	Protocol string     `json:"protocol"` // "sflow", "ipfix"
	VRF      fib.VRF    `json:"vrf"`
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port"`
	Source   netip.Addr `json:"source"`
}

// SamplingStatus is the reply to GetSampling.
type SamplingStatus struct {
	Card       fib.CardID         `json:"card"`
	Interfaces []SampledInterface `json:"interfaces"`
	Collectors []CollectorStatus  `json:"collectors"`
	Lost       uint64             `json:"lost"`   // samples: more than the card tells of
	Unsent     uint64             `json:"unsent"` // datagrams that found no room on the way out
}

// SampledInterface is one interface that is sampled.
type SampledInterface struct {
	ID      fib.InterfaceID `json:"id"`
	Rate    uint32          `json:"rate"` // one of so many frames
	Samples uint64          `json:"samples"`
	Pool    uint64          `json:"pool"`    // frames received
	Express uint64          `json:"express"` // samples, of those, of the express path
}

// CollectorStatus is what was sent to a collector.
type CollectorStatus struct {
	SampleCollector
	Datagrams uint64 `json:"datagrams"`
	Bytes     uint64 `json:"bytes"`
	Samples   uint64 `json:"samples"`
	Counters  uint64 `json:"counters"`
}

// MirrorConfig copies frames of interfaces to a port.
type MirrorConfig struct {
	Name       string            `json:"name"`
	Interfaces []fib.InterfaceID `json:"interfaces"`
	In         bool              `json:"in,omitempty"`  // what they receive
	Out        bool              `json:"out,omitempty"` // what they send
	Port       fib.PortID        `json:"port"`
	Snap       int               `json:"snap,omitempty"`  // bytes kept of a frame, 0: all
	Rules      []FilterRule      `json:"rules,omitempty"` // what none permits is not copied; none: all
}

// MirrorStatus is one mirror as it is.
type MirrorStatus struct {
	Name    string `json:"name"`
	Device  string `json:"device"`
	Up      bool   `json:"up"` // the port that takes the copies
	Reason  string `json:"reason,omitempty"`
	Matched uint64 `json:"matched"` // frames that were to be copied
	Frames  uint64 `json:"frames"`  // copies given to the port
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"` // no buffer was free for a copy
}

// MirrorList is the reply to GetMirrors.
type MirrorList struct {
	Card    fib.CardID     `json:"card"`
	Mirrors []MirrorStatus `json:"mirrors"`
}

// PortRange is a range of TCP, UDP or SCTP ports, both ends inside.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// FilterRule is one rule of a packet filter; what is zero fits everything.
type FilterRule struct {
	Deny        bool         `json:"deny,omitempty"`
	Log         bool         `json:"log,omitempty"`
	Family      uint8        `json:"family,omitempty"` // 4, 6
	Source      netip.Prefix `json:"source,omitzero"`
	Destination netip.Prefix `json:"destination,omitzero"`
	Protocol    *uint8       `json:"protocol,omitempty"`
	SrcPorts    []PortRange  `json:"source_ports,omitempty"`
	DstPorts    []PortRange  `json:"destination_ports,omitempty"`
	FlagsSet    uint8        `json:"flags_set,omitempty"`   // TCP flags that are set
	FlagsClear  uint8        `json:"flags_clear,omitempty"` // and that are not
	DSCP        *uint8       `json:"dscp,omitempty"`
	ICMPType    *uint8       `json:"icmp_type,omitempty"`
	Fragments   string       `json:"fragments,omitempty"` // "only" (behind the first), "none"
	VLAN        uint16       `json:"vlan,omitempty"`
}
