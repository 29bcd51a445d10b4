package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/bgp/bgptest"
)

const wait = 25 * time.Second

const birdBoth = "ipv4 { import all; export where source = RTS_STATIC; }; ipv6 { import all; export where source = RTS_STATIC; };"

// birdStatic is a static protocol of a family.
func birdStatic(family, name string, routes ...string) string {
	return fmt.Sprintf("protocol static %s { %s;\n%s\n}", name, family, strings.Join(routes, "\n"))
}

func bird(t *testing.T, s *bgptest.Space, config string) *bgptest.BIRD {
	t.Helper()
	b, err := s.BIRD(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("BIRD's log:\n%s", tail(b.Log(), 30))
		}
	})
	return b
}

// asks waits until a command's output contains (or, with !, lacks) the words.
func asks(t *testing.T, ask func(...string) (string, error), command string, words ...string) {
	t.Helper()
	var out string
	ok := bgptest.Until(wait, func() bool {
		out, _ = ask(strings.Fields(command)...)
		for _, w := range words {
			if lack, neg := strings.CutPrefix(w, "!"); neg == strings.Contains(out, strings.TrimPrefix(lack, "!")) {
				return false
			}
		}
		return true
	})
	if !ok {
		t.Fatalf("%s: want %q in\n%s", command, words, out)
	}
}

// TestBIRD tells the life of a session with both families over it.
func TestBIRD(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	config := func(med int, routes ...string) string {
		return birdConfig(2, birdStatic("ipv4", "s4", routes...), birdStatic("ipv6", "s6", "route 2001:db8:1::/48 blackhole;"),
			birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, fmt.Sprintf(`
ipv4 { import all; export filter { if source != RTS_STATIC then reject; bgp_med = %d; accept; }; };
ipv6 { import all; export where source = RTS_STATIC; };`, med)))
	}
	b := bird(t, peer, config(7, "route 192.0.2.0/24 blackhole;", "route 198.51.100.0/24 blackhole { bgp_path.prepend(65100); };"))
	w := startTwin(t, net, router)
	p := neighbor("10.0.0.2", 65002)
	p.Families = []string{ipv6, ipv4}
	p.Description = "upstream"
	w.configure(speaker(p))
	w.until(wait, "the routes", func() bool { return len(w.routes) == 3 })
	w.until(wait, "RoutesSynced", func() bool { return w.synced == 1 })
	if got := w.nextHop("192.0.2.0/24"); got != "10.0.0.2" {
		t.Errorf("next hop %s", got)
	}
	if got := w.nextHop("2001:db8:1::/48"); got != "2001:db8::2" {
		t.Errorf("IPv6 next hop %s", got)
	}
	got := w.path("198.51.100.0/24")
	if got.MED != 7 || got.ASPathLen != 2 || got.PeerAS != 65002 || got.LocalPref != 100 || got.Peer != p.Address {
		t.Errorf("path %+v", got)
	}

	var list wire.PeerList
	if err := w.request(wire.GetPeers, struct{}{}, &list); err != nil {
		t.Fatal(err)
	}
	if st := list.Peers[0]; len(list.Peers) != 1 || st.State != established || st.Received != 3 || st.Accepted != 3 || st.Description != "upstream" || st.MessagesIn == 0 || st.Since.IsZero() {
		t.Errorf("status %+v", list)
	}

	// Redistribution.
	w.send(wire.Redistribute, wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{
		{Prefix: prefix("10.9.0.0/16"), Protocol: "connected"}, {Prefix: prefix("10.9.0.0/16"), Protocol: "static", Metric: 5},
		{Prefix: prefix("2001:db8:9::/48"), Protocol: "static", Metric: 42}}})
	asks(t, b.Ask, "show route all 10.9.0.0/16", "BGP.origin: Incomplete", "BGP.next_hop: 10.0.0.1", "BGP.as_path: 65001", "!med")
	asks(t, b.Ask, "show route all 2001:db8:9::/48", "BGP.next_hop: 2001:db8::1", "BGP.med: 42")
	w.send(wire.Redistribute, wire.RedistBody{Routes: []wire.RedistRoute{{Prefix: prefix("10.9.0.0/16"), Protocol: "connected", Withdraw: true}}})
	asks(t, b.Ask, "show route all 10.9.0.0/16", "BGP.med: 5")

	// A new session of the routing engine: replay, the BGP session stays.
	w.reconnect()
	w.configure(speaker(p))
	w.until(wait, "the replay", func() bool { return len(w.routes) == 3 && w.synced == 1 })
	w.send(wire.Redistribute, wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{{Prefix: prefix("10.8.0.0/16"), Protocol: "static"}}})
	asks(t, b.Ask, "show route", "10.8.0.0/16", "!10.9.0.0/16", "!2001:db8:9::/48")

	// Change and withdrawal.
	if err := b.Configure(config(9, "route 192.0.2.0/24 blackhole;")); err != nil {
		t.Fatal(err)
	}
	w.until(wait, "change and withdrawal", func() bool {
		r := w.routes[prefix("192.0.2.0/24")]
		return len(w.routes) == 2 && len(r) == 1 && r[0].MED == 9
	})
	w.mu.Lock()
	for _, h := range w.history[1:] {
		if strings.Contains(h, idle) {
			t.Errorf("the session went down: %v", w.history)
		}
	}
	w.mu.Unlock()

	// The final stop tells the peer, which drops our routes at once.
	w.proc.Stop()
	asks(t, func(...string) (string, error) { return b.Log(), nil }, "log", "Received: Administrative shutdown")
	asks(t, b.Ask, "show route", "!10.8.0.0/16")
}

