package linecard

import (
	"fmt"
	"net/netip"
	"testing"

	"godwit/cluster/wire"
	"godwit/fib"
)

// expressCard is a card between two hosts with the express path on.
func expressCard(t *testing.T) (*rig, wire.CardConfig) {
	t.Helper()
	r := cabled(t)
	for _, h := range []string{"h1", "h2"} {
		must(t, r.lab.Exec(h, "ethtool", "-K", "eth0", "gro", "on"))
	}
	cfg := oneCard(r)
	for i := range cfg.Ports {
		cfg.Ports[i].Express = true
	}
	r.setUp(cfg)
	r.ping("h1", "10.2.0.2") // neighbours are known from here on
	r.expressIs(1, "on")
	r.expressIs(2, "on")
	return r, cfg
}

// expressIs waits until a port says so.
func (r *rig) expressIs(port int, word string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("express %q on port %d", word, port), func() bool {
		return r.status(port).Express == word && r.port(portID(1, port)).Express == word // asked, and as an event
	})
}

func (r *rig) status(port int) wire.PortStatus {
	for _, p := range get[wire.PortList](r, 1, wire.GetPorts, struct{}{}).Ports {
		if p.ID == portID(1, port) {
			return p
		}
	}
	r.t.Fatalf("no port %d", port)
	return wire.PortStatus{}
}

// flow sends n frames from h1 to h2 and returns what the interfaces counted more.
func (r *rig) flow(n int) (in, out wire.Counters) {
	r.t.Helper()
	a, b := r.status(1), r.status(2)
	f := udp4(a.MAC, 0, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2"), "express")
	for range n {
		r.send("h1", f)
	}
	eventually(r.t, "flow", func() bool {
		in, out = r.status(1).Interfaces[0].Counters, r.status(2).Interfaces[0].Counters
		return out.TxPackets >= b.Interfaces[0].Counters.TxPackets+uint64(n)
	})
	return minus(in, a.Interfaces[0].Counters), minus(out, b.Interfaces[0].Counters)
}

func minus(a, b wire.Counters) wire.Counters {
	return wire.Counters{RxPackets: a.RxPackets - b.RxPackets, RxBytes: a.RxBytes - b.RxBytes, TxPackets: a.TxPackets - b.TxPackets,
		TxBytes: a.TxBytes - b.TxBytes, Drops: a.Drops - b.Drops, Punts: a.Punts - b.Punts, Express: a.Express - b.Express}
}

// TestExpressForwards: plain transit is forwarded in the kernel, and counted; the rest works as ever.
func TestExpressForwards(t *testing.T) {
	r, cfg := expressCard(t)
	in, out := r.flow(50)
	if in.Express < 50 || in.RxPackets < 50 || out.TxPackets < 50 || in.RxBytes < 50*49 {
		t.Errorf("counted %+v in, %+v out", in, out)
	}
	if p := r.status(1); p.Counters.RxPackets < 50 || p.ExpressReason != "" {
		t.Errorf("port %+v", p)
	}
	routed := func() wire.FIBEntry {
		l := get[wire.FIBList](r, 1, wire.GetFIB, wire.FIBQuery{VRF: red, Address: netip.MustParseAddr("10.2.0.9")})
		if len(l.Entries) != 1 {
			t.Fatalf("route %+v", l)
		}
		return l.Entries[0]
	}
	if e := routed(); e.ExpressPackets < 50 || e.ExpressBytes < 50*35 {
		t.Errorf("counted by the route's group: %+v", e)
	}
	if l := get[wire.FIBList](r, 1, wire.GetFIB, wire.FIBQuery{VRF: red}); len(l.Entries) < 4 || l.Entries[2].ExpressPackets+l.Entries[3].ExpressPackets < 50 {
		t.Errorf("listed: %+v", l)
	}
	r.ping("h1", "10.1.0.1") // local
	r.ping("h2", "10.1.0.1")
	r.ping("red", "10.2.0.2")
	r.transfer("h1", "h2", "10.2.0.2", 4<<20)
	// A blackhole is a named drop on both ways.
	r.program(1, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 90, Kind: fib.Blackhole}},
		fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: netip.MustParsePrefix("198.51.100.0/24"), Group: 90}})
	before := r.drop(1, "ip4-forward", "blackhole")
	r.send("h1", udp4(r.status(1).MAC, 0, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("198.51.100.9"), "gone"))
	eventually(t, "named drop", func() bool { return r.drop(1, "ip4-forward", "blackhole") == before+1 })
	// Off by configuration: the same frames go through the workers, and no port is opened again.
	for i := range cfg.Ports {
		cfg.Ports[i].Express = false
	}
	r.configure(cfg)
	r.expressIs(1, "off")
	if in, _ := r.flow(50); in.Express != 0 || in.RxPackets < 50 {
		t.Errorf("off: counted %+v", in)
	}
	if why := r.status(1).ExpressReason; why != "configured" {
		t.Errorf("off because of %q", why)
	}
	for i := range cfg.Ports {
		cfg.Ports[i].Express = true
	}
	r.configure(cfg)
	r.expressIs(1, "on")
	if in, _ := r.flow(50); in.Express < 50 {
		t.Errorf("on again: counted %+v", in)
	}
}

