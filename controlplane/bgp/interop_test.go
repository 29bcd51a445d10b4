package bgp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"godwit/cluster/wire"
	"godwit/controlplane/bgp/bgptest"
)

const frrConfig = `
log stdout
router bgp 65002
 bgp router-id 10.255.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 1
 address-family ipv4 unicast
  network 192.0.2.0/24
  neighbor 10.0.0.1 soft-reconfiguration inbound
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:1::/48
  neighbor 10.0.0.1 activate
 exit-address-family
`

// TestFRR peers with FRR, both families over an IPv4 session.
func TestFRR(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	f, err := peer.FRR(frrConfig)
	if err != nil {
		t.Fatal(err)
	}
	w := startTwin(t, net, router)
	p := neighbor("10.0.0.2", 65002)
	p.Families = []string{ipv4, ipv6}
	w.send(wire.Redistribute, wire.RedistBody{Routes: []wire.RedistRoute{
		{Prefix: prefix("10.8.0.0/16"), Protocol: "static"}, {Prefix: prefix("2001:db8:8::/48"), Protocol: "connected"}}})
	w.configure(speaker(p))
	w.until(wait, "FRR's routes", func() bool { return len(w.routes) == 2 && w.synced == 1 })
	if got := w.nextHop("192.0.2.0/24"); got != "10.0.0.2" {
		t.Errorf("next hop %s", got)
	}
	ask := func(s ...string) (string, error) { return f.Ask(strings.Join(s, " ")) }
	asks(t, ask, "show bgp ipv4 unicast 10.8.0.0/16", "10.0.0.1 from 10.0.0.1", "Origin incomplete", "valid")
	asks(t, ask, "show bgp ipv6 unicast 2001:db8:8::/48", "2001:db8::1 from 10.0.0.1", "Origin incomplete", "valid")
	if _, err := f.Ask("configure terminal", "router bgp 65002", "address-family ipv4 unicast", "no network 192.0.2.0/24"); err != nil {
		t.Fatal(err)
	}
	w.until(wait, "withdrawal", func() bool { return len(w.routes) == 1 })
}

// TestExaBGPAndOpenBGPD peers with both, and with gobgpd 3, at once: equal paths
// from two of them are both told (multipath).
func TestExaBGPAndOpenBGPD(t *testing.T) {
	t.Parallel()
	n := newNet(t)
	router, exa, open, gob := space(t, n, "r"), space(t, n, "e"), space(t, n, "o"), space(t, n, "g")
	link(t, n, router, exa, "eth0", "10.0.0.1/24", "10.0.0.2/24")
	link(t, n, router, open, "eth1", "10.0.1.1/24", "10.0.1.2/24")
	link(t, n, router, gob, "eth2", "10.0.2.1/24", "10.0.2.2/24")
	if _, err := exa.ExaBGP(`neighbor 10.0.0.1 { router-id 10.255.0.2; local-address 10.0.0.2; local-as 65002; peer-as 65001; family { ipv4 unicast; }
 static { route 192.0.2.0/24 next-hop 10.0.0.2; route 198.51.100.0/25 next-hop 10.0.0.9 med 5; } }`); err != nil {
		t.Fatal(err)
	}
	// OpenBGPD wants its parent's directory for its control socket.
	ctl := n.Dir() + "/openbgpd.sock"
	ob, err := open.OpenBGPD(`AS 65003
router-id 10.255.0.3
fib-update no
socket "` + ctl + `"
listen on 10.0.1.2
network 192.0.2.0/24
neighbor 10.0.1.1 { remote-as 65001 }
allow to any
allow from any
`)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gob.GoBGPD(`[global.config]
as = 65004
router-id = "10.255.0.4"
[[neighbors]]
[neighbors.config]
neighbor-address = "10.0.2.1"
peer-as = 65001
[neighbors.timers.config]
connect-retry = 2
`)
	if err != nil {
		t.Fatal(err)
	}
	w := startTwin(t, n, router)
	c := speaker(neighbor("10.0.0.2", 65002), neighbor("10.0.1.2", 65003), neighbor("10.0.2.2", 65004))
	c.Multipath = 4
	c.Neighbors[2].Export = accept
	w.configure(c)
	w.until(wait, "two equal paths", func() bool { return len(w.routes[prefix("192.0.2.0/24")]) == 2 })
	w.until(wait, "three sessions", func() bool {
		return w.state("10.0.0.2") == established && w.state("10.0.1.2") == established && w.state("10.0.2.2") == established
	})
	w.until(wait, "third-party next hop", func() bool { return len(w.routes[prefix("198.51.100.0/25")]) > 0 })
	w.mu.Lock()
	got := w.routes[prefix("198.51.100.0/25")]
	w.mu.Unlock()
	if len(got) != 1 || got[0].NextHop != netip.MustParseAddr("10.0.0.9") || got[0].MED != 5 {
		t.Errorf("third-party next hop: %+v", got)
	}
	asks(t, g.Ask, "global rib", "192.0.2.0/24", "198.51.100.0/25")
	if _, err := g.Ask("global", "rib", "add", "203.0.113.0/24"); err != nil {
		t.Fatal(err)
	}
	w.until(wait, "gobgpd's route", func() bool { return w.nextHop("203.0.113.0/24") == "10.0.2.2" })
	w.until(wait, "RoutesSynced", func() bool { return w.synced == 1 })
	ob.Stop()
	w.until(wait, "one path left", func() bool {
		r := w.routes[prefix("192.0.2.0/24")]
		return len(r) == 1 && r[0].PeerAS == 65002
	})
}