// TestPolicies changes policies and neighbours of a running speaker; the other
// neighbour's session must not notice.
func TestPolicies(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	second := space(t, net, "q")
	link(t, net, router, second, "eth1", "10.0.1.1/24", "10.0.1.2/24")
	one := bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	two := bird(t, second, birdConfig(3, birdStatic("ipv4", "", "route 198.51.100.0/24 blackhole;"),
		birdPeer("godwit", "10.0.1.1", 65001, "10.0.1.2", 65003, birdBoth)))
	w := startTwin(t, net, router)
	a, b := neighbor("10.0.0.2", 65002), neighbor("10.0.1.2", 65003)
	b.Import, b.Export = reject, reject
	w.configure(speaker(a, b))
	w.send(wire.Redistribute, wire.RedistBody{Routes: []wire.RedistRoute{{Prefix: prefix("10.8.0.0/16"), Protocol: "static"}}})
	w.until(wait, "both sessions", func() bool {
		return w.state("10.0.0.2") == established && w.state("10.0.1.2") == established && w.synced == 1
	})
	asks(t, one.Ask, "show route", "10.8.0.0/16")
	asks(t, two.Ask, "show route", "!10.8.0.0/16", "!192.0.2.0/24")
	w.mu.Lock()
	if len(w.routes) != 1 || w.nextHop("192.0.2.0/24") == "" {
		t.Errorf("routes %v", w.routes)
	}
	w.mu.Unlock()

	b.Import, b.Export = accept, accept
	w.configure(speaker(a, b))
	w.until(wait, "accepted route", func() bool { return w.nextHop("198.51.100.0/24") == "10.0.1.2" })
	asks(t, two.Ask, "show route all", "10.8.0.0/16", "192.0.2.0/24", "BGP.as_path: 65001 65002")
	b.Export = local
	w.configure(speaker(a, b))
	asks(t, two.Ask, "show route", "10.8.0.0/16", "!192.0.2.0/24")
	b.Import = reject
	w.configure(speaker(a, b))
	w.until(wait, "rejected route", func() bool { return len(w.routes) == 1 })
	asks(t, one.Ask, "show route", "!198.51.100.0/24") // a gets local routes only

	b.HoldTime = 30 * time.Second
	b.Description = "nothing else"
	w.configure(speaker(a, b))
	w.configure(speaker(a))
	asks(t, two.Ask, "show route", "!10.8.0.0/16")
	w.mu.Lock()
	n := 0
	for _, h := range w.history {
		if h == "10.0.0.2 "+established {
			n++
		}
	}
	w.mu.Unlock()
	if n != 1 {
		t.Errorf("the untouched neighbour came up %d times: %v", n, w.history)
	}
	if err := w.request(wire.SetSpeaker, wire.SpeakerConfig{VRF: "red"}, &struct{}{}); err == nil {
		t.Error("a configuration without AS was accepted")
	}
	if err := w.request(wire.SetCard, struct{}{}, &struct{}{}); err == nil {
		t.Error("a message for a line card was accepted")
	}
}

