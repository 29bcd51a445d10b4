package linecard

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// oneCard is a card with two ports in red.
func oneCard(r *rig) wire.CardConfig {
	return wire.CardConfig{
		Card: 1, Workers: 1, Cards: []fib.CardID{1}, CaptureMax: 4,
		VRFs: []wire.VRFConfig{{ID: red, Name: "red", NetNS: r.netns("red"), TUN: "vrf0"}},
		Ports: []wire.PortConfig{
			{ID: portID(1, 1), Device: "p1", Mode: "auto", Express: expressTests},
			{ID: portID(1, 2), Device: "p2", Mode: "auto", Express: expressTests},
		},
		Interfaces: []wire.InterfaceConfig{
			{ID: ifaceID(1, 1), Name: "left", Port: portID(1, 1), VRF: red, MTU: 1500, Addresses: prefixes("10.1.0.1/24"), TAP: "left"},
			{ID: ifaceID(1, 2), Name: "right", Port: portID(1, 2), VRF: red, MTU: 1500, Addresses: prefixes("10.2.0.1/24"), TAP: "right"},
		},
	}
}

// cabled is a rig with one started card between two hosts.
func cabled(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "h1", "h2")
	r.host("h1", "p1", "10.1.0.2/24", "10.1.0.1")
	r.host("h2", "p2", "10.2.0.2/24", "10.2.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	return r
}

func (r *rig) setUp(cfg wire.CardConfig) {
	r.t.Helper()
	r.configure(cfg)
	r.setMAC("red", "left", portID(1, 1))
	r.setMAC("red", "right", portID(1, 2))
	r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 1), connected(red, ifaceID(1, 2), "10.2.0.1/24", 3)...)...)
}

func twoPorts(t *testing.T) (*rig, wire.CardConfig) {
	t.Helper()
	r := cabled(t)
	cfg := oneCard(r)
	r.setUp(cfg)
	return r, cfg
}

func TestForwardsAndTalks(t *testing.T) {
	r, _ := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	r.ping("h1", "10.1.0.1") // the router itself, through the TAP
	r.ping("h2", "10.1.0.1") // its far address
	r.ping("red", "10.1.0.2")
	for _, p := range get[wire.PortList](r, 1, wire.GetPorts, struct{}{}).Ports {
		c, i := p.Counters, p.Interfaces[0]
		if !p.Up || p.MAC == "" || p.Mode == "" || c.RxPackets == 0 || c.TxPackets == 0 || c.Punts == 0 {
			t.Errorf("port %+v", p)
		}
		if !i.Up || i.Counters.RxPackets == 0 || i.Counters.TxBytes == 0 {
			t.Errorf("interface %+v", i)
		}
	}
}

// TestLoopRunsWhilePortsOpen: a first configuration takes the kernel a while; the
// loop answers others meanwhile.
func TestLoopRunsWhilePortsOpen(t *testing.T) {
	r := cabled(t)
	type reply struct {
		kind wire.Kind
		err  error
	}
	replies := make(chan reply, 2)
	s := r.session(1)
	for _, q := range []struct {
		kind wire.Kind
		body any
	}{{wire.SetCard, oneCard(r)}, {wire.GetPorts, struct{}{}}} {
		s.Request(q.kind, q.body, 20*time.Second, func(_ session.Message, err error) { replies <- reply{q.kind, err} })
	}
	for _, want := range []wire.Kind{wire.GetPorts, wire.SetCard} {
		if got := <-replies; got.kind != want || got.err != nil {
			t.Errorf("reply to %v, %v; want that to %v", got.kind, got.err, want)
		}
	}
	for _, h := range get[event.Stats](r, 1, wire.GetEvents, struct{}{}).Handlers {
		t.Logf("%s: %d runs, the longest %v", h.Name, h.Runs, h.Run.Max)
	}
}

// TestStopWhilePortsOpen: a card that ends in the middle of a configuration gives
// everything back (the card's own process looks for leaks).
func TestStopWhilePortsOpen(t *testing.T) {
	for i := range 3 {
		r := cabled(t)
		r.session(1).Request(wire.SetCard, oneCard(r), 20*time.Second, func(session.Message, error) {})
		for range 1 + 40*i { // to stop at different points
			get[wire.PortList](r, 1, wire.GetPorts, struct{}{})
		}
		r.stop(1)
	}
}