// TestExpressFollowsThePeer: a veth whose peer has no NAPI takes no redirected frames; the
// card notices, says so, and sends through AF_XDP.
func TestExpressFollowsThePeer(t *testing.T) {
	r, _ := expressCard(t)
	must(t, r.lab.Exec("h2", "ethtool", "-K", "eth0", "gro", "off"))
	r.expressIs(2, "receive")
	if in, _ := r.flow(20); in.Express != 0 || in.RxPackets < 20 {
		t.Errorf("counted %+v", in)
	}
	if why := r.status(2).ExpressReason; why == "" {
		t.Error("no reason is given")
	}
	must(t, r.lab.Exec("h2", "ethtool", "-K", "eth0", "gro", "on"))
	r.expressIs(2, "on")
	if in, _ := r.flow(20); in.Express < 20 {
		t.Errorf("counted %+v", in)
	}
}

// TestCaptureSeesExpressPackets: a captured port's frames go through the workers meanwhile, in
// both directions.
func TestCaptureSeesExpressPackets(t *testing.T) {
	r, _ := expressCard(t)
	for _, port := range []int{1, 2} {
		get[wire.CaptureRequest](r, 1, wire.StartCapture, wire.CaptureRequest{Interface: ifaceID(1, port)})
		r.expressIs(port, "off")
		if in, _ := r.flow(10); in.Express != 0 {
			t.Errorf("capture on port %d: counted %+v", port, in)
		}
		eventually(t, "captured frames", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.frames) >= 10
		})
		get[wire.CaptureRequest](r, 1, wire.StopCapture, wire.CaptureRequest{Interface: ifaceID(1, port)})
		r.expressIs(port, "on")
		r.mu.Lock()
		r.frames = nil
		r.mu.Unlock()
	}
	if in, _ := r.flow(10); in.Express < 10 {
		t.Errorf("behind the captures: counted %+v", in)
	}
}

// TestGenericPortHasNoExpressWay: what arrives at a port in generic mode goes through the workers.
func TestGenericPortHasNoExpressWay(t *testing.T) {
	r, cfg := expressCard(t)
	cfg.Ports[0].Mode = "generic"
	r.configure(cfg)
	r.expressIs(1, "transmit")
	r.ping("h1", "10.2.0.2")
	if in, _ := r.flow(10); in.Express != 0 {
		t.Errorf("counted %+v", in)
	}
	if in := r.status(2).Interfaces[0].Counters; in.Express == 0 {
		t.Errorf("the answers did not go the express way: %+v", in)
	}
}
