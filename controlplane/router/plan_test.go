package router

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/controlplane/config"
	"godwit/fib"
	"godwit/rib"
)

func TestPlanCards(t *testing.T) {
	c := mustConfig(t, `
cards:
  - id: 1
    ports: [{device: eth1, mode: generic, queues: 2}]
  - id: 2
interfaces:
  - {name: a, card: 1, device: eth1, vlan: 10, addresses: [10.0.0.1/24], neighbors: [{address: 10.0.0.9, mac: "02:00:00:00:00:09"}]}
  - {name: b, card: 1, device: eth1, vlan: 11, addresses: [10.0.1.1/24], shutdown: true}
  - {name: c, card: 2, device: eth2, addresses: [10.0.2.1/24, "fe80::5/64"]}
`)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macs := map[fib.InterfaceID]net.HardwareAddr{config.InterfaceID(c, "a"): mac, config.InterfaceID(c, "c"): mac}
	cards := planCards(c, newHostPaths("gwt", "/run/x"), macs)
	one, two := cards[1], cards[2]
	if len(cards) != 2 || len(one.Ports) != 1 || one.Ports[0].Mode != "generic" || one.Ports[0].Queues != 2 || two.Ports[0].Mode != "auto" {
		t.Errorf("ports: %+v %+v", one.Ports, two.Ports)
	}
	if len(one.Interfaces) != 2 || one.Interfaces[0].VLAN != 10 || !one.Interfaces[1].Down || one.Interfaces[0].MTU != 1500 {
		t.Errorf("interfaces: %+v", one.Interfaces)
	}
	if got := one.Interfaces[0].Addresses; len(got) != 2 || got[1] != netip.MustParsePrefix("fe80::ff:fe00:1/64") {
		t.Errorf("addresses with the MAC known: %v", got)
	}
	if got := two.Interfaces[0].Addresses; len(got) != 2 {
		t.Errorf("addresses with a configured link-local one: %v", got)
	}
	if len(one.Neighbors) != 1 || len(two.Neighbors) != 0 || one.FabricDir != "/run/x/fabric" || len(one.Cards) != 2 {
		t.Errorf("card 1: %+v", one)
	}
	if len(one.VRFs) != 1 || one.VRFs[0].NetNS != "/run/netns/gwt-default" || one.VRFs[0].TUN != "vrf0" {
		t.Errorf("VRFs: %+v", one.VRFs)
	}
	if c.Interfaces[0].Addresses[0] != netip.MustParsePrefix("10.0.0.1/24") || len(c.Interfaces[0].Addresses) != 1 {
		t.Error("the configuration was changed")
	}
}

func TestPlanHostMovesAndRemoves(t *testing.T) {
	old := mustConfig(t, `
cards: [{id: 1}]
vrfs: [{name: red}, {name: blue}]
interfaces:
  - {name: a, card: 1, device: e1, vrf: red, addresses: [10.0.0.1/24]}
  - {name: b, card: 1, device: e2, vrf: red, addresses: [10.0.1.1/24]}
  - {name: c, card: 1, device: e3, vrf: blue, addresses: [10.0.2.1/24]}
`)
	next := mustConfig(t, `
cards: [{id: 1}]
vrfs: [{name: red}]
interfaces:
  - {name: a, card: 1, device: e1, addresses: [10.0.0.1/24]}
`)
	p := planHost(old, next, nil)
	if !slices.Equal(p.addVRFs, []string{"default", "red"}) || !slices.Equal(p.removeVRFs, []string{"blue"}) {
		t.Errorf("VRFs: %+v", p)
	}
	// c goes with its VRF; a moves, b goes
	var removed []string
	for _, i := range p.removeIfs {
		removed = append(removed, i.vrf+"/"+i.Name)
	}
	if !slices.Equal(removed, []string{"red/a", "red/b"}) || len(p.setIfs) != 1 || p.setIfs[0].vrf != "default" {
		t.Errorf("removed %q, set %+v", removed, p.setIfs)
	}
}

func TestPlanRIB(t *testing.T) {
	old := mustConfig(t, `
cards: [{id: 1}]
vrfs:
  - name: red
    id: 7
    static: [{prefix: 10.1.0.0/16, blackhole: true}, {prefix: 10.2.0.0/16, reject: true}, {prefix: 10.3.0.0/16, via: [{interface: a}]}]
  - {name: blue, id: 8}
interfaces:
  - {name: a, card: 1, device: e1, vrf: red, addresses: [10.0.0.1/24]}
  - {name: b, card: 1, device: e2, vrf: red, addresses: [10.0.1.1/24]}
`)
	next := mustConfig(t, `
cards: [{id: 1}]
vrfs:
  - name: red
    id: 7
    static: [{prefix: 10.1.0.0/16, blackhole: true, tag: 5}, {prefix: 10.3.0.0/16, via: [{interface: a}]}]
interfaces:
  - {name: a, card: 1, device: e1, vrf: red, addresses: [10.0.0.1/24]}
`)
	table := rib.New(rib.Options{})
	empty := &config.Config{}
	up := func(*config.Interface) bool { return true }
	list, gone := planRIB(empty, old, up, nil)
	table.Apply(append(list, gone...)...)
	if n, _ := table.Count(7); n != 7 {
		t.Errorf("%d routes at first", n)
	}
	list, gone = planRIB(old, next, up, nil)
	var sets, deletes int
	for _, u := range list {
		switch u := u.(type) {
		case rib.SetStatic:
			sets++
			if u.Route.Tag != 5 {
				t.Errorf("set again: %+v", u)
			}
		case rib.DeleteStatic:
			deletes++
		}
	}
	if sets != 1 || deletes != 1 || len(gone) != 1 {
		t.Errorf("%d set, %d deleted, %d removals", sets, deletes, len(gone))
	}
	table.Apply(append(list, gone...)...)
	for table.More() {
		table.Apply()
	}
	if n, _ := table.Count(7); n != 4 || table.Stats().VRFs != 2 || table.Stats().Rejected != 0 {
		t.Errorf("%d routes, %+v", n, table.Stats())
	}
}

