package header

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"godwit/fib"
)

// slowSum is RFC 1071, word by word.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
		if rand.IntN(4) == 0 {
			b[i] = 0xff // carries
		}
	}
	return b
}

func TestChecksum(t *testing.T) {
	for n := range 200 {
		for range 20 {
			b := random(n)
			if got, want := Checksum(b), ^slowSum(b); got != want && got != ^want {
				t.Fatalf("checksum of %x is %#x, want %#x", b, got, want)
			}
			if n >= 16 {
				cut := rand.IntN(n/2) * 2
				if got := Fold(Sum(Sum(0, b[:cut]), b[cut:])); got != Fold(Sum(0, b)) {
					t.Fatalf("sum of parts %#x", got)
				}
			}
		}
	}
}

// TestUpdate checks both incremental updates against the whole computation, for
// every TTL and all kinds of checksums (RFC 1624, 4 and 5).
func TestUpdate(t *testing.T) {
	for ttl := 1; ttl < 256; ttl++ {
		for range 300 {
			b := random(IPv4Len)
			b[0], b[8] = 0x45, byte(ttl)
			if rand.IntN(2) == 0 { // reach the corner: sums near zero
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+Checksum(b)+uint16(rand.IntN(3)))
			}
			h := IPv4(b)
			h.SetChecksum()
			if !h.ChecksumOK() {
				t.Fatalf("own checksum of %x is wrong", b)
			}
			from := binary.BigEndian.Uint16(b[8:])
			updated := Update16(h.Checksum(), from, from-0x100)
			h.DecrementTTL()
			if !h.ChecksumOK() || int(h.TTL()) != ttl-1 {
				t.Fatalf("after the TTL fell: %x", b)
			}
			if c := h.Checksum(); c != updated && c+updated != 0xffff {
				t.Fatalf("Update16 %#x, DecrementTTL %#x", updated, c)
			}
			b[rand.IntN(IPv4Len-1)+1] ^= byte(1 + rand.IntN(255))
			if h.ChecksumOK() != (slowSum(b) == 0xffff) {
				t.Fatalf("ChecksumOK of %x", b)
			}
		}
	}
	b := random(60)
	b[0] = 0x4f
	IPv4(b).SetChecksum()
	if !IPv4(b).ChecksumOK() {
		t.Error("checksum with options")
	}
	b[50] ^= 4
	if IPv4(b).ChecksumOK() {
		t.Error("wrong checksum with options")
	}
}

func TestPseudo6(t *testing.T) {
	src, dst := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1")
	b := make([]byte, NDLen+NDOptLen)
	n := PutND(b, NDNeighborAdvert, NAFlagOverride, src, MAC{2, 3, 4, 5, 6, 7})
	SetChecksum6(src, dst, b[:n])
	if !ChecksumOK6(src, dst, b) {
		t.Error("own checksum is wrong")
	}
	f := make([]byte, EthernetLen+IPv6Len+n)
	PutEthernet(f, MulticastMAC(dst), MAC{2, 3, 4, 5, 6, 7}, TypeIPv6)
	PutIPv6(f[EthernetLen:], n, 0, ProtoICMPv6, 255, src, dst)
	copy(f[EthernetLen+IPv6Len:], b)
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	l := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if err := l.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Errorf("gopacket says %v %+v", err, wrong)
	}
	if m, ok := ND(b).LinkAddr(NDOptTarget); !ok || m != (MAC{2, 3, 4, 5, 6, 7}) || ND(b).Target() != src {
		t.Errorf("option %v %v", m, ok)
	}
	if got := SolicitedNode(netip.MustParseAddr("2001:db8::aa12:3456")); got != netip.MustParseAddr("ff02::1:ff12:3456") {
		t.Errorf("solicited node %v", got)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		options     []byte
		sourceRoute bool
		ok          bool
	}{
		{[]byte{0, 0, 0, 0}, false, true}, {[]byte{1, 1, 1, 1}, false, true}, {[]byte{7, 4, 4, 0}, false, true},
		{[]byte{1, 131, 3, 4}, true, true}, {[]byte{137, 4, 4, 0}, true, true}, {[]byte{7, 5, 4, 0}, false, false},
		{[]byte{7, 1, 4, 0}, false, false}, {[]byte{1, 1, 1, 7}, false, false}, {[]byte{0, 131, 9, 9}, false, true},
	} {
		b := append(make([]byte, IPv4Len), c.options...)
		b[0] = 0x46
		if s, ok := IPv4(b).Options(); s != c.sourceRoute || ok != c.ok {
			t.Errorf("%x: %v %v", c.options, s, ok)
		}
	}
}

func TestTransport(t *testing.T) {
	packet := func(next byte, ext ...byte) IPv6 {
		b := append(make([]byte, IPv6Len), ext...)
		b[0], b[6] = 0x60, next
		binary.BigEndian.PutUint16(b[4:], uint16(len(ext)))
		return b
	}
	hbh := []byte{58, 0, 5, 2, 0, 0, 0, 0, 143, 0}
	for _, c := range []struct {
		name  string
		p     IPv6
		proto uint8
		off   int
		ok    bool
	}{
		{"udp", packet(17, 1, 2, 3, 4), 17, 40, true},
		{"hop by hop", packet(0, hbh...), 58, 48, true},
		{"cut hop by hop", packet(0, hbh[:7]...), 0, 40, false},
		{"too long extension", packet(0, 58, 9, 0, 0, 0, 0, 0, 0), 58, 120, false},
		{"first fragment", packet(44, 17, 0, 0, 1, 0, 0, 0, 9), 17, 48, true},
		{"later fragment", packet(44, 17, 0, 0, 8, 0, 0, 0, 9), 44, 40, false},
		{"endless", packet(0, bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0}, 20)...), 0, 104, false},
	} {
		if proto, off, ok := c.p.Transport(); proto != c.proto || off != c.off || ok != c.ok {
			t.Errorf("%s: %d %d %v", c.name, proto, off, ok)
		}
	}
}

