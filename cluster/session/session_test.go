package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/wire"
	"godwit/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// node is a process in small: a loop and a membership.
type node struct {
	loop *event.Loop
	h    *event.Handler
	bus  bus.Bus
	stop func()
}

func newBus(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return dir
}

func newNode(t testing.TB, dir, name string, opts ...event.Option) *node {
	t.Helper()
	b, err := local.Join(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	l := event.New(name, opts...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Run(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	n := &node{loop: l, h: l.Handler("test", event.Normal), bus: b}
	n.stop = func() {
		l.Stop()
		<-ended
		b.Close()
	}
	t.Cleanup(n.stop)
	return n
}

// do runs f on the node's loop and waits.
func (n *node) do(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	if err := n.h.Post(func() { defer close(done); f() }); err != nil {
		t.Fatal(err)
	}
	wait(t, done, "the loop")
}

func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("timed out waiting for " + what)
		panic("unreachable")
	}
}

// recorder is a handler that hands on what it gets.
type recorder struct {
	receive func(*Session, Message)
	closed  chan error
	over    atomic.Bool
}

func newRecorder(receive func(*Session, Message)) *recorder {
	return &recorder{receive: receive, closed: make(chan error, 10)}
}

func (r *recorder) Receive(s *Session, m Message) {
	if r.over.Load() {
		panic("message behind Closed")
	}
	if r.receive != nil {
		r.receive(s, m)
	}
}

func (r *recorder) Closed(_ *Session, err error) {
	r.over.Store(true)
	r.closed <- err
}

// connect serves with one handler at a and follows with the other at b.
func connect(t testing.TB, a, b *node, atA, atB *recorder) (sa, sb *Session) {
	t.Helper()
	as, bs := make(chan *Session, 100), make(chan *Session, 100)
	closer, err := Serve(a.h, a.bus, bus.One(500, 1), func(s *Session) Handler { as <- s; return atA })
	if err != nil {
		t.Fatal(err)
	}
	follow, err := Follow(b.h, b.bus, bus.All(500), func(n uint32, s *Session) Handler {
		if n != 1 {
			t.Errorf("instance %d", n)
		}
		bs <- s
		return atB
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close(); follow.Close() })
	return wait(t, as, "a session"), wait(t, bs, "a session")
}

func pair(t testing.TB, atA, atB *recorder) (a, b *node, sa, sb *Session) {
	t.Helper()
	dir := newBus(t)
	a, b = newNode(t, dir, "a"), newNode(t, dir, "b")
	sa, sb = connect(t, a, b, atA, atB)
	return a, b, sa, sb
}

func TestMessagesArriveInOrderWhole(t *testing.T) {
	sizes := []int{0, 1, 64, 1000, maxFrameBody - 1, maxFrameBody, maxFrameBody + 1, 3 * maxFrameBody, 200_000}
	const rounds = 200
	got := make(chan struct{})
	n := 0
	atA := newRecorder(func(_ *Session, m Message) {
		size := sizes[n%len(sizes)] + n
		if m.Kind != wire.FIBBatch || m.ID != 0 || m.Reply || !bytes.Equal(m.Body, bytes.Repeat([]byte{byte(n)}, size)) {
			t.Errorf("message %d: %s of %d bytes, want %d", n, m.Kind, len(m.Body), size)
		}
		if n++; n == rounds {
			close(got)
		}
	})
	_, _, _, sb := pair(t, atA, newRecorder(nil))
	for i := range rounds {
		for {
			err := sb.Send(wire.FIBBatch, bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)]+i))
			if err == nil {
				break
			}
			if !errors.Is(err, ErrBacklog) {
				t.Fatal(err)
			}
		}
	}
	wait(t, got, "all messages")
	deadline := time.Now().Add(patience)
	for sb.Queued() != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes still queued", sb.Queued())
		}
	}
}

