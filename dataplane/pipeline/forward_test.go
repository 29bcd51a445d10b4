package pipeline

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

func ip4(t testing.TB, p gopacket.Packet) *layers.IPv4 {
	t.Helper()
	h, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		t.Fatalf("no IPv4 in %v", p)
	}
	return h
}

func ip6(t testing.TB, p gopacket.Packet) *layers.IPv6 {
	t.Helper()
	h, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if !ok {
		t.Fatalf("no IPv6 in %v", p)
	}
	return h
}

func wantMACs(t testing.TB, p gopacket.Packet, src, dst [6]byte) {
	t.Helper()
	e := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !bytes.Equal(e.SrcMAC, src[:]) || !bytes.Equal(e.DstMAC, dst[:]) {
		t.Errorf("frame from %v to %v, want %x to %x", e.SrcMAC, e.DstMAC, src, dst)
	}
}

func TestForward(t *testing.T) {
	for _, c := range []struct {
		name, src, dst string
		vlanIn         uint16
		vlanOut        uint16
	}{
		{"connected 4", "10.0.1.10", "10.0.2.20", 0, 0},
		{"gateway 4", "10.0.1.10", "198.18.77.1", 0, 0},
		{"tagged 4", "10.0.1.10", "10.0.2.20", 100, 200},
		{"connected 6", "2001:db8:1::10", "2001:db8:2::20", 0, 0},
		{"gateway 6", "2001:db8:1::10", "2001:db8:8001::1", 0, 0},
		{"link-local gateway 6", "2001:db8:1::10", "2001:db8:4000::1", 0, 0},
		{"tagged 6", "2001:db8:1::10", "2001:db8:2::20", 100, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.know()
			for _, size := range []int{0, 1, 18, 1000} {
				f := udpVLAN(t, c.vlanIn, c.src, c.dst, size)
				r.in(port1, append(bytes.Clone(f), make([]byte, 7)...)) // with padding
				p := r.sentOne(port2)
				wantMACs(t, p, mac2, hostB)
				var vlan uint16
				if q, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
					vlan = q.VLANIdentifier
				}
				if vlan != c.vlanOut {
					t.Errorf("sent with tag %d, want %d", vlan, c.vlanOut)
				}
				if addr(c.src).Is4() {
					if h := ip4(t, p); h.TTL != 63 || int(h.Length) != 28+size || h.DstIP.String() != c.dst {
						t.Errorf("sent %v", p)
					}
				} else if h := ip6(t, p); h.HopLimit != 63 || int(h.Length) != 8+size || h.DstIP.String() != c.dst {
					t.Errorf("sent %v", p)
				}
				if got := p.Layer(layers.LayerTypeUDP).LayerPayload(); !bytes.Equal(got, bytes.Repeat([]byte{0xa5}, size)) {
					t.Errorf("payload %x", got)
				}
				want := 14 + 4*boolInt(c.vlanOut != 0) + 20 + 20*boolInt(addr(c.src).Is6()) + 8 + size
				if len(p.Data()) != want {
					t.Errorf("sent %d bytes, want %d: padding is to be trimmed", len(p.Data()), want)
				}
			}
			if d := r.drops(); len(d) != 0 {
				t.Errorf("drops %v", d)
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestResolve sends to neighbours that are not known yet: asked for, first
// packets kept in order, then forwarded without the slow path.
func TestResolve(t *testing.T) {
	r := newRig(t, Options{})
	for i := range 5 {
		r.in(port1, udp(t, "10.0.1.10", "10.0.2.30", i))
	}
	p := r.sentOne(port2)
	a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || a.Operation != layers.ARPRequest || !bytes.Equal(a.DstProtAddress, []byte{10, 0, 2, 30}) ||
		!bytes.Equal(a.SourceProtAddress, []byte{10, 0, 2, 1}) || !bytes.Equal(a.SourceHwAddress, mac2[:]) {
		t.Fatalf("sent %v, want one ARP request", p)
	}
	wantMACs(t, p, mac2, header.Broadcast)
	if e := r.neighbor(lan2, "10.0.2.30"); e == nil || e.State != neigh.Incomplete || e.VRF != red {
		t.Fatalf("neighbour %+v", e)
	}
	r.in(port2, arp(t, layers.ARPReply, hostB, "10.0.2.30", mac2, "10.0.2.1", mac2))
	sent := r.ports[port2].Sent()
	if len(sent) != 3 {
		t.Fatalf("%d packets released, want 3", len(sent))
	}
	for i, f := range sent {
		p := decode(t, f)
		wantMACs(t, p, mac2, hostB)
		if h := ip4(t, p); h.TTL != 63 || int(h.Length) != 28+i {
			t.Errorf("released packet %d: %v", i, p)
		}
	}
	if e := r.neighbor(lan2, "10.0.2.30"); e.State != neigh.Reachable || e.MAC != hostB {
		t.Errorf("neighbour %+v", e)
	}
	if len(r.taps[lan2]) != 1 {
		t.Errorf("%d frames to the TAP, want a copy of the reply", len(r.taps[lan2]))
	}
	n := len(r.punts)
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.30", 9))
	r.sentOne(port2)
	if len(r.punts) != n {
		t.Error("punted though resolved")
	}
	if d := r.drops(); d["ip4-forward/unresolved"] != 2 || len(d) != 1 {
		t.Errorf("drops %v, want 2 beyond the queue", d)
	}
}

func arp(t testing.TB, op uint16, smac [6]byte, sip string, tmac [6]byte, tip string, to [6]byte) []byte {
	return serialize(t, ether(smac, to, layers.EthernetTypeARP), &layers.ARP{AddrType: layers.LinkTypeEthernet,
		Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: smac[:], SourceProtAddress: addr(sip).AsSlice(), DstHwAddress: tmac[:], DstProtAddress: addr(tip).AsSlice()})
}

func nd(t testing.TB, smac, dmac [6]byte, src, dst string, hop uint8, msg gopacket.SerializableLayer, typ uint8) []byte {
	return serialize(t, ether(smac, dmac, layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: hop, NextHeader: layers.IPProtocolICMPv6, SrcIP: addr(src).AsSlice(), DstIP: addr(dst).AsSlice()},
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}, msg)
}

func TestResolve6(t *testing.T) {
	r := newRig(t, Options{})
	r.in(port1, udp(t, "2001:db8:1::10", "2001:db8:2::30", 5))
	p := r.sentOne(port2)
	ns, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if !ok || ns.TargetAddress.String() != "2001:db8:2::30" || len(ns.Options) != 1 || !bytes.Equal(ns.Options[0].Data, mac2[:]) {
		t.Fatalf("sent %v, want a solicitation", p)
	}
	if h := ip6(t, p); h.DstIP.String() != "ff02::1:ff00:30" || h.SrcIP.String() != "fe80::2" || h.HopLimit != 255 {
		t.Errorf("sent %v", h)
	}
	wantMACs(t, p, mac2, [6]byte{0x33, 0x33, 0xff, 0, 0, 0x30})
	r.in(port2, nd(t, hostB, mac2, "2001:db8:2::30", "fe80::2", 255, &layers.ICMPv6NeighborAdvertisement{
		Flags: 0x60, TargetAddress: addr("2001:db8:2::30").AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hostB[:]}}}, 136))
	p = r.sentOne(port2)
	wantMACs(t, p, mac2, hostB)
	if h := ip6(t, p); h.HopLimit != 63 {
		t.Errorf("sent %v", p)
	}
	if e := r.neighbor(lan2, "2001:db8:2::30"); e.State != neigh.Reachable {
		t.Errorf("neighbour %+v", e)
	}
	if len(r.taps[lan2]) != 1 {
		t.Errorf("%d frames to the TAP, want a copy of the advertisement", len(r.taps[lan2]))
	}
}

