package xdp

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/netdev/conform"
)

// TestJumboForward sends frames of all sizes around the borders of buffers and
// chunks through two ports, in the order of their sizes and mixed with short ones.
func TestJumboForward(t *testing.T) {
	for _, chunk := range []int{2048, 4096} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) { testJumboForward(t, chunk) })
	}
}

func testJumboForward(t *testing.T, chunk int) {
	l := conform.NewLab(t, prefix, 1)
	for _, end := range [][2]string{{"a", "h0"}, {"r", "p0"}, {"r", "p1"}, {"b", "h0"}} {
		must(t, l.IP(end[0], "link", "set", end[1], "mtu", "9000"))
	}
	d0, d1 := attach(t, l, "p0", Options{Mode: Native, Ring: 512}), attach(t, l, "p1", Options{Mode: Native, Ring: 512})
	u := newJumboUmem(t, 1024, chunk, 8)
	in, out := open(t, l, d0, u, 0), open(t, l, d1, u, 0)
	a, b := conform.NewWire(t, l, "a", "h0"), conform.NewWire(t, l, "b", "h0")
	room := chunk - graph.Headroom
	for i, n := range []int{60, room - 1, room, room + 1, chunk, chunk + 1, 2*chunk - 1, 2 * room, 2*room + 1, 9013, 9014, 60, 9014} {
		want := conform.Frame(n, byte(i))
		a.Send(t, want)
		var v graph.Vector
		for end := time.Now().Add(deadline); v.N == 0; {
			if time.Now().After(end) {
				t.Fatalf("chunk %d: frame of %d bytes: not received; %+v", chunk, n, in.Counters())
			}
			must(t, in.Rx(&v))
		}
		if v.N != 1 || !bytes.Equal(v.P[0].Data, want) {
			t.Fatalf("chunk %d: frame of %d bytes: %d received, of %d bytes", chunk, n, v.N, len(v.P[0].Data))
		}
		must(t, out.Tx(&v))
		must(t, out.Flush())
		if got := b.Receive(t, deadline); !bytes.Equal(got, want) {
			t.Fatalf("chunk %d: frame of %d bytes: %d bytes came out; %+v", chunk, n, len(got), out.Counters())
		}
		accounted(t, u)
	}
	if c := in.Counters(); c.RxPackets != 13 || c.Drops != [netdev.NumReasons]uint64{} {
		t.Errorf("counters %+v", c)
	}
	for end := time.Now().Add(deadline); u.Pool().Free() < 8; must(t, out.Flush()) {
		if time.Now().After(end) {
			t.Fatal("sent frames do not come home")
		}
	}
}

// TestJumboWithoutRoom has no buffer to join a frame in: it is dropped and counted,
// the next one is taken.
func TestJumboWithoutRoom(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	must(t, l.IP("a", "link", "set", "h0", "mtu", "9000"))
	must(t, l.IP("r", "link", "set", "p0", "mtu", "9000"))
	d := attach(t, l, "p0", Options{Mode: Native, Ring: 64})
	u := newJumboUmem(t, 256, 4096, 1)
	p := open(t, l, d, u, 0)
	a := conform.NewWire(t, l, "a", "h0")
	hand := u.Pool().GetFor(9000)
	var v graph.Vector
	a.Send(t, conform.Frame(9014, 1))
	for end := time.Now().Add(deadline); p.Counters().Drops[netdev.RxNoBuffer] != 1; must(t, p.Rx(&v)) {
		if time.Now().After(end) {
			t.Fatalf("not counted: %+v", p.Counters())
		}
	}
	u.Pool().Put(hand)
	accounted(t, u)
	a.Send(t, conform.Frame(9014, 2))
	for end := time.Now().Add(deadline); v.N == 0; must(t, p.Rx(&v)) {
		if time.Now().After(end) {
			t.Fatal("nothing received")
		}
	}
	u.Pool().Put(v.P[0])
	accounted(t, u)
}

// TestHostilePieces writes frames of pieces that never end, or are too long, into the ring.
func TestHostilePieces(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Ring: 64})
	u := newJumboUmem(t, 256, 4096, 2)
	p := open(t, l, d, u, 0)
	q := p.queues[0]
	jumbo := uint64(256 * 4096)
	for i := range 8 {
		q.rxSlots[i] = unix.XDPDesc{Addr: q.fillSlots[i], Len: 3000, Options: unix.XDP_PKT_CONTD}
	}
	q.rxSlots[7].Options = 0
	q.rxSlots[8] = unix.XDPDesc{Addr: jumbo, Len: 60} // never given
	q.rxSlots[9] = unix.XDPDesc{Addr: q.fillSlots[9], Len: 3000, Options: unix.XDP_PKT_CONTD}
	atomic.AddUint32(q.rx.prod, 10)
	var v graph.Vector
	must(t, p.Rx(&v))
	c := p.Counters()
	if v.N != 0 || c.Drops[netdev.RxTooLong] != 1 || c.Drops[netdev.RxInvalid] != 1 || u.Pool().Free()+u.InRings() != u.Pool().Size()-1 {
		t.Fatalf("%d packets, %d free, %d in rings of %d, counters %+v", v.N, u.Pool().Free(), u.InRings(), u.Pool().Size(), c)
	}
	must(t, p.Close()) // within a frame: its first piece is in a buffer
	if u.Pool().Free() != u.Pool().Size() {
		t.Errorf("%d of %d buffers after the close", u.Pool().Free(), u.Pool().Size())
	}
}

// TestWithoutPieces is a kernel that takes no frames of several buffers.
func TestWithoutPieces(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Ring: 64})
	u := newJumboUmem(t, 256, 4096, 2)
	p := open(t, l, d, u, 0)
	u.sg = false
	p.SetMTU(9000)
	pkt := u.Pool().GetFor(9000)
	pkt.Data = append(pkt.Data, conform.Frame(5000, 1)...)
	var v graph.Vector
	v.Push(pkt)
	must(t, p.Tx(&v))
	if c := p.Counters(); c.Drops[netdev.TxTooLong] != 1 || c.TxPackets != 0 {
		t.Errorf("counters %+v", c)
	}
	accounted(t, u)
}
