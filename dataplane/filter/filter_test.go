package filter

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"godwit/dataplane/header"
)

// fits is the slow twin: a rule and a packet, by what the words say.
func fits(r *Rule, k *Key) bool {
	in := func(p netip.Prefix, hi, lo uint64) bool {
		if !p.IsValid() {
			return true
		}
		var a netip.Addr
		if k.Family == 4 {
			a = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(lo))))
		} else {
			a = netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo)))
		}
		return p.Contains(a)
	}
	one := func(list []Range, port uint16) bool {
		for _, x := range list {
			if x.First <= port && port <= x.Last {
				return true
			}
		}
		return len(list) == 0
	}
	hasPorts := k.Transport && (k.Protocol == 6 || k.Protocol == 17 || k.Protocol == 132)
	if r.VLAN != 0 && r.VLAN != k.VLAN {
		return false
	}
	if k.Family == 0 {
		return r.family() == 0 && r.Protocol == nil && len(r.SrcPorts)+len(r.DstPorts) == 0 && r.FlagsSet|r.FlagsClear == 0 &&
			r.DSCP == nil && r.ICMPType == nil && r.Fragments == AnyFragment
	}
	switch {
	case r.family() != 0 && r.family() != k.Family, !in(r.Source, k.SrcHi, k.SrcLo), !in(r.Destination, k.DstHi, k.DstLo):
	case r.Protocol != nil && *r.Protocol != k.Protocol, r.DSCP != nil && *r.DSCP != k.DSCP:
	case len(r.SrcPorts)+len(r.DstPorts) > 0 && (!hasPorts || !one(r.SrcPorts, k.SrcPort) || !one(r.DstPorts, k.DstPort)):
	case r.FlagsSet|r.FlagsClear != 0 && (k.Protocol != 6 || !k.Transport || k.Flags&r.FlagsSet != r.FlagsSet || k.Flags&r.FlagsClear != 0):
	case r.ICMPType != nil && (!k.Transport || hasPorts || *r.ICMPType != k.ICMPType):
	case r.Fragments == OnlyFragments && !k.Later, r.Fragments == NoFragments && k.Later:
	default:
		return true
	}
	return false
}

func pick[T any](g *rand.Rand, list ...T) T { return list[g.IntN(len(list))] }

func randomPrefix(g *rand.Rand, v4 bool) netip.Prefix {
	if v4 {
		a := netip.AddrFrom4([4]byte{10, byte(g.IntN(3)), byte(g.IntN(3)), byte(g.IntN(8))})
		return netip.PrefixFrom(a, pick(g, 0, 8, 15, 16, 24, 29, 30, 31, 32)).Masked()
	}
	a := netip.AddrFrom16([16]byte{0x20, 1, byte(g.IntN(2)), byte(g.IntN(3)), 7: byte(g.IntN(2)), 8: byte(g.IntN(3)), 15: byte(g.IntN(8))})
	return netip.PrefixFrom(a, pick(g, 0, 16, 31, 32, 63, 64, 65, 72, 125, 127, 128)).Masked()
}

func randomRule(g *rand.Rand) (r Rule) {
	r.Deny = g.IntN(2) == 0
	v4 := g.IntN(2) == 0
	if g.IntN(3) > 0 {
		r.Source = randomPrefix(g, v4)
	}
	if g.IntN(3) > 0 {
		r.Destination = randomPrefix(g, v4)
	}
	if !r.Source.IsValid() && !r.Destination.IsValid() {
		r.Family = pick[uint8](g, 0, 4, 6)
	}
	if g.IntN(2) == 0 {
		p := pick[uint8](g, 0, 1, 6, 6, 17, 17, 58, 132, 255)
		r.Protocol = &p
	}
	ports := func() (list []Range) {
		for range g.IntN(3) {
			a := uint16(pick(g, 0, 1, 22, 80, 81, 1000, 65534))
			list = append(list, Range{a, a + min(uint16(pick(g, 0, 0, 1, 100, 65535)), 65535-a)})
		}
		return list
	}
	if g.IntN(3) == 0 {
		r.SrcPorts, r.DstPorts = ports(), ports()
	}
	switch g.IntN(8) {
	case 0:
		r.FlagsSet, r.FlagsClear = 2, 0x10
	case 1:
		d := uint8(g.IntN(3))
		r.DSCP = &d
	case 2:
		d := uint8(g.IntN(3))
		r.ICMPType = &d
	case 3:
		r.Fragments = pick(g, OnlyFragments, NoFragments)
	case 4:
		r.VLAN = uint16(g.IntN(3))
	}
	return r
}

