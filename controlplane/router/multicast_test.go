package router

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fibcast"
	"godwit/cluster/fibsync"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// castTwin is a line card that receives multicasts, unless it is deaf.
type castTwin struct {
	*cardTwin
	deaf bool
	recv *fibcast.Receiver
}

func (g *rig) serveCasts(c *castTwin) func(*event.Loop, bus.Bus) io.Closer {
	return func(l *event.Loop, b bus.Bus) io.Closer {
		c.h = l.Handler("card", event.High)
		var err error
		c.recv, err = fibcast.Receive(c.h, b, c.id, func(x fibsync.Cast) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.deaf {
				c.took(c.sub.Cast(x))
			}
		}, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(c.recv.Close)
		closer, err := session.Serve(c.h, b, bus.One(bus.TypeLinecard, uint32(c.id)), func(s *session.Session) session.Handler {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.sess = s
			return c
		})
		if err != nil {
			g.t.Fatal(err)
		}
		return closer
	}
}

func (c *castTwin) Receive(s *session.Session, m session.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Kind {
	case wire.SetFIBSource:
		var b wire.FIBSourceBody
		if err := wire.DecodeKind(m.Kind, m.Body, &b); err != nil {
			_ = s.ReplyError(m, err)
			return
		}
		_ = s.Reply(m, m.Kind, wire.FIBSourceResult{Receives: c.recv.Allow(bus.Address{Ref: b.Ref, Node: b.Node}) == nil})
	case wire.FIBRef:
		now := time.Now()
		c.took(c.sub.Refer(now, m.Body))
		late, _ := c.sub.Late(now)
		if c.deaf {
			late, _ = c.sub.Late(now.Add(fibsync.CastDeadline))
		}
		for _, f := range late {
			_ = s.SendJSON(wire.FIBFetch, f)
		}
	case wire.FIBBatch:
		c.took(c.sub.Receive(m.Body))
	case wire.GetFIBStats:
		_ = s.Reply(m, m.Kind, wire.FIBStats{Card: c.id, Epoch: c.sub.Epoch(), VRFs: []wire.FIBVRFStats{}, Casts: c.sub.Casts()})
	default:
		c.mu.Unlock()
		c.cardTwin.Receive(s, m)
		c.mu.Lock()
	}
}

func (c *castTwin) took(ack wire.FIBAckBody, reply bool) {
	for reply {
		_ = c.sess.SendJSON(wire.FIBAck, ack)
		ack, reply = c.sub.Step()
	}
}

// clusterRoutes is twoNodes with a third card and n static routes more.
func clusterRoutes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "      - {prefix: 100.64.%d.%d/32, via: [{address: 10.0.2.2}]}\n", i>>8, i&255)
	}
	s := strings.Replace(twoNodes, "interfaces:\n", b.String()+"interfaces:\n", 1)
	return strings.Replace(s, "{id: 2, node: 2}\n", "{id: 2, node: 2}\n  - {id: 3, node: 2}\n", 1)
}

// TestRoutesByMulticast: two cards of another node get a batch by one multicast; one
// that does not receive it asks, and gets it in its session.
func TestRoutesByMulticast(t *testing.T) {
	g := newRig(t)
	join := g.cluster(map[string]uint32{"linecard-2": 2, "linecard-3": 2})
	g.supervisor(&supervisorTwin{})
	one, two, three := newCardTwin(1), &castTwin{cardTwin: newCardTwin(2)}, &castTwin{cardTwin: newCardTwin(3), deaf: true}
	g.card(one)
	g.start(clusterRoutes(0))
	g.processOn(join("linecard-2"), "linecard-2", g.serveCasts(two))
	g.processOn(join("linecard-3"), "linecard-3", g.serveCasts(three))
	const few = 6
	for _, c := range []*cardTwin{one, two.cardTwin, three.cardTwin} {
		g.count(c, 7, few)
	}
	const n = 2000
	if _, err := g.client.Apply(context.Background(), "more routes", []byte(clusterRoutes(n))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*cardTwin{one, two.cardTwin, three.cardTwin} {
		g.count(c, 7, few+n)
	}
	v, err := g.client.Bus(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Multicasts) != 1 || v.Multicasts[0].Transport != "tipc" || v.Multicasts[0].Sent == 0 || len(v.Downloads) != 3 {
		t.Fatalf("%+v", v)
	}
	sent := v.Multicasts[0].Sent
	for i, d := range v.Downloads {
		local := i == 0
		if d.Card != uint16(1+i) || d.Takes == local || (d.Named == sent) == local || (d.Again > 0) != (i == 2) || d.Whole == 0 || d.Seen == nil {
			t.Errorf("card %d: %+v of %d multicasts", 1+i, d, sent)
		}
	}
	if d := v.Downloads; d[1].Seen.Applied != sent || d[2].Seen.Fetched != sent || fib.CardID(d[2].Card) != three.id {
		t.Errorf("%+v %+v", d[1].Seen, d[2].Seen)
	}
}
