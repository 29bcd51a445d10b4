package ping

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func here(f func() error) error { return f() }

func TestPingLoopback(t *testing.T) {
	for _, to := range []string{"127.0.0.1", "::1"} {
		p, err := Open(here, Options{To: netip.MustParseAddr(to), TTL: 7})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for seq := uint16(1); seq <= 3; seq++ {
			r, err := p.Once(context.Background(), seq, 100, 5*time.Second)
			if err != nil || r.From.String() != to || r.Bytes != 108 || r.RTT <= 0 {
				t.Errorf("%s: %+v, %v", to, r, err)
			}
		}
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	p, err := Open(here, Options{To: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Once(ctx, 1, 8, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := p.Once(context.Background(), 2, 8, 0); !errors.Is(err, ErrTimeout) {
		t.Errorf("no time at all: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(here, Options{To: netip.MustParseAddr("127.0.0.1"), Source: netip.MustParseAddr("192.0.2.77")})
	if err == nil {
		t.Error("a source address that is not ours was taken")
	}
	want := errors.New("no such namespace")
	if _, err := Open(func(func() error) error { return want }, Options{To: netip.MustParseAddr("127.0.0.1")}); !errors.Is(err, want) {
		t.Errorf("error of the namespace: %v", err)
	}
}

// request is the echo request that an ICMP error quotes.
func request(typ byte, id, seq uint16) []byte {
	b := make([]byte, 8)
	b[0] = typ
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	return b
}

func TestErrorsAreMatched(t *testing.T) {
	from := netip.MustParseAddr("192.0.2.1")
	p4 := &Pinger{opt: Options{To: netip.MustParseAddr("192.0.2.9")}, id: 77}
	ip := make([]byte, 20)
	ip[0] = 0x45
	err4 := func(typ, code byte, id, seq uint16) []byte {
		return append(append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, ip...), request(8, id, seq)...)
	}
	for _, c := range []struct {
		msg  []byte
		ours bool
		text string
	}{
		{err4(11, 0, 77, 5), true, "192.0.2.1: time exceeded"},
		{err4(3, 1, 77, 5), true, "192.0.2.1: host unreachable"},
		{err4(3, 4, 77, 5), true, "192.0.2.1: fragmentation needed"},
		{err4(3, 13, 77, 5), true, "192.0.2.1: administratively prohibited"},
		{err4(11, 0, 77, 6), false, ""},
		{err4(11, 0, 78, 5), false, ""},
		{err4(11, 0, 77, 5)[:30], false, ""},
		{request(0, 77, 5), true, ""},
		{request(0, 77, 4), false, ""},
		{request(8, 77, 5), false, ""},
	} {
		ours, err := p4.match(c.msg, 5, from)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if ours != c.ours || text != c.text {
			t.Errorf("%x: %v %q, want %v %q", c.msg, ours, text, c.ours, c.text)
		}
	}
	p6 := &Pinger{opt: Options{To: netip.MustParseAddr("2001:db8::9")}, id: 77}
	ip6 := make([]byte, 40)
	ip6[6] = 58
	big := append(append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, ip6...), request(128, 77, 5)...)
	if ours, err := p6.match(big, 5, netip.MustParseAddr("2001:db8::1")); !ours || err == nil || err.Error() != "2001:db8::1: packet too big" {
		t.Errorf("packet too big: %v %v", ours, err)
	}
	if ours, err := p6.match(request(129, 77, 5), 5, from); !ours || err != nil {
		t.Errorf("reply: %v %v", ours, err)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(true, []byte{11, 0, 0, 0, 0, 0, 0, 0, 0x4f})
	f.Add(false, request(129, 1, 1))
	f.Fuzz(func(t *testing.T, v4 bool, b []byte) {
		to := netip.MustParseAddr("2001:db8::1")
		if v4 {
			to = netip.MustParseAddr("192.0.2.1")
			b, _ = stripIPv4(b)
		}
		p := &Pinger{opt: Options{To: to}, id: 1}
		if ours, _ := p.match(b, 1, to); ours && len(b) < 8 {
			t.Errorf("%x is an answer", b)
		}
	})
}

func TestChecksum(t *testing.T) {
	b := []byte{8, 0, 0, 0, 0, 1, 0, 2, 0xff}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	if checksum(b) != 0 {
		t.Errorf("checksum of %x", b)
	}
}
