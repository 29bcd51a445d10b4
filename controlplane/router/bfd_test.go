package router

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
)

const withBFD = `
cards: [{id: 1}]
vrfs:
  - name: red
    id: 7
    static:
      - {prefix: 203.0.113.0/24, via: [{address: 10.0.0.2, bfd: true}, {address: 10.0.0.3}]}
      - {prefix: 198.51.100.0/24, via: [{address: 10.0.0.2, bfd: true}]}
    bgp:
      as: 64500
      router-id: 10.0.0.1
      neighbors:
        - {address: 10.0.0.2, as: 64501, import: accept, export: accept, bfd: true}
        - {address: 10.9.0.2, as: 64501, import: accept, export: accept, multihop: 4, local-address: 10.0.0.1, bfd: {interval: 50ms, min-ttl: 250, auth: {type: sha1, key-id: 9, key: k}}}
interfaces:
  - {name: up-red, card: 1, device: eth1, vrf: red, addresses: [10.0.0.1/24]}
`

// bfd tells of a session as the card would.
func (c *cardTwin) bfd(st wire.BFDStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.sess.SendJSON(wire.BFDEvent, st)
}

func TestPlanBFD(t *testing.T) {
	cfg := mustConfig(t, withBFD)
	card := planCards(cfg, newHostPaths("x", "/run"), nil)[1]
	if len(card.BFD) != 2 {
		t.Fatalf("%d sessions: %+v", len(card.BFD), card.BFD)
	}
	one, far := card.BFD[0], card.BFD[1]
	if one.Interface != config.InterfaceID(cfg, "up-red") || one.VRF != 7 || one.MinTx != 300*time.Millisecond || one.Multiplier != 3 || one.Local.IsValid() {
		t.Errorf("on the link: %+v", one)
	}
	if far.Interface != 0 || far.Local != netip.MustParseAddr("10.0.0.1") || far.MinTTL != 250 || far.Auth != "sha1" || far.KeyID != 9 || far.Key != "k" || far.MinRx != 50*time.Millisecond {
		t.Errorf("several hops: %+v", far)
	}
}

// TestBFDMovesRoutesAndBGP: static routes leave a next hop whose session is down
// and return; a failure ends the BGP session once; an administrator's word does neither.
func TestBFDMovesRoutesAndBGP(t *testing.T) {
	g := newRig(t)
	c := newCardTwin(1)
	g.card(c)
	sp := &speakerTwin{vrf: 7, routes: announce(10, "10.0.0.2")}
	g.speaker(sp)
	g.start(withBFD)
	red := config.InterfaceID(mustConfig(t, withBFD), "up-red")
	st := wire.BFDStatus{VRF: 7, Interface: red, Peer: netip.MustParseAddr("10.0.0.2"), State: "up", Remote: "up", Diag: "none", RemoteDiag: "none"}
	want := func(what, both, one string) {
		t.Helper()
		g.eventually(what, func() error {
			routes := c.fib()
			if a, b := routes["7 203.0.113.0/24"], routes["7 198.51.100.0/24"]; a != both || b != one {
				return fmt.Errorf("routes %q and %q", a, b)
			}
			return nil
		})
	}
	two, three := fmt.Sprintf(" 10.0.0.2@%d", red), fmt.Sprintf(" 10.0.0.3@%d", red)
	resets := func(want ...string) {
		t.Helper()
		g.eventually("resets", func() error {
			sp.mu.Lock()
			defer sp.mu.Unlock()
			if !slices.Equal(sp.resets, want) {
				return fmt.Errorf("resets %q", sp.resets)
			}
			return nil
		})
	}
	want("not known to be down", "forward"+two+three, "forward"+two)
	st.State = "down"
	c.bfd(st)
	want("never up yet", "forward"+three, "")
	st.State = "up"
	c.bfd(st)
	want("up", "forward"+two+three, "forward"+two)
	down := st
	down.State, down.Remote, down.Failed, down.Diag = "down", "down", true, "detection time expired"
	c.bfd(down)
	want("failed", "forward"+three, "")
	resets("10.0.0.2 BFD down")
	down.State = "init"
	c.bfd(down) // still the same failure
	c.bfd(st)
	want("up again", "forward"+two+three, "forward"+two)
	admin := st
	admin.State, admin.Remote = "down", "admin-down"
	c.bfd(admin)
	admin.State, admin.Remote = "admin-down", "down"
	c.bfd(admin)
	anew := down
	anew.State, anew.Diag = "down", "neighbor signaled session down"
	c.bfd(st)
	c.bfd(anew)
	want("begun anew", "forward"+three, "")
	resets("10.0.0.2 BFD down", "10.0.0.2 BFD down")
	anew.Removed = true
	c.bfd(anew)
	want("removed", "forward"+two+three, "forward"+two)

	v, err := g.client.BFD(t.Context(), "red")
	if err != nil || len(v.Sessions) != 2 || v.Cards[0].Up != 2 || v.Cards[0].Sent != 10 {
		t.Fatalf("%+v %v", v, err)
	}
	onLink := slices.IndexFunc(v.Sessions, func(s mgmt.BFDSession) bool { return s.InterfaceName == "up-red" })
	if onLink < 0 || v.Sessions[onLink].VRFName != "red" || strings.Join(v.Sessions[onLink].Clients, ",") != "bgp,static 198.51.100.0/24,static 203.0.113.0/24" {
		t.Errorf("%+v", v.Sessions)
	}
	if _, err := g.client.BFD(t.Context(), "nowhere"); err == nil {
		t.Error("no error for a VRF that is not there")
	}
}

// TestBFDAndARestart: a new routing engine hears of old failures, and does not end
// a BGP session for one; a card that is lost takes its sessions' word with it.
func TestBFDAndARestart(t *testing.T) {
	g := newRig(t)
	c := newCardTwin(1)
	kill := g.card(c)
	sp := &speakerTwin{vrf: 7}
	g.speaker(sp)
	g.start(withBFD)
	g.count(c, 7, 4)
	red := config.InterfaceID(mustConfig(t, withBFD), "up-red")
	st := wire.BFDStatus{VRF: 7, Interface: red, Peer: netip.MustParseAddr("10.0.0.2"), State: "down", Remote: "down", Failed: true,
		Diag: "detection time expired", RemoteDiag: "none", Age: time.Hour}
	c.bfd(st)
	g.count(c, 7, 3)
	sp.mu.Lock()
	if len(sp.resets) != 0 {
		t.Errorf("resets %q", sp.resets)
	}
	sp.mu.Unlock()
	kill()
	fresh := newCardTwin(1)
	g.card(fresh)
	g.count(fresh, 7, 4)
}
