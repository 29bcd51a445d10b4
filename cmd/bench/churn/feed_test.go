package churn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// route is an announcement as a peer reads it.
type route struct {
	prefix netip.Prefix
	hop    netip.Addr
}

// routes reads an UPDATE of the feeder with a parser of its own.
func routes(t *testing.T, body []byte) (list []route) {
	t.Helper()
	if n := binary.BigEndian.Uint16(body); n != 0 {
		t.Fatalf("%d bytes are withdrawn", n)
	}
	n := int(binary.BigEndian.Uint16(body[2:]))
	attrs, rest := body[4:4+n], body[4+n:]
	var hop netip.Addr
	var kinds []byte
	for len(attrs) > 0 {
		length := int(attrs[2])
		kinds = append(kinds, attrs[1])
		if attrs[1] == 3 {
			hop, _ = netip.AddrFromSlice(attrs[3:7])
		}
		attrs = attrs[3+length:]
	}
	if n > 0 && !bytes.Equal(kinds, []byte{1, 2, 3, 5}) {
		t.Fatalf("attributes %v", kinds)
	}
	for len(rest) > 0 {
		var a [4]byte
		bits := int(rest[0])
		octets := (bits + 7) / 8
		copy(a[:], rest[1:1+octets])
		rest = rest[1+octets:]
		list = append(list, route{netip.PrefixFrom(netip.AddrFrom4(a), bits), hop})
	}
	return list
}

// peer is the router's end of a session.
type peer struct {
	net.Conn
	t *testing.T
}

// session opens a session between a feeder and the test.
func session(t *testing.T) (*feeder, peer) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type made struct {
		f   *feeder
		err error
	}
	ch := make(chan made, 1)
	go func() {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			ch <- made{nil, err}
			return
		}
		f, err := newFeeder(c, feederIP)
		ch <- made{f, err}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := peer{c, t}
	t.Cleanup(func() { c.Close() })
	kind, body := p.next()
	if kind != typeOpen || body[0] != 4 || binary.BigEndian.Uint16(body[1:]) != localAS || netip.AddrFrom4([4]byte(body[5:9])) != feederIP || int(body[9]) != len(body)-10 {
		t.Fatalf("message %d: % x", kind, body)
	}
	p.send(openMessage(netip.MustParseAddr("10.255.0.1")))
	if kind, _ := p.next(); kind != typeKeepalive {
		t.Fatalf("message %d, want keepalive", kind)
	}
	p.send(message(nil, typeKeepalive, nil))
	m := <-ch
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.f, p
}

func (p peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p peer) next() (byte, []byte) {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	kind, body, err := readMessage(p)
	if err != nil {
		p.t.Fatal(err)
	}
	return kind, body
}

func prefixes(words ...string) (list []netip.Prefix) {
	for _, w := range words {
		list = append(list, netip.MustParsePrefix(w))
	}
	return list
}

func TestAnnounceSendsTheWholeTableAndItsEnd(t *testing.T) {
	f, p := session(t)
	table := prefixes("0.0.0.0/0", "10.0.0.0/8", "198.51.100.0/25", "203.0.113.7/32", "192.0.2.0/24", "100.64.0.0/10", "1.2.3.0/24")
	if err := f.announce(table, hops[0]); err != nil {
		t.Fatal(err)
	}
	var got []netip.Prefix
	for len(got) <= len(table) {
		kind, body := p.next()
		if kind != typeUpdate {
			t.Fatalf("message %d", kind)
		}
		list := routes(t, body)
		if len(list) == 0 {
			break // the end of the table
		}
		for _, r := range list {
			if got = append(got, r.prefix); r.hop != hops[0] {
				t.Errorf("%v by %v", r.prefix, r.hop)
			}
		}
	}
	if !slices.Equal(got, table) {
		t.Errorf("announced %v, want %v", got, table)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// TestChurnMovesEachPrefixEachRound checks that no change repeats what is in force, and that the rate is kept.
func TestChurnMovesEachPrefixEachRound(t *testing.T) {
	f, p := session(t)
	list := make([]netip.Prefix, 25)
	at := map[netip.Prefix]netip.Addr{}
	for i := range list {
		list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 0}), 24)
		at[list[i]] = hops[0]
	}
	done := make(chan error, 1)
	go func() { done <- f.churn(list, hops, 1000, 200*time.Millisecond) }()
	const want = 200
	n := 0
	for n < want {
		kind, body := p.next()
		if kind != typeUpdate {
			t.Fatalf("message %d", kind)
		}
		for _, r := range routes(t, body) {
			n++
			if old, ok := at[r.prefix]; !ok || old == r.hop {
				t.Errorf("change %d: %v to %v, where it is", n, r.prefix, r.hop)
			}
			at[r.prefix] = r.hop
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if sent := f.sent.Load(); n != int(sent) || n != want {
		t.Errorf("%d changes read, %d counted, want %d", n, sent, want)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestARefusedSessionIsAnError(t *testing.T) {
	f, p := session(t)
	p.send(message(nil, typeNotification, []byte{6, 2}))
	<-f.done
	if err := f.announce(prefixes("10.0.0.0/8"), hops[0]); err == nil || !strings.Contains(err.Error(), "notification 06 02") {
		t.Errorf("after a notification: %v", err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestReadMessageRefusesBadLengths(t *testing.T) {
	for _, n := range []int{0, headerLen - 1, maxMessage + 1, 65535} {
		m := message(nil, typeKeepalive, nil)
		binary.BigEndian.PutUint16(m[16:], uint16(n))
		if _, _, err := readMessage(bytes.NewReader(m)); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("length %d: %v", n, err)
		}
	}
	m := message(nil, typeUpdate, []byte{1, 2, 3})
	if _, _, err := readMessage(bytes.NewReader(m[:len(m)-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(message(nil, typeKeepalive, nil))
	f.Add(openMessage(feederIP))
	f.Add(update(nil, hops[1], []uint32{1, 2}, prefixes("10.0.0.0/9")))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, body, err := readMessage(bytes.NewReader(b))
		if err == nil && !bytes.Equal(message(nil, kind, body)[16:], b[16:headerLen+len(body)]) {
			t.Errorf("% x was read as %d, % x", b, kind, body)
		}
	})
}
