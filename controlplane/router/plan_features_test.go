package router

import (
	"net"
	"testing"

	"godwit/controlplane/config"
	"godwit/fib"
)

// TestPlanFeatures: each card gets what its interfaces use, and nothing else.
func TestPlanFeatures(t *testing.T) {
	c, err := config.Parse("x", []byte(`
cards: [{id: 1, ports: [{device: span0, mode: generic, express: true}]}, {id: 2}]
system: {express: true}
acls:
  - {name: edge, rules: [{action: deny, protocol: tcp, ports: [22, 1000-2000], flags: ["!syn"]}, {action: permit}]}
  - {name: web, rules: [{action: permit, protocol: udp}]}
sampling: {collectors: [{name: c, protocol: ipfix, vrf: red, address: 10.0.1.9}]}
mirrors: [{name: m, interfaces: [a], device: span0, direction: in, acl: web, snap: 64}]
vrfs: [{name: red}]
interfaces:
  - {name: a, card: 1, device: e0, vrf: red, addresses: [10.0.0.1/24], acl-in: edge, source-check: loose, sampling: 7}
  - {name: b, card: 2, device: e1, vrf: red, addresses: [10.0.1.1/24], policer-out: 10M}
`))
	if err != nil {
		t.Fatal(err)
	}
	cards := planCards(c, newHostPaths("g", "/run/g"), map[fib.InterfaceID]net.HardwareAddr{})
	one, two := cards[1], cards[2]
	if len(one.ACLs) != 1 || one.ACLs[0].Name != "edge" || len(two.ACLs) != 0 || len(one.Mirrors) != 1 || len(two.Mirrors) != 0 {
		t.Fatalf("card 1 %+v\ncard 2 %+v", one, two)
	}
	r := one.ACLs[0].Rules[0]
	if !r.Deny || *r.Protocol != 6 || len(r.DstPorts) != 2 || r.DstPorts[1].First != 1000 || r.DstPorts[1].Last != 2000 || r.FlagsClear != 2 || one.ACLs[0].Rules[1].Deny {
		t.Errorf("rules %+v", one.ACLs[0].Rules)
	}
	a, b := one.Interfaces[0], two.Interfaces[0]
	if a.Sample != 7 || a.Ingress == nil || a.Ingress.ACL != "edge" || a.Ingress.RPF != "loose" || a.Egress != nil {
		t.Errorf("interface a %+v", a)
	}
	if b.Sample != 0 || b.Ingress != nil || b.Egress == nil || b.Egress.Policer.Rate != 10_000_000 || b.Egress.Policer.Exceed != -1 {
		t.Errorf("interface b %+v", b)
	}
	m, span := one.Mirrors[0], one.Ports[1]
	if m.Port != span.ID || span.Device != "span0" || span.Mode != "generic" || span.Express || !m.In || m.Out || m.Snap != 64 ||
		len(m.Interfaces) != 1 || m.Interfaces[0] != a.ID || len(m.Rules) != 1 {
		t.Errorf("mirror %+v to %+v", m, span)
	}
	for _, k := range []fib.CardID{1, 2} {
		s := cards[k].Sampling
		if s == nil || len(s.Collectors) != 1 || s.Collectors[0].Port != 4739 || s.Collectors[0].Source.String() != "10.0.0.1" || s.Agent.String() != "10.0.0.1" {
			t.Errorf("card %d: sampling %+v", k, s)
		}
	}
}