// TestUnreachable: nobody answers; three requests, then errors.
func TestUnreachable(t *testing.T) {
	for _, c := range []struct{ src, dst, from string }{
		{"10.0.1.10", "10.0.2.31", "10.0.1.1"}, {"2001:db8:1::10", "2001:db8:2::31", "2001:db8:1::1"},
	} {
		r := newRig(t, Options{})
		r.know()
		r.in(port1, udp(t, c.src, c.dst, 5))
		r.in(port1, udp(t, c.src, c.dst, 6))
		r.advance(2900 * time.Millisecond)
		if n := len(r.ports[port2].Sent()); n != 3 {
			t.Errorf("%d requests for %s, want 3", n, c.dst)
		}
		r.sentNone(port1)
		r.advance(200 * time.Millisecond)
		sent := r.ports[port1].Sent()
		if len(sent) != 2 {
			t.Fatalf("%d errors about %s, want 2: %v", len(sent), c.dst, r.drops())
		}
		for _, f := range sent {
			p := decode(t, f)
			if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				if l.TypeCode.String() != "DestinationUnreachable(Host)" || ip4(t, p).SrcIP.String() != c.from {
					t.Errorf("error %v", p)
				}
			} else if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); !ok || l.TypeCode.String() != "DestinationUnreachable(AddressUnreachable)" ||
				ip6(t, p).SrcIP.String() != c.from {
				t.Errorf("error %v", p)
			}
		}
		if e := r.neighbor(lan2, c.dst); e == nil || e.State != neigh.FailedState {
			t.Errorf("neighbour %+v", e)
		}
		r.in(port1, udp(t, c.src, c.dst, 7)) // told at once
		r.sentOne(port1)
		r.advance(1100 * time.Millisecond)
		if e := r.neighbor(lan2, c.dst); e != nil {
			t.Errorf("neighbour %+v is still there", e)
		}
		r.in(port1, udp(t, c.src, c.dst, 7)) // asked anew
		r.sentOne(port2)
	}
}

