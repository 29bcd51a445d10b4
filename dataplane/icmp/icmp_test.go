package icmp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"godwit/dataplane/header"
)

var (
	us4, them4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	us6, them6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:5::7")
	far4       = netip.MustParseAddr("203.0.113.5")
	far6       = netip.MustParseAddr("2001:db8:9::9")
)

func packet4(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b := make([]byte, header.IPv4Len+len(payload))
	copy(b[header.IPv4Len:], payload)
	header.PutIPv4(b, len(b), 1, 0, 0, 9, proto, src, dst)
	return b
}

func packet6(src, dst netip.Addr, next uint8, payload []byte) []byte {
	b := make([]byte, header.IPv6Len+len(payload))
	copy(b[header.IPv6Len:], payload)
	header.PutIPv6(b, len(payload), 0, next, 9, src, dst)
	return b
}

// TestMake checks every error for both families with gopacket's eyes.
func TestMake(t *testing.T) {
	for e := TimeExceeded; e <= BeyondScope; e++ {
		for _, size := range []int{0, 8, 547, 548, 549, 1232, 5000} {
			for _, orig := range [][]byte{packet4(them4, far4, 17, make([]byte, size)), packet6(them6, far6, 17, make([]byte, size))} {
				is4 := orig[0]>>4 == 4
				src, first, most, head := us6, gopacket.LayerType(layers.LayerTypeIPv6), 1280, 48
				if is4 {
					src, first, most, head = us4, layers.LayerTypeIPv4, 576, 28
				}
				b := Make(e, src, 1400, orig)
				if is4 && e == BeyondScope {
					if b != nil {
						t.Error("beyond scope for IPv4")
					}
					continue
				}
				if len(b) != min(most, head+len(orig)) || !bytes.Equal(b[head:], orig[:len(b)-head]) {
					t.Fatalf("error %d: %d bytes about %d", e, len(b), len(orig))
				}
				p := gopacket.NewPacket(b, first, gopacket.Default)
				if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
					if err := l.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
						t.Fatal(err)
					}
				}
				if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) != 0 {
					t.Fatalf("error %d: %v %+v", e, err, wrong)
				}
				if May(e, b) {
					t.Errorf("error %d may be answered with an error", e)
				}
			}
		}
	}
	if Make(TimeExceeded, us6, 0, packet4(them4, far4, 17, nil)) != nil || Make(TimeExceeded, us4, 0, packet6(them6, far6, 17, nil)) != nil ||
		Make(TimeExceeded, netip.Addr{}, 0, packet6(them6, far6, 17, nil)) != nil {
		t.Error("a source of the other family was taken")
	}
}

func TestMay(t *testing.T) {
	a := netip.MustParseAddr
	frag6 := func(off byte) []byte { return packet6(them6, far6, 44, []byte{17, 0, 0, off, 0, 0, 0, 1, 1, 2, 3, 4}) }
	for i, c := range []struct {
		e    Error
		p    []byte
		want bool
	}{
		{TimeExceeded, nil, false}, {TimeExceeded, []byte{0x45}, false}, {TimeExceeded, []byte{0x60}, false}, {TimeExceeded, []byte{0x99, 1}, false},
		{TimeExceeded, packet4(them4, far4, 17, nil), true},
		{TimeExceeded, packet4(a("0.0.0.0"), far4, 17, nil), false}, {TimeExceeded, packet4(a("127.0.0.1"), far4, 17, nil), false},
		{TimeExceeded, packet4(a("224.0.0.1"), far4, 17, nil), false}, {TimeExceeded, packet4(a("255.255.255.255"), far4, 17, nil), false},
		{TimeExceeded, packet4(them4, a("224.0.0.1"), 17, nil), false}, {TimeExceeded, packet4(them4, a("255.255.255.255"), 17, nil), false},
		{TimeExceeded, packet4(them4, far4, 1, []byte{8, 0}), true}, {TimeExceeded, packet4(them4, far4, 1, []byte{11, 0}), false},
		{TimeExceeded, packet4(them4, far4, 1, nil), false},
		{TimeExceeded, packet6(them6, far6, 17, nil), true}, {TimeExceeded, packet6(a("::"), far6, 17, nil), false},
		{TimeExceeded, packet6(a("ff02::1"), far6, 17, nil), false}, {TimeExceeded, packet6(them6, a("ff05::1"), 17, nil), false},
		{TooBig, packet6(them6, a("ff05::1"), 17, nil), true},
		{TimeExceeded, packet6(them6, far6, 58, []byte{128, 0, 0, 0}), true}, {TimeExceeded, packet6(them6, far6, 58, []byte{1, 0, 0, 0}), false},
		{TimeExceeded, packet6(them6, far6, 58, []byte{137, 0, 0, 0}), false}, {TimeExceeded, packet6(them6, far6, 58, nil), false},
		{TimeExceeded, frag6(1), true}, {TimeExceeded, frag6(8), false},
		{TimeExceeded, packet6(them6, far6, 0, []byte{58, 0, 5, 2, 0, 0, 0, 0, 3, 0, 0, 0}), false},
	} {
		if got := May(c.e, c.p); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(100, 0)
	var l Limiter
	count := func(to netip.Addr, n int, step time.Duration) (ok int) {
		for range n {
			now = now.Add(step)
			if l.Allow(now, to) {
				ok++
			}
		}
		return ok
	}
	if n := count(them4, 100, 0); n != hostBurst {
		t.Errorf("%d at once, want %d", n, hostBurst)
	}
	if n := count(them4, 1000, time.Millisecond); n < hostRate-2 || n > hostRate+2 {
		t.Errorf("%d in a second, want %d", n, hostRate)
	}
	if n := count(them6, 10, 0); n != 10 {
		t.Errorf("another receiver got %d of 10", n)
	}
	now = now.Add(-time.Hour) // a clock that goes back does no harm
	count(them4, 5, 0)
	now = now.Add(2 * time.Hour)
	all := 0
	for i := range 5000 {
		if l.Allow(now, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) {
			all++
		}
	}
	if all > cardBurst || all < cardBurst-1 {
		t.Errorf("%d at once to all, want %d", all, cardBurst)
	}
}

// FuzzMake: any bytes for a packet.
func FuzzMake(f *testing.F) {
	f.Add(packet4(them4, far4, 17, []byte("x")), uint8(0))
	f.Add(packet6(them6, far6, 58, []byte{128, 0, 0, 0}), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, e uint8) {
		Make(Error(e), us4, 1400, b)
		Make(Error(e), us6, 1400, b)
	})
}
