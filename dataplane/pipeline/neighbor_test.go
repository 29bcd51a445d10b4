package pipeline

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

var toAll = [6]byte{255, 255, 255, 255, 255, 255}

// TestARP: who is answered, who is learned, what the host stack sees.
func TestARP(t *testing.T) {
	type want struct {
		reply  bool
		state  string // of the sender's entry, empty: none
		drop   string
		copied bool
		notice bool
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  want
	}{
		{"request for us", arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll), want{reply: true, state: "stale"}},
		{"unicast request", arp(t, layers.ARPRequest, hostA, "10.0.1.66", mac1, "10.0.1.1", mac1), want{reply: true, state: "stale"}},
		{"request for another", arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.67", toAll), want{}},
		{"request for our other link's address", arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.2.1", toAll), want{}},
		{"probe for our address", arp(t, layers.ARPRequest, hostA, "0.0.0.0", [6]byte{}, "10.0.1.1", toAll), want{reply: true}},
		{"unasked reply", arp(t, layers.ARPReply, hostA, "10.0.1.66", mac1, "10.0.1.1", mac1), want{copied: true}},
		{"gratuitous", arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.66", toAll), want{copied: true}},
		{"spoofed request", arp(t, layers.ARPRequest, hostA, "10.0.1.1", [6]byte{}, "10.0.1.1", toAll), want{drop: "neighbor/arp-spoof", notice: true}},
		{"spoofed reply", arp(t, layers.ARPReply, hostA, "10.0.1.1", mac1, "10.0.1.10", mac1), want{drop: "neighbor/arp-spoof", notice: true}},
		{"off link", arp(t, layers.ARPRequest, hostA, "10.9.9.9", [6]byte{}, "10.0.1.1", toAll), want{drop: "neighbor/arp-off-link"}},
		{"group sender", arp(t, layers.ARPRequest, hostA, "224.0.0.1", [6]byte{}, "10.0.1.1", toAll), want{drop: "neighbor/arp-invalid"}},
		{"broadcast sender", arp(t, layers.ARPRequest, hostA, "10.0.1.255", [6]byte{}, "10.0.1.1", toAll), want{drop: "neighbor/arp-invalid"}},
		{"group MAC", patched(arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll), 14+8, 1), want{drop: "neighbor/arp-invalid"}},
		{"cut", arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll)[:14+27], want{drop: "neighbor/arp-invalid"}},
		{"operation 3", patched(arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll), 14+7, 3), want{drop: "neighbor/arp-invalid"}},
		{"hardware 6", patched(arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll), 14+1, 6), want{drop: "neighbor/arp-invalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.in(port1, c.frame)
			switch {
			case c.want.reply:
				p := r.sentOne(port1)
				a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
				if !ok || a.Operation != layers.ARPReply || !bytes.Equal(a.SourceHwAddress, mac1[:]) || !bytes.Equal(a.SourceProtAddress, []byte{10, 0, 1, 1}) ||
					!bytes.Equal(a.DstHwAddress, hostA[:]) {
					t.Errorf("sent %v", p)
				}
				wantMACs(t, p, mac1, hostA)
			case c.want.notice: // defended
				p := r.sentOne(port1)
				a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
				if !ok || !bytes.Equal(a.SourceProtAddress, a.DstProtAddress) || !bytes.Equal(a.SourceHwAddress, mac1[:]) {
					t.Errorf("sent %v", p)
				}
			default:
				r.sentNone(port1)
			}
			var state string
			if list := r.slow.Neighbors(); len(list) == 1+1+1 { // the three pinned gateways
			} else if e := r.neighbor(lan1, "10.0.1.66"); e != nil {
				state = e.State.String()
			}
			if state != c.want.state {
				t.Errorf("state %q, want %q", state, c.want.state)
			}
			d := r.drops()
			if c.want.drop != "" && (d[c.want.drop] != 1 || len(d) != 1) || c.want.drop == "" && len(d) != 0 {
				t.Errorf("drops %v, want %q", d, c.want.drop)
			}
			if (len(r.taps[lan1]) == 1) != c.want.copied {
				t.Errorf("%d copies", len(r.taps[lan1]))
			}
			if (len(r.notices) == 1) != c.want.notice || c.want.notice && !strings.Contains(r.notices[0], "10.0.1.1 is also claimed by 02:00:00:00:aa:01") {
				t.Errorf("notices %q", r.notices)
			}
		})
	}
	r := newRig(t, Options{}) // a conflict that goes on is not an ARP storm
	for range 50 {
		r.in(port1, arp(t, layers.ARPReply, hostA, "10.0.1.1", mac1, "10.0.1.10", mac1))
		r.now = r.now.Add(100 * time.Millisecond)
	}
	if n := len(r.ports[port1].Sent()); n != 1 || len(r.notices) != 1 {
		t.Errorf("%d defences, %d notices in 5 s, want one", n, len(r.notices))
	}
}

