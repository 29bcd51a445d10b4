package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

const twoVRFs = `
system:
  hostname: rig
cards:
  - id: 1
vrfs:
  - name: red
    id: 7
    static:
      - prefix: 203.0.113.0/24
        via: [{address: 10.0.0.2}]
    bgp:
      as: 64500
      router-id: 10.0.0.1
      graceful-restart: 60s
      redistribute: [connected, static]
      neighbors:
        - {address: 10.0.0.2, as: 64501, import: accept, export: accept}
  - name: blue
    id: 8
interfaces:
  - {name: up-red, card: 1, device: eth1, vrf: red, addresses: [10.0.0.1/24]}
  - {name: up-blue, card: 1, device: eth2, vrf: blue, addresses: [10.0.0.1/24]}
`

func announce(n int, nextHop string) []wire.RouteChange {
	var list []wire.RouteChange
	paths := []wire.RoutePath{{NextHop: netip.MustParseAddr(nextHop), Peer: netip.MustParseAddr("10.0.0.2"), PeerAS: 64501}}
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24)
		list = append(list, wire.RouteChange{Prefix: p, Paths: paths})
	}
	return list
}

// count polls until a card has as many routes of a VRF.
func (g *rig) count(c *cardTwin, vrf fib.VRF, want int) {
	g.t.Helper()
	g.eventually(fmt.Sprintf("%d routes of VRF %d", want, vrf), func() error {
		n := 0
		for k := range c.fib() {
			if strings.HasPrefix(k, fmt.Sprintf("%d ", vrf)) {
				n++
			}
		}
		if n != want {
			return fmt.Errorf("card has %d", n)
		}
		return nil
	})
}

func TestRoutesReachTheCard(t *testing.T) {
	g := newRig(t)
	sup := &supervisorTwin{}
	g.supervisor(sup)
	c := newCardTwin(1)
	killCard := g.card(c)
	sp := &speakerTwin{vrf: 7, routes: announce(10_000, "10.0.0.2")}
	killSpeaker := g.speaker(sp)
	g.start(twoVRFs)

	g.count(c, 7, 10_003) // connected, local, static
	g.count(c, 8, 2)
	red := config.InterfaceID(mustConfig(t, twoVRFs), "up-red")
	if got, want := c.fib()["7 100.1.1.0/24"], fmt.Sprintf("forward 10.0.0.2@%d", red); got != want {
		t.Errorf("route is %q, want %q", got, want)
	}
	g.eventually("sweep", func() error {
		if c.swept() != 1 {
			return fmt.Errorf("%d sweeps", c.swept())
		}
		return nil
	})
	if got := sup.modules(); !slices.Equal(got, []string{"linecard-1 linecard ", "bgp-red bgp /run/netns/gwt-red"}) {
		t.Errorf("modules: %q", got)
	}
	g.eventually("acknowledgement and redistribution", func() error {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if sp.acked != 4 || len(sp.redist) != 2 || sp.redist[netip.MustParsePrefix("203.0.113.0/24")] != "rib" {
			return fmt.Errorf("acked %d, redistributed %v", sp.acked, sp.redist)
		}
		return nil
	})
	g.eventually("MAC and link-local address", func() error {
		i, _ := g.host.get("red", "up-red")
		if i.MAC.String() != "02:00:00:00:01:01" || !slices.Contains(i.Addresses, netip.MustParsePrefix("fe80::ff:fe00:101/64")) {
			return fmt.Errorf("TAP is %+v", i)
		}
		return nil
	})

	// carrier lost: everything through it goes; back: it comes back
	c.carrier("eth1", false)
	g.count(c, 7, 0)
	g.count(c, 8, 2)
	g.eventually("withdrawal from BGP", func() error {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if len(sp.redist) != 0 {
			return fmt.Errorf("redistributed %v", sp.redist)
		}
		return nil
	})
	c.carrier("eth1", true)
	g.count(c, 7, 10_003)

	// the speaker dies: routes stay; it comes back with fewer: the rest is swept
	killSpeaker()
	g.eventually("stale", func() error { return g.bgp(func(s mgmt.Speaker) bool { return s.Stale && !s.Connected }) })
	g.count(c, 7, 10_003)
	again := &speakerTwin{vrf: 7, routes: announce(100, "10.0.0.2")}
	g.speaker(again)
	g.count(c, 7, 103)
	if again.mu.Lock(); !again.cfg.Restarting {
		t.Error("the speaker was not told that it restarts")
	}
	again.mu.Unlock()

	// the card dies and a fresh one comes
	killCard()
	fresh := newCardTwin(1)
	g.card(fresh)
	g.count(fresh, 7, 103)
	g.count(fresh, 8, 2)
}