func TestModes(t *testing.T) {
	for mode, want := range map[string]string{"generic": "generic", "afpacket": "afpacket", "native": "native copy"} {
		t.Run(mode, func(t *testing.T) {
			r := cabled(t)
			cfg := oneCard(r)
			for i := range cfg.Ports {
				cfg.Ports[i].Mode = mode
			}
			r.setUp(cfg)
			r.ping("h1", "10.2.0.2")
			r.ping("h2", "10.2.0.1")
			if p := r.port(portID(1, 1)); p.Mode != want {
				t.Errorf("mode %q, want %q", p.Mode, want)
			}
		})
	}
}

func TestTUNReachesOffLink(t *testing.T) {
	r, _ := twoPorts(t)
	must(t, r.lab.IP("h2", "addr", "add", "192.0.2.9/32", "dev", "lo"))
	if out, err := r.output("red", "ping", "-c", "1", "-W", "1", "192.0.2.9"); err == nil {
		t.Fatalf("answered without a route: %s", out)
	}
	r.program(1,
		fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 9, NextHops: []fib.NextHop{{Interface: ifaceID(1, 2), Gateway: netip.MustParseAddr("10.2.0.2")}}}},
		fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Group: 9}})
	must(t, r.lab.IP("red", "route", "replace", "default", "dev", "vrf0", "metric", "4096", "src", "10.1.0.1"))
	r.ping("red", "192.0.2.9")
	// Larger than a buffer: cut here, or refused with the MTU to use.
	must(t, r.lab.IP("red", "link", "set", "vrf0", "mtu", "9000"))
	r.ping("red", "192.0.2.9", "-s", "5000", "-M", "dont")
	out, err := r.output("red", "ping", "-c", "3", "-i", "0.2", "-W", "1", "-s", "5000", "-M", "do", "192.0.2.9")
	if err == nil || !strings.Contains(out, "mtu") {
		t.Errorf("don't fragment: %v\n%s", err, out)
	}
}

// flood pings every 2 ms while f runs, and a little before and after, and
// returns how many answers are missing.
func (r *rig) flood(ns, to string, f func()) int {
	r.t.Helper()
	cmd := exec.Command("ip", "netns", "exec", r.lab.Netns(ns), "ping", "-i", "0.002", "-W", "1", to)
	var out syncBuffer
	cmd.Stdout = &out
	must(r.t, cmd.Start())
	more := func() {
		n := strings.Count(out.String(), "bytes from")
		eventually(r.t, "answers", func() bool { return strings.Count(out.String(), "bytes from") >= n+20 })
	}
	more()
	f()
	more()
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	var sent, got int
	for _, line := range strings.Split(out.String(), "\n") {
		if strings.Contains(line, "packets transmitted") {
			fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &got)
		}
	}
	if sent < 40 {
		r.t.Fatalf("only %d pings sent: %s", sent, out.String())
	}
	r.t.Logf("%d pings, %d answers", sent, got)
	return sent - got
}

func TestSameConfigurationLosesNothing(t *testing.T) {
	r, cfg := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	lost := r.flood("h1", "10.2.0.2", func() {
		for range 100 {
			r.configure(cfg)
		}
		// A change elsewhere does no harm either.
		more := cfg
		more.Cards = []fib.CardID{1, 2, 3}
		more.Interfaces = append(more.Interfaces[:2:2], wire.InterfaceConfig{
			ID: ifaceID(1, 3), Name: "vlan", Port: portID(1, 2), VLAN: 5, VRF: red, MTU: 1500, Addresses: prefixes("10.3.0.1/24"),
		})
		for range 30 {
			r.configure(more)
			r.configure(cfg)
		}
	})
	if lost > 1 { // one may be under way at the end
		t.Errorf("%d packets lost", lost)
	}
}

