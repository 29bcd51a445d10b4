package pipeline

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/filter"
	"godwit/dataplane/guard"
	"godwit/dataplane/header"
	"godwit/fib"
)

// guarded gives an interface of the rig policies.
func (r *rig) guarded(id fib.InterfaceID, in, out *guard.Policy) {
	r.t.Helper()
	list := testInterfaces()
	for i := range list {
		if list[i].ID == id {
			list[i].Ingress, list[i].Egress = in, out
		}
	}
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		r.t.Fatal(err)
	}
	r.settle()
	r.clear()
}

func acl(t testing.TB, rules ...filter.Rule) *filter.List {
	t.Helper()
	l, err := filter.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestACLs: both directions, both families, transit and what is for the router; the router's own packets,
// neighbour discovery and what is not IP pass.
func TestACLs(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	proto := uint8(header.ProtoUDP)
	rules := acl(t, filter.Rule{Deny: true, Destination: prefix("10.0.2.20/32")}, filter.Rule{Deny: true, Destination: prefix("2001:db8:2::20/128")},
		filter.Rule{Protocol: &proto, Destination: prefix("198.18.0.0/15")})
	in := guard.NewPolicy(lan1, false, rules)
	r.guarded(lan1, in, nil)
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 5), udp(t, "2001:db8:1::10", "2001:db8:2::20", 5), udp(t, "10.0.1.10", "198.18.7.1", 5), udp(t, "10.0.1.10", "10.0.1.1", 5))
	if p := r.sentOne(port2); ip4(t, p).DstIP.String() != "198.18.7.1" {
		t.Errorf("sent %v", p)
	}
	if len(r.punts) != 0 {
		t.Errorf("punted %v", r.punts)
	}
	if hits, _ := in.Stats(); fmt.Sprint(hits) != "[1 1 1 1]" {
		t.Errorf("hits %v", hits)
	}
	// ARP and neighbour discovery go on, also to the group of the link.
	r.in(port1, arp(t, layers.ARPRequest, hostA, "10.0.1.10", [6]byte{}, "10.0.1.1", header.Broadcast))
	r.sentOne(port1)
	r.in(port1, nd(t, hostA, mac1, "2001:db8:1::10", "2001:db8:1::1", 255, &layers.ICMPv6NeighborSolicitation{TargetAddress: addr("2001:db8:1::1").AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hostA[:]}}}, 135))
	r.sentOne(port1)
	r.in(port1, nd(t, hostA, mac1, "2001:db8:1::10", "2001:db8:1::1", 64, &layers.ICMPv6NeighborSolicitation{TargetAddress: addr("2001:db8:1::1").AsSlice()}, 135))
	if hits, _ := in.Stats(); hits[3] != 2 {
		t.Errorf("a solicitation from afar: hits %v", hits)
	}
	if d := r.drops(); d["ip4-guard/acl-in"] != 2 || d["ip6-guard/acl-in"] != 2 || len(d) != 2 {
		t.Errorf("drops %v", d)
	}
	r.clear()
	// Egress: what waits for its neighbour is asked, too, and once.
	out := guard.NewPolicy(lan2, true, acl(t, filter.Rule{Deny: true, Destination: prefix("10.0.2.0/24")}, filter.Rule{}))
	r.guarded(lan2, nil, out)
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.77", 5), udp(t, "10.0.1.10", "10.0.2.20", 5), udp(t, "10.0.1.10", "198.18.7.1", 5), udp(t, "2001:db8:1::10", "2001:db8:2::20", 5))
	if n := len(r.ports[port2].Sent()); n != 2 {
		t.Errorf("%d packets, want 2", n)
	}
	if hits, _ := out.Stats(); fmt.Sprint(hits) != "[2 2 0]" {
		t.Errorf("hits %v", hits)
	}
	if d := r.drops(); d["ip4-guard/acl-out"] != 2 {
		t.Errorf("drops %v", d)
	}
	b := make([]byte, header.IPv4Len+8)
	header.PutIPv4(b, len(b), 1, 0, 0, 64, header.ProtoUDP, addr("10.0.2.1"), addr("10.0.2.20"))
	r.host(red, 0, b) // the router itself
	r.sentOne(port2)
}

// TestSourceCheck: strict and loose, by the interface's own VRF.
func TestSourceCheck(t *testing.T) {
	for _, c := range []struct {
		src, dst      string
		strict, loose bool
	}{
		{"10.0.1.10", "10.0.2.20", true, true},
		{"10.0.1.200", "10.0.2.20", true, true},
		{"10.0.2.20", "198.18.7.1", false, true}, // another interface's
		{"198.18.3.3", "10.0.2.20", false, true},
		{"100.64.0.1", "10.0.2.20", false, false}, // no route
		{"2001:db8:1::77", "2001:db8:2::20", true, true},
		{"2001:db8:2::77", "2001:db8:2::20", false, true},
		{"3fff::1", "2001:db8:2::20", false, false},
	} {
		for mode, want := range map[guard.RPF]bool{guard.Strict: c.strict, guard.Loose: c.loose} {
			r := newRig(t, Options{})
			r.know()
			p := guard.NewPolicy(lan1, false, nil)
			p.RPF = mode
			r.guarded(lan1, p, nil)
			r.in(port1, udp(t, c.src, c.dst, 5))
			if got := len(r.ports[port2].Sent()) == 1; got != want {
				t.Errorf("%s, mode %d: passed %v, drops %v", c.src, mode, got, r.drops())
			}
			if _, n := p.Stats(); (n == 1) == want {
				t.Errorf("%s, mode %d: %d counted", c.src, mode, n)
			}
		}
	}
	// A blackhole for a source stops its packets (RFC 5635).
	r := newRig(t, Options{})
	r.know()
	p := guard.NewPolicy(lan1, false, nil)
	p.RPF = guard.Loose
	r.guarded(lan1, p, nil)
	r.apply(route(red, "100.64.0.0/10", 6))
	r.in(port1, udp(t, "100.64.0.1", "10.0.2.20", 5))
	r.sentNone(port2)
	r.in(port1, nd(t, hostA, mac1, "fe80::10", "fe80::1", 255, &layers.ICMPv6NeighborSolicitation{TargetAddress: addr("fe80::1").AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hostA[:]}}}, 135))
	r.sentOne(port1)
}