func TestRequestReply(t *testing.T) {
	var late []Message
	atA := newRecorder(func(s *Session, m Message) {
		if m.ID == 0 || m.Reply {
			t.Errorf("message %+v is no request", m)
		}
		var q wire.FIBQuery
		if err := wire.Decode(m.Body, &q); err != nil {
			t.Error(err)
		}
		var err error
		switch q.Limit {
		case 1:
			err = s.Reply(m, m.Kind, wire.FIBList{More: true})
		case 2:
			err = s.ReplyError(m, errors.New("no such VRF"))
		default: // answered in the opposite order
			if late = append(late, m); len(late) == 3 {
				for i := range late {
					err = errors.Join(err, s.Reply(late[2-i], m.Kind, wire.FIBList{}))
				}
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
	_, b, _, sb := pair(t, atA, newRecorder(nil))
	ask := func(limit int, done func(Message, error)) {
		sb.Request(wire.GetFIB, wire.FIBQuery{Limit: limit}, time.Minute, done)
	}
	results := make(chan error, 10)
	b.do(t, func() {
		ask(1, func(m Message, err error) {
			var l wire.FIBList
			err = errors.Join(err, wire.Decode(m.Body, &l))
			if !l.More || m.Kind != wire.GetFIB || !m.Reply {
				t.Errorf("reply %+v", m)
			}
			results <- err
		})
	})
	if err := wait(t, results, "a reply"); err != nil {
		t.Error(err)
	}
	ask(2, func(_ Message, err error) { results <- err }) // not from the loop
	var remote *RemoteError
	if err := wait(t, results, "an error"); !errors.As(err, &remote) || remote.Error() != "no such VRF" {
		t.Errorf("error %v", err)
	}
	for range 3 {
		ask(3, func(_ Message, err error) { results <- err })
	}
	for range 3 {
		if err := wait(t, results, "a late reply"); err != nil {
			t.Error(err)
		}
	}
	if n := b.loop.Stats().Timers; n != 0 {
		t.Errorf("%d timers left", n)
	}
	sb.Request(wire.GetFIB, func() {}, time.Minute, func(_ Message, err error) { results <- err })
	if err := wait(t, results, "an error"); err == nil || !strings.Contains(err.Error(), "encode") {
		t.Errorf("request of what is no JSON: %v", err)
	}
	if sb.Reply(Message{Kind: wire.GetFIB}, wire.GetFIB, 1) == nil {
		t.Error("replied to no request")
	}
	if sb.SendJSON(wire.GetFIB, make(chan int)) == nil {
		t.Error("sent what is no JSON")
	}
}

func TestRequestTimeout(t *testing.T) {
	dir := newBus(t)
	var requests []Message
	arrived := make(chan struct{}, 1)
	atA := newRecorder(func(_ *Session, m Message) { requests = append(requests, m); arrived <- struct{}{} })
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b", event.WithVirtualClock(time.Unix(0, 0)))
	sa, sb := connect(t, a, b, atA, newRecorder(nil))
	var results []error
	b.do(t, func() {
		sb.Request(wire.GetPorts, struct{}{}, 5*time.Second, func(_ Message, err error) { results = append(results, err) })
	})
	wait(t, arrived, "the request")
	b.loop.Advance(5*time.Second - 1)
	if len(results) != 0 {
		t.Fatalf("done too early: %v", results)
	}
	b.loop.Advance(1)
	if len(results) != 1 || !errors.Is(results[0], ErrTimeout) {
		t.Fatalf("results %v", results)
	}
	// The late reply changes nothing.
	a.do(t, func() {
		if err := sa.Reply(requests[0], wire.GetPorts, wire.PortList{}); err != nil {
			t.Error(err)
		}
	})
	answered := make(chan error, 1)
	b.do(t, func() {
		sb.Request(wire.GetPorts, struct{}{}, 0, func(_ Message, err error) { answered <- err })
	})
	wait(t, arrived, "the request")
	a.do(t, func() { _ = sa.Reply(requests[1], wire.GetPorts, wire.PortList{}) })
	if err := wait(t, answered, "the reply"); err != nil {
		t.Error(err)
	}
	b.do(t, func() {
		if len(results) != 1 {
			t.Errorf("results %v", results)
		}
	})
}

func TestBacklogIsBoundedAndNothingIsLost(t *testing.T) {
	const size = 32 << 10
	release := make(chan struct{})
	got := make(chan uint32, 1)
	next := uint32(0)
	atA := newRecorder(func(_ *Session, m Message) {
		if next == 0 {
			<-release // the receiver's loop hangs
		}
		if n := binary.BigEndian.Uint32(m.Body); n != next {
			t.Errorf("message %d after %d", n, next)
		}
		next++
		if len(m.Body) == 4 {
			got <- next
		}
	})
	_, _, _, sb := pair(t, atA, newRecorder(nil))
	sent := uint32(0)
	deadline := time.Now().Add(patience)
	for full := 0; full < 3; {
		err := sb.Send(wire.FIBBatch, binary.BigEndian.AppendUint32(make([]byte, 0, size), sent)[:size])
		if err == nil {
			sent++
			continue
		}
		if !errors.Is(err, ErrBacklog) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		if q := sb.Queued(); q > MaxQueued {
			t.Fatalf("%d bytes queued", q)
		}
		before := sb.Queued()
		<-time.After(10 * time.Millisecond) // the kernel may still take some
		if sb.Queued() == before {
			full++
		}
	}
	limit := uint32(MaxQueued+windowBytes+(4<<20)) / size // queue, window, kernel
	if sent < MaxQueued/size || sent > limit {
		t.Errorf("%d messages taken, want %d to %d", sent, MaxQueued/size, limit)
	}
	close(release)
	for sb.Send(wire.FIBBatch, binary.BigEndian.AppendUint32(nil, sent)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the backlog does not move")
		}
	}
	if n := wait(t, got, "the last message"); n != sent+1 {
		t.Errorf("%d messages arrived of %d", n, sent+1)
	}
}

func TestLongestBody(t *testing.T) {
	got := make(chan int, 2)
	_, _, _, sb := pair(t, newRecorder(func(_ *Session, m Message) { got <- len(m.Body) }), newRecorder(nil))
	if err := sb.Send(wire.GetFIB, make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("error %v", err)
	}
	if err := sb.Send(wire.GetFIB, make([]byte, MaxBody)); err != nil {
		t.Fatal(err)
	}
	if n := wait(t, got, "the message"); n != MaxBody {
		t.Errorf("%d bytes arrived", n)
	}
}

func TestCloseFlushesAndTellsBothOnce(t *testing.T) {
	var count int
	atA, atB := newRecorder(func(*Session, Message) { count++ }), newRecorder(nil)
	a, b, sa, sb := pair(t, atA, atB)
	pending := make(chan error, 10)
	a.do(t, func() {
		sa.Request(wire.GetPorts, struct{}{}, time.Minute, func(_ Message, err error) {
			if atA.over.Load() {
				t.Error("request failed behind Closed")
			}
			pending <- err
		})
	})
	b.do(t, func() {
		sb.Request(wire.GetPorts, struct{}{}, 0, func(_ Message, err error) { pending <- err })
		for range 1000 {
			if err := sb.Send(wire.PortEvent, []byte("{}")); err != nil {
				t.Error(err)
			}
		}
		sb.Close()
		sb.Close()
		if err := sb.Send(wire.PortEvent, nil); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		sb.Request(wire.GetPorts, struct{}{}, 0, func(_ Message, err error) { pending <- err })
	})
	if err := wait(t, atB.closed, "Closed"); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("closed with %v", err)
	}
	if err := wait(t, atA.closed, "Closed"); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("peer closed with %v", err)
	}
	for range 3 {
		if err := wait(t, pending, "failed requests"); !errors.Is(err, bus.ErrPeerGone) && !errors.Is(err, bus.ErrClosed) {
			t.Errorf("request ended with %v", err)
		}
	}
	a.do(t, func() {
		if count != 1001 {
			t.Errorf("%d messages arrived of 1001", count)
		}
	})
	a.do(t, func() {})
	if len(atA.closed)+len(atB.closed) != 0 {
		t.Error("Closed twice")
	}
}

func TestCloseWithStuckPeer(t *testing.T) {
	release := make(chan struct{})
	atA, atB := newRecorder(func(*Session, Message) { <-release }), newRecorder(nil)
	_, _, sa, sb := pair(t, atA, atB)
	for sb.Send(wire.FIBBatch, make([]byte, 60000)) == nil {
	}
	sb.Close()
	wait(t, atB.closed, "Closed at once")
	close(release)
	wait(t, atA.closed, "the connection to end")
	sa.Close()
}

func TestCloseInReceive(t *testing.T) {
	atA := newRecorder(func(s *Session, _ Message) { s.Close() })
	_, _, _, sb := pair(t, atA, newRecorder(nil))
	for range 100 {
		_ = sb.Send(wire.PortEvent, nil)
	}
	if err := wait(t, atA.closed, "Closed"); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

func TestGarbageEndsSession(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	for name, garbage := range map[string][]byte{
		"short":  {1, 2, 3},
		"length": {0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"flags":  {0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		r := newRecorder(func(_ *Session, m Message) { t.Errorf("%s: received %+v", name, m) })
		closer, err := Serve(a.h, a.bus, bus.One(500, 1), func(*Session) Handler { return r })
		if err != nil {
			t.Fatal(err)
		}
		c, err := b.bus.Dial(context.Background(), bus.Service{Type: 500, Instance: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(garbage); err != nil {
			t.Fatal(err)
		}
		if err := wait(t, r.closed, "Closed"); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: closed with %v", name, err)
		}
		if _, err := c.Recv(); !errors.Is(err, bus.ErrPeerGone) {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		closer.Close()
	}
}

func TestNilHandlerRefuses(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a"), newNode(t, dir, "b")
	closer, err := Serve(a.h, a.bus, bus.One(500, 1), func(*Session) Handler { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	c, err := b.bus.Dial(context.Background(), bus.Service{Type: 500, Instance: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("error %v", err)
	}
	if _, err := Serve(a.h, a.bus, bus.Range{Type: 1, Lower: 2, Upper: 1}, nil); err == nil {
		t.Error("served an empty range")
	}
}

func TestFullLoopLosesNothing(t *testing.T) {
	dir := newBus(t)
	a, b := newNode(t, dir, "a", event.WithBound(event.High, 0)), newNode(t, dir, "b")
	a.h = a.loop.Handler("full", event.High) // refuses every Post
	got := make(chan struct{}, 100)
	atA := newRecorder(func(*Session, Message) { got <- struct{}{} })
	_, sb := connect(t, a, b, atA, newRecorder(nil))
	for range 100 {
		if err := sb.Send(wire.PortEvent, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		wait(t, got, "a message")
	}
	sb.Close()
	wait(t, atA.closed, "Closed")
}

var _ io.Closer = (*server)(nil)
