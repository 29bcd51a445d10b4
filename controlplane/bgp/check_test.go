package bgp

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
)

func TestNormalizeRefuses(t *testing.T) {
	for want, edit := range map[string]func(*wire.SpeakerConfig, *wire.SpeakerPeer){
		"no AS":                          func(c *wire.SpeakerConfig, _ *wire.SpeakerPeer) { c.AS = 0 },
		"router id 2001:db8::1":          func(c *wire.SpeakerConfig, _ *wire.SpeakerPeer) { c.RouterID = netip.MustParseAddr("2001:db8::1") },
		"graceful restart":               func(c *wire.SpeakerConfig, _ *wire.SpeakerPeer) { c.GracefulRestart = 2 * time.Hour },
		"10.0.0.2: no AS":                func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.AS = 0 },
		"not a unicast address":          func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.Address = netip.MustParseAddr("224.0.0.5") },
		"import is \"\"":                 func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.Import = "" },
		"export is \"all\"":              func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.Export = "all" },
		"hold time 2s":                   func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.HoldTime = 2 * time.Second },
		"family is \"vpn\"":              func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.Families = []string{"vpn"} },
		"link-local address without int": func(_ *wire.SpeakerConfig, p *wire.SpeakerPeer) { p.Address = netip.MustParseAddr("fe80::1") },
		"listed twice":                   func(c *wire.SpeakerConfig, p *wire.SpeakerPeer) { c.Neighbors = append(c.Neighbors, *p) },
		"different policies": func(c *wire.SpeakerConfig, p *wire.SpeakerPeer) {
			p.Address, p.Interface = netip.MustParseAddr("fe80::1"), "a"
			q := *p
			q.Interface, q.Export = "b", reject
			c.Neighbors = append(c.Neighbors, q)
		},
	} {
		c := speaker(neighbor("10.0.0.2", 65002))
		edit(&c, &c.Neighbors[0])
		if _, err := normalize(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNormalizeDefaults(t *testing.T) {
	c, err := normalize(wire.SpeakerConfig{AS: 1, RouterID: netip.MustParseAddr("1.1.1.1"), Neighbors: []wire.SpeakerPeer{
		{Address: netip.MustParseAddr("fe80::1"), Interface: "eth0", AS: 2, Import: accept, Export: local},
		{Address: netip.MustParseAddr("10.0.0.2"), AS: 2, Import: reject, Export: reject, Families: []string{ipv6, ipv4, ipv6}}}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 179 || c.Multipath != 1 {
		t.Errorf("%+v", c)
	}
	p := c.Neighbors[0]
	if p.Address.Zone() != "eth0" || !reflect.DeepEqual(p.Families, []string{ipv6}) || p.HoldTime != 90*time.Second {
		t.Errorf("%+v", p)
	}
	if !reflect.DeepEqual(c.Neighbors[1].Families, []string{ipv4, ipv6}) {
		t.Errorf("%+v", c.Neighbors[1])
	}
}

func TestDiffPeers(t *testing.T) {
	a, b, c := neighbor("10.0.0.2", 65002), neighbor("10.0.0.3", 65003), neighbor("10.0.0.4", 65004)
	old := speaker(a, b, c)
	b2, c2 := b, c
	b2.Description, b2.Import, b2.NextHopSelf = "x", reject, true
	c2.Password = "secret"
	d := neighbor("10.0.0.5", 65005)
	want := speaker(b2, c2, d)
	got := diffPeers(&old, &want)
	if !reflect.DeepEqual(got, peerDiff{
		remove: []wire.SpeakerPeer{a}, update: []wire.SpeakerPeer{c2}, add: []wire.SpeakerPeer{d},
		softIn: []netip.Addr{b.Address}, softOut: []netip.Addr{b.Address},
	}) {
		t.Errorf("%+v", got)
	}
	if got := diffPeers(&want, &want); !got.empty() {
		t.Errorf("difference to itself: %+v", got)
	}
	slower := want
	slower.GracefulRestart = time.Minute
	if got := diffPeers(&want, &slower); len(got.update) != 3 {
		t.Errorf("restart time is in every OPEN: %+v", got)
	}
	for _, edit := range []func(*wire.SpeakerConfig){
		func(c *wire.SpeakerConfig) { c.AS++ }, func(c *wire.SpeakerConfig) { c.Port = 1179 }, func(c *wire.SpeakerConfig) { c.Multipath = 2 },
		func(c *wire.SpeakerConfig) { c.RouterID = netip.MustParseAddr("9.9.9.9") },
	} {
		o := old
		edit(&o)
		if !needsRestart(&old, &o) || needsRestart(&old, &old) {
			t.Errorf("%+v", o)
		}
	}
}

func TestRedist(t *testing.T) {
	var r redist
	change := func(body wire.RedistBody) map[string]origination {
		t.Helper()
		list, err := r.change(body)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]origination{}
		for _, o := range list {
			m[o.prefix.String()] = o
		}
		return m
	}
	rt := func(p, proto string, metric uint32, withdraw bool) wire.RedistRoute {
		return wire.RedistRoute{Prefix: prefix(p), Protocol: proto, Metric: metric, Withdraw: withdraw}
	}
	got := change(wire.RedistBody{Routes: []wire.RedistRoute{rt("10.0.0.0/8", "static", 7, false), rt("10.0.0.0/8", "connected", 0, false), rt("10.1.0.0/16", "static", 1, false)}})
	if len(got) != 2 || got["10.0.0.0/8"].metric != 0 || got["10.1.0.0/16"].metric != 1 {
		t.Errorf("%v", got)
	}
	got = change(wire.RedistBody{Routes: []wire.RedistRoute{rt("10.0.0.0/8", "connected", 0, true), rt("10.9.0.0/16", "static", 0, true)}})
	if len(got) != 1 || got["10.0.0.0/8"].metric != 7 || got["10.0.0.0/8"].withdraw {
		t.Errorf("%v", got)
	}
	got = change(wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{rt("10.0.0.0/8", "static", 7, false)}})
	if len(got) != 1 || !got["10.1.0.0/16"].withdraw {
		t.Errorf("%v", got)
	}
	if !reflect.DeepEqual(r.all(), map[netip.Prefix]uint32{prefix("10.0.0.0/8"): 7}) {
		t.Errorf("%v", r.all())
	}
	if _, err := r.change(wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{rt("10.0.0.1/8", "static", 0, false)}}); err == nil || len(r.all()) != 1 {
		t.Errorf("host bits: %v, %v", err, r.all())
	}
}

// TestOffers takes and gives back protocols in all orders.
func TestOffers(t *testing.T) {
	names := []string{"a", "b", "c"}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {1, 0, 2}} {
		var r redist
		p := prefix("10.0.0.0/8")
		tell := func(i int, withdraw bool) {
			if _, err := r.change(wire.RedistBody{Routes: []wire.RedistRoute{{Prefix: p, Protocol: names[i], Metric: uint32(10 + i), Withdraw: withdraw}}}); err != nil {
				t.Fatal(err)
			}
		}
		have := map[int]bool{}
		check := func() {
			t.Helper()
			want := map[netip.Prefix]uint32{}
			for i := range have {
				if m, ok := want[p]; !ok || uint32(10+i) < m {
					want[p] = uint32(10 + i)
				}
			}
			if got := r.all(); !reflect.DeepEqual(got, want) {
				t.Fatalf("order %v: %v, want %v", order, got, want)
			}
		}
		for i := range names {
			tell(i, false)
			have[i] = true
			check()
		}
		for _, i := range order {
			tell(i, true)
			tell(i, true) // once more is no change
			delete(have, i)
			check()
		}
	}
}

