package fibcast

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/bus/tipc"
	"godwit/cluster/fibsync"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
	"godwit/fib/fibtest"
)

// rig is a bus, which in a guest is the kernel's TIPC.
type rig struct {
	t    testing.TB
	join func() bus.Bus
}

func newRig(t testing.TB) *rig {
	g := &rig{t: t}
	own := func(b bus.Bus, err error) bus.Bus {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	if os.Getenv("GODWIT_TIPC_GUEST") != "" {
		g.join = func() bus.Bus { return own(tipc.Join(tipc.Admit([]byte("secret"), nil))) }
		return g
	}
	dir := t.TempDir()
	s, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	g.join = func() bus.Bus { return own(local.Join(dir, "test")) }
	return g
}

// loop runs an event loop until the test ends, or what it returns is called.
func (g *rig) loop(name string) (*event.Handler, func()) {
	l := event.New(name)
	h := l.Handler("test", event.Normal)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Run(g.t.Context()); err != nil && g.t.Context().Err() == nil {
			g.t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() { l.Stop(); <-ended })
	g.t.Cleanup(stop)
	return h, stop
}

// on runs f on the loop, and waits.
func on(h *event.Handler, f func()) {
	done := make(chan struct{})
	for h.Post(func() { defer close(done); f() }) != nil {
	}
	<-done
}

func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// card is a line card: a session, and multicasts.
type card struct {
	g      *rig
	h      *event.Handler
	sub    *fibsync.Subscriber
	tables *fibtest.Twin // unless to is another
	recv   *Receiver
	sess   *session.Session
	server io.Closer
	stop   func()
	late   *event.Timer
	deaf   func(serial uint64) bool // multicasts that it loses
	named  int
	whole  int
}

func (g *rig) card(id fib.CardID) *card {
	c := &card{g: g, tables: fibtest.NewTwin()}
	c.sub = fibsync.NewSubscriber(c.tables, 0, 0)
	c.h, c.stop = g.loop(fmt.Sprintf("card-%d", id))
	b := g.join()
	var err error
	c.recv, err = Receive(c.h, b, id, func(x fibsync.Cast) {
		if c.deaf == nil || !c.deaf(x.Serial) {
			c.took(c.sub.Cast(x))
		}
	}, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	c.server, err = session.Serve(c.h, b, bus.One(bus.TypeLinecard, uint32(id)), func(s *session.Session) session.Handler {
		c.sess = s
		return c
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.server.Close(); c.stop(); c.recv.Close() })
	return c
}

func (c *card) Closed(*session.Session, error) {}

func (c *card) Receive(s *session.Session, m session.Message) {
	switch m.Kind {
	case wire.SetFIBSource:
		var b wire.FIBSourceBody
		if err := wire.DecodeKind(m.Kind, m.Body, &b); err != nil {
			c.g.t.Error(err)
		}
		_ = s.Reply(m, m.Kind, wire.FIBSourceResult{Receives: c.recv.Allow(bus.Address{Ref: b.Ref, Node: b.Node}) == nil})
	case wire.FIBRef:
		c.named++
		c.took(c.sub.Refer(time.Now(), m.Body))
	case wire.FIBBatch:
		c.whole++
		c.took(c.sub.Receive(m.Body))
	}
}

func (c *card) took(ack wire.FIBAckBody, reply bool) {
	for reply {
		if ack.Error != "" {
			c.g.t.Errorf("refused: %s", ack.Error)
		}
		_ = c.sess.SendJSON(wire.FIBAck, ack)
		ack, reply = c.sub.Step()
	}
	c.fetch()
}

func (c *card) fetch() {
	list, again := c.sub.Late(time.Now())
	for _, f := range list {
		_ = c.sess.SendJSON(wire.FIBFetch, f)
	}
	if !again.IsZero() && c.late == nil {
		c.late = c.h.After(time.Until(again), func() { c.late = nil; c.fetch() })
	}
}

// engine is a routing engine.
type engine struct {
	g       *rig
	h       *event.Handler
	pub     *fibsync.Publisher
	sender  *Sender
	follow  io.Closer
	streams int
	bytes   atomic.Int64 // that sessions were given
}

func (g *rig) engine() *engine {
	e := &engine{g: g, pub: fibsync.NewPublisher()}
	var stop func()
	e.h, stop = g.loop("engine")
	b := g.join()
	var err error
	if e.sender, err = NewSender(e.h, b); err != nil {
		g.t.Fatal(err)
	}
	e.pub.Converged()
	if e.follow, err = session.Follow(e.h, b, bus.All(bus.TypeLinecard), e.up); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { e.follow.Close(); stop(); e.sender.Close() })
	return e
}

// up attaches a card once it has said that it receives.
func (e *engine) up(instance uint32, s *session.Session) session.Handler {
	from := e.sender.Addr()
	id := fib.CardID(instance)
	s.Request(wire.SetFIBSource, wire.FIBSourceBody{Ref: from.Ref, Node: from.Node}, time.Minute, func(m session.Message, err error) {
		var res wire.FIBSourceResult
		if err == nil {
			err = wire.DecodeKind(m.Kind, m.Body, &res)
		}
		if err != nil || !res.Receives {
			e.g.t.Errorf("%+v, %v", res, err)
		}
		e.pub.Attach(id, counted{s, &e.bytes}, 0).CastVia(e.sender)
		e.streams++
		e.pub.Pump()
	})
	return ofCard{e, id}
}

type ofCard struct {
	e  *engine
	id fib.CardID
}

func (x ofCard) Closed(*session.Session, error) { x.e.pub.Detach(x.id) }

func (x ofCard) Receive(_ *session.Session, m session.Message) {
	var err error
	switch m.Kind {
	case wire.FIBAck:
		var a wire.FIBAckBody
		if err = wire.DecodeKind(m.Kind, m.Body, &a); err == nil {
			x.e.pub.Ack(x.id, a)
			x.e.pub.Pump()
		}
	case wire.FIBFetch:
		var f wire.FIBFetchBody
		if err = wire.DecodeKind(m.Kind, m.Body, &f); err == nil {
			x.e.pub.Fetch(x.id, f)
		}
	}
	if err != nil {
		x.e.g.t.Error(err)
	}
}

// attached waits until so many cards were.
func (e *engine) attached(n int) {
	e.g.t.Helper()
	eventually(e.g.t, "cards", func() (err error) {
		on(e.h, func() {
			if e.streams != n {
				err = fmt.Errorf("%d attached, want %d", e.streams, n)
			}
		})
		return err
	})
}

func (e *engine) change(changes []fib.Change) {
	e.g.t.Helper()
	var err error
	on(e.h, func() { err = e.pub.Changes(changes); e.pub.Pump() })
	if err != nil {
		e.g.t.Fatal(err)
	}
}

// settled waits until all cards have all, and compares.
func (e *engine) settled(cards ...*card) {
	e.g.t.Helper()
	eventually(e.g.t, "download", func() (err error) {
		on(e.h, func() {
			for _, st := range e.pub.Status() {
				if !st.Swept {
					err = fmt.Errorf("%+v", st)
				}
			}
		})
		return err
	})
	var want fib.Digest
	on(e.h, func() { want = e.pub.Digest(0) })
	for i, c := range cards {
		on(c.h, func() {
			if got := c.tables.Digest(0); got != want {
				e.g.t.Errorf("card %d has %v, want %v", 1+i, got, want)
			}
		})
	}
}

// casts waits until no multicast is under way, and tells how many were sent.
func (e *engine) casts() uint64 {
	e.g.t.Helper()
	eventually(e.g.t, "multicasts", func() error {
		if n := len(e.sender.queue); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	return e.sender.Stats().Sent
}

func table(n int) (list []fib.Change) {
	for id := range 2 {
		list = append(list, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: fib.GroupID(1 + id), NextHops: []fib.NextHop{{Interface: fib.InterfaceID(1 + id)}}}})
	}
	return append(list, routes(0, n)...)
}

func routes(from, n int) (list []fib.Change) {
	for i := range n {
		i += from
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		list = append(list, fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: 1}})
	}
	return list
}