// TestIsolation: the same addresses in two VRFs never meet.
func TestIsolation(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	for i := range 200 {
		vlan, want := uint16(0), uint16(0)
		if i%2 == 1 {
			vlan, want = 100, 200
		}
		f := udpVLAN(t, vlan, "10.0.1.10", "10.0.2.20", i)
		g := udpVLAN(t, vlan, "2001:db8:1::10", "2001:db8:2::20", i)
		r.in(port1, f, udpVLAN(t, 100-vlan, "10.0.1.10", "10.0.2.20", 1000), g)
		n := 0
		for _, b := range r.ports[port2].Sent() {
			p := decode(t, b)
			if len(p.Layer(layers.LayerTypeUDP).LayerPayload()) == 1000 {
				continue
			}
			n++
			var got uint16
			if q, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
				got = q.VLANIdentifier
			}
			if got != want {
				t.Fatalf("packet of tag %d left with tag %d", vlan, got)
			}
		}
		if n != 2 {
			t.Fatalf("%d packets, want 2", n)
		}
	}
	// Red has a route that blue has not.
	r.in(port1, udpVLAN(t, 100, "10.0.1.10", "198.18.0.1", 1))
	r.sentNone(port2)
	if r.drops()["ip4-forward/no-route"] != 1 {
		t.Errorf("drops %v", r.drops())
	}
	// Mixed vectors, in order within each VRF.
	var frames [][]byte
	for i := range 60 {
		frames = append(frames, udpVLAN(t, uint16(i%2)*100, "10.0.1.10", "10.0.2.20", i))
	}
	r.in(port1, frames...)
	last := map[bool]int{true: -1, false: -1}
	for _, b := range r.ports[port2].Sent() {
		p := decode(t, b)
		tagged := p.Layer(layers.LayerTypeDot1Q) != nil
		n := len(p.Layer(layers.LayerTypeUDP).LayerPayload())
		if (n%2 == 1) != tagged || n <= last[tagged] {
			t.Fatalf("packet %d, tagged %v, after %d", n, tagged, last[tagged])
		}
		last[tagged] = n
	}
}