// TestPolicer: what is above is dropped, what is between is marked, with a right checksum.
func TestPolicer(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	in := guard.NewPolicy(lan1, false, nil)
	in.Policer, _ = guard.NewPolicer(guard.Rate{Rate: 8000, Burst: 9000, Peak: 8000, PeakBurst: 18000, Exceed: 10})
	r.guarded(lan1, in, nil)
	for range 30 {
		r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 972), udp(t, "2001:db8:1::10", "2001:db8:2::20", 952))
	}
	marked, plain := 0, 0
	for _, f := range r.ports[port2].Sent() {
		p := decode(t, f) // checks checksums
		var tos uint8
		if l, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok {
			tos = l.TrafficClass
		} else {
			tos = ip4(t, p).TOS
		}
		switch tos {
		case 0:
			plain++
		case 10 << 2:
			marked++
		default:
			t.Errorf("traffic class %d", tos)
		}
	}
	if plain != 9 || marked != 9 || r.drops()["ip4-guard/policed-in"]+r.drops()["ip6-guard/policed-in"] != 42 {
		t.Errorf("%d as they were, %d marked; drops %v", plain, marked, r.drops())
	}
	out := guard.NewPolicy(lan2, true, nil)
	out.Policer, _ = guard.NewPolicer(guard.Rate{Rate: 8000, Burst: 9000})
	r.guarded(lan2, nil, out)
	for range 20 {
		r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 972))
	}
	if n := len(r.ports[port2].Sent()); n != 9 || r.drops()["ip4-guard/policed-out"] != 11 {
		t.Errorf("%d packets; drops %v", n, r.drops())
	}
}

// TestGuardTwin: random lists on both interfaces decide about random packets as going through their rules does.
func TestGuardTwin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := rand.New(rand.NewPCG(seed, 0))
	udpProto := uint8(header.ProtoUDP)
	dsts := []string{"10.0.2.20", "198.18.1.1", "198.18.200.7", "198.18.130.3"}
	random := func() (rules []filter.Rule) {
		for range g.IntN(6) {
			x := filter.Rule{Deny: g.IntN(2) == 0}
			if g.IntN(2) == 0 {
				x.Source = netip.PrefixFrom(addr("10.0.1.0"), 24+g.IntN(8)).Masked()
			}
			if g.IntN(2) == 0 {
				x.Destination = netip.PrefixFrom(addr(dsts[g.IntN(len(dsts))]), g.IntN(33)).Masked()
			}
			if g.IntN(3) == 0 {
				x.Protocol = &udpProto
			}
			rules = append(rules, x)
		}
		return append(rules, filter.Rule{Deny: g.IntN(3) == 0})
	}
	permits := func(rules []filter.Rule, src, dst netip.Addr) bool {
		for _, x := range rules {
			if (!x.Source.IsValid() || x.Source.Contains(src)) && (!x.Destination.IsValid() || x.Destination.Contains(dst)) {
				return !x.Deny
			}
		}
		return false
	}
	passed := 0
	for range 15 {
		r := newRig(t, Options{})
		r.know()
		in, out := random(), random()
		list := testInterfaces()
		list[0].Ingress, list[1].Egress = guard.NewPolicy(lan1, false, acl(t, in...)), guard.NewPolicy(lan2, true, acl(t, out...))
		if err := r.slow.SetInterfaces(r.now, list); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.clear()
		for range 60 {
			src, dst := netip.AddrFrom4([4]byte{10, 0, 1, byte(2 + g.IntN(200))}), addr(dsts[g.IntN(len(dsts))])
			r.in(port1, udp(t, src.String(), dst.String(), 5))
			want := permits(in, src, dst) && permits(out, src, dst)
			if got := len(r.ports[port2].Sent()) == 1; got != want {
				t.Fatalf("%v to %v: passed %v\nin  %+v\nout %+v\ndrops %v", src, dst, got, in, out, r.drops())
			}
			if want {
				passed++
			}
		}
	}
	if passed < 20 {
		t.Errorf("only %d packets passed", passed)
	}
}

// BenchmarkGuard is forwarding with an access list of n rules in the way, the last of which fits.
func BenchmarkGuard(t *testing.B) {
	for _, n := range []int{0, 1, 10, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.B) {
			changes, dst := oneRoute()
			b := newBench(t, changes, dst)
			if n > 0 {
				var rules []filter.Rule
				for i := range n - 1 {
					rules = append(rules, filter.Rule{Deny: true, Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)})
				}
				list := testInterfaces()
				list[0].Ingress = guard.NewPolicy(lan1, false, acl(t, append(rules, filter.Rule{})...))
				if err := NewSlowPath(b.state).SetInterfaces(b.state.now, list); err != nil {
					t.Fatal(err)
				}
			}
			b.run(t)
		})
	}
}