// TestGracefulRestart kills the speaker: the peer keeps its routes, the next
// speaker says that it restarts, and gets the table.
func TestGracefulRestart(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	b := bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w := startTwin(t, net, router)
	cfg := speaker(neighbor("10.0.0.2", 65002))
	ours := wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{{Prefix: prefix("10.8.0.0/16"), Protocol: "static"}}}
	w.configure(cfg)
	w.send(wire.Redistribute, ours)
	w.until(wait, "RoutesSynced", func() bool { return w.synced == 1 && len(w.routes) == 1 })
	asks(t, b.Ask, "show route", "10.8.0.0/16")
	w.proc.Kill()
	asks(t, b.Ask, "show protocols all godwit", "Neighbor graceful restart active")
	asks(t, b.Ask, "show route", "10.8.0.0/16")

	w = startTwin(t, net, router)
	cfg.Restarting = true
	w.send(wire.Redistribute, ours)
	w.configure(cfg)
	w.until(wait, "RoutesSynced", func() bool { return w.synced == 1 && len(w.routes) == 1 })
	asks(t, b.Ask, "show protocols all godwit", "Established", "Restart recovery", "!graceful restart active")
	asks(t, b.Ask, "show route", "10.8.0.0/16")

	// The peer dies without a word: its routes stay for its restart time, and
	// come back without news for the routing engine.
	w.mu.Lock()
	changes := w.changes
	w.mu.Unlock()
	b.Kill()
	w.until(wait, "loss of the peer", func() bool { return w.state("10.0.0.2") != established })
	bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;", "route 198.51.100.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w.until(wait, "the peer's return", func() bool { return len(w.routes) == 2 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changes != changes+1 {
		t.Errorf("%d changes, want 1", w.changes-changes)
	}
}

// TestPeerLoss stops the peer for good: its routes go.
func TestPeerLoss(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	b := bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w := startTwin(t, net, router)
	p := neighbor("10.0.0.2", 65002)
	p.Passive, p.Password = true, "secret"
	w.configure(speaker(p))
	b.Kill()
	b = bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, `password "secret"; `+birdBoth)))
	w.until(wait, "a passive session with a password", func() bool { return len(w.routes) == 1 })
	b.Stop()
	w.until(wait, "withdrawal", func() bool { return len(w.routes) == 0 })
	w.until(wait, "the reason", func() bool {
		st := w.peers[p.Address]
		return strings.Contains(st.LastError, "notification") && st.Flaps == 1
	})

	// Without the password the session cannot come up; once it is gone here, too,
	// it must.
	bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w.configure(speaker())
	p.Password = ""
	w.configure(speaker(p))
	w.until(wait, "a session without password", func() bool { return len(w.routes) == 1 })
	p.Shutdown = true
	w.configure(speaker(p))
	w.until(wait, "shutdown", func() bool { return len(w.routes) == 0 && w.state("10.0.0.2") == shutdown })
}

// TestMaxPrefixes exceeds the limit: the neighbour is held down, its routes go
// at once although graceful restart is on, until it is reset.
func TestMaxPrefixes(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	routes := make([]string, 30)
	for i := range routes {
		routes[i] = fmt.Sprintf("route 10.1.%d.0/24 blackhole;", i)
	}
	config := func(n int) string {
		return birdConfig(2, birdStatic("ipv4", "", routes[:n]...), birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth))
	}
	b := bird(t, peer, config(20))
	w := startTwin(t, net, router)
	p := neighbor("10.0.0.2", 65002)
	p.MaxPrefixes = 20
	w.configure(speaker(p))
	w.until(wait, "20 routes", func() bool { return len(w.routes) == 20 })
	if err := b.Configure(config(30)); err != nil {
		t.Fatal(err)
	}
	w.until(wait, "end of the session", func() bool {
		return len(w.routes) == 0 && strings.Contains(w.peers[p.Address].LastError, "more than 20 prefixes")
	})
	asks(t, b.Ask, "show protocols all godwit", "!Established")
	if err := b.Configure(config(10)); err != nil {
		t.Fatal(err)
	}
	if err := w.request(wire.ResetPeer, wire.PeerReset{Address: p.Address}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	w.until(wait, "10 routes", func() bool { return len(w.routes) == 10 })
}

// TestPortTaken sees that a speaker whose port is taken starts when it is free.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	squatter, err := net.Start(router.Command("socat", "TCP-LISTEN:179", "OPEN:/dev/null"), "socat")
	if err != nil {
		t.Fatal(err)
	}
	if !bgptest.Until(wait, func() bool {
		out, err := router.Output("ss", "-Hltn", "sport = :179")
		return err == nil && strings.Contains(out, "LISTEN")
	}) {
		t.Fatal("nobody listens")
	}
	w := startTwin(t, net, router)
	if err := w.request(wire.SetSpeaker, speaker(neighbor("10.0.0.2", 65002)), &struct{}{}); err == nil || !strings.Contains(err.Error(), "port 179") {
		t.Fatalf("error %v", err)
	}
	squatter.Kill()
	bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"), birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w.until(wait, "route and end of the table", func() bool { return len(w.routes) == 1 && w.synced == 1 })
}