// TestHashFields: what the configuration leaves out of a VRF's flow hash does not part flows.
func TestHashFields(t *testing.T) {
	r := newRig(t, Options{HashSeed: 7})
	var static []StaticNeighbor
	var hops4 []fib.NextHop
	for i := range byte(8) {
		gw := netip.AddrFrom4([4]byte{10, 0, 2, 100 + i})
		static = append(static, StaticNeighbor{Interface: lan2, Address: gw, MAC: [6]byte{2, 0, 0, 0, 0xcc, i}})
		hops4 = append(hops4, fib.NextHop{Interface: lan2, Gateway: gw})
	}
	r.slow.SetStatic(r.now, static)
	r.apply(set(50, fib.Forward, hops4...), route(red, "203.0.113.0/24", 50), route(red, "2001:db8:c000::/34", 50))
	ways := func(src, dst string, edit func(i int) any) int {
		seen := map[string]bool{}
		for i := range 200 {
			r.in(port1, udp(t, src, dst, 3, edit(i)))
			e := r.sentOne(port2).Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			seen[e.DstMAC.String()] = true
		}
		return len(seen)
	}
	ports := func(i int) any { return func(u *layers.UDP) { u.SrcPort = layers.UDPPort(20000 + i) } }
	label := func(i int) any { return func(h *layers.IPv6) { h.FlowLabel = uint32(i + 1) } }
	for _, c := range []struct {
		fields             fib.HashFields
		ports, ports6, lab int
	}{{0, 8, 8, 1}, {fib.HashNoPorts, 1, 1, 1}, {fib.HashLabel | fib.HashNoPorts, 1, 1, 8}, {fib.HashLabel, 8, 8, 8}} {
		r.state.SetHash(map[fib.VRF]fib.HashFields{red: c.fields, 9: fib.HashNoPorts})
		got := [3]int{ways("10.0.1.10", "203.0.113.9", ports), ways("2001:db8:1::10", "2001:db8:c000::1", ports),
			ways("2001:db8:1::10", "2001:db8:c000::1", label)}
		if got != [3]int{c.ports, c.ports6, c.lab} {
			t.Errorf("%v: flows take %v ways, want %v", c.fields, got, c)
		}
	}
	r.clear()
}

// TestECMP: flows spread by weight, each flow keeps its way, fragments follow
// their packet.
func TestECMP(t *testing.T) {
	r := newRig(t, Options{HashSeed: 99})
	var static []StaticNeighbor
	var hops4 []fib.NextHop
	weights := []uint8{1, 2, 5}
	macs := make(map[string]int)
	for i, w := range weights {
		gw := netip.AddrFrom4([4]byte{10, 0, 2, byte(100 + i)})
		mac := [6]byte{2, 0, 0, 0, 0xcc, byte(i)}
		macs[fmt.Sprintf("%x", mac)] = i
		static = append(static, StaticNeighbor{Interface: lan2, Address: gw, MAC: mac})
		hops4 = append(hops4, fib.NextHop{Interface: lan2, Gateway: gw, Weight: w})
	}
	r.slow.SetStatic(r.now, static)
	r.apply(set(50, fib.Forward, hops4...), route(red, "203.0.113.0/24", 50), route(red, "2001:db8:c000::/34", 50))
	for _, fam := range []struct{ src, dst string }{{"10.0.1.10", "203.0.113.9"}, {"2001:db8:1::10", "2001:db8:c000::1"}} {
		count := make([]int, len(weights))
		way := func(f []byte) int {
			r.in(port1, f)
			e := r.sentOne(port2).Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			return macs[fmt.Sprintf("%x", []byte(e.DstMAC))]
		}
		const flows = 4000
		for i := range flows {
			ports := func(u *layers.UDP) { u.SrcPort = layers.UDPPort(20000 + i) }
			w := way(udp(t, fam.src, fam.dst, 3, ports))
			count[w]++
			if i%100 == 0 && way(udp(t, fam.src, fam.dst, 30, ports)) != w {
				t.Fatal("a flow changed its way")
			}
		}
		for i, w := range weights {
			want := flows * int(w) / 8
			if count[i] < want*85/100 || count[i] > want*115/100 {
				t.Errorf("%v: member %d of weight %d got %d of %d flows, want %d", fam, i, w, count[i], flows, want)
			}
		}
	}
	frag := func(port layers.UDPPort, f func(*layers.IPv4)) int {
		r.in(port1, udp(t, "10.0.1.10", "203.0.113.9", 8, f, func(u *layers.UDP) { u.SrcPort = port }))
		e := r.sentOne(port2).Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		return macs[fmt.Sprintf("%x", []byte(e.DstMAC))]
	}
	for i := range 50 {
		first := frag(layers.UDPPort(20000+i), func(h *layers.IPv4) { h.Flags = layers.IPv4MoreFragments })
		later := frag(layers.UDPPort(30000+i*7), func(h *layers.IPv4) { h.FragOffset = 100 })
		if first != later {
			t.Fatal("fragments of a packet parted")
		}
	}
	r.clear()
}