// TestAgeing takes a neighbour through its states.
func TestAgeing(t *testing.T) {
	r := newRig(t, Options{})
	state := func() string {
		if e := r.neighbor(lan2, "10.0.2.30"); e != nil {
			return e.State.String()
		}
		return "none"
	}
	data := udp(t, "10.0.1.10", "10.0.2.30", 30)
	reply := arp(t, layers.ARPReply, hostB, "10.0.2.30", mac2, "10.0.2.1", mac2)
	r.in(port1, data)
	r.in(port2, reply)
	if state() != "reachable" {
		t.Fatalf("state %s", state())
	}
	r.clear()
	// In use: probed by unicast within 45 s, answered, never a packet lost.
	asked := 0
	for range 60 {
		r.advance(time.Second)
		r.in(port1, data)
		forwarded := 0
		for _, f := range r.ports[port2].Sent() {
			p := decode(t, f)
			if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
				if bytes.Equal(a.DstProtAddress, []byte{10, 0, 2, 30}) {
					wantMACs(t, p, mac2, hostB)
					asked++
					r.in(port2, reply)
				}
			}
			if p.Layer(layers.LayerTypeUDP) != nil {
				forwarded++
			}
		}
		if forwarded != 1 {
			t.Fatalf("%d packets forwarded in state %s", forwarded, state())
		}
	}
	if asked < 1 || asked > 4 || state() != "reachable" {
		t.Errorf("asked %d times in a minute, state %s", asked, state())
	}
	// It moves to another MAC: a gratuitous ARP is believed.
	moved := [6]byte{2, 0, 0, 0, 0xbb, 9}
	r.in(port2, arp(t, layers.ARPRequest, moved, "10.0.2.30", [6]byte{}, "10.0.2.30", toAll))
	r.clear()
	r.in(port1, data)
	wantMACs(t, r.sentOne(port2), mac2, moved)
	// It dies while in use: probed, asked by broadcast, then failed.
	seen := map[string]bool{}
	for range 70 {
		r.advance(time.Second)
		r.in(port1, data)
		seen[state()] = true
	}
	for _, s := range []string{"stale", "probe", "incomplete", "failed"} {
		if !seen[s] {
			t.Errorf("never %s: %v", s, seen)
		}
	}
	// Nobody asks any more: it is forgotten.
	r.advance(5 * time.Second)
	if state() != "none" {
		t.Errorf("state %s", state())
	}
	// Back, and unused: forgotten after its time.
	r.in(port1, data)
	r.in(port2, reply)
	r.advance(9 * time.Minute)
	if s := state(); s != "stale" && s != "reachable" && s != "probe" {
		t.Errorf("state %s after 9 minutes", s)
	}
	r.advance(3 * time.Minute)
	if state() != "none" {
		t.Errorf("state %s after 12 minutes", state())
	}
	r.clear()
}

// TestGateway: a gateway is asked for as soon as a group uses it, kept as long,
// and asked again for each packet after it failed.
func TestGateway(t *testing.T) {
	r := newRig(t, Options{})
	r.apply(set(70, fib.Forward, fib.NextHop{Interface: lan2, Gateway: addr("10.0.2.70")}), route(red, "203.0.113.0/24", 70))
	r.settle()
	if p := r.sentOne(port2); p.Layer(layers.LayerTypeARP) == nil {
		t.Errorf("sent %v", p)
	}
	r.advance(time.Minute)
	if e := r.neighbor(lan2, "10.0.2.70"); e == nil || e.State != neigh.FailedState {
		t.Fatalf("neighbour %+v", e)
	}
	r.clear()
	r.in(port1, udp(t, "10.0.1.10", "203.0.113.1", 30))
	if p := r.sentOne(port2); p.Layer(layers.LayerTypeARP) == nil {
		t.Errorf("sent %v", p)
	}
	r.in(port2, arp(t, layers.ARPReply, hostB, "10.0.2.70", mac2, "10.0.2.1", mac2))
	wantMACs(t, r.sentOne(port2), mac2, hostB)
	r.advance(20 * time.Minute)
	if e := r.neighbor(lan2, "10.0.2.70"); e == nil {
		t.Error("a gateway in use was forgotten")
	}
	r.apply(fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: red, Prefix: prefix("203.0.113.0/24")}}, fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: 70}})
	for r.tables.Reclaim() > 0 {
	}
	r.advance(20 * time.Minute)
	if e := r.neighbor(lan2, "10.0.2.70"); e != nil {
		t.Errorf("%+v is kept without a group", e)
	}
	r.clear()
}