// TestGobgpCommand drives the running speaker with gobgp.
func TestGobgpCommand(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	b := bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w := startTwin(t, net, router)
	w.configure(speaker(neighbor("10.0.0.2", 65002)))
	w.until(wait, "the route", func() bool { return len(w.routes) == 1 })
	gobgp := net.Dir() + "/gobgp"
	if out, err := exec.Command("go", "build", "-o", gobgp, "github.com/osrg/gobgp/v4/cmd/gobgp").CombinedOutput(); err != nil {
		t.Fatalf("build gobgp: %v: %s", err, out)
	}
	ask := func(args ...string) (string, error) {
		return router.Output(gobgp, append([]string{"--target", "unix://" + net.Dir() + "/bgp/red.sock"}, args...)...)
	}
	asks(t, ask, "global", "65001", "10.0.0.1")
	asks(t, ask, "neighbor", "10.0.0.2", "Establ")
	asks(t, ask, "global rib", "192.0.2.0/24", "65002")
	asks(t, ask, "global policy", "REJECT", "godwit-import", "godwit-export")
	if out, err := ask("global", "rib", "add", "10.7.0.0/16"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	asks(t, b.Ask, "show route", "10.7.0.0/16")
	if out, err := ask("neighbor", "10.0.0.2", "reset"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.until(wait, "reset", func() bool { return w.peers[netip.MustParseAddr("10.0.0.2")].Flaps == 1 })
	w.until(wait, "the route again", func() bool { return len(w.routes) == 1 && w.state("10.0.0.2") == established })
}

// TestLinkLocalAndInternal peers over IPv6 link-local addresses, and internally
// with next-hop-self.
func TestLinkLocalAndInternal(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	inner := space(t, net, "i")
	link(t, net, router, inner, "eth1", "10.0.1.1/24 2001:db8:2::1/64", "10.0.1.2/24 2001:db8:2::2/64")
	lls := map[*bgptest.Space]string{}
	for _, s := range []*bgptest.Space{router, peer} {
		out, err := s.Output("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link")
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(out)
		lls[s] = strings.TrimSuffix(f[3], "/64")
	}
	bird(t, peer, birdConfig(2, birdStatic("ipv6", "", "route 2001:db8:1::/48 blackhole;"),
		fmt.Sprintf("protocol bgp godwit { local as 65002; interface \"eth0\"; neighbor %s as 65001; connect delay time 1; connect retry time 2; ipv6 { import all; export where source = RTS_STATIC; }; }", lls[router])))
	in := bird(t, inner, birdConfig(3, birdPeer("godwit", "2001:db8:2::1", 65001, "2001:db8:2::2", 65001,
		"ipv6 { import all; export none; }; ipv4 { import all; export none; extended next hop on; };")))
	w := startTwin(t, net, router)
	a := wire.SpeakerPeer{Address: netip.MustParseAddr(lls[peer]), Interface: "eth0", AS: 65002, Import: accept, Export: reject}
	b := wire.SpeakerPeer{Address: netip.MustParseAddr("2001:db8:2::2"), AS: 65001, Import: reject, Export: accept, NextHopSelf: true, Families: []string{ipv4, ipv6}}
	w.send(wire.Redistribute, wire.RedistBody{Routes: []wire.RedistRoute{{Prefix: prefix("10.8.0.0/16"), Protocol: "static"}}})
	w.configure(speaker(a, b))
	w.until(wait, "a route over link-local", func() bool { return len(w.routes) == 1 && w.synced == 1 })
	got := w.path("2001:db8:1::/48")
	if got.Peer != a.Address.WithZone("eth0") || got.NextHop.Zone() != "" || !got.NextHop.Is6() {
		t.Errorf("path %+v", got)
	}
	asks(t, in.Ask, "show route all 2001:db8:1::/48", "BGP.next_hop: 2001:db8:2::1", "BGP.as_path: 65002", "BGP.local_pref: 100")
	asks(t, in.Ask, "show route all 10.8.0.0/16", "BGP.next_hop: 10.0.1.1", "BGP.origin: Incomplete")
}

// bgpMessage frames a body with a marker and a header.
func bgpMessage(kind byte, body string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	if err != nil {
		panic(err)
	}
	m := append([]byte(strings.Repeat("\xff", 16)), 0, 0, kind)
	binary.BigEndian.PutUint16(m[16:], uint16(19+len(b)))
	return append(m, b...)
}

// TestMalformed sends what no speaker should, each from a neighbour of its own;
// ours must live, and take a good session afterwards.
func TestMalformed(t *testing.T) {
	t.Parallel()
	net, router, peer := pair(t)
	open := bgpMessage(1, "04 fdea 005a 0aff0002 0e 02 0c 0104 0001 0001 4104 0000fdea")
	keepalive := bgpMessage(4, "")
	const attrs = "40 01 01 00 40 02 06 02 01 0000fdea 40 03 04 0a000002"
	cases := map[string][]byte{
		"bad marker":           []byte(strings.Repeat("\x00", 19)),
		"length 18":            append([]byte(strings.Repeat("\xff", 16)), 0, 18, 4),
		"length 65535":         append([]byte(strings.Repeat("\xff", 16)), 0xff, 0xff, 2),
		"unknown type":         bgpMessage(9, "00"),
		"empty update body":    bgpMessage(2, ""),
		"withdrawn too long":   bgpMessage(2, "00ff 0000"),
		"attributes too long":  bgpMessage(2, "0000 00ff 40"),
		"prefix of 33 bits":    bgpMessage(2, "0000 0014"+attrs+"21 c0000200 00"),
		"prefix cut":           bgpMessage(2, "0000 0014"+attrs+"18 c0"),
		"AS path cut":          bgpMessage(2, "0000 0014 40 01 01 00 40 02 06 02 09 0000fdea 40 03 04 0a000002 18 c00002"),
		"no next hop":          bgpMessage(2, "0000 000d 40 01 01 00 40 02 06 02 01 0000fdea 18 c00002"),
		"next hop 0.0.0.0":     bgpMessage(2, "0000 0014 40 01 01 00 40 02 06 02 01 0000fdea 40 03 04 00000000 18 c00002"),
		"MP_REACH cut":         bgpMessage(2, "0000 0018"+attrs+"80 0e 01 00 18 c00002"),
		"MP_REACH next hop 99": bgpMessage(2, "0000 001c"+attrs+"80 0e 05 0002 01 63 00"),
		"unknown attribute":    bgpMessage(2, "0000 0018"+attrs+"c0 f0 01 00"),
		"open again":           open,
		"refresh of nonsense":  bgpMessage(5, "ffff ff ff"),
		"notification cut":     bgpMessage(3, "06"),
	}
	cfg := speaker()
	addrs := map[string]string{}
	for name := range cases {
		addrs[name] = fmt.Sprintf("10.0.0.%d", 10+len(addrs))
		if _, err := peer.Output("ip", "addr", "add", addrs[name]+"/24", "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
		p := neighbor(addrs[name], 65002)
		p.Passive = true
		cfg.Neighbors = append(cfg.Neighbors, p)
	}
	cfg.Neighbors = append(cfg.Neighbors, neighbor("10.0.0.2", 65002))
	w := startTwin(t, net, router)
	w.configure(cfg)
	for name, m := range cases {
		cmd := peer.Command("nc", "-N", "-s", addrs[name], "10.0.0.1", "179")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.Start(cmd, "nc")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = in.Write(append(append([]byte{}, open...), keepalive...))
		w.until(wait, "a session for "+name, func() bool { return w.state(addrs[name]) == established })
		_, _ = in.Write(m)
		_ = in.Close()
		<-p.Done()
		w.until(wait, "the end after "+name, func() bool { return w.state(addrs[name]) != established })
		if !w.proc.Alive() {
			t.Fatalf("%s killed the speaker", name)
		}
	}
	bird(t, peer, birdConfig(2, birdStatic("ipv4", "", "route 192.0.2.0/24 blackhole;"),
		birdPeer("godwit", "10.0.0.1", 65001, "10.0.0.2", 65002, birdBoth)))
	w.until(wait, "a good session", func() bool { return w.nextHop("192.0.2.0/24") == "10.0.0.2" })
}