// TestCounters checks the interface counters.
func TestCounters(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	base := map[fib.InterfaceID]Counters{}
	r.pipe.Counters(func(id fib.InterfaceID, c Counters) { base[id] = c })
	f := udp(t, "10.0.1.10", "10.0.2.20", 100)
	r.in(port1, f, f, f, udp(t, "10.0.1.10", "198.19.6.1", 21), udp(t, "10.0.1.10", "10.0.1.1", 21), udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 21))
	got := map[fib.InterfaceID]Counters{}
	r.pipe.Counters(func(id fib.InterfaceID, c Counters) { got[id] = c })
	small := uint64(14 + 20 + 8 + 21)
	for id, want := range map[fib.InterfaceID]Counters{
		lan1: {RxPackets: 5, RxBytes: 3*uint64(len(f)) + 2*small, Drops: 1, Punts: 1},
		lan2: {TxPackets: base[lan2].TxPackets + 3, TxBytes: base[lan2].TxBytes + 3*uint64(len(f))},
		tag1: {RxPackets: 1, RxBytes: small + 4},
		tag2: {TxPackets: base[tag2].TxPackets + 1, TxBytes: base[tag2].TxBytes + small + 4},
	} {
		g := got[id]
		g.TxPackets -= base[id].TxPackets * uint64(boolInt(want.TxPackets == 0))
		g.TxBytes -= base[id].TxBytes * uint64(boolInt(want.TxBytes == 0))
		if g != want {
			t.Errorf("interface %#x: %+v, want %+v", uint32(id), g, want)
		}
	}
	if len(r.taps[lan1]) != 1 {
		t.Errorf("%d frames delivered", len(r.taps[lan1]))
	}
	r.clear()
}