func TestMissingThingsAreRetried(t *testing.T) {
	r := newRig(t, "h1", "h2", "late")
	r.host("h1", "p1", "10.1.0.2/24", "10.1.0.1")
	r.host("h2", "p2", "10.2.0.2/24", "10.2.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	cfg := oneCard(r)
	cfg.Ports = append(cfg.Ports, wire.PortConfig{ID: portID(1, 3), Device: "p3", Mode: "auto"})
	cfg.Interfaces = append(cfg.Interfaces, wire.InterfaceConfig{
		ID: ifaceID(1, 3), Name: "third", Port: portID(1, 3), VRF: red, MTU: 1500, Addresses: prefixes("10.3.0.1/24"), TAP: "third",
	})
	problems := strings.Join(get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems, "\n")
	if !strings.Contains(problems, "port p3: no such device") || !strings.Contains(problems, "third: no such host interface") {
		t.Errorf("problems: %s", problems)
	}
	r.setMAC("red", "left", portID(1, 1))
	r.setMAC("red", "right", portID(1, 2))
	r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 1), connected(red, ifaceID(1, 3), "10.3.0.1/24", 5)...)...)
	r.ping("h1", "10.1.0.1")
	if p := r.port(portID(1, 3)); p.Up || !strings.Contains(p.Reason, "no such device") {
		t.Errorf("missing port: %+v", p)
	}
	r.host("late", "p3", "10.3.0.2/24", "10.3.0.1")
	must(t, r.lab.IP("red", "tuntap", "add", "dev", "third", "mode", "tap"))
	eventually(t, "port up", func() bool { return r.port(portID(1, 3)).Up })
	r.ping("h1", "10.3.0.2")
	eventually(t, "no problems", func() bool {
		return len(get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems) == 0
	})
	// The device goes and comes back.
	must(t, r.lab.IP("rtr", "link", "del", "p3"))
	eventually(t, "port down", func() bool { return !r.port(portID(1, 3)).Up })
	r.ping("h1", "10.1.0.1")
	r.host("late", "p3", "10.3.0.2/24", "10.3.0.1")
	eventually(t, "port up again", func() bool { return r.port(portID(1, 3)).Up })
	r.ping("h1", "10.3.0.2")
}

func TestLinkStateReachesTheHostStack(t *testing.T) {
	r, cfg := twoPorts(t)
	carrier := func() string {
		out, _ := r.output("red", "cat", "/sys/class/net/right/carrier")
		return strings.TrimSpace(out)
	}
	eventually(t, "carrier", func() bool { return carrier() == "1" })
	must(t, r.lab.IP("h2", "link", "set", "eth0", "down"))
	eventually(t, "port down", func() bool {
		p := r.port(portID(1, 2))
		return !p.Up && p.Reason == "no carrier" && !p.Interfaces[0].Up
	})
	eventually(t, "no carrier", func() bool { return carrier() == "0" })
	must(t, r.lab.IP("h2", "link", "set", "eth0", "up"))
	must(t, r.lab.IP("h2", "route", "add", "default", "via", "10.2.0.1"))
	eventually(t, "port up", func() bool { return r.port(portID(1, 2)).Up })
	r.ping("h1", "10.2.0.2")
	cfg.Interfaces[1].Down = true
	r.configure(cfg)
	eventually(t, "no carrier: shutdown", func() bool { return carrier() == "0" })
	if i := r.port(portID(1, 2)).Interfaces; len(i) != 1 || i[0].Up {
		t.Errorf("interface %+v", i)
	}
}

func TestSeveralWorkers(t *testing.T) {
	r := newRig(t, "h1", "h2")
	// p1 has two queues, p2 one: worker 1 hands over.
	must(t, r.lab.Veth("rtr", "p1", "h1", "eth0", 2))
	must(t, r.lab.IP("h1", "addr", "add", "10.1.0.2/24", "dev", "eth0"))
	must(t, r.lab.IP("h1", "route", "add", "default", "via", "10.1.0.1"))
	r.host("h2", "p2", "10.2.0.2/24", "10.2.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	cfg := oneCard(r)
	cfg.Workers = 2
	r.setUp(cfg)
	r.ping("h1", "10.2.0.2")
	for i := range 8 { // several flows: both queues
		must(t, r.lab.IP("h2", "addr", "add", fmt.Sprintf("10.2.0.%d/24", 10+i), "dev", "eth0"))
		r.ping("h1", fmt.Sprintf("10.2.0.%d", 10+i))
	}
	// Other workers: everything is made anew, and goes on.
	cfg.Workers = 1
	r.configure(cfg)
	r.ping("h1", "10.2.0.2")
	cfg.Interfaces[0].MTU = 3000 // larger buffers; the device can't
	res := get[wire.CardResult](r, 1, wire.SetCard, cfg)
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0], "MTU 3000 is above 1500") {
		t.Errorf("problems %q", res.Problems)
	}
	r.ping("h1", "10.2.0.2")
	cfg.Cards = []fib.CardID{1, 2}
	res = get[wire.CardResult](r, 1, wire.SetCard, cfg)
	if len(res.Problems) != 2 || !strings.Contains(res.Problems[1], "MTU 3000 is above 2240, the longest packet between cards") {
		t.Errorf("problems %q", res.Problems)
	}
}