func randomKey(g *rand.Rand) (k Key) {
	k.Family = pick[uint8](g, 0, 4, 4, 4, 6, 6, 6)
	k.VLAN = uint16(g.IntN(3))
	if k.Family == 0 {
		return Key{VLAN: k.VLAN}
	}
	k.Protocol = pick[uint8](g, 0, 1, 6, 6, 17, 17, 58, 132, 255)
	k.DSCP, k.Later = uint8(g.IntN(3)), g.IntN(6) == 0
	if !k.Later && g.IntN(8) > 0 {
		k.Transport = true
		switch k.Protocol {
		case 1, 58:
			k.ICMPType = uint8(g.IntN(3))
		case 6, 17, 132:
			k.SrcPort, k.DstPort = pick[uint16](g, 0, 1, 21, 22, 80, 81, 82, 1050, 65535), pick[uint16](g, 0, 1, 22, 80, 999, 1000, 1101, 65535)
			if k.Protocol == 6 {
				k.Flags = uint8(g.IntN(32))
			}
		default:
			k.Transport = false
		}
	}
	addr := func() (hi, lo uint64) {
		a := randomPrefix(g, k.Family == 4).Addr()
		if g.IntN(10) == 0 {
			a = pick(g, a.Next(), a.Prev(), a)
		}
		switch {
		case !a.IsValid():
			return 0, 0
		case a.Is4():
			b := a.As4()
			return 0, uint64(binary.BigEndian.Uint32(b[:]))
		}
		b := a.As16()
		return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	}
	k.SrcHi, k.SrcLo = addr()
	k.DstHi, k.DstLo = addr()
	return k
}

// TestTwin: compiled lists of all sizes say what going through the rules says.
func TestTwin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := rand.New(rand.NewPCG(seed, 0))
	hits := 0
	for _, n := range []int{0, 1, 2, 5, 63, 64, 65, 130, 300} {
		for range 20 {
			rules := make([]Rule, n)
			for i := range rules {
				rules[i] = randomRule(g)
			}
			l, err := Compile(rules)
			if err != nil {
				t.Fatal(err)
			}
			for range 300 {
				k := randomKey(g)
				want := None
				for i := range rules {
					if fits(&rules[i], &k) {
						want = i
						break
					}
				}
				if got := l.Match(&k); got != want {
					t.Fatalf("%d rules, packet %+v: rule %d, want %d", n, k, got, want)
				}
				if want != None {
					hits++
					if l.Permits(want) == rules[want].Deny {
						t.Fatal("permits what is denied")
					}
				}
			}
		}
	}
	if l, _ := Compile(nil); l.Permits(None) {
		t.Error("what no rule fits is permitted")
	}
	if hits < 10000 {
		t.Errorf("only %d packets fitted a rule", hits)
	}
}

