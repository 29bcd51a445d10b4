package pipeline

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/header"
	"godwit/dataplane/punt"
)

// patched is a copy of the frame with bytes replaced at an offset.
func patched(f []byte, at int, b ...byte) []byte {
	f = bytes.Clone(f)
	copy(f[at:], b)
	return f
}

// fixed4 is patched with the IPv4 checksum made right again.
func fixed4(f []byte, at int, b ...byte) []byte {
	f = patched(f, at, b...)
	header.IPv4(f[14:]).SetChecksum()
	return f
}

// TestRules sends one frame each: which counter counts it, and that nothing is
// forwarded or delivered.
func TestRules(t *testing.T) {
	v4 := udp(t, "10.0.1.10", "10.0.2.20", 30)
	v6 := udp(t, "2001:db8:1::10", "2001:db8:2::20", 30)
	from4 := func(src string) []byte { return udp(t, src, "10.0.2.20", 30) }
	to4 := func(dst string) []byte { return udp(t, "10.0.1.10", dst, 30) }
	from6 := func(src string) []byte { return udp(t, src, "2001:db8:2::20", 30) }
	to6 := func(dst string) []byte { return udp(t, "2001:db8:1::10", dst, 30) }
	mac := func(f []byte, dst ...byte) []byte { return patched(f, 0, dst...) }
	bcast := []byte{255, 255, 255, 255, 255, 255}
	options := func(o ...byte) []byte {
		return udp(t, "10.0.1.10", "10.0.2.20", 30, func(h *layers.IPv4) {
			h.Options = []layers.IPv4Option{{OptionType: o[0], OptionLength: uint8(len(o)), OptionData: o[2:]}}
		})
	}
	badOption := fixed4(options(7, 4, 4, 0), 14+20, 7, 9, 4, 0)
	for _, c := range []struct {
		name  string
		frame []byte
		drop  string
	}{
		{"empty", nil, "ethernet-input/runt"},
		{"short", v4[:13], "ethernet-input/runt"},
		{"header only", v4[:14], "ip4-input/truncated"},
		{"short tag", udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 1)[:17], "ethernet-input/runt"},
		{"unknown vlan", udpVLAN(t, 101, "10.0.1.10", "10.0.2.20", 1), "ethernet-input/unknown-vlan"},
		{"double tag", patched(udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 1), 16, 0x81, 0), "ethernet-input/double-tag"},
		{"s-tag", patched(udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 1), 12, 0x88, 0xa8), "ethernet-input/double-tag"},
		{"other station", mac(v4, 2, 7, 7, 7, 7, 7), "ethernet-input/wrong-mac"},
		{"group source", patched(v4, 6, 3), "ethernet-input/bad-source-mac"},
		{"own source MAC", patched(v4, 6, mac1[:]...), "ethernet-input/bad-source-mac"},
		{"lldp", patched(v4, 12, 0x88, 0xcc), "ethernet-input/unknown-ethertype"},
		{"llc", patched(v4, 12, 0, 38), "ethernet-input/unknown-ethertype"},

		{"v4 header cut", v4[:14+19], "ip4-input/truncated"},
		{"v4 cut", v4[:14+40], "ip4-input/truncated"},
		{"v4 version 5", patched(v4, 14, 0x55), "ip4-input/bad-version"},
		{"v4 ihl 4", fixed4(v4, 14, 0x44), "ip4-input/bad-header-length"},
		{"v4 ihl beyond length", patched(v4[:14+30], 14, 0x4f, 0, 0, 30), "ip4-input/bad-header-length"},
		{"v4 ihl beyond frame", patched(v4[:14+30], 14, 0x4f), "ip4-input/bad-header-length"},
		{"v4 length 10", fixed4(v4, 16, 0, 10), "ip4-input/bad-header-length"},
		{"v4 checksum", patched(v4, 24, v4[24]^1), "ip4-input/bad-checksum"},
		{"v4 checksum with options", patched(options(7, 4, 4, 0), 24, 1, 2), "ip4-input/bad-checksum"},
		{"loose source route", options(131, 7, 4, 10, 0, 2, 30), "ip4-input/source-route"},
		{"strict source route", options(137, 7, 4, 10, 0, 2, 30), "ip4-input/source-route"},
		{"bad option", badOption, "ip4-input/bad-options"},
		{"from 0/8", from4("0.1.2.3"), "ip4-input/martian-source"},
		{"from 0.0.0.0", from4("0.0.0.0"), "ip4-input/martian-source"},
		{"from loopback", from4("127.0.0.1"), "ip4-input/martian-source"},
		{"from multicast", from4("224.0.0.5"), "ip4-input/martian-source"},
		{"from class E", from4("240.0.0.1"), "ip4-input/martian-source"},
		{"from broadcast", from4("255.255.255.255"), "ip4-input/martian-source"},
		{"from us", from4("10.0.1.1"), "ip4-input/own-source"},
		{"from our other address", from4("10.0.2.1"), "ip4-input/own-source"},
		{"to 0/8", to4("0.0.0.1"), "ip4-input/martian-destination"},
		{"to loopback", to4("127.0.0.1"), "ip4-input/martian-destination"},
		{"to class E", to4("250.0.0.1"), "ip4-input/martian-destination"},
		{"to routed multicast", to4("239.1.1.1"), "ip4-input/multicast"},
		{"unicast in a broadcast frame", mac(v4, bcast...), "ip4-input/link-group"},
		{"other subnet's broadcast in a broadcast frame", mac(to4("10.0.2.255"), bcast...), "ip4-input/link-group"},
		{"directed broadcast", to4("10.0.2.255"), "ip4-forward/directed-broadcast"},
		{"old broadcast", to4("10.0.2.0"), "ip4-forward/directed-broadcast"},
		{"blackhole", to4("198.19.6.6"), "ip4-forward/blackhole"},

		{"v6 header cut", v6[:14+39], "ip6-input/truncated"},
		{"v6 cut", v6[:len(v6)-1], "ip6-input/truncated"},
		{"v6 version", patched(v6, 14, 0x40), "ip6-input/bad-version"},
		{"from v6 multicast", from6("ff02::1"), "ip6-input/martian-source"},
		{"from v6 loopback", from6("::1"), "ip6-input/martian-source"},
		{"from ::", from6("::"), "ip6-input/martian-source"},
		{"from mapped", patched(v6, 14+8, addr16("::ffff:10.0.0.1")...), "ip6-input/martian-source"},
		{"from our v6", from6("2001:db8:2::1"), "ip6-input/own-source"},
		{"from our link-local", from6("fe80::1"), "ip6-input/own-source"},
		{"to v6 loopback", to6("::1"), "ip6-input/martian-destination"},
		{"to ::", to6("::"), "ip6-input/martian-destination"},
		{"to mapped", patched(v6, 14+24, addr16("::ffff:10.0.0.1")...), "ip6-input/martian-destination"},
		{"to routed v6 multicast", to6("ff05::2"), "ip6-input/multicast"},
		{"to another link-local", to6("fe80::99"), "ip6-input/link-local"},
		{"to our link-local of another interface", to6("fe80::2"), "ip6-input/link-local"},
		{"v6 unicast in a group frame", mac(v6, 0x33, 0x33, 0, 0, 0, 1), "ip6-input/link-group"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.know()
			r.in(port1, c.frame)
			if d := r.drops(); d[c.drop] != 1 || len(d) != 1 {
				t.Errorf("drops %v, want %s", d, c.drop)
			}
			r.sentNone(port1)
			r.sentNone(port2)
			if len(r.taps) != 0 || len(r.punts) != 0 {
				t.Errorf("punts %+v, taps %v", r.punts, r.taps)
			}
		})
	}
}

