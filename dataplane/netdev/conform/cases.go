package conform

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
)

// testForward sends frames of all lengths from a to b and back, one at a time.
func testForward(t *testing.T, b *bench) {
	const count = 200
	bytes := uint64(0)
	for i := range count {
		in, out, from, to := b.P[0], b.P[1], b.a, b.b
		if i%2 == 1 {
			in, out, from, to = out, in, to, from
		}
		sent := Frame(60+i*(1514-60)/(count-1), byte(i))
		from.Send(t, sent)
		var v graph.Vector
		b.receive(t, in, &v, 1)
		if v.P[0].Port != in.ID() {
			t.Fatalf("port %v, want %v", v.P[0].Port, in.ID())
		}
		must(t, out.Tx(&v))
		if v.N != 0 {
			t.Fatal("Tx left packets in the vector")
		}
		b.expect(t, to, out, sent)
		b.accounted(t)
		bytes += uint64(len(sent))
	}
	c := b.P[0].Counters()
	c.Add(b.P[1].Counters())
	want := netdev.Counters{RxPackets: count, RxBytes: bytes, TxPackets: count, TxBytes: bytes}
	if c != want {
		t.Errorf("counters %+v, want %+v", c, want)
	}
}

// testBurst forwards full vectors, more in all than the pool has frames.
func testBurst(t *testing.T, b *bench) {
	total := 0
	for round := 0; total < 2*b.Pool.Size(); round++ {
		for i := range graph.VectorSize {
			b.a.Send(t, Frame(60, byte(round+i)))
		}
		var v graph.Vector
		b.receive(t, b.P[0], &v, graph.VectorSize)
		must(t, b.P[0].Rx(&v)) // a full vector stays as it is
		must(t, b.P[1].Tx(&v))
		for i := range graph.VectorSize {
			b.expect(t, b.b, b.P[1], Frame(60, byte(round+i)))
		}
		b.accounted(t)
		total += graph.VectorSize
	}
	for i, p := range b.P {
		if c := p.Counters(); c.Drops != [netdev.NumReasons]uint64{} {
			t.Errorf("p%d dropped: %+v", i, c)
		}
	}
}

// packet takes a frame from the pool with n bytes.
func (b *bench) packet(t *testing.T, n int) *graph.Packet {
	t.Helper()
	p := b.Pool.GetFor(n)
	if p == nil || n > cap(p.Data) {
		t.Fatalf("no buffer for %d bytes", n)
	}
	p.Data = p.Data[:n]
	copy(p.Data, Frame(max(n, 14), 7))
	return p
}

// testSizes offers frames that are too short and too long for the link.
func testSizes(t *testing.T, b *bench) {
	var v graph.Vector
	for _, n := range []int{0, 13, 1500 + 14 + 9, 14, 1500 + 14} {
		v.Push(b.packet(t, n))
	}
	must(t, b.P[0].Tx(&v))
	b.expect(t, b.a, b.P[0], Frame(14, 7))
	b.expect(t, b.a, b.P[0], Frame(1514, 7))
	c := b.P[0].Counters()
	if c.Drops[netdev.TxTooShort] != 2 || c.Drops[netdev.TxTooLong] != 1 || c.TxPackets != 2 {
		t.Errorf("counters %+v", c)
	}
	mtu := b.MaxMTU
	must(t, b.lab.IP("a", "link", "set", "h0", "mtu", fmt.Sprint(mtu)))
	must(t, b.lab.IP("r", "link", "set", "p0", "mtu", fmt.Sprint(mtu)))
	b.P[0].SetMTU(mtu)
	v.Push(b.packet(t, mtu+14))
	must(t, b.P[0].Tx(&v))
	b.expect(t, b.a, b.P[0], Frame(mtu+14, 7))
	b.a.Send(t, Frame(mtu+14, 9))
	b.receive(t, b.P[0], &v, 1)
	if !bytes.Equal(v.P[0].Data, Frame(mtu+14, 9)) {
		t.Errorf("received %x", v.P[0].Data)
	}
	b.Pool.Put(v.P[0])
}

// testVLAN checks that tags come and go untouched.
func testVLAN(t *testing.T, b *bench) {
	for i, tag := range [][]byte{{0x81, 0, 0x60, 7}, {0x88, 0xa8, 0, 9, 0x81, 0, 0, 8}} {
		plain := Frame(80, byte(i))
		f := append(append(append([]byte(nil), plain[:12]...), tag...), plain[12:]...)
		b.a.Send(t, f)
		var v graph.Vector
		b.receive(t, b.P[0], &v, 1)
		if !bytes.Equal(v.P[0].Data, f) {
			t.Fatalf("got %x\nwant %x", v.P[0].Data, f)
		}
		if !b.Pool.Grow(v.P[0], 8) || !b.Pool.Grow(v.P[0], -8) {
			t.Error("no headroom for a tag")
		}
		must(t, b.P[1].Tx(&v))
		// The host's kernel takes the outer tag out: the wire's length tells.
		for end := time.Now().Add(Deadline); ; {
			must(t, b.P[1].Flush())
			got := b.b.Receive(t, 20*time.Millisecond)
			if len(got) == len(f)-4 {
				break
			}
			if got != nil || time.Now().After(end) {
				t.Fatalf("got %x\nwant %x without its first tag", got, f)
			}
		}
	}
}

// testSilent checks that the kernel does not answer what arrives at a port.
func testSilent(t *testing.T, b *bench) {
	must(t, b.lab.IP("r", "addr", "add", "192.0.2.1/24", "dev", "p0"))
	b.a.Send(t, ARPRequest())
	if got := b.a.Receive(t, 100*time.Millisecond); got != nil {
		t.Fatalf("the kernel answered: %x", got)
	}
	var v graph.Vector
	b.receive(t, b.P[0], &v, 1)
	if !bytes.Equal(v.P[0].Data, ARPRequest()) {
		t.Errorf("received %x", v.P[0].Data)
	}
	b.Pool.Put(v.P[0])
	b.closeAll(t)
}