func TestForwardsWithoutRoutingEngine(t *testing.T) {
	r, cfg := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	old := r.session(1)
	lost := r.flood("h1", "10.2.0.2", func() {
		old.Close()
		eventually(t, "a new session", func() bool { s := r.session(1); return s != old })
		// The next routing engine knows nothing: it asks, configures, replays.
		r.configure(cfg)
		st := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{})
		if st.Epoch != 1 || st.Seq != 1 {
			t.Errorf("epoch %d/%d, want 1/1", st.Epoch, st.Seq)
		}
		r.epoch, r.seq[1] = st.Epoch+1, 0
		r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 101), connected(red, ifaceID(1, 2), "10.2.0.1/24", 103)...)...)
		r.seq[1]++
		must(t, r.session(1).Send(wire.FIBBatch, wire.AppendFIBBatch(nil, fib.Batch{Epoch: 2, Seq: 2, Sweep: true})))
		eventually(t, "sweep", func() bool {
			st := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{})
			return st.Epoch == 2 && st.Seq == 2 && st.Groups == 4
		})
	})
	if lost > 1 {
		t.Errorf("%d packets lost", lost)
	}
}

func TestCapture(t *testing.T) {
	r, _ := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	req := wire.CaptureRequest{Interface: ifaceID(1, 2), Snap: 60}
	get[wire.CaptureRequest](r, 1, wire.StartCapture, req)
	if _, err := ask[wire.CaptureRequest](r, 1, wire.StartCapture, wire.CaptureRequest{Interface: ifaceID(1, 1)}); err == nil {
		t.Error("a second capture on a session, which could not be told apart, was taken")
	}
	if _, err := ask[wire.CaptureRequest](r, 1, wire.StartCapture, wire.CaptureRequest{Interface: ifaceID(1, 9)}); err == nil {
		t.Error("capture of no interface was taken")
	}
	r.ping("h1", "10.2.0.2")
	directions := func() (seen [2]int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, b := range r.frames {
			if len(b) != captureHeader+60 || binary.BigEndian.Uint32(b[8:]) < 60 || b[12] > 1 {
				t.Fatalf("frame of %d bytes: % x", len(b), b)
			}
			if age := time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(b)))); age < 0 || age > time.Minute {
				t.Errorf("captured %v ago", age)
			}
			if b[captureHeader+23] == 1 { // ICMP
				seen[b[12]]++
			}
		}
		return seen
	}
	eventually(t, "frames of both directions", func() bool { s := directions(); return s[0] >= 3 && s[1] >= 3 })
	get[wire.CaptureRequest](r, 1, wire.StopCapture, req)
	if _, err := ask[wire.CaptureRequest](r, 1, wire.StopCapture, req); err == nil {
		t.Error("stopped twice")
	}
	before := directions()
	r.ping("h1", "10.2.0.2")
	if directions() != before {
		t.Error("frames after the end of the capture")
	}
}

