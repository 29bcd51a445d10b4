package router

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"godwit/cluster/bus"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
	"godwit/rib"
)

// redistTwin is a speaker that only counts what is redistributed to it. It does
// not read at first.
type redistTwin struct {
	gate chan struct{}

	mu       sync.Mutex
	parts    int
	replaces int
	routes   map[netip.Prefix]bool
	whole    int // lists that have ended
	longest  int
}

func (w *redistTwin) Receive(_ *session.Session, m session.Message) {
	<-w.gate
	w.mu.Lock()
	defer w.mu.Unlock()
	var b wire.RedistBody
	if err := wire.Decode(m.Body, &b); err != nil {
		panic(err)
	}
	w.parts++
	w.longest = max(w.longest, len(m.Body))
	if b.Replace {
		w.replaces++
		w.routes = map[netip.Prefix]bool{}
	}
	for _, r := range b.Routes {
		if r.Withdraw {
			delete(w.routes, r.Prefix)
		} else {
			w.routes[r.Prefix] = true
		}
	}
	if !b.More {
		w.whole++
	}
}

func (w *redistTwin) Closed(*session.Session, error) {}

// TestRedistributionOfAMillionRoutes: the list goes in parts that a session
// takes, paced by the speaker, with changes in between.
func TestRedistributionOfAMillionRoutes(t *testing.T) {
	t.Parallel() // it takes its time, as TestCardThatNeverAcknowledges, which mostly waits
	const count = manyRoutes
	prefix := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(16 + i>>16), byte(i >> 8), byte(i), 0}), 24)
	}
	table := rib.New(rib.Options{})
	table.Apply(rib.AddVRF{VRF: 7})
	for at := 0; at < count; at += 1000 {
		var list []rib.Update
		for i := range 1000 {
			list = append(list, rib.SetStatic{VRF: 7, Route: rib.StaticRoute{Prefix: prefix(at + i), Kind: fib.Blackhole}})
		}
		table.Apply(list...)
		table.Drain()
		table.DrainBest()
	}
	for table.More() {
		table.Apply()
	}
	table.Drain()
	table.DrainBest()

	g := newRig(t)
	twin := &redistTwin{gate: make(chan struct{})}
	g.process("speaker", func(loop *event.Loop, b bus.Bus) io.Closer {
		c, err := session.Serve(loop.Handler("speaker", event.Normal), b, bus.One(bus.TypeBGP, 7), func(*session.Session) session.Handler { return twin })
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	var (
		s  *speakers
		sp *speaker
		h  *event.Handler
	)
	queued := make(chan int, 1)
	g.process("router", func(loop *event.Loop, b bus.Bus) io.Closer {
		h = loop.Handler("routes", event.Normal)
		s = &speakers{log: slog.New(slog.DiscardHandler), normal: h, high: h, routes: &routes{table: table}, m: map[fib.VRF]*speaker{}}
		c, err := session.Follow(h, b, bus.One(bus.TypeBGP, 7), func(_ uint32, sess *session.Session) session.Handler {
			sp = s.get(7)
			sp.plan, sp.sess = &speakerPlan{redistribute: []redistRule{{from: "static", match: rib.Match{}}}}, sess
			s.redistributeAll(sp)
			h.After(redistPause*20, func() { // the speaker does not read: the list waits, and is no longer than that
				withdrawn := rib.BestChange{VRF: 7, Prefix: prefix(1)}
				table.Apply(rib.DeleteStatic{VRF: 7, Prefix: prefix(1)})
				table.DrainBest()
				s.best([]rib.BestChange{withdrawn})
				queued <- sess.Queued()
			})
			return &redistTwin{}
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	if n := <-queued; n > redistQueue+1<<20 {
		t.Errorf("%d bytes wait in the session", n)
	}
	close(twin.gate)
	g.eventually("the whole list", func() error {
		twin.mu.Lock()
		defer twin.mu.Unlock()
		if twin.whole == 0 {
			return errors.New("has not ended")
		}
		return nil
	})
	twin.mu.Lock()
	defer twin.mu.Unlock()
	if len(twin.routes) != count-1 || twin.routes[prefix(1)] || twin.replaces != 1 || twin.whole != 1 || twin.longest > session.MaxBody/16 {
		t.Errorf("%d routes in %d parts, the longest of %d bytes; %d lists, %d ends", len(twin.routes), twin.parts, twin.longest, twin.replaces, twin.whole)
	}
}