func (g *rig) bgp(ok func(mgmt.Speaker) bool) error {
	b, err := g.client.BGP(context.Background(), "red")
	if err != nil {
		return err
	}
	if len(b.Speakers) != 1 || !ok(b.Speakers[0]) {
		return fmt.Errorf("speakers are %+v", b.Speakers)
	}
	return nil
}

// TestRoutingEngineRestarts: the card keeps everything until the speaker has
// told its routes again, then what is gone meanwhile is swept.
func TestRoutingEngineRestarts(t *testing.T) {
	g := newRig(t)
	c := newCardTwin(1)
	g.card(c)
	sp := &speakerTwin{vrf: 7, routes: announce(1000, "10.0.0.2")}
	g.speaker(sp)
	kill := g.start(twoVRFs)
	g.count(c, 7, 1003)
	g.eventually("sweep", func() error {
		if c.swept() != 1 {
			return errors.New("none")
		}
		return nil
	})
	kill(false)
	made := g.host.count()
	if vrfs, _ := g.host.VRFs(); len(vrfs) != 3 {
		t.Fatalf("host stack after a kill: %v", vrfs)
	}
	if len(c.fib()) != 1005 {
		t.Fatalf("%d routes after a kill", len(c.fib()))
	}
	_, _ = g.host.EnsureVRF("green") // left over from an older configuration
	sp.mu.Lock()
	sp.routes, sp.hold = announce(500, "10.0.0.2"), true
	sp.mu.Unlock()

	end := g.start("") // from running.yaml
	g.eventually("second epoch", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.epoch < 2 || c.routes["7 100.0.1.0/24"].epoch != c.epoch {
			return fmt.Errorf("epoch %d", c.epoch)
		}
		return nil
	})
	if n := len(c.fib()); n != 1005 || c.swept() != 1 {
		t.Fatalf("%d routes, %d sweeps while the speaker is not done", n, c.swept())
	}
	if vrfs, _ := g.host.VRFs(); slices.Contains(vrfs, "green") {
		t.Error("the VRF that is not configured is still there")
	}
	g.eventually("MAC addresses are set again", func() error {
		if n := g.host.count(); n != made+2 {
			return fmt.Errorf("%d interfaces set up", n-made)
		}
		return nil
	})
	// a speaker that is done: only now the rest goes
	sp.mu.Lock()
	sp.hold = false
	sp.mu.Unlock()
	other := strings.Replace(twoVRFs, "as: 64501", "as: 64502", 1) // makes the twin tell its routes again
	if _, err := g.client.Apply(context.Background(), "x", []byte(other)); err != nil {
		t.Fatal(err)
	}
	g.count(c, 7, 503)
	end(true)
	if vrfs, _ := g.host.VRFs(); len(vrfs) != 0 {
		t.Errorf("host stack after a clean end: %v", vrfs)
	}
}

