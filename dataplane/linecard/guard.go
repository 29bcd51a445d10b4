package linecard

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"godwit/cluster/wire"
	"godwit/dataplane/filter"
	"godwit/dataplane/guard"
	"godwit/fib"
)

// policy is a configured policy and what the workers have of it.
type policy struct {
	cfg   wire.GuardConfig
	rules []wire.FilterRule
	*guard.Policy
}

// policyKey is a direction of an interface.
type policyKey struct {
	id  fib.InterfaceID
	out bool
}

// policies are a card's.
type policies struct {
	m   map[policyKey]*policy
	log *guard.Log
}

func newPolicies() *policies {
	return &policies{m: make(map[policyKey]*policy), log: guard.NewLog()}
}

var rpfModes = map[string]guard.RPF{"": guard.NoRPF, "strict": guard.Strict, "loose": guard.Loose}

// makePolicy compiles a policy.
func (s *policies) makePolicy(key policyKey, c *wire.GuardConfig, acls []wire.ACLConfig) (*policy, error) {
	x := &policy{cfg: *c}
	var list *filter.List
	if c.ACL != "" {
		i := slices.IndexFunc(acls, func(a wire.ACLConfig) bool { return a.Name == c.ACL })
		if i < 0 || len(acls[i].Rules) == 0 {
			return nil, fmt.Errorf("no rules of ACL %q", c.ACL)
		}
		x.rules = acls[i].Rules
		var err error
		if list, err = compile(x.rules); err != nil {
			return nil, fmt.Errorf("ACL %s: %w", c.ACL, err)
		}
	}
	mode, ok := rpfModes[c.RPF]
	if !ok || mode != guard.NoRPF && key.out {
		return nil, fmt.Errorf("check of sources %q", c.RPF)
	}
	x.Policy = guard.NewPolicy(key.id, key.out, list)
	x.RPF, x.Log = mode, s.log
	if p := c.Policer; p != nil {
		var err error
		if x.Policer, err = guard.NewPolicer(guard.Rate{Rate: p.Rate, Burst: p.Burst, Peak: p.Peak, PeakBurst: p.PeakBurst, Exceed: p.Exceed}); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// directions are an interface's policies as configured.
func directions(f *wire.InterfaceConfig) map[policyKey]*wire.GuardConfig {
	m := make(map[policyKey]*wire.GuardConfig)
	if f.Ingress != nil {
		m[policyKey{f.ID, false}] = f.Ingress
	}
	if f.Egress != nil {
		m[policyKey{f.ID, true}] = f.Egress
	}
	return m
}

// checkGuards refuses what can't be done.
func (a *Agent) checkGuards(cfg *wire.CardConfig) error {
	for i := range cfg.Interfaces {
		f := &cfg.Interfaces[i]
		for key, c := range directions(f) {
			if _, err := a.policies.makePolicy(key, c, cfg.ACLs); err != nil {
				return fmt.Errorf("interface %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

// setGuards follows the configuration; a policy that stays keeps its counters and buckets.
func (a *Agent) setGuards() {
	next := make(map[policyKey]*policy)
	for i := range a.cfg.Interfaces {
		for key, c := range directions(&a.cfg.Interfaces[i]) {
			p, err := a.policies.makePolicy(key, c, a.cfg.ACLs)
			if err != nil {
				continue // checkGuards has refused it
			}
			if old := a.policies.m[key]; old != nil && reflect.DeepEqual(old.cfg, p.cfg) && reflect.DeepEqual(old.rules, p.rules) {
				p = old
			}
			next[key] = p
		}
	}
	a.policies.m = next
}

// policyOf is what the workers use; nil: none.
func (a *Agent) policyOf(id fib.InterfaceID, out bool) *guard.Policy {
	if p := a.policies.m[policyKey{id, out}]; p != nil {
		return p.Policy
	}
	return nil
}

// guarding tells which directions of a port have policies: they go through the workers.
func (a *Agent) guarding(id fib.PortID) (in, out bool) {
	for i := range a.cfg.Interfaces {
		if f := &a.cfg.Interfaces[i]; f.Port == id {
			in, out = in || f.Ingress != nil, out || f.Egress != nil
		}
	}
	return in, out
}

// logGuards writes what rules with "log" fitted.
func (a *Agent) logGuards() {
	for {
		e, ok := a.policies.log.Take()
		if !ok {
			return
		}
		p := a.policies.m[policyKey{e.Policy.Interface, e.Policy.Out}]
		f := a.ifaces[e.Policy.Interface]
		if p == nil || p.Policy != e.Policy || f == nil {
			continue
		}
		action, direction := "permitted", "in"
		if !e.Policy.ACL.Permits(e.Rule) {
			action = "denied"
		}
		if e.Policy.Out {
			direction = "out"
		}
		src, dst := addressesOf(&e.Key)
		a.log.Info("packet "+action, "acl", p.cfg.ACL, "rule", e.Rule+1, "interface", f.cfg.Name, "direction", direction,
			"source", src, "destination", dst, "protocol", e.Key.Protocol, "source-port", e.Key.SrcPort, "port", e.Key.DstPort)
	}
}

func addressesOf(k *filter.Key) (src, dst netip.Addr) {
	addr := func(hi, lo uint64) netip.Addr {
		if k.Family == 4 {
			return netip.AddrFrom4([4]byte{byte(lo >> 24), byte(lo >> 16), byte(lo >> 8), byte(lo)})
		}
		var b [16]byte
		for i := range 8 {
			b[i], b[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
		}
		return netip.AddrFrom16(b)
	}
	return addr(k.SrcHi, k.SrcLo), addr(k.DstHi, k.DstLo)
}

// guardList answers GetGuards.
func (a *Agent) guardList() wire.GuardList {
	list := wire.GuardList{Card: a.opt.Card, Guards: []wire.GuardStatus{}, Unlogged: a.policies.log.Left()}
	for i := range a.cfg.Interfaces {
		for _, out := range []bool{false, true} {
			p := a.policies.m[policyKey{a.cfg.Interfaces[i].ID, out}]
			if p == nil {
				continue
			}
			hits, spoofed := p.Stats()
			s := wire.GuardStatus{Interface: p.Interface, Out: out, ACL: p.cfg.ACL, RPF: p.cfg.RPF, Spoofed: spoofed}
			if n := len(hits); n > 0 {
				s.Hits, s.Unfitted = hits[:n-1], hits[n-1]
			}
			if p.Policer != nil {
				packets, bytes := p.Policer.Stats()
				s.Policer = &wire.PolicerStatus{PolicerConfig: *p.cfg.Policer, Packets: packets[guard.Green], Bytes: bytes[guard.Green],
					OverPackets: packets[guard.Yellow], OverBytes: bytes[guard.Yellow], DropPackets: packets[guard.Red], DroppedBytes: bytes[guard.Red]}
			}
			list.Guards = append(list.Guards, s)
		}
	}
	return list
}