func TestFlowHash(t *testing.T) {
	b := random(40)
	b[0], b[9] = 0x45, ProtoUDP
	binary.BigEndian.PutUint16(b[2:], 40)
	b[6], b[7] = 0, 0
	h := FlowHash4(1, 0, b)
	for _, at := range []int{9, 12, 15, 16, 19, 20, 21, 22, 23} {
		c := bytes.Clone(b)
		c[at] ^= 1
		if at == 9 {
			c[at] = ProtoTCP
		}
		if FlowHash4(1, 0, c) == h {
			t.Errorf("byte %d does not count", at)
		}
	}
	for _, at := range []int{1, 4, 8, 10, 24} {
		c := bytes.Clone(b)
		c[at] ^= 1
		if FlowHash4(1, 0, c) != h {
			t.Errorf("byte %d counts", at)
		}
	}
	if FlowHash4(2, 0, b) == h {
		t.Error("the seed does not count")
	}
	three := FlowHash4(1, fib.HashNoPorts, b)
	for _, at := range []int{20, 21, 22, 23} {
		c := bytes.Clone(b)
		c[at] ^= 1
		if FlowHash4(1, fib.HashNoPorts, c) != three {
			t.Errorf("byte %d counts in the 3-tuple", at)
		}
	}
	for _, at := range []int{9, 12, 19} {
		c := bytes.Clone(b)
		c[at] ^= 1
		if FlowHash4(1, fib.HashNoPorts, c) == three {
			t.Errorf("byte %d does not count in the 3-tuple", at)
		}
	}
	var spread [16]int
	for i := range 16000 {
		binary.BigEndian.PutUint32(b[16:], uint32(i)) // neighbouring destinations
		spread[uint64(FlowHash4(1, 0, b))*16>>32]++
	}
	for i, n := range spread {
		if n < 850 || n > 1150 {
			t.Errorf("member %d of 16 got %d of 16,000", i, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { FlowHash4(3, 0, b); FlowHash6(3, 0, IPv6(b)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestFlowHash6 tells for each choice of fields which bytes of a packet count.
func TestFlowHash6(t *testing.T) {
	b := random(48)
	b[0], b[4], b[5], b[6] = 0x60, 0, 8, ProtoUDP
	addresses, ports, label, never := []int{8, 23, 24, 39}, []int{40, 41, 42, 43}, []int{1, 2, 3}, []int{7, 44}
	for _, c := range []struct {
		fields      fib.HashFields
		count, dont []int
	}{
		{0, append(addresses[:4:4], ports...), append(never[:2:2], label...)},
		{fib.HashNoPorts, addresses, append(append(never[:2:2], ports...), label...)},
		{fib.HashLabel | fib.HashNoPorts, append(addresses[:4:4], label...), append(never[:2:2], ports...)},
		{fib.HashLabel, append(append(addresses[:4:4], label...), ports...), never},
	} {
		h := FlowHash6(1, c.fields, b)
		for i, at := range append(c.count, c.dont...) {
			x := bytes.Clone(b)
			x[at] ^= 1
			if counts := FlowHash6(1, c.fields, x) != h; counts != (i < len(c.count)) {
				t.Errorf("%v: byte %d counts: %v", c.fields, at, counts)
			}
		}
	}
}

// FuzzViews: no accessor panics on what IsValid has let through.
func FuzzViews(f *testing.F) {
	f.Add(random(100))
	f.Add(append([]byte{0x46, 0, 0, 24}, make([]byte, 20)...))
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 0}, make([]byte, 41)...))
	f.Add(append([]byte{135, 0}, make([]byte, 30)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := IPv4(b); h.IsValid() {
			h.Options()
			h.ChecksumOK()
			FlowHash4(1, 0, h)
			if len(h.Payload()) != h.TotalLen()-h.HeaderLen() {
				t.Error("payload")
			}
		}
		if h := IPv6(b); h.IsValid() {
			FlowHash6(1, 0, h)
			if _, off, ok := h.Transport(); ok && off > h.TotalLen() {
				t.Errorf("transport at %d of %d", off, h.TotalLen())
			}
		}
		if a := ARP(b); a.IsValid() {
			a.Sender()
			a.Target()
			a.TargetMAC()
		}
		if n := ND(b); n.IsValid() {
			n.LinkAddr(NDOptSource)
			n.LinkAddr(NDOptTarget)
			n.Target()
		}
		if e := Ethernet(b); e.IsValid() && MAC48(e.Dst()) != e.Dst48() {
			t.Error("MAC48")
		}
		if Checksum(b) != ^slowSum(b) && len(b) > 0 && slowSum(b) != 0xffff {
			t.Errorf("checksum of %x", b)
		}
	})
}
