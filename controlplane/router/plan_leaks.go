package router

import (
	"net/netip"
	"reflect"
	"slices"

	"godwit/controlplane/config"
	"godwit/fib"
	"godwit/rib"
)

func viaOf(c *config.Config, a netip.Addr, iface, vrf string, weight uint8) rib.Via {
	v := rib.Via{Address: a.WithZone(""), Interface: config.InterfaceID(c, iface), Weight: weight}
	if vrf != "" {
		v.Foreign, v.VRF = true, config.VRFID(c, vrf)
	}
	return v
}

// hashOf is what the flow hash of a VRF looks at besides addresses and protocol.
func hashOf(c *config.Config, vrf string) fib.HashFields {
	f := c.System.Forwarding
	if v := c.VRF(vrf); v != nil {
		if v.Forwarding.Hash != "" {
			f.Hash = v.Forwarding.Hash
		}
		if v.Forwarding.FlowLabel != nil {
			f.FlowLabel = v.Forwarding.FlowLabel
		}
	}
	fields := fib.HashFields(0)
	if f.Hash == "3-tuple" {
		fields |= fib.HashNoPorts
	}
	if f.FlowLabel != nil && *f.FlowLabel {
		fields |= fib.HashLabel
	}
	return fields
}

func vrfOptions(v *config.VRF) rib.VRFOptions {
	return rib.VRFOptions{
		Name: v.Name, ResolveByDefault: v.ResolveByDefault, EBGP: v.Distances.EBGP, IBGP: v.Distances.IBGP,
		Limit: int(v.Limit.Routes), Refuse: v.Limit.Action == "refuse", Warn: int(uint64(v.Limit.Routes) * uint64(v.Limit.Warn) / 100),
	}
}

// vrfPolicy is what a VRF has beside static routes and BGP, for comparison.
func vrfPolicy(v *config.VRF) config.VRF {
	p := *v
	p.Static, p.BGP = nil, nil
	return p
}

type leakKey struct{ from, to fib.VRF }

// leaksOf pairs exports with imports: one leak for two VRFs, with a rule for
// each target that both have.
func leaksOf(c *config.Config) map[leakKey]rib.SetLeak {
	type export struct {
		from fib.VRF
		rule *config.Leak
	}
	exports := map[string][]export{}
	for i := range c.VRFs {
		for j := range c.VRFs[i].Export {
			l := &c.VRFs[i].Export[j]
			exports[l.Target] = append(exports[l.Target], export{c.VRFs[i].Number(), l})
		}
	}
	leaks := map[leakKey]rib.SetLeak{}
	for i := range c.VRFs {
		to := c.VRFs[i].Number()
		for j := range c.VRFs[i].Import {
			in := &c.VRFs[i].Import[j]
			for _, x := range exports[in.Target] {
				if x.from == to {
					continue
				}
				k := leakKey{x.from, to}
				l := leaks[k]
				l.From, l.To = k.from, k.to
				l.Rules = append(l.Rules, rib.LeakRule{Export: leakMatch(c, x.rule), Import: leakMatch(c, in), Distance: in.Distance})
				leaks[k] = l
			}
		}
	}
	return leaks
}

func leakMatch(c *config.Config, l *config.Leak) rib.Match {
	m := rib.Match{Prefixes: prefixRules(c, l.PrefixList), Tags: l.Tags, Communities: l.Communities}
	for _, name := range l.Protocols {
		if p, ok := rib.ParseProtocol(name); ok {
			m.Protocols = append(m.Protocols, p)
		}
	}
	return m
}

// prefixRules are the rules of a prefix list; a list without rules refuses all.
func prefixRules(c *config.Config, name string) []rib.PrefixRule {
	l := c.PrefixList(name)
	if l == nil {
		return nil
	}
	rules := make([]rib.PrefixRule, 0, len(l.Rules)+2)
	for _, r := range l.Rules {
		least, most := r.Lengths()
		rules = append(rules, rib.PrefixRule{Prefix: r.Prefix, Min: least, Max: most, Deny: r.Deny})
	}
	return append(rules,
		rib.PrefixRule{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Max: 32, Deny: true},
		rib.PrefixRule{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Max: 128, Deny: true})
}

// communities are the names that any filter has: what speakers shall look for.
func communities(c *config.Config) []string {
	var names []string
	for i := range c.VRFs {
		for _, l := range slices.Concat(c.VRFs[i].Import, c.VRFs[i].Export) {
			names = append(names, l.Communities...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// planLeaks makes the updates of leaks between two configurations.
func planLeaks(old, next *config.Config, was map[fib.VRF]bool) (list []rib.Update) {
	before, after := leaksOf(old), leaksOf(next)
	for k := range before {
		if _, ok := after[k]; !ok {
			list = append(list, rib.DeleteLeak{From: k.from, To: k.to})
		}
	}
	for k, l := range after {
		if o, ok := before[k]; !ok || !was[k.from] || !was[k.to] || !reflect.DeepEqual(o, l) {
			list = append(list, l)
		}
	}
	return list
}

// redistRule is one source of redistribution into BGP.
type redistRule struct {
	from  string // connected, static, leaked
	match rib.Match
}

func redistRules(c *config.Config, b *config.BGP) []redistRule {
	var rules []redistRule
	for _, r := range b.Redistribute {
		rules = append(rules, redistRule{r.From, rib.Match{Prefixes: prefixRules(c, r.PrefixList), Tags: r.Tags}})
	}
	return rules
}

// accepts tells whether a chosen route goes to BGP.
func (r *redistRule) accepts(b *rib.BestChange) bool {
	switch {
	case b.Protocol == 0, b.Leaked != (r.from == "leaked"), !b.Leaked && r.from != b.Protocol.String():
		return false
	}
	return r.match.Accepts(b.Prefix, b.Protocol, b.Tag, nil)
}