func TestPlanSpeakersFindLinkLocalInterfaces(t *testing.T) {
	c := mustConfig(t, `
cards: [{id: 1}]
vrfs:
  - name: red
    id: 7
    bgp:
      as: 64500
      router-id: 10.0.0.1
      neighbors:
        - {address: "fe80::2%a", as: 64501, import: accept, export: local}
interfaces:
  - {name: a, card: 1, device: e1, vrf: red, addresses: [10.0.0.1/24]}
`)
	p := planSpeakers(c)[7]
	peer := netip.MustParseAddr("fe80::2")
	if w := p.cfg.Neighbors[0]; w.Address != peer || w.Interface != "a" || p.zones[peer] != config.InterfaceID(c, "a") {
		t.Errorf("%+v, zones %v", w, p.zones)
	}
	if p.cfg.GracefulRestart != config.DefaultGracefulRestart || p.cfg.Multipath != 1 {
		t.Errorf("defaults: %+v", p.cfg)
	}
}

func TestDescribe(t *testing.T) {
	old := mustConfig(t, "cards: [{id: 1}]\nvrfs: [{name: red, static: [{prefix: 10.0.0.0/8, reject: true}]}, {name: blue}]\n")
	next := mustConfig(t, "system: {hostname: x}\ncards: [{id: 1, workers: 2}, {id: 2}]\nvrfs: [{name: red, static: [{prefix: 10.0.0.0/8, blackhole: true}]}]\n")
	want := "system: changed\ncard 1: changed\ncard 2: added\nvrf red static 10.0.0.0/8 distance 1: changed\nvrf blue: removed"
	if got := strings.Join(describe(old, next), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := describe(next, next); len(got) != 0 || got == nil {
		t.Errorf("no difference: %#v", got)
	}
	same := "system: {express: true, management: {operators: [root]}}\ncards: [{id: 1}]\n"
	if got := describe(mustConfig(t, same), mustConfig(t, same)); len(got) != 0 {
		t.Errorf("read twice: %q", got)
	}
}

func TestGate(t *testing.T) {
	var g gate
	g.wait("a")
	g.wait("b")
	if g.done("a") || g.check() {
		t.Error("open too soon")
	}
	if !g.done("b") || g.done("b") {
		t.Error("does not open once")
	}
	var forgotten gate
	forgotten.wait("a")
	forgotten.only(map[string]bool{})
	if !forgotten.check() {
		t.Error("waits for what is not configured")
	}
	var late gate
	late.wait("a")
	if missing, opened := late.expire(); !opened || !slices.Equal(missing, []string{"a"}) {
		t.Errorf("expire: %v %v", missing, opened)
	}
	if _, opened := late.expire(); opened || late.done("a") {
		t.Error("opens twice")
	}
}

func TestRestartTimeOf(t *testing.T) {
	if d := restartTimeOf(&config.Config{}); d != 10*time.Second+syncGrace {
		t.Errorf("without BGP: %v", d)
	}
	long := 300 * time.Second
	c := &config.Config{VRFs: []config.VRF{{BGP: &config.BGP{}}, {BGP: &config.BGP{GracefulRestart: &long}}}}
	if d := restartTimeOf(c); d != long+syncGrace {
		t.Errorf("longest: %v", d)
	}
}

func TestStoreKeepsOldOnError(t *testing.T) {
	s := store{t.TempDir()}
	c, saved, err := s.load("")
	if err != nil || saved || len(c.Cards) != 0 {
		t.Fatalf("load nothing: %+v %v %v", c, saved, err)
	}
	if err := s.save(mustConfig(t, "cards: [{id: 3}]\n")); err != nil {
		t.Fatal(err)
	}
	if c, saved, err = s.load(""); err != nil || !saved || c.Cards[0].ID != 3 {
		t.Errorf("load: %+v %v %v", c, saved, err)
	}
	if err := (store{"/proc/nowhere"}).save(c); err == nil {
		t.Error("saved to nowhere")
	}
}

func FuzzCaptureFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 14))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := decodeFrame(b)
		if (err == nil) != (len(b) > captureHeader) || err == nil && len(fr.Data) != len(b)-captureHeader {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	})
}

func TestStartFileCountsOnce(t *testing.T) {
	dir := t.TempDir()
	if restarted(dir, 77) {
		t.Error("restarted before it started")
	}
	if err := markStart(dir, 77); err != nil {
		t.Fatal(err)
	}
	if !restarted(dir, 77) || restarted(dir, 78) {
		t.Error("does not tell supervisors apart")
	}
	if err := markStart(dir, 0); err != nil || restarted(dir, 0) {
		t.Errorf("without a supervisor: %v", err)
	}
	if err := unmarkStart(dir); err != nil || restarted(dir, 77) || unmarkStart(dir) != nil {
		t.Errorf("unmark: %v", err)
	}
}
