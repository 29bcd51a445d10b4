package wire

import "godwit/fib"

// ACLConfig is an access list that interfaces of a card use.
type ACLConfig struct {
	Name  string       `json:"name"`
	Rules []FilterRule `json:"rules"`
}

// GuardConfig is what is done to packets in one direction of an interface.
type GuardConfig struct {
	ACL     string         `json:"acl,omitempty"` // empty: all are permitted
	RPF     string         `json:"rpf,omitempty"` // "strict", "loose"; ingress only
	Policer *PolicerConfig `json:"policer,omitempty"`
}

// PolicerConfig is a token bucket, or with Peak a two rate three color marker.
type PolicerConfig struct {
	Rate      uint64 `json:"rate"`  // bit/s of IP packets
	Burst     uint64 `json:"burst"` // bytes
	Peak      uint64 `json:"peak,omitempty"`
	PeakBurst uint64 `json:"peak_burst,omitempty"`
	Exceed    int    `json:"exceed,omitempty"` // DSCP of what is between the rates; -1: as it is
}

// GuardStatus is one direction of an interface as it is.
type GuardStatus struct {
	Interface fib.InterfaceID `json:"interface_id"`
	Out       bool            `json:"out"`
	ACL       string          `json:"acl,omitempty"`
	Hits      []uint64        `json:"hits,omitempty"` // packets by rule
	Unfitted  uint64          `json:"unfitted"`       // that no rule fitted: denied
	RPF       string          `json:"rpf,omitempty"`
	Spoofed   uint64          `json:"spoofed"` // dropped by the check of sources
	Policer   *PolicerStatus  `json:"policer,omitempty"`
}

// PolicerStatus counts what a policer measured.
type PolicerStatus struct {
	PolicerConfig
	Packets      uint64 `json:"packets"` // within the rate
	Bytes        uint64 `json:"bytes"`
	OverPackets  uint64 `json:"over_packets"` // between the rates
	OverBytes    uint64 `json:"over_bytes"`
	DropPackets  uint64 `json:"drop_packets"`
	DroppedBytes uint64 `json:"drop_bytes"`
}

// GuardList is the reply to GetGuards.
type GuardList struct {
	Card     fib.CardID    `json:"card"`
	Guards   []GuardStatus `json:"guards"`
	Unlogged uint64        `json:"unlogged"` // packets of rules with "log", above the rate
}
