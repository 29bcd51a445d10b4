package router

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"godwit/controlplane/config"
	"godwit/fib"
	"godwit/rib"
)

const leaky = `
cards: [{id: 1}]
prefix-lists:
  - name: some
    rules: [{prefix: 10.2.1.0/24, deny: true}, {prefix: 10.2.0.0/16, ge: 24, le: 24}]
  - {name: none, rules: []}
vrfs:
  - name: red
    id: 7
    export: [{target: "65000:1", prefix-list: some}, {target: "65000:2", tags: [9]}, {target: "65000:3", prefix-list: none}]
    static: [{prefix: 10.2.1.0/24, blackhole: true}, {prefix: 10.2.2.0/24, blackhole: true}, {prefix: 10.2.0.0/16, reject: true, tag: 9}]
  - name: blue
    id: 8
    import: ["65000:1", {target: "65000:2", distance: 50}, "65000:3"]
    export: ["65000:1"]
    static: [{prefix: 10.9.0.0/16, via: [{address: 10.0.0.2, vrf: red}], track: [{interface: a, vrf: red}]}]
    bgp:
      as: 65000
      router-id: 1.1.1.1
      redistribute: [connected, {from: static, tags: [3]}, {from: leaked, prefix-list: some}]
      neighbors:
        - {address: "2001:db8::2", as: 65001, import: accept, export: local}
        - {address: 203.0.113.9, as: 65002, multihop: 3, import: accept, export: local}
interfaces:
  - {name: a, card: 1, device: e1, vrf: red, addresses: [10.0.0.1/24]}
  - {name: b, card: 1, device: e2, vrf: blue, addresses: ["2001:db8::1/64"]}
`

func applied(table *rib.Table, old, next *config.Config, up map[string]bool) {
	list, gone := planRIB(old, next, func(f *config.Interface) bool { return up[f.Name] }, nil)
	table.Apply(append(list, gone...)...)
	for table.More() {
		table.Apply()
	}
}

// leakedInto lists what another VRF gave to one.
func leakedInto(table *rib.Table, v fib.VRF) string {
	var out []string
	list, _, _ := table.Page(v, rib.Filter{Leaked: true}, rib.Cursor{}, 100)
	for _, r := range list {
		out = append(out, r.Prefix.String())
	}
	return strings.Join(out, " ")
}

// TestPlanHashAndBackups: the system's choice, a VRF's own, and what a via says.
func TestPlanHashAndBackups(t *testing.T) {
	c := mustConfig(t, `
system: {forwarding: {hash: 3-tuple, flow-label: true}}
cards: [{id: 1}]
vrfs:
  - {name: a, id: 1, forwarding: {hash: 5-tuple}}
  - {name: b, id: 2, forwarding: {flow-label: false}}
  - {name: c, id: 3, static: [{prefix: 10.0.0.0/8, via: [{address: 192.0.2.1, weight: 2}, {address: 192.0.2.2, backup: true}]}]}
`)
	got := map[fib.VRF]fib.HashFields{}
	for _, v := range planCards(c, newHostPaths("t", "/run"), nil)[1].VRFs {
		got[v.ID] = v.Hash
	}
	want := map[fib.VRF]fib.HashFields{0: fib.HashNoPorts | fib.HashLabel, 1: fib.HashLabel, 2: fib.HashNoPorts, 3: fib.HashNoPorts | fib.HashLabel}
	if !maps.Equal(got, want) {
		t.Errorf("hash fields %v, want %v", got, want)
	}
	for _, v := range planCards(mustConfig(t, "cards: [{id: 1}]"), newHostPaths("t", "/run"), nil)[1].VRFs {
		if v.Hash != 0 {
			t.Errorf("without a word: %v", v.Hash)
		}
	}
	express := func(text string) bool {
		c := mustConfig(t, text+"\ninterfaces: [{name: i, card: 1, device: e1, addresses: [192.0.2.1/24]}]")
		return planCards(c, newHostPaths("t", "/run"), nil)[1].Ports[0].Express
	}
	for text, want := range map[string]bool{
		"cards: [{id: 1}]": false, "system: {express: true}\ncards: [{id: 1}]": true, "system: {express: false}\ncards: [{id: 1}]": false,
		"cards: [{id: 1, ports: [{device: e1, express: false}]}]":                          false,
		"system: {express: false}\ncards: [{id: 1, ports: [{device: e1, express: true}]}]": true,
	} {
		if express(text) != want {
			t.Errorf("%s: express %v", text, !want)
		}
	}
	for _, r := range staticsOf(c, nil) {
		if len(r.Vias) != 2 || r.Vias[0].Backup || !r.Vias[1].Backup || r.Vias[0].Weight != 2 {
			t.Errorf("next hops %+v", r.Vias)
		}
	}
}

