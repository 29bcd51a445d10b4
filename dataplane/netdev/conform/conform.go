// Package conform is the suite that every kind of port passes: package xdp in
// each of its modes, and package afpacket. It needs root.
package conform

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/netdev/netlab"
)

// Deadline bounds each wait of the suite.
const Deadline = 10 * time.Second

// Port is what the suite tests.
type Port interface {
	graph.Port
	graph.Poller
	Counters() netdev.Counters
	SetMTU(int)
}

// Opened is two ports, p0 and p1, of one worker.
type Opened struct {
	P    [2]Port
	Pool *graph.Pool
	// Held counts the frames that are in the ports' rings.
	Held func() int
	// MaxPayload is the largest MTU that the buffers hold.
	MaxMTU int
}

// Opener opens p0 and p1, which are in namespace r of the lab, and closes them
// at the end of the test. Closing twice must be harmless.
type Opener func(t *testing.T, l *netlab.Lab) Opened

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NewLab makes namespaces a, r and b; a and b each have h0, joined to r's p0 and p1.
func NewLab(t *testing.T, prefix string, queues int) *netlab.Lab {
	t.Helper()
	l, err := netlab.New(prefix, "a", "r", "b")
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, l.Veth("a", "h0", "r", "p0", queues))
	must(t, l.Veth("b", "h0", "r", "p1", queues))
	return l
}

// Run runs the suite.
func Run(t *testing.T, prefix string, open Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"Forward", testForward}, {"Burst", testBurst}, {"Sizes", testSizes}, {"VLAN", testVLAN},
		{"Silent", testSilent}, {"Exhausted", testExhausted}, {"Down", testDown}, {"Gone", testGone},
		{"Closed", testClosed}, {"NoAllocation", testNoAllocation},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLab(t, prefix, 1)
			b := &bench{lab: l, Opened: open(t, l)}
			b.a, b.b = NewWire(t, l, "a", "h0"), NewWire(t, l, "b", "h0")
			c.test(t, b)
			b.closeAll(t)
		})
	}
}

// bench is the ports and the wires behind them.
type bench struct {
	Opened
	lab  *netlab.Lab
	a, b *Wire
}

// accounted checks that no frame is lost or counted twice.
func (b *bench) accounted(t *testing.T) {
	t.Helper()
	if got := b.Pool.Free() + b.Held(); got != b.Pool.Size() {
		t.Fatalf("%d free + %d in rings of %d frames", b.Pool.Free(), b.Held(), b.Pool.Size())
	}
}

// closeAll closes the ports; all frames must come home.
func (b *bench) closeAll(t *testing.T) {
	t.Helper()
	must(t, b.P[0].Close())
	must(t, b.P[1].Close())
	if b.Pool.Free() != b.Pool.Size() || b.Held() != 0 {
		t.Errorf("after close %d of %d frames are free, %d in rings", b.Pool.Free(), b.Pool.Size(), b.Held())
	}
}

// Wait waits until one of the ports has work, or for some milliseconds.
func Wait(ms int, ports ...graph.Poller) {
	var fds []unix.PollFd
	for _, p := range ports {
		for _, fd := range p.Fds(nil) {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	unix.Poll(fds, ms)
}

// receive reads n frames from the port into v.
func (b *bench) receive(t *testing.T, p Port, v *graph.Vector, n int) {
	t.Helper()
	for end := time.Now().Add(Deadline); v.N < n; {
		if time.Now().After(end) {
			t.Fatalf("received %d of %d frames; counters %+v", v.N, n, p.Counters())
		}
		Wait(10, p)
		must(t, p.Rx(v))
	}
}

// expect checks the next frame on the wire, flushing the port meanwhile.
func (b *bench) expect(t *testing.T, w *Wire, p Port, want []byte) {
	t.Helper()
	for end := time.Now().Add(Deadline); ; {
		must(t, p.Flush())
		got := w.Receive(t, 20*time.Millisecond)
		if bytes.Equal(got, want) {
			return
		}
		if got != nil || time.Now().After(end) {
			t.Fatalf("got %x\nwant %x", got, want)
		}
	}
}

// until runs both ports' rounds until the condition holds.
func (b *bench) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(Deadline); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("not so in time: %s; counters %+v %+v", what, b.P[0].Counters(), b.P[1].Counters())
		}
		for _, p := range b.P {
			var v graph.Vector
			p.Rx(&v)
			for _, pkt := range v.P[:v.N] {
				b.Pool.Put(pkt)
			}
			p.Flush()
		}
		Wait(1, b.P[0], b.P[1])
	}
}
