package config

import (
	"net/netip"
	"time"
)

// Cluster makes this machine a node of a router of several: one routing engine,
// and nodes that have line cards only. The supervisor reads it when it starts.
type Cluster struct {
	Node          uint16        `yaml:"node"`              // 1 to 4095
	Role          string        `yaml:"role,omitempty"`    // router (default), linecard
	Network       uint16        `yaml:"network,omitempty"` // default 4711
	Bearers       []Bearer      `yaml:"bearers"`
	LinkTolerance time.Duration `yaml:"link-tolerance,omitempty"` // default 1.5s
	KeyFile       string        `yaml:"key-file,omitempty"`       // the key itself is never part of a configuration
}

// Bearer is what carries the bus between nodes: an Ethernet device, or UDP.
// Alone, the device may be written without its key.
type Bearer struct {
	Device string     `yaml:"device,omitempty" short:"true"`
	Local  netip.Addr `yaml:"local,omitempty"`  // UDP: own address
	Remote netip.Addr `yaml:"remote,omitempty"` // UDP: the other node's; default: multicast finds them
}

// The roles of nodes.
const (
	RoleRouter   = "router"
	RoleLinecard = "linecard"
)

// Remote tells whether the card runs on another node than this one.
func (c *Config) Remote(k *Card) bool {
	return k.Node != 0 && c.System.Cluster != nil && k.Node != c.System.Cluster.Node
}

// NodeOf is the node of a card; 0 without a cluster, and of a card that is not there.
func (c *Config) NodeOf(id uint16) uint16 {
	for i := range c.Cards {
		if k := &c.Cards[i]; k.ID == id && c.System.Cluster != nil {
			if k.Node != 0 {
				return k.Node
			}
			return c.System.Cluster.Node
		}
	}
	return 0
}