func TestPlanLeaks(t *testing.T) {
	c := mustConfig(t, leaky)
	table := rib.New(rib.Options{})
	up := map[string]bool{"a": true, "b": true}
	applied(table, &config.Config{}, c, up)
	// 10.2.2.0/24 by the first target, 10.2.0.0/16 by its tag; the list without rules gives nothing
	if got := leakedInto(table, 8); got != "10.2.0.0/16 10.2.2.0/24" {
		t.Errorf("leaked into blue: %s", got)
	}
	if got := leakedInto(table, 7); got != "" {
		t.Errorf("red imports nothing, and has %s", got)
	}
	r := table.Lookup(8, netip.MustParseAddr("10.2.3.1"))
	if len(r) != 1 || r[0].Candidates[0].Distance != 50 || r[0].Candidates[0].Origin != 7 {
		t.Errorf("10.2.0.0/16 in blue: %+v", r)
	}
	if r := table.Lookup(8, netip.MustParseAddr("10.9.0.1")); len(r) != 1 || r[0].Group == 0 {
		t.Errorf("next hop in red: %+v", r)
	}
	if n := table.Stats().Rejected; n != 0 {
		t.Errorf("%d updates rejected: %v", n, table.Stats().LastReject)
	}
	// the same again changes nothing; without the import it goes
	table.Drain()
	applied(table, c, c, up)
	if d := table.Drain(); len(d) != 0 {
		t.Errorf("the same configuration made %d changes", len(d))
	}
	less := mustConfig(t, strings.Replace(leaky, `    import: ["65000:1", {target: "65000:2", distance: 50}, "65000:3"]`, "", 1))
	applied(table, c, less, up)
	if got := leakedInto(table, 8); got != "" {
		t.Errorf("still leaked: %s", got)
	}
	lines := describe(c, less)
	if len(lines) != 1 || lines[0] != "vrf blue routing: changed" {
		t.Errorf("described as %q", lines)
	}
	// what is tracked goes down
	applied(table, less, less, map[string]bool{"b": true})
	if r := table.Lookup(8, netip.MustParseAddr("10.9.0.1")); len(r) != 1 || r[0].Group != 0 {
		t.Errorf("tracked interface is down, the route is %+v", r)
	}
}

func TestRedistributionRules(t *testing.T) {
	p := planSpeakers(mustConfig(t, leaky))[8]
	for _, c := range []struct {
		b    rib.BestChange
		want bool
	}{
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Protocol: rib.Connected}, true},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Protocol: rib.Connected, Leaked: true}, false},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.2.2.0/24"), Protocol: rib.BGP, Leaked: true}, true},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.2.1.0/24"), Protocol: rib.BGP, Leaked: true}, false},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.2.2.0/24"), Protocol: rib.Static}, false},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.2.2.0/24"), Protocol: rib.Static, Tag: 3}, true},
		{rib.BestChange{Prefix: netip.MustParsePrefix("10.2.2.0/24")}, false},
	} {
		if got := p.redistributes(&c.b); got != c.want {
			t.Errorf("%+v: %v", c.b, got)
		}
	}
}

func TestLinkLocalNextHopOfAGlobalPeer(t *testing.T) {
	c := mustConfig(t, leaky)
	p := planSpeakers(c)[8]
	if id := p.zones[netip.MustParseAddr("2001:db8::2")]; id == 0 || id != config.InterfaceID(c, "b") {
		t.Errorf("the peer is on interface %d", id)
	}
	if id, ok := p.zones[netip.MustParseAddr("203.0.113.9")]; ok {
		t.Errorf("the peer far away is on interface %d", id)
	}
}
