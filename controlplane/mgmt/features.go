package mgmt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
)

// Sampling shows what is sampled, and whom it is told.
type Sampling struct {
	Cards []SamplingCard `json:"cards"`
}

// SamplingCard is one line card's exporter.
type SamplingCard struct {
	Card       uint16              `json:"card"`
	Interfaces []SamplingInterface `json:"interfaces"`
	Collectors []SamplingCollector `json:"collectors"`
	Lost       uint64              `json:"lost"`            // samples: more than the card tells of
	Unsent     uint64              `json:"unsent"`          // datagrams that found no room on the way out
	Error      string              `json:"error,omitempty"` // why nothing is known
}

// SamplingInterface is one sampled interface.
type SamplingInterface struct {
	Name string `json:"interface"`
	wire.SampledInterface
}

// SamplingCollector is one collector.
type SamplingCollector struct {
	VRFName string `json:"vrf_name"`
	wire.CollectorStatus
}

// Mirrors shows the mirrors.
type Mirrors struct {
	Mirrors []Mirror `json:"mirrors"`
}

// Mirror is one mirror, as configured and as it is.
type Mirror struct {
	Card       uint16   `json:"card"`
	Interfaces []string `json:"interfaces"`
	Direction  string   `json:"direction"`
	ACL        string   `json:"acl,omitempty"`
	Error      string   `json:"error,omitempty"` // why nothing is known
	wire.MirrorStatus
}

// Guards shows access lists, checks of sources and policers where interfaces use them.
type Guards struct {
	Cards []GuardCard `json:"cards"`
}

// GuardCard is a line card's.
type GuardCard struct {
	Card     uint16  `json:"card"`
	Guards   []Guard `json:"guards"`
	Unlogged uint64  `json:"unlogged"`        // packets of rules with "log", above the rate
	Error    string  `json:"error,omitempty"` // why nothing is known
}

// Guard is one direction of an interface.
type Guard struct {
	Name  string   `json:"interface"`
	Texts []string `json:"rules,omitempty"` // of the ACL, as people read them
	wire.GuardStatus
}

// Guards asks for them; with an ACL's name for the interfaces that use it.
func (c *Client) Guards(ctx context.Context, acl string) (Guards, error) {
	f := fields{}
	f.str("acl", acl)
	return get[Guards](ctx, c, "/v1/acls", url.Values(f))
}

// Match selects packets of a capture; what is zero fits all.
type Match struct {
	Source      netip.Prefix
	Destination netip.Prefix
	Protocol    string // config.ParseProtocol
	SourcePort  uint16
	Port        uint16
}

// Rule is the rule that permits what is selected.
func (m Match) Rule() (config.ACLRule, error) {
	r := config.ACLRule{Action: "permit", Source: m.Source, Destination: m.Destination, Protocol: m.Protocol}
	if m.Protocol != "" {
		if _, err := config.ParseProtocol(m.Protocol); err != nil {
			return r, err
		}
	}
	if m.Source.IsValid() && m.Destination.IsValid() && m.Source.Addr().Is4() != m.Destination.Addr().Is4() {
		return r, errors.New("source and destination are of different families")
	}
	for _, x := range []struct {
		port uint16
		to   *[]string
	}{{m.SourcePort, &r.SourcePorts}, {m.Port, &r.Ports}} {
		if x.port != 0 {
			*x.to = []string{fmt.Sprint(x.port)}
		}
	}
	return r, nil
}

func (m Match) add(f fields) {
	f.prefix("source", m.Source)
	f.prefix("destination", m.Destination)
	f.str("protocol", m.Protocol)
	f.num("source-port", int(m.SourcePort))
	f.num("port", int(m.Port))
}

func (p *params) match() (m Match) {
	m = Match{Source: p.prefix("source"), Destination: p.prefix("destination"), Protocol: p.str("protocol"),
		SourcePort: uint16(p.num("source-port", 0, 65535)), Port: uint16(p.num("port", 0, 65535))}
	if _, err := m.Rule(); err != nil && p.err == nil {
		p.err = err
	}
	return m
}

// Sampling asks what is sampled.
func (c *Client) Sampling(ctx context.Context) (Sampling, error) {
	return get[Sampling](ctx, c, "/v1/sampling", url.Values{})
}

// Mirrors asks for the mirrors.
func (c *Client) Mirrors(ctx context.Context) (Mirrors, error) {
	return get[Mirrors](ctx, c, "/v1/mirrors", url.Values{})
}