// Two cards download a table: its changes cross the bus as multicasts, the
// sessions carry names.
func TestDownloadByMulticast(t *testing.T) {
	g := newRig(t)
	one, two := g.card(1), g.card(2)
	e := g.engine()
	e.attached(2)
	e.change(table(40_000))
	e.settled(one, two)
	st := e.sender.Stats()
	if st.Sent < 8 || st.Failed+st.Busy > 0 {
		t.Errorf("%+v", st)
	}
	for _, c := range []*card{one, two} {
		on(c.h, func() {
			got := c.sub.Casts()
			c.recv.Count(&got)
			if uint64(c.named) != st.Sent || got.Foreign+got.Malformed+got.Forged > 0 {
				t.Errorf("named %d, whole %d of %d multicasts: %+v", c.named, c.whole, st.Sent, got)
			}
			t.Logf("named %d, whole %d of %d multicasts: %+v", c.named, c.whole, st.Sent, got)
		})
	}
}

// What a card loses it asks for, in its session.
func TestLostMulticast(t *testing.T) {
	g := newRig(t)
	one, two := g.card(1), g.card(2)
	two.deaf = func(serial uint64) bool { return serial%4 == 2 }
	e := g.engine()
	e.attached(2)
	e.change(table(40_000))
	e.settled(one, two)
	on(two.h, func() {
		if st := two.sub.Casts(); st.Fetched < 2 || two.whole < int(st.Fetched) {
			t.Errorf("%+v, whole %d", st, two.whole)
		}
	})
}

