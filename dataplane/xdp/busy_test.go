package xdp

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev/conform"
)

// TestBusyPoll asks the kernel for busy polling and receives through a poll of our own.
func TestBusyPoll(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Mode: Native, Ring: 64, BusyPoll: 80 * time.Microsecond, BusyBudget: 16})
	u := newUmem(t, 256, DefaultChunk)
	p := open(t, l, d, u, 0)
	for opt, want := range map[int]int{unix.SO_PREFER_BUSY_POLL: 1, unix.SO_BUSY_POLL: 80, unix.SO_BUSY_POLL_BUDGET: 16} {
		if opt == unix.SO_BUSY_POLL_BUDGET {
			continue // the kernel does not tell
		}
		if got, err := unix.GetsockoptInt(p.queues[0].fd, unix.SOL_SOCKET, opt); err != nil || got != want {
			t.Errorf("socket option %d is %d, want %d: %v", opt, got, want, err)
		}
	}
	if p.BusyPoll() != 80*time.Microsecond {
		t.Errorf("the port wants to be asked for %v", p.BusyPoll())
	}
	a := conform.NewWire(t, l, "a", "h0")
	a.Send(t, conform.Frame(60, 1))
	var v graph.Vector
	for end := time.Now().Add(deadline); v.N == 0; must(t, p.Rx(&v)) {
		if time.Now().After(end) {
			t.Fatal("nothing received")
		}
	}
	u.Pool().Put(v.P[0])
	if p.NAPI() == 0 && p.BusyPoll() != 0 {
		t.Errorf("polls for %v a driver whose poll has no number", p.BusyPoll())
	}
	accounted(t, u)
	must(t, p.Close())
	if p.NAPI() != 0 {
		t.Error("a closed port has a poll")
	}
}

// TestNoBusyPoll: what the kernel refuses is a reason, and the port works without.
func TestNoBusyPoll(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Mode: Native, Ring: 64, BusyPoll: time.Millisecond, BusyBudget: 1 << 20})
	u := newUmem(t, 256, DefaultChunk)
	p := open(t, l, d, u, 0)
	if p.BusyPoll() != 0 || d.Reason() == "" {
		t.Errorf("polls for %v, reason %q", p.BusyPoll(), d.Reason())
	}
	plain := open(t, l, attach(t, l, "p1", Options{Mode: Native, Ring: 64}), u, 0)
	if plain.BusyPoll() != 0 {
		t.Errorf("a port that was not asked to polls for %v", plain.BusyPoll())
	}
}