// TestRedistReplaced sees that the same table once more is no change, whatever
// its size: nothing is withdrawn meanwhile.
func TestRedistReplaced(t *testing.T) {
	body := wire.RedistBody{Replace: true}
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		body.Routes = append(body.Routes, wire.RedistRoute{Prefix: netip.PrefixFrom(a, 24), Protocol: "static"})
	}
	var r redist
	if list, err := r.change(body); err != nil || len(list) != len(body.Routes) {
		t.Fatalf("%d announced: %v", len(list), err)
	}
	if list, err := r.change(body); err != nil || len(list) != 0 {
		t.Errorf("%d changes: %v", len(list), err)
	}
	body.Routes = body.Routes[1:]
	if list, err := r.change(body); err != nil || len(list) != 1 || !list[0].withdraw {
		t.Errorf("%+v: %v", list, err)
	}
}

// TestRedistInParts: a million routes come in parts, with changes in between;
// nothing happens before the last part, then the same as if they had come at once.
func TestRedistInParts(t *testing.T) {
	const routes, part = manyRoutes, 10_000
	route := func(i int) wire.RedistRoute {
		return wire.RedistRoute{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + i>>16), byte(i >> 8), byte(i), 0}), 24), Protocol: "rib"}
	}
	r := redist{}
	if list, err := r.change(wire.RedistBody{Replace: true, Routes: []wire.RedistRoute{route(routes + 1)}}); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if _, err := r.change(wire.RedistBody{More: true}); !errors.Is(err, errPart) {
		t.Errorf("a part without a beginning: %v", err)
	}
	var list []origination
	for at := 0; at < routes; at += part {
		if len(list) > 0 {
			t.Fatalf("%d changes before the last part", len(list))
		}
		body := wire.RedistBody{Replace: at == 0, More: at+part < routes}
		for i := range part {
			body.Routes = append(body.Routes, route(at+i))
		}
		if at == 10*part { // one that was listed goes, one comes that will be listed
			gone := route(3)
			gone.Withdraw = true
			body.Routes = append(body.Routes, gone, route(routes-1))
		}
		var err error
		if list, err = r.change(body); err != nil {
			t.Fatal(err)
		}
	}
	announced, withdrawn := 0, 0
	for _, o := range list {
		if o.withdraw {
			withdrawn++
		} else {
			announced++
		}
	}
	if announced != routes-1 || withdrawn != 1 || len(r.routes) != routes-1 || r.parts != nil {
		t.Errorf("%d announced, %d withdrawn, %d kept", announced, withdrawn, len(r.routes))
	}
	// A list that begins anew forgets the parts before.
	for _, b := range []wire.RedistBody{{Replace: true, More: true, Routes: []wire.RedistRoute{route(1)}}, {Replace: true, More: true}, {Routes: []wire.RedistRoute{route(2)}}} {
		if _, err := r.change(b); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.routes) != 1 {
		t.Errorf("%d routes", len(r.routes))
	}
}