func addr16(s string) []byte {
	b := addr(s).As16()
	return b[:]
}

// TestBFDIsKept: BFD for the router is the card's, in a class that a sender from
// afar can't use up; what only looks like it is the host stack's.
func TestBFDIsKept(t *testing.T) {
	datagram := func(from, to string, port layers.UDPPort, hops uint8) []byte {
		s, d := addr(from), addr(to)
		if s.Is6() {
			return serialize(t, ether(hostA, mac1, layers.EthernetTypeIPv6), &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolUDP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()},
				&layers.UDP{SrcPort: 50000, DstPort: port}, gopacket.Payload("24 bytes of a packet ..."))
		}
		return serialize(t, ether(hostA, mac1, layers.EthernetTypeIPv4), &layers.IPv4{Version: 4, TTL: hops, Protocol: layers.IPProtocolUDP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()},
			&layers.UDP{SrcPort: 50000, DstPort: port}, gopacket.Payload("24 bytes of a packet ..."))
	}
	fragment := datagram("10.0.1.10", "10.0.1.1", 3784, 255)
	fragment[20] |= 0x20 // more fragments
	header.IPv4(fragment[14:]).SetChecksum()
	for _, c := range []struct {
		name   string
		frame  []byte
		class  punt.Class
		reason punt.Reason
	}{
		{"one hop", datagram("10.0.1.10", "10.0.1.1", 3784, 255), punt.BFD, punt.ToBFD},
		{"from afar", datagram("10.0.1.10", "10.0.1.1", 3784, 254), punt.LocalOther, punt.ToBFD},
		{"echo", datagram("10.0.1.10", "10.0.1.1", 3785, 255), punt.BFD, punt.ToBFD},
		{"several hops", datagram("10.0.1.10", "10.0.2.1", 4784, 9), punt.BFDMultihop, punt.ToBFD},
		{"v6", datagram("2001:db8:1::10", "2001:db8:1::1", 3784, 255), punt.BFD, punt.ToBFD},
		{"link-local", datagram("fe80::a", "fe80::1", 3784, 255), punt.BFD, punt.ToBFD},
		{"another port", datagram("10.0.1.10", "10.0.1.1", 3786, 255), punt.LocalOther, punt.ToLocal},
		{"a fragment", fragment, punt.LocalOther, punt.ToLocal},
	} {
		r := newRig(t, Options{})
		r.in(port1, c.frame)
		if len(r.punts) != 1 || r.punts[0].Class != c.class || r.punts[0].Reason != c.reason || len(r.drops()) != 0 {
			t.Errorf("%s: punts %+v, drops %v", c.name, r.punts, r.drops())
		}
	}
}

