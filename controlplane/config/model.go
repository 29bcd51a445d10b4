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
	System     System      `yaml:"system"`
	Cards      []Card      `yaml:"cards"`
	VRFs       []VRF       `yaml:"vrfs"`
	Interfaces []Interface `yaml:"interfaces"`
}

// System is what concerns the whole router.
type System struct {
	Hostname string `yaml:"hostname"`
	Trust    string `yaml:"trust,omitempty"` // directory of the keys that modules must be signed with
}

// Card is one line card: a process that forwards.
type Card struct {
	ID      uint16 `yaml:"id"`                // from 1
	Workers int    `yaml:"workers,omitempty"` // default 1
	Ports   []Port `yaml:"ports,omitempty"`   // only where a port needs settings; interfaces name devices
}

// Port holds settings of one device.
type Port struct {
	Device string `yaml:"device"`
	Mode   string `yaml:"mode,omitempty"` // auto (default), native, generic, afpacket
	Queues int    `yaml:"queues,omitempty"`
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
	ProxyARP    bool           `yaml:"proxy-arp,omitempty"` // answer ARP for what is reached through other interfaces
	Neighbors   []Neighbor     `yaml:"neighbors,omitempty"` // static ARP and ND entries
}

// Neighbor is a static ARP or ND entry.
type Neighbor struct {
	Address netip.Addr `yaml:"address"`
	MAC     string     `yaml:"mac"`
}

// VRF is one routing instance. "default" exists without being listed.
type VRF struct {
	Name   string   `yaml:"name"`
	ID     uint32   `yaml:"id,omitempty"` // default: made from the name
	Static []Static `yaml:"static,omitempty"`
	BGP    *BGP     `yaml:"bgp,omitempty"`
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
}

// Via is one next hop of a static route: an address (resolved recursively), an
// interface, or both.
type Via struct {
	Address   netip.Addr `yaml:"address,omitempty"`
	Interface string     `yaml:"interface,omitempty"`
	Weight    uint8      `yaml:"weight,omitempty"`
}

// BGP is the speaker of a VRF.
type BGP struct {
	AS              uint32         `yaml:"as"`
	RouterID        netip.Addr     `yaml:"router-id"`
	Port            uint16         `yaml:"port,omitempty"`
	GracefulRestart *time.Duration `yaml:"graceful-restart,omitempty"` // restart time offered; default 120s; 0s is off
	Multipath       int            `yaml:"multipath,omitempty"`        // default 1
	Redistribute    []string       `yaml:"redistribute,omitempty"`     // connected, static
	Neighbors       []BGPNeighbor  `yaml:"neighbors"`
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
}