func packet4(proto uint8, frag uint16, l4 ...byte) []byte {
	b := make([]byte, header.IPv4Len+len(l4))
	header.PutIPv4(b, len(b), 1, frag, 46<<2, 64, proto, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"))
	copy(b[header.IPv4Len:], l4)
	return b
}

func packet6(next uint8, l4 ...byte) []byte {
	b := make([]byte, header.IPv6Len+len(l4))
	header.PutIPv6(b, len(l4), 46<<2, next, 64, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"))
	copy(b[header.IPv6Len:], l4)
	return b
}

// TestKeys reads packets.
func TestKeys(t *testing.T) {
	tcp := []byte{0, 80, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12}
	udp := []byte{0, 53, 0, 54, 0, 8, 0, 0}
	chain := append([]byte{header.ProtoRouting, 0, 0, 0, 0, 0, 0, 0, header.ProtoFragment, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 1}, udp...)
	later := append([]byte(nil), chain...)
	later[19] = 9
	a4, b4 := uint64(0x0a000001), uint64(0x0a000002)
	v4 := Key{Family: 4, DSCP: 46, HopLimit: 64, SrcLo: a4, DstLo: b4}
	v6 := Key{Family: 6, DSCP: 46, HopLimit: 64, SrcHi: 0x20010db8 << 32, SrcLo: 1, DstHi: 0x20010db8 << 32, DstLo: 2}
	with := func(k Key, f func(*Key)) Key { f(&k); return k }
	for name, c := range map[string]struct {
		b    []byte
		want Key
	}{
		"tcp":       {packet4(6, 0, tcp...), with(v4, func(k *Key) { k.Protocol, k.Transport, k.SrcPort, k.DstPort, k.Flags = 6, true, 80, 443, 0x12 })},
		"short tcp": {packet4(6, 0, tcp[:13]...), with(v4, func(k *Key) { k.Protocol = 6 })},
		"udp":       {packet4(17, 0x2000, udp...), with(v4, func(k *Key) { k.Protocol, k.Transport, k.SrcPort, k.DstPort = 17, true, 53, 54 })},
		"later":     {packet4(17, 9, udp...), with(v4, func(k *Key) { k.Protocol, k.Later = 17, true })},
		"icmp":      {packet4(1, 0, 3, 4), with(v4, func(k *Key) { k.Protocol, k.Transport, k.ICMPType, k.ICMPCode = 1, true, 3, 4 })},
		"esp":       {packet4(50, 0, udp...), with(v4, func(k *Key) { k.Protocol = 50 })},
		"bad":       {packet4(6, 0, tcp...)[:30], Key{}},
		"udp6":      {packet6(17, udp...), with(v6, func(k *Key) { k.Protocol, k.Transport, k.SrcPort, k.DstPort = 17, true, 53, 54 })},
		"icmp6":     {packet6(58, 135, 0), with(v6, func(k *Key) { k.Protocol, k.Transport, k.ICMPType = 58, true, 135 })},
		"chain":     {packet6(header.ProtoHopByHop, append([]byte{header.ProtoRouting, 0, 0, 0, 0, 0, 0, 0}, chain...)...), with(v6, func(k *Key) { k.Protocol, k.Transport, k.SrcPort, k.DstPort = 17, true, 53, 54 })},
		"later6":    {packet6(header.ProtoRouting, later...), with(v6, func(k *Key) { k.Protocol, k.Later = 17, true })},
		"bad chain": {packet6(header.ProtoHopByHop, header.ProtoTCP, 9, 0, 0, 0, 0, 0, 0), with(v6, func(k *Key) { k.Protocol = 0 })},
	} {
		f := append(make([]byte, 12), 0x81, 0, 0x60, 7, 8, 0)
		if c.b[0]>>4 == 6 {
			f[16], f[17] = 0x86, 0xdd
		}
		c.want.VLAN = 7
		var k Key
		if k.Frame(append(f, c.b...)); k != c.want {
			t.Errorf("%s: got %+v, want %+v", name, k, c.want)
		}
	}
}

func TestBadRulesAreRefused(t *testing.T) {
	d := uint8(64)
	p4, p6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")
	for name, r := range map[string]Rule{
		"families": {Source: p4, Destination: p6}, "family": {Family: 6, Source: p4}, "no family": {Family: 5}, "host bits": {Source: netip.MustParsePrefix("10.0.0.1/8")},
		"mapped": {Source: netip.MustParsePrefix("::ffff:10.0.0.0/104")}, "ports": {SrcPorts: []Range{{2, 1}}}, "dscp": {DSCP: &d}, "vlan": {VLAN: 4095},
		"flags": {FlagsSet: 3, FlagsClear: 1},
	} {
		if _, err := Compile([]Rule{{}, r}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Compile(make([]Rule, MaxRules+1)); err == nil {
		t.Error("too many rules are accepted")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(append(append(make([]byte, 12), 8, 0), packet4(6, 0, make([]byte, 20)...)...))
	f.Add(append(append(make([]byte, 12), 0x86, 0xdd), packet6(0, make([]byte, 40)...)...))
	g := rand.New(rand.NewPCG(1, 2))
	rules := make([]Rule, 100)
	for i := range rules {
		rules[i] = randomRule(g)
	}
	l, err := Compile(rules)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var k Key
		k.Frame(b)
		want := None
		for i := range rules {
			if fits(&rules[i], &k) {
				want = i
				break
			}
		}
		if got := l.Match(&k); got != want {
			t.Fatalf("packet %+v: rule %d, want %d", k, got, want)
		}
	})
}

// worst is a list whose last rule alone fits the benchmark's packet.
func worst(t testing.TB, n int) (*List, []byte) {
	var rules []Rule
	tcp := uint8(6)
	for i := range n - 1 {
		rules = append(rules, Rule{Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24), Protocol: &tcp, DstPorts: []Range{{uint16(i), uint16(i)}}})
	}
	l, err := Compile(append(rules, Rule{}))
	if err != nil {
		t.Fatal(err)
	}
	return l, packet4(6, 0, 0, 80, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0, 0, 0, 0, 0)
}

func TestMatchAllocatesNothing(t *testing.T) {
	l, b := worst(t, 100)
	var k Key
	if n := testing.AllocsPerRun(100, func() {
		k.IPv4(b)
		if l.Match(&k) != 99 {
			t.Error("matched another rule")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, p := worst(b, n)
			var k Key
			for b.Loop() {
				k.IPv4(p)
				if l.Match(&k) != n-1 {
					b.Fatal("matched another rule")
				}
			}
		})
	}
}