// TestFabric carries packets to another card's worker and out of its port.
func TestFabric(t *testing.T) {
	r := newRig(t, Options{})
	r.in(port1, udp(t, "10.0.1.10", "198.19.10.5", 5), udpVLAN(t, 0, "10.0.1.10", "198.19.11.5", 5))
	if len(r.fabric) != 2 || r.fabric[0].card != 2 {
		t.Fatalf("fabric got %+v; drops %v", r.fabric, r.drops())
	}
	for i, want := range []string{"10.9.0.1", "198.19.11.5"} {
		h := r.fabric[i].h
		if h.Out != far || h.VRF != red || netip.AddrFrom16(h.NextHop).Unmap() != addr(want) {
			t.Errorf("header %+v, want %s", h, want)
		}
		if p := header.IPv4(r.fabric[i].data); !p.IsValid() || p.TTL() != 63 || !p.ChecksumOK() {
			t.Errorf("packet %x", r.fabric[i].data)
		}
	}
	// The other end: another card sends to our interfaces.
	r.know()
	in := func(data []byte, h FabricHeader) {
		v := r.vector(data)
		r.pipe.FabricInput(r.now.UnixNano(), v, []FabricHeader{h})
		r.flush()
		r.settle()
	}
	packet := r.packet4(t)
	in(append(packet, 1, 2, 3), FabricHeader{red, lan2, addr("10.0.2.20").As16()})
	p := r.sentOne(port2)
	wantMACs(t, p, mac2, hostB)
	if ip4(t, p).TTL != 64 {
		t.Error("counted down twice")
	}
	in(packet, FabricHeader{blue, tag2, addr("10.0.2.20").As16()})
	if q := r.sentOne(port2).Layer(layers.LayerTypeDot1Q); q == nil {
		t.Error("no tag")
	}
	in(packet, FabricHeader{red, far, addr("10.0.2.20").As16()})
	in([]byte{0x45, 0}, FabricHeader{red, lan2, addr("10.0.2.20").As16()})
	in(packet, FabricHeader{red, lan2, addr("10.0.2.99").As16()}) // not resolved yet
	if p := r.sentOne(port2); p.Layer(layers.LayerTypeARP) == nil {
		t.Errorf("sent %v", p)
	}
	r.in(port2, arp(t, layers.ARPReply, hostB, "10.0.2.99", mac2, "10.0.2.1", mac2))
	r.sentOne(port2)
	if d := r.drops(); d["fabric-input/unknown-interface"] != 1 || d["fabric-input/malformed"] != 1 || len(d) != 2 {
		t.Errorf("drops %v", d)
	}
}

// packet4 is an IP packet without an Ethernet header.
func (r *rig) packet4(t testing.TB) []byte {
	return udp(t, "10.0.1.10", "10.0.2.20", 9)[14:]
}

// TestHostInput routes the router's own packets.
func TestHostInput(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	// To a neighbour on a link that is named, whatever the routes say.
	r.host(red, lan2, udp(t, "10.0.2.1", "10.0.2.20", 9, ttl(255))[14:])
	if p := r.sentOne(port2); ip4(t, p).TTL != 255 {
		t.Error("TTL was counted down")
	}
	r.host(red, 0, udp(t, "10.0.2.1", "198.18.3.4", 9, ttl(1))[14:])
	p := r.sentOne(port2)
	wantMACs(t, p, mac2, hostB)
	if ip4(t, p).TTL != 1 {
		t.Error("TTL was counted down")
	}
	r.host(red, 0, udp(t, "2001:db8:2::1", "2001:db8:8000::4", 9)[14:])
	r.sentOne(port2)
	r.host(red, lan2, udp(t, "fe80::2", "fe80::20", 9)[14:])
	r.sentOne(port2)
	r.host(blue, 0, udp(t, "10.0.2.1", "10.0.2.20", 1300)[14:])
	if p := r.sentOne(port2); p.Layer(layers.LayerTypeDot1Q) == nil {
		t.Errorf("blue sent %v", p)
	}
	// Too big, with DF: the host stack is told on a TAP, from the destination.
	r.host(blue, 0, udp(t, "10.0.2.1", "10.0.2.20", 1450, df)[14:])
	r.settle()
	if len(r.taps[tag2]) != 1 {
		t.Fatalf("%d frames on the TAP; drops %v", len(r.taps[tag2]), r.drops())
	}
	e := decode(t, r.taps[tag2][0])
	if l := e.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); l.TypeCode.String() != "DestinationUnreachable(FragmentationNeeded)" || l.Seq != 1400 {
		t.Errorf("told %v", e)
	}
	if h := ip4(t, e); h.SrcIP.String() != "10.0.2.20" || h.DstIP.String() != "10.0.2.1" {
		t.Errorf("told %v", h)
	}
	before := r.drops()
	for _, b := range [][]byte{{}, {0x45}, bytes.Repeat([]byte{0x55}, 30), bytes.Repeat([]byte{0x45}, 30), udp(t, "10.0.2.1", "10.0.1.1", 1)[14:], udp(t, "10.0.2.1", "224.0.0.5", 1)[14:]} {
		r.host(red, 0, b)
	}
	after := r.drops()
	for _, k := range []string{"inject/runt", "inject/bad-version", "ip4-forward/local-loop", "ip4-input/bad-host-packet"} {
		if after[k] == before[k] {
			t.Errorf("no drop %s in %v", k, after)
		}
	}
	r.sentNone(port2)
}