// ARPRequest asks for 192.0.2.1.
func ARPRequest() []byte {
	return append([]byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1,
	}, make([]byte, 18)...)
}

// testExhausted holds all frames, so that frames are lost, and recovers.
func testExhausted(t *testing.T, b *bench) {
	var hands []*graph.Packet
	for p := b.Pool.Get(); p != nil; p = b.Pool.Get() {
		hands = append(hands, p)
	}
	for i := range b.Held() + 100 {
		b.a.Send(t, Frame(60, byte(i)))
	}
	for quiet := 0; quiet < 3; quiet++ { // a port in need of buffers gives nothing
		var v graph.Vector
		must(t, b.P[0].Rx(&v))
		if hands = append(hands, v.P[:v.N]...); v.N > 0 {
			quiet = 0
		}
		Wait(5, b.P[0])
		if n := len(hands) + b.Held() + b.Pool.Free(); n != b.Pool.Size() {
			t.Fatalf("%d in hands + %d in rings + %d free of %d", len(hands), b.Held(), b.Pool.Free(), b.Pool.Size())
		}
	}
	for _, p := range hands {
		b.Pool.Put(p)
	}
	for end := time.Now().Add(Deadline); ; {
		if time.Now().After(end) {
			t.Fatal("no frame passes after the pool was refilled")
		}
		b.a.Send(t, Frame(99, 1))
		Wait(10, b.P[0])
		var v graph.Vector
		must(t, b.P[0].Rx(&v))
		found := false
		for _, p := range v.P[:v.N] {
			found = found || len(p.Data) == 99
			b.Pool.Put(p)
		}
		if found {
			return
		}
	}
}

// testDown takes the link down and up while frames are sent.
func testDown(t *testing.T, b *bench) {
	must(t, b.lab.IP("r", "link", "set", "p0", "down"))
	for range 3 {
		var v graph.Vector
		for range graph.VectorSize {
			v.Push(b.packet(t, 60))
		}
		must(t, b.P[0].Tx(&v))
		must(t, b.P[0].Flush())
		must(t, b.P[0].Rx(&v))
		b.accounted(t)
	}
	must(t, b.lab.IP("r", "link", "set", "p0", "up"))
	b.until(t, "frames pass again", func() bool {
		var v graph.Vector
		v.Push(b.packet(t, 77))
		must(t, b.P[0].Tx(&v))
		must(t, b.P[0].Flush())
		for got := b.a.Receive(t, time.Millisecond); got != nil; got = b.a.Receive(t, time.Millisecond) {
			if len(got) == 77 {
				return true
			}
		}
		return false
	})
	b.a.Send(t, Frame(88, 1))
	var v graph.Vector
	b.receive(t, b.P[0], &v, 1)
	b.Pool.Put(v.P[0])
}

// testGone removes the device under the port; the other port goes on.
func testGone(t *testing.T, b *bench) {
	b.a.Send(t, Frame(60, 1))
	must(t, b.lab.IP("r", "link", "del", "p0"))
	failed := func(f func() error) func() bool { return func() bool { return f() != nil } }
	b.until(t, "Rx of a removed device fails", failed(func() error {
		var v graph.Vector
		err := b.P[0].Rx(&v)
		for _, p := range v.P[:v.N] {
			b.Pool.Put(p)
		}
		return err
	}))
	b.until(t, "Tx fails", failed(func() error {
		var v graph.Vector
		v.Push(b.packet(t, 60))
		err := b.P[0].Tx(&v)
		if v.N != 0 {
			t.Fatal("Tx left packets in the vector")
		}
		return err
	}))
	b.until(t, "Flush fails", failed(b.P[0].Flush))
	b.accounted(t)
	var v graph.Vector
	v.Push(b.packet(t, 60))
	must(t, b.P[1].Tx(&v))
	b.expect(t, b.b, b.P[1], Frame(60, 7))
}

// testClosed uses a port after Close.
func testClosed(t *testing.T, b *bench) {
	must(t, b.P[0].Close())
	must(t, b.P[0].Close())
	var v graph.Vector
	if err := b.P[0].Rx(&v); err == nil {
		t.Error("Rx after Close gives no error")
	}
	v.Push(b.packet(t, 60))
	if err := b.P[0].Tx(&v); err == nil || v.N != 0 {
		t.Errorf("Tx after Close: %v, %d packets left", err, v.N)
	}
	if err := b.P[0].Flush(); err == nil {
		t.Error("Flush after Close gives no error")
	}
	if fds := b.P[0].Fds(nil); len(fds) != 0 {
		t.Errorf("descriptors after Close: %v", fds)
	}
	if c := b.P[0].Counters(); c.Drops[netdev.TxGone] != 1 {
		t.Errorf("counters %+v", c)
	}
	b.accounted(t)
}

// testNoAllocation forwards without allocating.
func testNoAllocation(t *testing.T, b *bench) {
	f := Frame(60, 1)
	var v graph.Vector
	forward := func() {
		for range 16 {
			b.a.Send(t, f)
		}
		for v.N < 16 {
			if err := b.P[0].Rx(&v); err != nil {
				t.Fatal(err)
			}
			runtime.Gosched()
		}
		if b.P[1].Tx(&v) != nil || b.P[1].Flush() != nil || b.P[0].Flush() != nil {
			t.Fatal("forward failed")
		}
	}
	if n := testing.AllocsPerRun(200, forward); n != 0 {
		t.Errorf("%v allocations for 16 frames", n)
	}
}