func TestInitialSync(t *testing.T) {
	now := time.Unix(0, 0)
	cfg := speaker(neighbor("10.0.0.2", 2), neighbor("10.0.0.3", 3), neighbor("10.0.0.4", 4), neighbor("10.0.0.5", 5))
	cfg.Neighbors[3].Shutdown = true
	both := []string{ipv4, ipv6}
	addr := func(i int) netip.Addr { return cfg.Neighbors[i].Address }
	var y initialSync
	y.begin(&cfg, now)
	up := func(i int, graceful bool) {
		y.news(peerNews{address: addr(i), state: established, graceful: graceful, families: both}, both, now)
	}
	up(0, true)
	y.eor(addr(0), ipv4)
	if y.tick(now, now) || y.waiting[addr(0)] == nil {
		t.Error("one family is missing")
	}
	y.eor(addr(0), ipv6)
	up(1, false) // does not mark the end
	now = now.Add(quietTime)
	if y.tick(now, now) || y.waiting[addr(1)] == nil {
		t.Error("not quiet yet")
	}
	now = now.Add(quietTime)
	if y.tick(now, now.Add(-quietTime)) || y.waiting[addr(1)] != nil {
		t.Error("quiet peer is still awaited")
	}
	y.news(peerNews{address: addr(2), state: idle, refused: true}, both, now)
	now = now.Add(refusedWait)
	if !y.tick(now, now) {
		t.Errorf("refused peer is still awaited: %+v", y)
	}

	y.begin(&cfg, now)
	y.keep(&wire.SpeakerConfig{Neighbors: cfg.Neighbors[:1]})
	if len(y.waiting) != 1 || y.tick(now.Add(19*time.Second), now) || !y.tick(now.Add(20*time.Second), now) {
		t.Errorf("deferral: %+v", y)
	}
	y.begin(&cfg, now)
	y.keep(&wire.SpeakerConfig{})
	if !y.tick(now, now) {
		t.Error("nobody to wait for")
	}
}

func TestDeferral(t *testing.T) {
	for restart, want := range map[time.Duration]time.Duration{0: maxDeferral, 5 * time.Second: 5 * time.Second, time.Hour: maxDeferral} {
		if got := deferral(&wire.SpeakerConfig{GracefulRestart: restart}); got != want {
			t.Errorf("%v: %v, want %v", restart, got, want)
		}
	}
}
