package xdp

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 5 * time.Second

// lab has two hosts a and b, each with a veth h0 to the router's p0 and p1.
func newLab(t *testing.T, queues int) *netlab.Lab {
	t.Helper()
	l, err := netlab.New("gwt-xdp", "a", "r", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, l.Veth("a", "h0", "r", "p0", queues))
	must(t, l.Veth("b", "h0", "r", "p1", queues))
	return l
}

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

func newUmem(t *testing.T, frames int) *Umem {
	t.Helper()
	u, err := NewUmem(frames, DefaultChunk)
	must(t, err)
	return u
}

// accounted checks that no frame is lost or counted twice.
func accounted(t *testing.T, u *Umem) {
	t.Helper()
	if got := u.Pool().Free() + u.InRings(); got != u.Pool().Size() {
		t.Fatalf("%d free + %d in rings of %d frames", u.Pool().Free(), u.InRings(), u.Pool().Size())
	}
}

// wire is a packet socket on a host's end: what is on the wire.
type wire struct{ fd int }

func newWire(t *testing.T, l *netlab.Lab, ns, dev string) *wire {
	t.Helper()
	w := &wire{}
	must(t, l.Do(ns, func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ifi, err := ifindex(dev)
		if err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: ifi})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		t.Fatalf("send on wire: %v", err)
	}
}

// receive takes the next frame that arrived (not one that the host sent).
func (w *wire) receive(t *testing.T, wait time.Duration) []byte {
	t.Helper()
	buf := make([]byte, 16384)
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(left.Milliseconds())+1); n == 0 || err != nil {
			continue
		}
		n, from, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			continue
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		return buf[:n]
	}
}

// frame makes an Ethernet frame of n bytes with a number in it.
func frame(n int, id byte) []byte {
	f := make([]byte, n)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
	for i := 14; i < n; i++ {
		f[i] = id + byte(i)
	}
	return f
}

// rxUntil reads until n frames came or the deadline.
func rxUntil(t *testing.T, p *Port, n int, each func(*graph.Packet)) {
	t.Helper()
	got := 0
	for end := time.Now().Add(deadline); got < n; {
		if time.Now().After(end) {
			t.Fatalf("received %d of %d frames; counters %+v", got, n, p.Counters())
		}
		wait(p, 10)
		var v graph.Vector
		must(t, p.Rx(&v))
		for _, pkt := range v.P[:v.N] {
			each(pkt)
		}
		got += v.N
	}
}

// wait polls the port's descriptors.
func wait(p *Port, ms int) {
	var fds []unix.PollFd
	for _, fd := range p.Fds(nil) {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	unix.Poll(fds, ms)
}

func flushUntil(t *testing.T, p *Port, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("sent frames do not come home; counters %+v", p.Counters())
		}
		must(t, p.Flush())
		wait(p, 1)
	}
}

func TestMainNeedsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("tests need root")
	}
}
