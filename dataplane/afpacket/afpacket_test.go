package afpacket

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/netdev/conform"
	"godwit/dataplane/netdev/netlab"
	"godwit/fib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "gwt-afp"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, l *netlab.Lab, name string, pool *graph.Pool, o Options) *Port {
	t.Helper()
	var p *Port
	must(t, l.Do("r", func() (err error) { p, err = Open(name, pool, o); return err }))
	t.Cleanup(func() { p.Close() })
	if muted, why := p.Muted(); !muted {
		t.Fatalf("the kernel is not kept from the frames: %s", why)
	}
	return p
}

func newPool(t *testing.T, frames int) *graph.Pool {
	t.Helper()
	pool, err := graph.NewPool(make([]byte, frames*2048), 2048)
	must(t, err)
	return pool
}

func TestConform(t *testing.T) {
	conform.Run(t, prefix, func(t *testing.T, l *netlab.Lab) conform.Opened {
		pool := newPool(t, 1024)
		p0 := open(t, l, "p0", pool, Options{ID: fib.MakePortID(1, 1)})
		p1 := open(t, l, "p1", pool, Options{ID: fib.MakePortID(1, 2)})
		return conform.Opened{
			P: [2]conform.Port{p0, p1}, Pool: pool, MaxMTU: 1778,
			Held: func() int { return p0.InHand() + p1.InHand() },
		}
	})
}

// TestTooLong receives a frame that no buffer holds, and one that fits after it.
func TestTooLong(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	must(t, l.IP("a", "link", "set", "h0", "mtu", "3000"))
	must(t, l.IP("r", "link", "set", "p0", "mtu", "3000"))
	pool := newPool(t, 256)
	p := open(t, l, "p0", pool, Options{})
	a := conform.NewWire(t, l, "a", "h0")
	a.Send(t, conform.Frame(2500, 1))
	a.Send(t, conform.Frame(70, 2))
	v := receive(t, 1, p)
	if len(v.P[0].Data) != 70 || p.Counters().Drops[netdev.RxTooLong] != 1 {
		t.Errorf("received %d bytes; counters %+v", len(v.P[0].Data), p.Counters())
	}
	// A tag that the kernel took out must fit too: 1,792 bytes of room.
	tagged := append(conform.Frame(12, 0), 0x81, 0, 0, 5)
	a.Send(t, append(tagged, conform.Frame(1790-16, 3)...))
	a.Send(t, append(tagged, conform.Frame(1800-16, 3)...))
	a.Send(t, conform.Frame(71, 2))
	pool.Put(v.P[0])
	v = receive(t, 2, p)
	if len(v.P[0].Data) != 1790 || len(v.P[1].Data) != 71 || p.Counters().Drops[netdev.RxTooLong] != 2 {
		t.Errorf("received %d and %d bytes; counters %+v", len(v.P[0].Data), len(v.P[1].Data), p.Counters())
	}
	pool.Put(v.P[0])
	pool.Put(v.P[1])
	must(t, p.Close())
	if pool.Free() != pool.Size() {
		t.Errorf("%d of %d buffers free", pool.Free(), pool.Size())
	}
}

// receive reads n frames from the ports.
func receive(t *testing.T, n int, ports ...*Port) (v graph.Vector) {
	t.Helper()
	for end := time.Now().Add(conform.Deadline); v.N < n; {
		if time.Now().After(end) {
			t.Fatalf("received %d of %d frames", v.N, n)
		}
		for _, p := range ports {
			conform.Wait(1, p)
			must(t, p.Rx(&v))
		}
	}
	return v
}

// TestFanout spreads flows over two workers; each frame comes once.
func TestFanout(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	pool := newPool(t, 512)
	var ports [2]*Port
	for i := range ports {
		ports[i] = open(t, l, "p0", pool, Options{Fanout: 7})
	}
	a := conform.NewWire(t, l, "a", "h0")
	const flows = 48
	for i := range flows {
		f := conform.Frame(60, 0)
		copy(f[12:], []byte{8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, byte(i), 0, 9, 0, 26, 0, 0})
		a.Send(t, f)
	}
	v := receive(t, flows, ports[:]...)
	if v.N != flows {
		t.Errorf("%d frames of %d", v.N, flows)
	}
	for _, p := range v.P[:v.N] {
		pool.Put(p)
	}
	for i, p := range ports {
		if n := p.Counters().RxPackets; n == 0 || n == flows {
			t.Errorf("port %d has received %d of %d", i, n, flows)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	must(t, l.Do("r", func() error {
		if p, err := Open("none", newPool(t, 64), Options{}); err == nil {
			p.Close()
			t.Error("opened no device")
		}
		return nil
	}))
}