// TestInject sends frames of the host stack.
func TestInject(t *testing.T) {
	r := newRig(t, Options{})
	f := udp(t, "10.0.1.1", "10.0.1.10", 3)
	r.send(lan1, f)
	if got := r.ports[port1].Sent(); len(got) != 1 || !bytes.Equal(got[0], f) {
		t.Errorf("sent %x", got)
	}
	r.send(tag1, f)
	p := r.sentOne(port1)
	if q, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); !ok || q.VLANIdentifier != 100 || !bytes.Equal(p.Data()[18:], f[14:]) {
		t.Errorf("sent %v", p)
	}
	r.send(far, f)
	r.send(lan1, f[:13])
	if d := r.drops(); d["inject/interface-down"] != 1 || d["inject/runt"] != 1 {
		t.Errorf("drops %v", d)
	}
}

// TestFreshPacket: nothing of a buffer's last packet shows in its next.
func TestFreshPacket(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	r.in(port1, udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 30))
	r.in(port1, udp(t, "10.0.1.10", "203.0.113.1", 30))
	if m := r.punts[0]; m.Out != 0 || m.VRF != red || m.In != lan1 || m.L3 != 14 || m.NextHop.IsValid() || m.Host {
		t.Errorf("punted with %+v", m)
	}
	r.clear()
}

// TestInterfaceChange: MAC and MTU follow, a downed interface forwards nothing.
func TestInterfaceChange(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	list := testInterfaces()
	list[1].MAC = [6]byte{2, 9, 9, 9, 9, 9}
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		t.Fatal(err)
	}
	r.settle()
	if n := len(r.ports[port2].Sent()); n != 6 {
		t.Errorf("%d announcements of the new MAC, want a probe and an announcement for each address", n)
	}
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 1))
	wantMACs(t, r.sentOne(port2), list[1].MAC, hostB)
	list[1].Up = false
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		t.Fatal(err)
	}
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 1), udp(t, "10.0.1.10", "198.18.0.1", 1))
	r.sentNone(port2)
	if d := r.drops(); d["ip4-forward/interface-down"] != 2 {
		t.Errorf("drops %v", d)
	}
	r.in(port2, udp(t, "10.0.2.20", "10.0.1.10", 1, func(e *layers.Ethernet) { e.DstMAC = list[1].MAC[:] }))
	if d := r.drops(); d["ethernet-input/interface-down"] != 1 {
		t.Errorf("drops %v", d)
	}
	list[1].Up = true
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.clear()
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 1), udp(t, "10.0.1.10", "198.18.0.1", 1))
	if n := len(r.ports[port2].Sent()); n != 2 {
		t.Errorf("%d packets after the interface came back, want 2; drops %v", n, r.drops())
	}
	bad := testInterfaces()
	bad[3].VLAN = 0
	if err := r.slow.SetInterfaces(r.now, bad); err == nil {
		t.Error("two interfaces on one port and tag were taken")
	}
	if err := r.slow.SetInterfaces(r.now, nil); err != nil {
		t.Fatal(err)
	}
	r.in(port1, udp(t, "10.0.1.10", "10.0.2.20", 1))
	if d := r.drops(); d["ethernet-input/unknown-port"] != 1 {
		t.Errorf("drops %v", d)
	}
}