// TestDeliver: what the host stack gets, and in which class.
func TestDeliver(t *testing.T) {
	tcp := func(src, dst layers.TCPPort, from, to string) []byte {
		s, d := addr(from), addr(to)
		var n gopacket.SerializableLayer = &layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolTCP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
		typ := layers.EthernetTypeIPv4
		if s.Is6() {
			n, typ = &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolTCP, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}, layers.EthernetTypeIPv6
		}
		return serialize(t, ether(hostA, mac1, typ), n, &layers.TCP{SrcPort: src, DstPort: dst})
	}
	ping := serialize(t, ether(hostA, mac1, layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolICMPv4, SrcIP: addr("10.0.1.10").AsSlice(), DstIP: addr("10.0.2.1").AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2}, gopacket.Payload("hello"))
	bcast := [6]byte{255, 255, 255, 255, 255, 255}
	to := func(m [6]byte) func(*layers.Ethernet) { return func(e *layers.Ethernet) { e.DstMAC = m[:] } }
	for _, c := range []struct {
		name   string
		frame  []byte
		class  punt.Class
		reason punt.Reason
	}{
		{"bgp to us", tcp(40000, 179, "10.0.1.10", "10.0.1.1"), punt.LocalBGP, punt.ToLocal},
		{"bgp answers", tcp(179, 40000, "10.0.1.10", "10.0.1.1"), punt.LocalBGP, punt.ToLocal},
		{"bgp over v6", tcp(40000, 179, "2001:db8:1::10", "2001:db8:1::1"), punt.LocalBGP, punt.ToLocal},
		{"bgp over link-local", tcp(40000, 179, "fe80::a", "fe80::1"), punt.LocalBGP, punt.ToLocal},
		{"global from link-local", tcp(40000, 179, "fe80::a", "2001:db8:1::1"), punt.LocalBGP, punt.ToLocal},
		{"http", tcp(40000, 80, "10.0.1.10", "10.0.1.1"), punt.LocalOther, punt.ToLocal},
		{"http on another interface's address", tcp(40000, 80, "10.0.1.10", "10.0.2.1"), punt.LocalOther, punt.ToLocal},
		{"ping", ping, punt.LocalICMP, punt.ToLocal},
		{"ospf", udp(t, "10.0.1.10", "224.0.0.5", 4), punt.Multicast, punt.ToGroup},
		{"limited broadcast", udp(t, "10.0.1.10", "255.255.255.255", 4, to(bcast)), punt.Multicast, punt.ToGroup},
		{"dhcp discover", udp(t, "0.0.0.0", "255.255.255.255", 4, to(bcast)), punt.Multicast, punt.ToGroup},
		{"own subnet's broadcast", udp(t, "10.0.1.10", "10.0.1.255", 4, to(bcast)), punt.Multicast, punt.ToGroup},
		{"v6 all nodes", udp(t, "fe80::a", "ff02::1", 4, to([6]byte{0x33, 0x33, 0, 0, 0, 1})), punt.Multicast, punt.ToGroup},
		{"router solicitation", nd(t, hostA, [6]byte{0x33, 0x33, 0, 0, 0, 2}, "fe80::a", "ff02::2", 255, &layers.ICMPv6RouterSolicitation{}, 133), punt.ND, punt.ToGroup},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.in(port1, c.frame)
			if len(r.punts) != 1 || r.punts[0].Class != c.class || r.punts[0].Reason != c.reason || r.punts[0].In != lan1 || !r.punts[0].Deliver() {
				t.Fatalf("punts %+v, drops %v", r.punts, r.drops())
			}
			// The padding of a short frame is gone, nothing else.
			if got := r.taps[lan1]; len(got) != 1 || !bytes.HasPrefix(c.frame, got[0]) || len(got[0]) < 34 {
				t.Errorf("delivered %x of %x", got, c.frame)
			}
			if len(r.drops()) != 0 {
				t.Errorf("drops %v", r.drops())
			}
		})
	}
	r := newRig(t, Options{}) // the tag is taken off, the other VRF's TAP gets it
	r.in(port1, udpVLAN(t, 100, "10.0.1.10", "10.0.1.1", 40))
	if got := r.taps[tag1]; len(got) != 1 || !bytes.Equal(got[0], udp(t, "10.0.1.10", "10.0.1.1", 40)) {
		t.Errorf("delivered %x", got)
	}
	r.apply(route(red, "10.0.3.0/24", 2)) // a connected prefix without its Local route yet
	list := testInterfaces()
	list[1].Addresses = append(list[1].Addresses, prefix("10.0.3.1/24"))
	if err := r.slow.SetInterfaces(r.now, list); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.in(port1, udp(t, "10.0.1.10", "10.0.3.1", 40))
	if len(r.taps[lan1]) != 1 {
		t.Error("own address without a route is not delivered")
	}
}

