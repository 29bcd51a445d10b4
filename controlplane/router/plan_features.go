package router

import (
	"slices"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
)

// planFeatures adds sampling and mirrors to a card's desired state, which has its interfaces.
func planFeatures(c *config.Config, k config.Card, w *wire.CardConfig) {
	w.Sampling = planSampling(c)
	for i := range c.ACLs {
		used := func(g *wire.GuardConfig) bool { return g != nil && g.ACL == c.ACLs[i].Name }
		if slices.ContainsFunc(w.Interfaces, func(f wire.InterfaceConfig) bool { return used(f.Ingress) || used(f.Egress) }) {
			w.ACLs = append(w.ACLs, wire.ACLConfig{Name: c.ACLs[i].Name, Rules: wireRules(c.ACLs[i].Rules)})
		}
	}
	for _, m := range c.MirrorsOf(k.ID) {
		x := wire.MirrorConfig{Name: m.Name, In: m.Direction != "out", Out: m.Direction != "in", Port: config.PortID(k.ID, m.Device), Snap: m.Snap}
		for _, name := range m.Interfaces {
			x.Interfaces = append(x.Interfaces, config.InterfaceID(c, name))
		}
		if l := c.ACL(m.ACL); l != nil {
			x.Rules = wireRules(l.Rules)
		}
		if !slices.ContainsFunc(w.Ports, func(p wire.PortConfig) bool { return p.ID == x.Port }) {
			p := portConfig(k, x.Port, m.Device, false)
			p.Express = false
			w.Ports = append(w.Ports, p)
		}
		w.Mirrors = append(w.Mirrors, x)
	}
}

func planSampling(c *config.Config) *wire.SamplingConfig {
	s := c.Sampling
	if s == nil || len(s.Collectors) == 0 {
		return nil
	}
	out := &wire.SamplingConfig{Agent: s.Agent, Header: s.Header, Counters: *s.Counters, Templates: s.Templates}
	for _, k := range s.Collectors {
		out.Collectors = append(out.Collectors, wire.SampleCollector{Name: k.Name, Protocol: k.Protocol, VRF: config.VRFID(c, k.VRF),
			Address: k.Address, Port: k.Port, Source: k.Source})
	}
	return out
}

// wireRules are rules of a valid configuration, as cards have them.
func wireRules(list []config.ACLRule) []wire.FilterRule {
	out := make([]wire.FilterRule, len(list))
	for i := range list {
		r := &list[i]
		set, clear, _ := config.ParseFlags(r.Flags)
		out[i] = wire.FilterRule{Deny: r.Action == "deny", Log: r.Log, Family: map[string]uint8{"ipv4": 4, "ipv6": 6}[r.Family],
			Source: r.Source, Destination: r.Destination, SrcPorts: wirePorts(r.SourcePorts), DstPorts: wirePorts(r.Ports),
			FlagsSet: set, FlagsClear: clear, DSCP: r.DSCP, ICMPType: r.ICMPType, Fragments: r.Fragments, VLAN: r.VLAN}
		if r.Protocol != "" {
			n, _ := config.ParseProtocol(r.Protocol)
			out[i].Protocol = &n
		}
	}
	return out
}

func wirePorts(list []string) (out []wire.PortRange) {
	for _, s := range list {
		p, _ := config.ParsePorts(s)
		out = append(out, wire.PortRange(p))
	}
	return out
}

// guardOf is one direction of an interface; nil: nothing is done.
func guardOf(acl, check string, p *config.Policer) *wire.GuardConfig {
	if acl == "" && check == "" && p == nil {
		return nil
	}
	g := &wire.GuardConfig{ACL: acl, RPF: check}
	if p != nil {
		n, _, _ := p.Values() // the configuration is valid
		g.Policer = &wire.PolicerConfig{Rate: n.Rate, Burst: n.Burst, Peak: n.Peak, PeakBurst: n.PeakBurst, Exceed: n.Exceed}
	}
	return g
}
