package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/cmd/mkimage/image"
)

// manyRoutes is how many routes the peer announces late, at once.
const manyRoutes = 6000

// hosts are around three machines: the routing engine's node has the peer, one line card's
// node has customer and server, the other's has a server, too.
var hosts = `
name: cluster
nodes:
  - name: peer
    bird: |
      router id 10.0.0.2;
      protocol device {}
      protocol static routes1 { ipv4; route 192.0.2.0/24 blackhole; }
      protocol static routes2 { disabled; ipv4; route 198.51.100.0/24 blackhole; }
      protocol static routes3 { disabled; ipv4; ` + many("route 100.64.%d.%d/32 blackhole; ") + `}
      protocol bgp r1 {
        local 10.0.0.2 as 65010;
        neighbor 10.0.0.1 as 65010;
        ipv4 { import all; export filter { if source != RTS_STATIC then reject; bgp_next_hop = 10.2.0.2; accept; }; };
      }
  - name: cust
  - name: srv
  - name: alt
`

func many(format string) string {
	var b strings.Builder
	for i := range manyRoutes {
		fmt.Fprintf(&b, format, i>>8, i&255)
	}
	return b.String()
}

const nodeA = `
system:
  hostname: a
  cluster: {node: 1, bearers: [eth1, eth2], link-tolerance: 1500ms, key-file: /etc/godwit/cluster.key}
cards: [{id: 1}, {id: 2, node: 2}, {id: 3, node: 3}]
vrfs:
  - name: red
    static:
      - {prefix: 203.0.113.0/24, via: [{address: 10.2.0.2}, {address: 10.3.0.2}]}
    bgp:
      as: 65010
      router-id: 10.0.0.1
      neighbors:
        - {address: 10.0.0.2, as: 65010, import: accept, export: local}
interfaces:
  - {name: peer, card: 1, device: eth0, vrf: red, addresses: [10.0.0.1/24]}
  - {name: cust, card: 2, device: eth0, vrf: red, addresses: [10.1.0.1/24]}
  - {name: srv, card: 2, device: eth1, vrf: red, addresses: [10.2.0.1/24]}
  - {name: alt, card: 3, device: eth0, vrf: red, addresses: [10.3.0.1/24]}
`

const nodeB = `
system:
  hostname: b
  cluster: {node: 2, role: linecard, bearers: [eth2, eth3], link-tolerance: 1500ms, key-file: /etc/godwit/cluster.key}
cards: [{id: 2}]
`

const nodeC = `
system:
  hostname: c
  cluster: {node: 3, role: linecard, bearers: [eth1, eth2], link-tolerance: 1500ms, key-file: /etc/godwit/cluster.key}
cards: [{id: 3}]
`

// rig is three machines, the wires that all are on, and the hosts around.
type rig struct {
	lab     *topology.Lab
	wires   [2]*wire
	a, b, c *console
}

func (g *rig) host(name string) *topology.Host { return g.lab.Node(name) }