// TestErrors: which ICMP error comes back, from whom, quoting what.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
		from  string
		drop  string
		mtu   int
	}{
		{"ttl 1", udp(t, "10.0.1.10", "10.0.2.20", 30, ttl(1)), "TimeExceeded(TTLExceeded)", "10.0.1.1", "ip4-forward/ttl-expired", 0},
		{"ttl 0", udp(t, "10.0.1.10", "10.0.2.20", 900, ttl(0)), "TimeExceeded(TTLExceeded)", "10.0.1.1", "ip4-forward/ttl-expired", 0},
		{"no route", udp(t, "10.0.1.10", "203.0.113.1", 30), "DestinationUnreachable(Net)", "10.0.1.1", "ip4-forward/no-route", 0},
		{"reject", udp(t, "10.0.1.10", "198.19.7.1", 30), "DestinationUnreachable(CommAdminProhibited)", "10.0.1.1", "ip4-forward/rejected", 0},
		{"too big", udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", 1373, df), "DestinationUnreachable(FragmentationNeeded)", "10.0.1.1", "ip4-forward/too-big", 1400},
		{"hops 1", udp(t, "2001:db8:1::10", "2001:db8:2::20", 30, hops(1)), "TimeExceeded(HopLimitExceeded)", "2001:db8:1::1", "ip6-forward/ttl-expired", 0},
		{"hops 0", udp(t, "2001:db8:1::10", "2001:db8:2::20", 1400, hops(0)), "TimeExceeded(HopLimitExceeded)", "2001:db8:1::1", "ip6-forward/ttl-expired", 0},
		{"no route 6", udp(t, "2001:db8:1::10", "2001:db9::1", 30), "DestinationUnreachable(NoRouteToDst)", "2001:db8:1::1", "ip6-forward/no-route", 0},
		{"reject 6", udp(t, "2001:db8:1::10", "2001:db8:7000::1", 30), "DestinationUnreachable(AdminProhibited)", "2001:db8:1::1", "ip6-forward/rejected", 0},
		{"too big 6", udpVLAN(t, 100, "2001:db8:1::10", "2001:db8:2::20", 1353), "PacketTooBig", "2001:db8:1::1", "ip6-forward/too-big", 1400},
		{"beyond scope", udp(t, "fe80::a", "2001:db8:2::20", 30), "DestinationUnreachable(BeyondScopeOfSrc)", "fe80::1", "ip6-forward/beyond-scope", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.know()
			r.slow.SetStatic(r.now, []StaticNeighbor{{Interface: lan1, Address: addr("10.0.1.10"), MAC: hostA}, {Interface: tag1, Address: addr("10.0.1.10"), MAC: hostA},
				{Interface: lan1, Address: addr("2001:db8:1::10"), MAC: hostA}, {Interface: tag1, Address: addr("2001:db8:1::10"), MAC: hostA},
				{Interface: lan1, Address: addr("fe80::a"), MAC: hostA}, {Interface: lan2, Address: addr("10.0.2.20"), MAC: hostB},
				{Interface: tag2, Address: addr("10.0.2.20"), MAC: hostB}, {Interface: tag2, Address: addr("2001:db8:2::20"), MAC: hostB}})
			r.in(port1, c.frame)
			r.sentNone(port2)
			p := r.sentOne(port1)
			wantMACs(t, p, mac1, hostA)
			l3 := 14 + 4*boolInt(c.frame[12] == 0x81)
			var quote []byte
			var got string
			var src string
			mtu := 0
			if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				got, quote, src = l.TypeCode.String(), l.Payload, ip4(t, p).SrcIP.String()
				if l.TypeCode.Code() == 4 {
					mtu = int(l.Seq)
				}
				if n := int(ip4(t, p).Length); n > 576 || (n < 576 && len(quote) != int(header.IPv4(c.frame[l3:]).TotalLen())) {
					t.Errorf("error of %d bytes", n)
				}
			} else {
				l := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				got, quote, src = l.TypeCode.String(), l.Payload[4:], ip6(t, p).SrcIP.String()
				mtu = int(l.Payload[2])<<8 | int(l.Payload[3])
				if n := int(ip6(t, p).Length) + 40; n > 1280 {
					t.Errorf("error of %d bytes", n)
				}
			}
			if got != c.want || src != c.from || mtu != c.mtu {
				t.Errorf("error %s from %s mtu %d, want %s from %s mtu %d", got, src, mtu, c.want, c.from, c.mtu)
			}
			orig := c.frame[l3:][:len(quote)]
			if !bytes.Equal(quote[12:], orig[12:]) {
				t.Errorf("quoted %x of %x", quote, orig)
			}
			if d := r.drops(); d[c.drop] != 1 || len(d) != 1 {
				t.Errorf("drops %v", d)
			}
		})
	}
}