func TestApply(t *testing.T) {
	g := newRig(t)
	c := newCardTwin(1)
	g.card(c)
	sp := &speakerTwin{vrf: 7, routes: announce(10, "10.0.0.2")}
	g.speaker(sp)
	g.start(twoVRFs)
	g.count(c, 7, 13)
	ctx := context.Background()
	running := filepath.Join(g.dir, "state", "running.yaml")
	before, err := os.ReadFile(running)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(running); st.Mode().Perm() != 0o600 {
		t.Errorf("mode of running.yaml is %v", st.Mode())
	}

	// faults pass through with line and column, nothing is applied
	_, err = g.client.Apply(ctx, "bad.yaml", []byte("cards:\n  - id: 1\n    wurkers: 2\n"))
	var e *mgmt.Error
	if !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, "bad.yaml:3:5") {
		t.Errorf("error is %v", err)
	}
	// a host that can't: nothing is applied
	g.host.mu.Lock()
	g.host.fail = "third"
	g.host.mu.Unlock()
	third := strings.Replace(twoVRFs, "interfaces:", "interfaces:\n  - {name: third, card: 1, device: eth3, vrf: green, addresses: [10.9.0.1/24]}", 1)
	third = strings.Replace(third, "  - name: blue", "  - name: green\n    id: 9\n  - name: blue", 1)
	if _, err := g.client.Apply(ctx, "third.yaml", []byte(third)); err == nil || !strings.Contains(err.Error(), "nothing is changed") {
		t.Errorf("error is %v", err)
	}
	g.eventually("undo", func() error {
		if _, ok := g.host.get("green", "third"); ok {
			return errors.New("third is there")
		}
		if vrfs, _ := g.host.VRFs(); len(vrfs) != 3 {
			return fmt.Errorf("VRFs are %v", vrfs)
		}
		return nil
	})
	if after, _ := os.ReadFile(running); !bytes.Equal(before, after) {
		t.Error("running.yaml changed")
	}
	g.host.mu.Lock()
	g.host.fail = ""
	g.host.mu.Unlock()

	checked, err := g.client.Check(ctx, "third.yaml", []byte(third))
	want := []string{"interface third: added", "vrf green: added"}
	if err != nil || !slices.Equal(checked.Changes, want) || checked.Applied {
		t.Errorf("check: %+v, %v", checked, err)
	}
	done, err := g.client.Apply(ctx, "third.yaml", []byte(third))
	if err != nil || !slices.Equal(done.Changes, want) || !done.Applied {
		t.Errorf("apply: %+v, %v", done, err)
	}
	g.count(c, 9, 2)
	// back: what is not configured any more goes; no BGP any more
	less := third[:strings.Index(third, "    bgp:")] + third[strings.Index(third, "  - name: green"):]
	less = strings.Replace(less, "  - name: green\n    id: 9\n", "", 1)
	less = strings.Replace(less, "  - {name: third, card: 1, device: eth3, vrf: green, addresses: [10.9.0.1/24]}\n", "", 1)
	if _, err := g.client.Apply(ctx, "less.yaml", []byte(less)); err != nil {
		t.Fatal(err)
	}
	g.count(c, 7, 3)
	g.count(c, 9, 0)
	g.eventually("VRF green is gone", func() error {
		if vrfs, _ := g.host.VRFs(); len(vrfs) != 3 {
			return fmt.Errorf("VRFs are %v", vrfs)
		}
		return nil
	})
	text, err := g.client.Config(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("shown", text); err != nil {
		t.Errorf("the shown configuration: %v", err)
	}
}

