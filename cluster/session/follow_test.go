package session

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/wire"
)

// ups collects what Follow connects.
type ups struct {
	up     chan uint32
	closed chan uint32
	last   map[uint32]*Session // on the loop
}

type upHandler struct {
	u *ups
	n uint32
}

func (h upHandler) Receive(*Session, Message)  {}
func (h upHandler) Closed(_ *Session, _ error) { h.u.closed <- h.n }

func follow(t *testing.T, n *node, r bus.Range) *ups {
	t.Helper()
	u := &ups{up: make(chan uint32, 100), closed: make(chan uint32, 100), last: make(map[uint32]*Session)}
	c, err := Follow(n.h, n.bus, r, func(i uint32, s *Session) Handler {
		u.last[i] = s
		u.up <- i
		return upHandler{u, i}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return u
}

func serve(t *testing.T, n *node, r bus.Range) (sessions chan *Session) {
	t.Helper()
	sessions = make(chan *Session, 100)
	c, err := Serve(n.h, n.bus, r, func(s *Session) Handler { sessions <- s; return newRecorder(nil) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return sessions
}

func TestFollowComesAndGoes(t *testing.T) {
	dir := newBus(t)
	early, b := newNode(t, dir, "early"), newNode(t, dir, "b")
	serve(t, early, bus.One(500, 1))
	serve(t, early, bus.One(500, 99)) // outside
	u := follow(t, b, bus.Range{Type: 500, Lower: 0, Upper: 50})
	if n := wait(t, u.up, "the one that is there"); n != 1 {
		t.Errorf("instance %d", n)
	}
	for round := range 3 {
		late := newNode(t, dir, fmt.Sprint("late", round))
		serve(t, late, bus.One(500, 2))
		if n := wait(t, u.up, "the one that came"); n != 2 {
			t.Errorf("instance %d", n)
		}
		late.stop()
		if n := wait(t, u.closed, "its end"); n != 2 {
			t.Errorf("instance %d", n)
		}
	}
	if len(u.up) != 0 || len(u.closed) != 0 {
		t.Error("more sessions than expected")
	}
}

func TestFollowRedialsWhileBound(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	sessions := serve(t, a, bus.One(500, 1))
	u := follow(t, b, bus.All(500))
	begin := time.Now()
	const rounds = 5
	for range rounds {
		wait(t, u.up, "a session")
		wait(t, sessions, "its other end").Close()
		wait(t, u.closed, "its end")
	}
	wait(t, u.up, "the last session")
	// Back-off of half of 10, 20, 40, 80, 160 ms at least.
	if d := time.Since(begin); d < 155*time.Millisecond {
		t.Errorf("%d dials in %v: no back-off", rounds, d)
	}
}

func TestFollowRange(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	u := follow(t, b, bus.Range{Type: 500, Lower: 3, Upper: 7})
	serve(t, a, bus.Range{Type: 500, Lower: 5, Upper: 9})
	seen := map[uint32]bool{}
	for range 3 {
		seen[wait(t, u.up, "a session")] = true
	}
	if !seen[5] || !seen[6] || !seen[7] {
		t.Errorf("sessions to %v", seen)
	}
}

func TestFollowKeepsSessionWhileAnotherServesToo(t *testing.T) {
	dir := newBus(t)
	first, second, b := newNode(t, dir, "first"), newNode(t, dir, "second"), newNode(t, dir, "b")
	serve(t, first, bus.One(500, 1))
	u := follow(t, b, bus.All(500))
	wait(t, u.up, "a session")
	sessions := serve(t, second, bus.One(500, 1))
	first.stop() // for instance replaced by second
	wait(t, u.closed, "the end of the first")
	wait(t, u.up, "a session to the second")
	wait(t, sessions, "its other end")
}

func TestFollowCloseEndsSessions(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	sessions := serve(t, a, bus.One(500, 1))
	up, closed := make(chan *Session, 10), make(chan error, 10)
	c, err := Follow(b.h, b.bus, bus.All(500), func(_ uint32, s *Session) Handler {
		up <- s
		r := newRecorder(nil)
		r.closed = closed
		return r
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, up, "a session")
	wait(t, sessions, "its other end")
	b.do(t, func() { // from the loop, too
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := wait(t, closed, "Closed"); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("closed with %v", err)
	}
	serve(t, a, bus.One(500, 2))
	b.do(t, func() {})
	if len(up) != 0 {
		t.Error("dialled after Close")
	}
}

func TestFollowSessionWorks(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	got := make(chan string, 1)
	atA := newRecorder(func(s *Session, m Message) { got <- string(m.Body); _ = s.Send(m.Kind, m.Body) })
	echo := make(chan string, 1)
	atB := newRecorder(func(_ *Session, m Message) { echo <- string(m.Body) })
	_, sb := connect(t, a, b, atA, atB)
	if err := sb.SendJSON(wire.RouteAck, wire.RouteAckBody{Seq: 7}); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, got, "a message"); s != `{"seq":7}` {
		t.Errorf("got %s", s)
	}
	if s := wait(t, echo, "its echo"); s != `{"seq":7}` {
		t.Errorf("got %s", s)
	}
	if sb.Peer() == (bus.Address{}) {
		t.Error("no peer address")
	}
}
