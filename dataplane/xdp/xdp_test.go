package xdp

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/dataplane/netdev/conform"
	"godwit/dataplane/netdev/netlab"
	"godwit/fib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	prefix   = "gwt-xdp"
	deadline = conform.Deadline
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func attach(t *testing.T, l *netlab.Lab, name string, o Options) *Device {
	t.Helper()
	var d *Device
	must(t, l.Do("r", func() (err error) { d, err = Attach(name, o); return err }))
	t.Cleanup(func() { d.Close() })
	return d
}

func open(t *testing.T, l *netlab.Lab, d *Device, u *Umem, queues ...int) *Port {
	t.Helper()
	var p *Port
	must(t, l.Do("r", func() (err error) { p, err = d.Open(u, queues...); return err }))
	t.Cleanup(func() { p.Close() })
	return p
}

// newUmem is closed after the ports: cleanups run backwards.
func newUmem(t *testing.T, frames, chunk int) *Umem { return newJumboUmem(t, frames, chunk, 0) }

func newJumboUmem(t *testing.T, frames, chunk, jumbos int) *Umem {
	t.Helper()
	u, err := NewJumboUmem(frames, chunk, jumbos, 9022)
	must(t, err)
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// TestConform runs the suite of all ports in each mode and chunk size.
func TestConform(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  Mode
		chunk int
		ring  int
		mtu   int
		jumbo int // buffers
	}{
		{"native", Native, 2048, 512, 1778, 0},
		{"generic", Generic, 2048, 512, 1778, 0},
		{"native chunk 4096", Native, 4096, 128, 3400, 0},
		{"native jumbo", Native, 4096, 512, 9000, 256},
		{"generic jumbo", Generic, 2048, 512, 9000, 256},
	} {
		t.Run(c.name, func(t *testing.T) {
			conform.Run(t, prefix, func(t *testing.T, l *netlab.Lab) conform.Opened {
				u := newJumboUmem(t, 2048, c.chunk, c.jumbo)
				o := conform.Opened{Pool: u.Pool(), Held: u.InRings, MaxMTU: c.mtu}
				for i, name := range []string{"p0", "p1"} {
					d := attach(t, l, name, Options{ID: fib.MakePortID(1, uint16(i)), Mode: c.mode, Ring: c.ring})
					if d.Mode() != c.mode {
						t.Fatalf("mode %v, want %v", d.Mode(), c.mode)
					}
					o.P[i] = open(t, l, d, u, 0)
				}
				return o
			})
		})
	}
}

// TestGiveBack checks that frames of a queue without a socket are dropped, and
// that the kernel has the device back after Close.
func TestGiveBack(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	must(t, l.IP("r", "addr", "add", "192.0.2.1/24", "dev", "p0"))
	d := attach(t, l, "p0", Options{})
	a := conform.NewWire(t, l, "a", "h0")
	ask := conform.ARPRequest()
	a.Send(t, ask)
	for end := time.Now().Add(deadline); d.NoSocket() != 1; {
		if time.Now().After(end) {
			t.Fatalf("no-socket drops: %d, want 1", d.NoSocket())
		}
	}
	if got := a.Receive(t, 50*time.Millisecond); got != nil {
		t.Fatalf("the kernel answered: %x", got)
	}
	must(t, d.Close())
	a.Send(t, ask)
	if got := a.Receive(t, deadline); len(got) < 42 || got[21] != 2 {
		t.Fatalf("no ARP reply after the device was given back: %x", got)
	}
}