func TestQueries(t *testing.T) {
	g := newRig(t)
	g.supervisor(&supervisorTwin{})
	c := newCardTwin(1)
	g.card(c)
	g.speaker(&speakerTwin{vrf: 7, routes: announce(3000, "10.0.0.2")})
	g.start(twoVRFs)
	g.count(c, 7, 3003)
	ctx := context.Background()

	n := 0
	var last netip.Prefix
	for r, err := range g.client.Routes(ctx, mgmt.RouteQuery{VRF: "red"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && last.Compare(r.Prefix) >= 0 {
			t.Fatalf("%v behind %v", r.Prefix, last)
		}
		last = r.Prefix
		n++
	}
	if n != 3003 {
		t.Errorf("%d routes", n)
	}
	for r, err := range g.client.Routes(ctx, mgmt.RouteQuery{VRF: "red", Address: netip.MustParseAddr("100.0.7.9")}) {
		if err != nil || r.Prefix.String() != "100.0.7.0/24" || r.Candidates[0].Protocol != "bgp" ||
			r.Candidates[0].Resolved[0].Interface != "up-red" || len(r.Candidates[0].NextHops[0].Chain) == 0 {
			t.Errorf("lookup: %+v, %v", r, err)
		}
	}
	for _, err := range g.client.Routes(ctx, mgmt.RouteQuery{VRF: "mauve"}) {
		var e *mgmt.Error
		if !errors.As(err, &e) || e.Status != 404 {
			t.Errorf("unknown VRF: %v", err)
		}
	}
	if v, err := g.client.Version(ctx); err != nil || v.Version != "1.2.3" || v.Hostname != "rig" {
		t.Errorf("version: %+v, %v", v, err)
	}
	if v, err := g.client.VRFs(ctx); err != nil || len(v.VRFs) != 3 || v.VRFs[1].Routes4 != 3003 {
		t.Errorf("VRFs: %+v, %v", v, err)
	}
	if v, err := g.client.Modules(ctx); err != nil || len(v.Modules) != 1 {
		t.Errorf("modules: %+v, %v", v, err)
	}
	if v, err := g.client.Bus(ctx); err != nil || len(v.Names) != 1 {
		t.Errorf("bus: %+v, %v", v, err)
	}
	if v, err := g.client.Interfaces(ctx, "up-red"); err != nil || len(v.Interfaces) != 1 || v.Interfaces[0].State != "up" {
		t.Errorf("interfaces: %+v, %v", v, err)
	}
	if v, err := g.client.Drops(ctx, 0); err != nil || v.Cards[0].Drops[0].Count != 3 {
		t.Errorf("drops: %+v, %v", v, err)
	}
	if v, err := g.client.Neighbors(ctx, mgmt.NeighborQuery{Interface: "up-red"}); err != nil || v.Neighbors[0].Interface != "up-red" {
		t.Errorf("neighbors: %+v, %v", v, err)
	}
	if _, err := g.client.ClearNeighbors(ctx, mgmt.NeighborQuery{VRF: "red"}); err != nil {
		t.Errorf("clear neighbors: %v", err)
	}
	if v, err := g.client.Events(ctx, "linecard-1"); err != nil || v.Modules[0].Stats == nil {
		t.Errorf("events: %+v, %v", v, err)
	}
	for _, module := range []string{"linecard-1", "router"} {
		v, err := g.client.Trace(ctx, module)
		if err != nil || len(v.Modules) != 1 || len(v.Modules[0].Events) == 0 || v.Modules[0].Events[0].Handler == "" {
			t.Errorf("trace of %s: %+v, %v", module, v, err)
		}
		before, err := g.client.Events(ctx, module)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.client.ClearEvents(ctx, module); err != nil {
			t.Errorf("clear events of %s: %v", module, err)
		}
		if after, err := g.client.Events(ctx, module); err != nil || after.Modules[0].Stats.Window >= before.Modules[0].Stats.Window {
			t.Errorf("events of %s after clear: %+v, %v", module, after, err)
		}
	}
	if _, err := g.client.ClearEvents(ctx, "nobody"); err == nil {
		t.Error("cleared the events of nobody")
	}
	g.eventually("converged", func() error {
		v, err := g.client.FIBSummary(ctx)
		if err != nil || v.Routes4 != 3005 || !v.Cards[0].Converged {
			return fmt.Errorf("summary: %+v, %v", v, err)
		}
		return nil
	})
	var pcap bytes.Buffer
	if err := g.client.Capture(ctx, mgmt.CaptureQuery{Interface: "up-red", Count: 1}, &pcap); err != nil || pcap.Len() != 24+16+60 {
		t.Errorf("capture: %d bytes, %v", pcap.Len(), err)
	}
}