func TestAnswers(t *testing.T) {
	r, _ := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	n := get[wire.NeighborList](r, 1, wire.GetNeighbors, wire.NeighborQuery{Address: netip.MustParseAddr("10.2.0.2")}).Neighbors
	if len(n) != 1 || n[0].Interface != ifaceID(1, 2) || n[0].VRF != red || n[0].State != "reachable" || len(n[0].MAC) != 17 {
		t.Errorf("neighbours %+v", n)
	}
	if c := get[wire.NeighborList](r, 1, wire.ClearNeighbor, wire.NeighborQuery{Interface: ifaceID(1, 2)}).Neighbors; len(c) != 1 {
		t.Errorf("cleared %+v", c)
	}
	r.ping("h1", "10.2.0.2")
	for i := range 50 {
		r.program(1, fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i), 0, 0}), 16), Group: 1}})
	}
	pages, total := 0, 0
	q := wire.FIBQuery{VRF: red, Limit: 10}
	for more := true; more; pages++ {
		l := get[wire.FIBList](r, 1, wire.GetFIB, q)
		total += len(l.Entries)
		q.After, more = l.Entries[len(l.Entries)-1].Prefix, l.More
	}
	if total != 54 || pages != 6 {
		t.Errorf("%d routes on %d pages, want 54 on 6", total, pages)
	}
	one := get[wire.FIBList](r, 1, wire.GetFIB, wire.FIBQuery{VRF: red, Address: netip.MustParseAddr("20.7.1.1")}).Entries
	if len(one) != 1 || one[0].Prefix.String() != "20.7.0.0/16" || one[0].Kind != "forward" || one[0].Group != 1 || len(one[0].NextHops) != 1 {
		t.Errorf("longest match %+v", one)
	}
	st := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{})
	if st.Card != 1 || len(st.VRFs) != 1 || st.VRFs[0].Routes4 != 54 || st.Groups != 4 {
		t.Errorf("stats %+v", st)
	}
	if m := get[wire.ModuleInfo](r, 1, wire.GetModule, struct{}{}); m.Role != "linecard" || m.Name != "linecard-1" {
		t.Errorf("module %+v", m)
	}
	if e := get[map[string]any](r, 1, wire.GetEvents, struct{}{}); e["loop"] != "linecard-1" {
		t.Errorf("events %v", e)
	}
	// No route: a named drop or an answer, and it is counted.
	r.output("h1", "ping", "-c", "1", "-W", "1", "203.0.113.1")
	for _, d := range get[wire.DropList](r, 1, wire.GetDrops, struct{}{}).Drops {
		if d.Node == "" || d.Reason == "" || d.Help == "" {
			t.Errorf("drop without a name or help: %+v", d)
		}
	}
}

func TestBadRequests(t *testing.T) {
	r, cfg := twoPorts(t)
	wrong := cfg
	wrong.Card = 2
	worse := cfg
	worse.Workers = 1000
	port := cfg
	port.Ports = []wire.PortConfig{{ID: portID(9, 1), Device: "p1"}}
	iface := cfg
	iface.Interfaces = []wire.InterfaceConfig{{ID: ifaceID(1, 1), Port: portID(1, 1), MTU: 60000}}
	for name, c := range map[string]wire.CardConfig{"card": wrong, "workers": worse, "port": port, "MTU": iface} {
		if _, err := ask[wire.CardResult](r, 1, wire.SetCard, c); err == nil {
			t.Errorf("wrong %s accepted", name)
		}
	}
	for _, k := range []wire.Kind{wire.SetCard, wire.GetFIB, wire.GetNeighbors, wire.StartCapture, wire.StopCapture, wire.ClearNeighbor, wire.SetSpeaker, 9999} {
		if _, err := ask[map[string]any](r, 1, k, []string{"nonsense"}); err == nil {
			t.Errorf("%v with nonsense answered", k)
		}
	}
	must(t, r.session(1).Send(wire.FIBBatch, []byte("nonsense")))
	eventually(t, "refusal of a batch", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.acks[1].Error != ""
	})
	must(t, r.session(1).Send(wire.RouteBatch, []byte("nonsense")))
	r.ping("h1", "10.2.0.2")
}

func TestHostInterfacesStayAfterStop(t *testing.T) {
	r, _ := twoPorts(t)
	r.stop(1)
	out, err := r.output("red", "ip", "-br", "link")
	if err != nil || !strings.Contains(out, "left") || !strings.Contains(out, "vrf0") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _ = r.output("red", "cat", "/sys/class/net/left/carrier")
	if strings.TrimSpace(out) != "0" {
		t.Errorf("carrier %q after the card has stopped", out)
	}
	must(t, r.lab.Do("rtr", func() error {
		links, err := exec.Command("ip", "-d", "link", "show", "p1").CombinedOutput()
		if strings.Contains(string(links), "xdp") {
			t.Errorf("program left behind: %s", links)
		}
		return err
	}))
}