// TestNoErrors: what no error may be sent about.
func TestNoErrors(t *testing.T) {
	icmp4 := func(typ uint8) []byte {
		return serialize(t, ether(hostA, mac1, layers.EthernetTypeIPv4),
			&layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolICMPv4, SrcIP: addr("10.0.1.10").AsSlice(), DstIP: addr("10.0.2.20").AsSlice()},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0)}, gopacket.Payload(make([]byte, 40)))
	}
	icmp6 := func(typ uint8) []byte {
		return serialize(t, ether(hostA, mac1, layers.EthernetTypeIPv6),
			&layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolICMPv6, SrcIP: addr("2001:db8:1::10").AsSlice(), DstIP: addr("2001:db8:2::20").AsSlice()},
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}, gopacket.Payload(make([]byte, 44)))
	}
	for _, c := range []struct {
		name  string
		frame []byte
		told  int
	}{
		{"unreachable", icmp4(3), 0}, {"time exceeded", icmp4(11), 0}, {"redirect", icmp4(5), 0}, {"unknown type", icmp4(77), 0},
		{"echo", icmp4(8), 1}, {"echo reply", icmp4(0), 1},
		{"later fragment", udp(t, "10.0.1.10", "10.0.2.20", 9, ttl(1), func(h *layers.IPv4) { h.FragOffset = 3 }), 0},
		{"first fragment", udp(t, "10.0.1.10", "10.0.2.20", 8, ttl(1), func(h *layers.IPv4) { h.Flags = layers.IPv4MoreFragments }), 1},
		{"v6 unreachable", icmp6(1), 0}, {"v6 unknown error", icmp6(100), 0}, {"v6 echo", icmp6(128), 1},
	} {
		r := newRig(t, Options{})
		r.know()
		r.in(port1, c.frame)
		if n := len(r.ports[port1].Sent()); n != c.told {
			t.Errorf("%s: %d errors sent, want %d; drops %v", c.name, n, c.told, r.drops())
		}
		if c.told == 0 && r.drops()["slow-path/icmp-not-allowed"] != 1 {
			t.Errorf("%s: drops %v", c.name, r.drops())
		}
	}
}