// TestScan: someone walks through a connected prefix. Memory stays bounded, and
// a real neighbour is still resolved.
func TestScan(t *testing.T) {
	r := newRig(t, Options{Limits: neigh.Limits{Entries: 300, PerInterface: 250, Incomplete: 100, Queue: 3, QueueTotal: 50}})
	list := testInterfaces()
	list[1].Addresses = prefixes("10.0.2.1/24", "10.77.0.1/16", "2001:db8:2::1/64", "fe80::2/64")
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		t.Fatal(err)
	}
	r.apply(route(red, "10.77.0.0/16", 2))
	most := 0
	for i := range 5000 {
		r.now = r.now.Add(time.Millisecond)
		r.in(port1, udp(t, "10.0.1.10", netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}).String(), 1))
		most = max(most, len(r.slow.Neighbors()))
		if i == 3000 {
			r.clear()
			r.in(port1, udp(t, "10.0.1.10", "10.77.200.200", 1))
			r.in(port2, arp(t, layers.ARPReply, hostB, "10.77.200.200", mac2, "10.77.0.1", mac2))
			sent := r.ports[port2].Sent()
			wantMACs(t, decode(t, sent[len(sent)-1]), mac2, hostB)
		}
	}
	if most > 310 {
		t.Errorf("%d neighbours at a time", most)
	}
	if d := r.drops(); d["neighbor/given-up"] == 0 {
		t.Errorf("drops %v", d)
	}
	// A storm of senders on one link does not take the room of the other.
	for i := range 1000 {
		r.now = r.now.Add(time.Millisecond)
		a := netip.AddrFrom4([4]byte{10, 77, byte(100 + i>>8), byte(i)}).String()
		if r.in(port2, arp(t, layers.ARPRequest, hostB, a, [6]byte{}, "10.77.0.1", toAll)); len(r.slow.Neighbors()) > 310 {
			t.Fatalf("%d neighbours", len(r.slow.Neighbors()))
		}
	}
	r.in(port1, arp(t, layers.ARPRequest, hostA, "10.0.1.66", [6]byte{}, "10.0.1.1", toAll))
	if r.neighbor(lan1, "10.0.1.66") == nil {
		t.Error("no room for a neighbour on another link")
	}
	r.clear()
}

// TestND: solicitations answered, advertisements believed as RFC 4861 7.2 says.
func TestND(t *testing.T) {
	const stranger = "2001:db8:1::66"
	ns := func(src, dst, target string, hop uint8, mac *[6]byte) []byte {
		m := &layers.ICMPv6NeighborSolicitation{TargetAddress: addr(target).AsSlice()}
		if mac != nil {
			m.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac[:]}}
		}
		dmac := mac1
		if addr(dst).IsMulticast() {
			dmac = header.MulticastMAC(addr(dst))
		}
		return nd(t, hostA, dmac, src, dst, hop, m, 135)
	}
	group := "ff02::1:ff00:1"
	for _, c := range []struct {
		name  string
		frame []byte
		to    string // of the answer; empty: none
		flags uint8
		state string
		drop  string
	}{
		{"global", ns(stranger, group, "2001:db8:1::1", 255, &hostA), stranger, 0xe0, "stale", ""},
		{"link-local", ns("fe80::66", group, "fe80::1", 255, &hostA), "fe80::66", 0xe0, "", ""},
		{"unicast", ns(stranger, "2001:db8:1::1", "2001:db8:1::1", 255, &hostA), stranger, 0xe0, "stale", ""},
		{"duplicate detection", ns("::", group, "fe80::1", 255, nil), "ff02::1", 0xa0, "", ""},
		{"another's", ns(stranger, group, "2001:db8:1::2:1", 255, &hostA), "", 0, "", ""},
		{"forwarded", ns(stranger, group, "2001:db8:1::1", 254, &hostA), "", 0, "", "neighbor/nd-invalid"},
		{"duplicate detection with option", ns("::", group, "fe80::1", 255, &hostA), "", 0, "", "neighbor/nd-invalid"},
		{"checksum", patched(ns(stranger, group, "2001:db8:1::1", 255, &hostA), 14+42, 0), "", 0, "", "neighbor/nd-invalid"},
		{"option of length 0", patched(ns(stranger, group, "2001:db8:1::1", 255, &hostA), 14+40+25, 0), "", 0, "", "neighbor/nd-invalid"},
		{"off link", ns("2001:db9::1", group, "2001:db8:1::1", 255, &hostA), "", 0, "", "neighbor/nd-off-link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.in(port1, c.frame)
			if c.to == "" {
				r.sentNone(port1)
			} else {
				p := r.sentOne(port1)
				na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
				if !ok || na.Flags != c.flags || len(na.Options) != 1 || !bytes.Equal(na.Options[0].Data, mac1[:]) {
					t.Fatalf("sent %v", p)
				}
				if h := ip6(t, p); h.DstIP.String() != c.to || h.HopLimit != 255 || !h.SrcIP.Equal(na.TargetAddress) {
					t.Errorf("sent %v", h)
				}
			}
			var state string
			if e := r.neighbor(lan1, stranger); e != nil {
				state = e.State.String()
			}
			d := r.drops()
			if state != c.state || c.drop != "" && (d[c.drop] != 1 || len(d) != 1) || c.drop == "" && len(d) != 0 {
				t.Errorf("state %q, drops %v; want %q, %q", state, d, c.state, c.drop)
			}
			if len(r.taps) != 0 {
				t.Errorf("copies %x", r.taps)
			}
		})
	}
}

