package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/osrg/gobgp/v4/api"

	"godwit/cluster/wire"
)

// Names of GoBGP's policies; `gobgp policy` shows them.
const (
	importPolicy = "godwit-import"
	exportPolicy = "godwit-export"
	importSet    = "godwit-import"
)

// setPolicies replaces the policies: the default is to reject, and each
// neighbour has the statements that let through what its policy allows.
func (s *server) setPolicies(cfg wire.SpeakerConfig) error {
	req := makePolicies(&cfg, s.addresses())
	if cfg.AdvertiseFIB {
		req.DefinedSets = append(req.DefinedSets, s.installedSets()...)
	}
	ctx := context.Background()
	if err := s.bgp.SetPolicies(ctx, req); err != nil {
		return fmt.Errorf("set policies: %w", err)
	}
	for _, a := range []*api.PolicyAssignment{
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, Policies: []*api.Policy{{Name: importPolicy}}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT},
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT, Policies: []*api.Policy{{Name: exportPolicy}}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT},
	} {
		if err := s.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("assign policies: %w", err)
		}
	}
	return nil
}

func makePolicies(cfg *wire.SpeakerConfig, addrs []interfaceAddrs) *api.SetPoliciesRequest {
	in := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: importSet}
	imports := &api.Policy{Name: importPolicy, Statements: []*api.Statement{{
		Name:       "import-local",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	exports := &api.Policy{Name: exportPolicy}
	if cfg.AdvertiseFIB {
		exports.Statements = append(exports.Statements, holdStatement())
	}
	req := &api.SetPoliciesRequest{Policies: []*api.Policy{imports, exports}}
	seen := map[netip.Addr]bool{} // link-local twins
	for _, p := range cfg.Neighbors {
		plain := p.Address.WithZone("")
		if seen[plain] {
			continue
		}
		seen[plain] = true
		host := netip.PrefixFrom(plain, plain.BitLen()).String()
		if p.Import == accept {
			in.List = append(in.List, host)
		}
		if p.Export == reject {
			continue
		}
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: "godwit-" + plain.String(), List: []string{host}}
		req.DefinedSets = append(req.DefinedSets, set)
		exports.Statements = append(exports.Statements, exportStatements(cfg, p, set.Name, addrs)...)
	}
	if len(in.List) > 0 { // an empty set would match every neighbour
		req.DefinedSets = append(req.DefinedSets, in)
		imports.Statements = append(imports.Statements, &api.Statement{
			Name:       "import-accept",
			Conditions: &api.Conditions{NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: importSet}},
			Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
		})
	}
	return req
}

// exportStatements lets through what the neighbour gets, a family at a time. A
// next hop of ours that has to be of another family than the session is an
// address of the same interface; without one, the family is not advertised over
// this session: a next hop that nobody can reach is worse.
func exportStatements(cfg *wire.SpeakerConfig, p wire.SpeakerPeer, set string, addrs []interfaceAddrs) []*api.Statement {
	localAS := p.LocalAS
	if localAS == 0 {
		localAS = cfg.AS
	}
	external := p.AS != localAS
	var list []*api.Statement
	add := func(family string, route api.Conditions_RouteType, nextHop *api.NexthopAction) {
		list = append(list, &api.Statement{
			Name: set + "-" + family + "-" + strconv.Itoa(len(list)),
			Conditions: &api.Conditions{
				NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set},
				AfiSafiIn:   []*api.Family{apiFamily(family)},
				RouteType:   route,
				PrefixSet:   fibCondition(cfg, family),
			},
			Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT, Nexthop: nextHop},
		})
	}
	for _, family := range p.Families {
		ours, ok := ownNextHop(p, family, addrs)
		if ok {
			add(family, api.Conditions_ROUTE_TYPE_LOCAL, ours)
		}
		if p.Export != accept {
			continue
		}
		switch {
		case !external && !p.NextHopSelf:
			add(family, api.Conditions_ROUTE_TYPE_EXTERNAL, nil)
			add(family, api.Conditions_ROUTE_TYPE_INTERNAL, nil)
		case ok:
			if ours == nil && p.NextHopSelf {
				ours = &api.NexthopAction{Self: true}
			}
			add(family, api.Conditions_ROUTE_TYPE_EXTERNAL, ours)
			add(family, api.Conditions_ROUTE_TYPE_INTERNAL, ours)
		}
	}
	return list
}

// ownNextHop tells how to set our address as next hop: nil when GoBGP's choice,
// the session's local address, is right.
func ownNextHop(p wire.SpeakerPeer, family string, addrs []interfaceAddrs) (*api.NexthopAction, bool) {
	if (family == ipv6) == p.Address.Is6() {
		return nil, true
	}
	for _, i := range addrs {
		if !i.serves(p) {
			continue
		}
		if a := i.address(family == ipv6); a.IsValid() {
			return &api.NexthopAction{Address: a.String()}, true
		}
	}
	// IPv4 over an IPv6 session works with RFC 8950, which GoBGP offers.
	return nil, family == ipv4
}

// interfaceAddrs is one interface of the namespace with its addresses.
type interfaceAddrs struct {
	name  string
	addrs []netip.Prefix // with host bits
}

// serves tells whether the neighbour is reached through the interface, or the
// session's local address is one of its.
func (i interfaceAddrs) serves(p wire.SpeakerPeer) bool {
	if zone := p.Address.Zone(); zone != "" {
		return zone == i.name
	}
	for _, a := range i.addrs {
		if p.LocalAddress == a.Addr() || !p.LocalAddress.IsValid() && a.Contains(p.Address) {
			return true
		}
	}
	return false
}

// address is a global address of the family, or else an IPv6 link-local one.
func (i interfaceAddrs) address(is6 bool) netip.Addr {
	var ll netip.Addr
	for _, p := range i.addrs {
		switch a := p.Addr(); {
		case a.Is6() != is6:
		case a.IsLinkLocalUnicast():
			ll = a
		default:
			return a
		}
	}
	return ll
}

// listAddresses reads the namespace's interfaces.
func listAddresses() []interfaceAddrs {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []interfaceAddrs
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		e := interfaceAddrs{name: i.Name}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if p, err := netip.ParsePrefix(n.String()); err == nil {
					e.addrs = append(e.addrs, p)
				}
			}
		}
		list = append(list, e)
	}
	return list
}