// TestErrorRate floods: errors stay under their rates, another receiver still gets some.
func TestErrorRate(t *testing.T) {
	r := newRig(t, Options{})
	r.know()
	f := udp(t, "10.0.1.10", "10.0.2.20", 9, ttl(1))
	for range 100 {
		r.now = r.now.Add(10 * time.Millisecond)
		r.in(port1, f, f, f, f)
	}
	n := len(r.ports[port1].Sent())
	if n < 50 || n > 20+50+2 {
		t.Errorf("%d errors in a second, want a burst of 20 and 50/s", n)
	}
	if r.drops()["slow-path/icmp-limited"] == 0 {
		t.Errorf("drops %v", r.drops())
	}
	r.in(port2, udp(t, "10.0.2.20", "10.0.1.10", 9, ttl(1), func(e *layers.Ethernet) { e.SrcMAC, e.DstMAC = hostB[:], mac2[:] }))
	r.sentOne(port2)
}

// TestFragmentation sends through an MTU of 1,400 and puts the pieces together.
func TestFragmentation(t *testing.T) {
	for _, size := range []int{1373, 1472, 1473 - 8} {
		r := newRig(t, Options{})
		r.know()
		r.in(port1, udpVLAN(t, 100, "10.0.1.10", "10.0.2.20", size))
		var body []byte
		sent := r.ports[port2].Sent()
		if len(sent) != 2 {
			t.Fatalf("%d fragments; drops %v", len(sent), r.drops())
		}
		for i, f := range sent {
			p := decode(t, f)
			h := ip4(t, p)
			if int(h.Length) > 1400 || h.TTL != 63 || h.Id != 77 || int(h.FragOffset)*8 != len(body) || (h.Flags&layers.IPv4MoreFragments != 0) != (i == 0) {
				t.Errorf("fragment %d: %v", i, h)
			}
			body = append(body, h.Payload...)
		}
		if len(body) != 8+size || !bytes.Equal(body[8:], bytes.Repeat([]byte{0xa5}, size)) {
			t.Errorf("%d bytes put together, want %d", len(body), 8+size)
		}
	}
}

// TestPolicers floods each class: the rate holds, another class is not touched.
func TestPolicers(t *testing.T) {
	var rates [punt.NumClasses]punt.Rate
	for c := range rates {
		rates[c] = punt.Rate{PerSecond: 100, Burst: 10}
	}
	r := newRig(t, Options{Policers: rates})
	r.know()
	r.now = r.now.Add(time.Second)
	f := udp(t, "10.0.1.10", "10.0.1.1", 40)
	for range 100 {
		r.now = r.now.Add(time.Millisecond)
		r.in(port1, f)
	}
	if n := len(r.taps[lan1]); n < 18 || n > 21 {
		t.Errorf("%d delivered in 100 ms, want 10 and 100/s", n)
	}
	if d := r.drops(); d["punt/policed-local-other"] != uint64(100-len(r.taps[lan1])) {
		t.Errorf("drops %v", d)
	}
	r.in(port1, arp(t, layers.ARPRequest, hostA, "10.0.1.10", [6]byte{}, "10.0.1.1", [6]byte{255, 255, 255, 255, 255, 255}))
	r.sentOne(port1)
	for _, s := range r.state.PuntStats() {
		if s.Class == punt.LocalOther && (s.Passed != uint64(len(r.taps[lan1])) || s.Passed+s.Policed != 100) {
			t.Errorf("stats %+v", s)
		}
	}
}