// TestAdvertisement: RFC 4861, 7.2.5 and its table in appendix C.
func TestAdvertisement(t *testing.T) {
	const who = "2001:db8:2::30"
	other := [6]byte{2, 0, 0, 0, 0xbb, 0x77}
	na := func(flags uint8, mac [6]byte, dst string) []byte {
		dmac := mac2
		if addr(dst).IsMulticast() {
			dmac = header.MulticastMAC(addr(dst))
		}
		return nd(t, hostB, dmac, who, dst, 255, &layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: addr(who).AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac[:]}}}, 136)
	}
	for _, c := range []struct {
		name  string
		flags uint8
		mac   [6]byte
		dst   string
		state neigh.State
		used  [6]byte
	}{
		{"confirmed", 0x40, hostB, "fe80::2", neigh.Reachable, hostB},
		{"other MAC without override", 0x40, other, "fe80::2", neigh.Stale, hostB},
		{"other MAC, override, unasked", 0x20, other, "ff02::1", neigh.Stale, other},
		{"other MAC, override, asked", 0x60, other, "fe80::2", neigh.Reachable, other},
		{"same MAC, unasked", 0x20, hostB, "ff02::1", neigh.Reachable, hostB},
	} {
		r := newRig(t, Options{})
		r.in(port1, udp(t, "2001:db8:1::10", who, 3))
		r.in(port2, na(0x60, hostB, "fe80::2"))
		r.in(port2, na(c.flags, c.mac, c.dst))
		if e := r.neighbor(lan2, who); e == nil || e.State != c.state || e.MAC != c.used {
			t.Errorf("%s: %+v", c.name, e)
		}
		if len(r.taps[lan2]) != 2 {
			t.Errorf("%s: %d copies for the host stack, want 2", c.name, len(r.taps[lan2]))
		}
		r.clear()
	}
	r := newRig(t, Options{}) // our own address claimed: reported, defended, and the host stack sees it
	r.in(port1, nd(t, hostA, header.MulticastMAC(addr("ff02::1")), "fe80::66", "ff02::1", 255, &layers.ICMPv6NeighborAdvertisement{Flags: 0x20,
		TargetAddress: addr("2001:db8:1::1").AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hostA[:]}}}, 136))
	if r.drops()["neighbor/nd-spoof"] != 1 || len(r.notices) != 1 || len(r.taps[lan1]) != 1 {
		t.Errorf("drops %v, notices %q", r.drops(), r.notices)
	}
	r.sentOne(port1)
}

// TestClear and static entries.
func TestClearNeighbors(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	r.in(port2, arp(t, layers.ARPRequest, hostB, "10.0.2.30", [6]byte{}, "10.0.2.1", toAll))
	r.in(port2, arp(t, layers.ARPReply, [6]byte{2, 6, 6, 6, 6, 6}, "10.0.2.20", mac2, "10.0.2.1", mac2))
	if e := r.neighbor(lan2, "10.0.2.20"); e.MAC != hostB || e.State != neigh.Permanent {
		t.Errorf("a configured neighbour was changed: %+v", e)
	}
	if n := r.slow.ClearNeighbors(r.now, func(e neigh.Entry) bool { return e.Interface == lan2 && e.Address.Is4() }); n != 1 {
		t.Errorf("%d forgotten, want 1", n)
	}
	if r.neighbor(lan2, "10.0.2.30") != nil || r.neighbor(lan2, "10.0.2.20") == nil {
		t.Errorf("neighbours %+v", r.slow.Neighbors())
	}
	r.slow.SetStatic(r.now, nil)
	r.settle()
	r.advance(2 * time.Second)
	if e := r.neighbor(lan1, "10.0.1.10"); e != nil {
		t.Errorf("%+v is still there", e)
	}
	r.clear()
}