// Somebody else multicasts to the cards, in the engine's name, too: nothing of it is
// applied, and it is counted.
func TestForgers(t *testing.T) {
	g := newRig(t)
	one, two := g.card(1), g.card(2)
	e := g.engine()
	e.attached(2)
	stranger, err := g.join().Socket(bus.Of(bus.RDM), bus.Droppable())
	if err != nil {
		t.Fatal(err)
	}
	evil := wire.AppendFIBChange(nil, &routes(99, 1)[0])
	evil = bytes.Repeat(evil, 1000)
	for i := range 20 {
		if err := stranger.Multicast(bus.All(bus.TypeFIB), append(wire.AppendFIBCast(nil, uint64(1+i)), evil...)); err != nil {
			t.Fatal(err)
		}
	}
	// By the engine's own socket: as if the bus had not told who it was.
	for i := range 20 {
		if !e.sender.Cast(1, 2, uint64(1+i), evil) {
			t.Fatal("no room")
		}
	}
	if err := e.sender.sock.Multicast(bus.All(bus.TypeFIB), []byte{9}); err != nil {
		t.Fatal(err)
	}
	e.change(table(20_000))
	e.settled(one, two)
	for _, c := range []*card{one, two} {
		eventually(t, "counters", func() (err error) {
			on(c.h, func() {
				st := c.sub.Casts()
				c.recv.Count(&st)
				if st.Foreign != 20 || st.Malformed != 1 || st.Forged == 0 || st.Held == 0 {
					err = fmt.Errorf("%+v", st)
				}
			})
			return err
		})
	}
}

// A card that comes while others download, and one that goes.
func TestCardsComeAndGo(t *testing.T) {
	g := newRig(t)
	one, two := g.card(1), g.card(2)
	e := g.engine()
	e.attached(2)
	e.change(table(20_000))
	three := g.card(3)
	e.change(routes(20_000, 20_000))
	e.attached(3)
	e.settled(one, two, three)
	before := e.casts()
	e.change(routes(40_000, 10_000))
	e.settled(one, two, three)
	if e.casts() == before {
		t.Error("three cards in step, and no multicast")
	}
	two.server.Close()
	on(two.h, func() { two.sess.Close() })
	eventually(t, "one card less", func() (err error) {
		on(e.h, func() {
			if n := len(e.pub.Status()); n != 2 {
				err = fmt.Errorf("%d", n)
			}
		})
		return err
	})
	e.change(routes(50_000, 10_000))
	e.settled(one, three)
}

// A card that does not read for a while is no harm to the other.
func TestSlowCard(t *testing.T) {
	g := newRig(t)
	one, two := g.card(1), g.card(2)
	e := g.engine()
	e.attached(2)
	release := make(chan struct{})
	go on(two.h, func() { <-release })
	e.change(table(60_000))
	eventually(t, "the fast card", func() (err error) {
		on(e.h, func() {
			for _, st := range e.pub.Status() {
				if st.Card == 1 && (st.Backlog > 0 || st.Sent != st.Acked) {
					err = fmt.Errorf("%+v", st)
				}
			}
		})
		return err
	})
	close(release)
	e.settled(one, two)
}

// What can not be sent is refused, and counted.
func TestSenderRefuses(t *testing.T) {
	g := newRig(t)
	h, stop := g.loop("engine")
	s, err := NewSender(h, g.join())
	if err != nil {
		t.Fatal(err)
	}
	if s.Cast(1, 2, 1, make([]byte, bus.MaxMessage)) || s.Cast(1, 2, 1, make([]byte, LeastBytes-1)) {
		t.Error("took what is longer than a message, or not worth it")
	}
	if !s.Cast(1, 2, 1, make([]byte, bus.MaxMessage-wire.CastHeaderLen)) {
		t.Error("did not take what is as long as a message")
	}
	eventually(t, "a failure: nobody is there", func() error {
		if st := s.Stats(); st.Failed != 1 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	stop()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	taken := 0
	for s.Cast(1, 2, 1, make([]byte, LeastBytes)) { // nobody empties the queue any more
		taken++
	}
	if taken != queued || s.Stats().Busy != 1 {
		t.Errorf("%d taken, %+v", taken, s.Stats())
	}
}

func TestReceiverBounds(t *testing.T) {
	g := newRig(t)
	h, stop := g.loop("card")
	ended := make(chan error, 1)
	b := g.join()
	r, err := Receive(h, b, 5, func(fibsync.Cast) { t.Error("received") }, func(err error) { ended <- err })
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxAllowed {
		if err := r.Allow(bus.Address{Ref: uint32(1 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	if r.Allow(bus.Address{Ref: 1}) != nil || r.Allow(bus.Address{Ref: 999}) == nil {
		t.Error("the bound is not kept")
	}
	r.Disallow(bus.Address{Ref: 1})
	if r.Disallow(bus.Address{Ref: 1}); r.known(bus.Address{Ref: 1}) || !r.known(bus.Address{Ref: 2}) {
		t.Error("who is known")
	}
	b.Close()
	if err := <-ended; err == nil {
		t.Error("ended without reason")
	}
	r.Close()
	stop()
	if _, err := Receive(h, b, 5, nil, nil); err == nil {
		t.Error("receives on a bus that is closed")
	}
}

// Worth is a matter of the transport.
func TestWorth(t *testing.T) {
	b := newRig(t).join()
	_, kernel := b.(*tipc.Member)
	if Worth(b) != kernel {
		t.Errorf("worth %v on %T", Worth(b), b)
	}
}