func ip(t *testing.T, h *topology.Host, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if _, err := h.Exec(t.Context(), append([]string{"ip"}, strings.Fields(l)...)...); err != nil {
			t.Fatal(err)
		}
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	opt := image.Options{Bin: filepath.Join(root, "bin"), Trust: filepath.Join(root, "build", "keys", "trust"), Out: out, Packages: filepath.Join(root, "build", "image"), Log: os.Stderr}
	if err := image.Build(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	top, err := topology.Parse("cluster", []byte(hosts))
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{}
	if g.lab, err = topology.Build(t.Context(), top, topology.Options{Prefix: fmt.Sprintf("gwc%d", os.Getpid())}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	tap := func(host, addr string) *os.File {
		f, err := g.host(host).TAP(t.Context(), "eth0", addr)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	peer, cust, srv, alt := tap("peer", "10.0.0.2/24"), tap("cust", "10.1.0.2/24"), tap("srv", "10.2.0.2/24"), tap("alt", "10.3.0.2/24")
	ip(t, g.host("cust"), "route add default via 10.1.0.1")
	ip(t, g.host("srv"), "route add default via 10.2.0.1", "addr add 192.0.2.1/32 dev lo", "addr add 198.51.100.1/32 dev lo")
	g.wires = [2]*wire{newWire(t, 3), newWire(t, 3)}
	key := filepath.Join(out, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"00112233"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.a = g.machine(t, out, key, "a", nodeA, 0, peer)
	g.b = g.machine(t, out, key, "b", nodeB, 1, cust, srv)
	g.c = g.machine(t, out, key, "c", nodeC, 2, alt)
	if err := g.lab.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// machine boots the image with TAPs as its first network cards and its ends of
// the wires as the next.
func (g *rig) machine(t *testing.T, img, key, name, config string, end int, nics ...*os.File) *console {
	t.Helper()
	work := t.TempDir()
	file := filepath.Join(work, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m := image.Machine{Dir: img, Config: file, Work: work, NICs: nics, Memory: 768, CPUs: 1, Files: map[string]string{"etc/godwit/cluster.key": key}}
	cmd, err := m.Command()
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range g.wires {
		cmd.Args = append(cmd.Args, "-netdev", fmt.Sprintf("socket,id=w%d,fd=%d", i, 3+len(cmd.ExtraFiles)),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=w%d,mac=52:54:00:00:%02x:%02x,romfile=", i, 16+end, i+1))
		cmd.ExtraFiles = append(cmd.ExtraFiles, w.ends[end])
	}
	con := &console{name: name}
	if con.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	con.start(t, cmd)
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	return con
}

// until types a line again and again until its answer fits.
func (c *console) until(t *testing.T, line, want string, limit time.Duration) string {
	t.Helper()
	re := regexp.MustCompile(want)
	var answer string
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := topology.Wait(ctx, func() error {
		mark := len(c.String())
		if _, err := io.WriteString(c.in, line+"\r"); err != nil {
			return err
		}
		once, done := context.WithTimeout(ctx, 5*time.Second)
		defer done()
		return topology.Wait(once, func() error {
			if answer = c.String()[mark:]; !re.MatchString(answer) {
				return fmt.Errorf("%s: %q is answered by %q, want %s", c.name, line, answer, want)
			}
			return nil
		})
	})
	if err != nil {
		c.dump(t)
		t.Fatal(err)
	}
	return answer
}

// dump logs what there is to know.
func (c *console) dump(t *testing.T) {
	t.Helper()
	mark := len(c.String())
	for _, line := range []string{"show modules", "show bus nodes", "show bus links", "show bgp", "show interfaces", "sh -c cat</run/godwitd.log"} {
		_, _ = io.WriteString(c.in, line+"\r")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 8*time.Second)
	defer cancel()
	_ = topology.Wait(ctx, func() error { return fmt.Errorf("collecting") })
	t.Logf("%s:\n%s", c.name, c.String()[mark:])
}

// reaches pings until an answer comes, or if it shall not until none comes.
func (g *rig) reaches(t *testing.T, to string, want bool, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := topology.Wait(ctx, func() error {
		out, err := g.host("cust").Exec(ctx, "ping", "-n", "-c", "1", "-W", "2", to)
		if (err == nil) != want {
			return fmt.Errorf("%s answers: %v, want %v: %s", to, err == nil, want, out)
		}
		return nil
	})
	if err != nil {
		g.a.dump(t)
		g.b.dump(t)
		t.Fatal(err)
	}
}

// steady tells that count pings were all answered.
func (g *rig) steady(t *testing.T, to string, count int) {
	t.Helper()
	out, err := g.host("cust").Exec(t.Context(), "ping", "-n", "-q", "-c", fmt.Sprint(count), "-i", "0.1", "-W", "3", to)
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		t.Errorf("%v\n%s", err, out)
	}
}

// multicast lets many routes come at once: their changes leave A once for both cards on other
// machines.
func (g *rig) multicast(t *testing.T) {
	t.Helper()
	g.a.until(t, "show bus multicast", `(?s)\n2 +multicast +\d+ .*\n3 +multicast +\d+ `, 20*time.Second)
	before := g.wires[0].sent[0].Load() + g.wires[1].sent[0].Load()
	if _, err := g.host("peer").Birdc(t.Context(), "enable", "routes3"); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("100.64.%d.%d", (manyRoutes-1)>>8, (manyRoutes-1)&255)
	for _, card := range []string{"2", "3"} {
		g.a.until(t, "show fib card "+card+" vrf red "+last, last+`/32`, time.Minute)
	}
	out := g.a.until(t, "show bus multicast", `(?s)tipc +[1-9]\d* .*\n2 +multicast +[1-9]\d* +\d+ +\d+ .*\n3 +multicast +[1-9]\d* .*godwit> `, 20*time.Second)
	m := regexp.MustCompile(`tipc +(\d+) +(\d+)`).FindStringSubmatch(out)
	crossed := g.wires[0].sent[0].Load() + g.wires[1].sent[0].Load() - before
	payload, _ := strconv.ParseInt(m[2], 10, 64)
	t.Logf("%d routes: %s multicasts of %d bytes; %d bytes left the machine in long frames\n%s", manyRoutes, m[1], payload, crossed, out)
	// Twice would be 2 × payload; besides the multicasts, sessions carry little.
	if payload < 6*manyRoutes || crossed > payload*3/2 {
		t.Errorf("%d bytes of multicasts, and %d bytes crossed", payload, crossed)
	}
}

// loseC kills one of two machines with line cards: its next hops go at once from the
// groups of the other, which goes on forwarding.
func (g *rig) loseC(t *testing.T) {
	t.Helper()
	g.a.until(t, "show fib card 2 vrf red 203.0.113.1", `(?s)10\.2\.0\.2.*10\.3\.0\.2`, time.Minute)
	begin := time.Now()
	g.c.kill()
	g.a.until(t, "show modules", `\n3 +3 +absent .* 1 +no node`, 30*time.Second)
	t.Logf("a machine was killed: its card is withdrawn after %.1f s, asked for over the console; tolerance 1.5 s", time.Since(begin).Seconds())
	out := g.a.until(t, "show fib card 2 vrf red 203.0.113.1", `10\.2\.0\.2`, 20*time.Second)
	if strings.Contains(out, "10.3.0.2") {
		t.Errorf("card 2 still has the next hop of card 3:\n%s", out)
	}
	g.a.until(t, "show bus nodes", `(?s)2 +up +2 up.*3 +down`, 20*time.Second)
	g.steady(t, "192.0.2.1", 10)
}

// TestLineCardsOnOtherMachines: the routing engine on one machine learns routes
// from a BGP peer; the line cards of two others, over the kernel's TIPC with
// encryption and two bearers, get them by multicast and forward along them.
func TestLineCardsOnOtherMachines(t *testing.T) {
	g := newRig(t)
	begin := time.Now()
	g.reaches(t, "192.0.2.1", true, 4*time.Minute)
	t.Logf("first packet along a route learned on the other machine after %.1f s", time.Since(begin).Seconds())
	g.steady(t, "192.0.2.1", 20)

	g.a.until(t, "show modules", `(?s)linecard-2@2 +linecard +running.*\n2 +2 +up `, time.Minute)
	g.a.until(t, "show bus nodes", `(?s)1 \(this\) +up +1 up.*2 +up +2 up.*3 +up +3 up`, time.Minute)
	g.a.until(t, "show bus links", `(?s)tipc +2 +1:eth1-2:eth2 +up.*tipc +2 +1:eth2-2:eth3 +up`, 20*time.Second)
	g.a.until(t, "show bus names", `(?s)\n *102 +2 +2 +\d+ +2 .*\n *102 +3 +3 +\d+ +3 `, 20*time.Second)
	g.a.until(t, "show bus --json", `(?s)"transport": "tipc".*"own": true`, 20*time.Second)
	g.a.until(t, "show config", `key-file: /etc/godwit/cluster.key`, 20*time.Second)
	if strings.Contains(g.a.String()+g.b.String(), "0123456789abcdef0123") {
		t.Error("the key was shown")
	}

	g.multicast(t)
	g.loseC(t)

	// The card's process dies: its successor is empty, and gets its snapshot first.
	g.b.until(t, "sh -c kill${IFS}-9${IFS}$(busybox${IFS}pidof${IFS}godwit-linecard)", `godwit> `, 20*time.Second)
	g.a.until(t, "show modules", `\n2 +2 +up .* 2 +no port`, time.Minute)
	g.reaches(t, "192.0.2.1", true, time.Minute)

	g.wires[0].cut.Store(true)
	g.a.until(t, "show bus links", `tipc +2 +\S+ +down`, time.Minute)
	g.a.until(t, "show bus nodes", `2 +up +2 up`, 20*time.Second)
	// Routes still arrive.
	if _, err := g.host("peer").Birdc(t.Context(), "enable", "routes2"); err != nil {
		t.Fatal(err)
	}
	g.reaches(t, "198.51.100.1", true, time.Minute)

	// No bearer: the card's next hops are withdrawn, it goes on forwarding.
	g.wires[1].cut.Store(true)
	g.a.until(t, "show modules", `\n2 +2 +absent .* 2 +no node`, time.Minute)
	g.a.until(t, "show route vrf red 192.0.2.1", `unresolved|no route|not in`, 20*time.Second)
	g.steady(t, "192.0.2.1", 10)
	if _, err := g.host("peer").Birdc(t.Context(), "disable", "routes1"); err != nil {
		t.Fatal(err)
	}
	g.a.until(t, "show bgp", `10\.0\.0\.2 .*established`, 20*time.Second)

	// Joined again: the card knows what happened meanwhile.
	for _, w := range g.wires {
		w.cut.Store(false)
	}
	g.a.until(t, "show modules", `\n2 +2 +up `, 2*time.Minute)
	g.reaches(t, "192.0.2.1", false, time.Minute)
	g.reaches(t, "198.51.100.1", true, time.Minute)
	g.steady(t, "198.51.100.1", 10)
}
