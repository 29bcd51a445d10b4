package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fibsync"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/event"
	"godwit/fib"
	"godwit/fib/patricia"
)

// noHooks takes groups that no worker uses.
type noHooks struct{}

func (noHooks) GroupSet(uint32, fib.Group) {}
func (noHooks) GroupFree(uint32)           {}

// tableTwin is a line card with real tables, which may fall silent.
type tableTwin struct {
	*cardTwin
	tables   *patricia.Tables
	seq      uint64
	mute     bool // takes batches, and acknowledges none
	sessions int
}

func (g *rig) tableCard(id fib.CardID) *tableTwin {
	c := &tableTwin{cardTwin: newCardTwin(id), tables: patricia.New(noHooks{})}
	c.sub = fibsync.NewSubscriber(c.tables, 0, 0)
	g.t.Cleanup(func() { c.tables.Close() })
	g.process(fmt.Sprintf("linecard-%d", id), func(l *event.Loop, b bus.Bus) io.Closer {
		c.h = l.Handler("card", event.High)
		closer, err := session.Serve(c.h, b, bus.One(bus.TypeLinecard, uint32(id)), func(s *session.Session) session.Handler {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.sess = s
			if c.sessions++; c.sessions > 1 {
				c.mute = false // it comes to its senses
			}
			return c
		})
		if err != nil {
			g.t.Fatal(err)
		}
		return closer
	})
	return c
}

func (c *tableTwin) Receive(s *session.Session, m session.Message) {
	c.mu.Lock()
	switch m.Kind {
	case wire.FIBBatch:
		if !c.mute {
			if ack, ok := c.sub.Receive(m.Body); ok {
				c.seq = ack.Seq
				_ = s.SendJSON(wire.FIBAck, ack)
			}
		}
	case wire.GetFIBStats:
		t := c.tables.Stats()
		st := wire.FIBStats{Card: c.id, Epoch: c.sub.Epoch(), Seq: c.seq, Groups: t.Groups, GroupSum: c.tables.GroupSum(), VRFs: []wire.FIBVRFStats{}}
		for _, v := range t.VRFs {
			st.VRFs = append(st.VRFs, wire.FIBVRFStats{VRF: v.VRF, Routes4: v.Routes4, Routes6: v.Routes6, Bytes: v.Bytes, Sum: c.tables.Digest(v.VRF).Sum})
		}
		_ = s.Reply(m, m.Kind, st)
	case wire.GetFIB:
		_ = s.Reply(m, m.Kind, c.page(m))
	default:
		c.mu.Unlock()
		c.cardTwin.Receive(s, m)
		return
	}
	c.mu.Unlock()
}

func (c *tableTwin) page(m session.Message) wire.FIBList {
	var q wire.FIBQuery
	list := wire.FIBList{Entries: []wire.FIBEntry{}}
	if wire.DecodeKind(m.Kind, m.Body, &q) != nil {
		return list
	}
	c.tables.Walk(q.VRF, q.Prefix, q.After, func(p netip.Prefix, index uint32) bool {
		if len(list.Entries) == q.Limit {
			list.More = true
			return false
		}
		g := c.tables.Group(index)
		list.Entries = append(list.Entries, wire.FIBEntry{Prefix: p, Group: uint32(g.ID), Kind: g.Kind.String(), NextHops: g.NextHops})
		return true
	})
	return list
}

// tamper changes the tables behind everybody's back.
func (c *tableTwin) tamper(t *testing.T, changes ...fib.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.tables.Stats()
	if err := c.tables.Apply(fib.Batch{Epoch: s.Epoch, Seq: s.Seq + 1, Changes: changes}); err != nil {
		t.Fatal(err)
	}
}

func (g *rig) consistency(want string) (c mgmt.FIBCheck) {
	g.t.Helper()
	g.eventually("a card that is "+want, func() error {
		v, err := g.client.FIBConsistency(context.Background(), 1)
		if err != nil {
			return err
		}
		if c = v.Cards[0]; c.State != want {
			return fmt.Errorf("card is %+v", c)
		}
		return nil
	})
	return c
}

// TestConsistency finds what was changed on a card behind the routing engine's back.
func TestConsistency(t *testing.T) {
	g := newRig(t)
	g.supervisor(&supervisorTwin{})
	c := g.tableCard(1)
	g.speaker(&speakerTwin{vrf: 7, routes: announce(3000, "10.0.0.2")})
	g.start(twoVRFs)
	g.eventually("routes", func() error {
		if n := c.cardRoutes(7); n != 3003 {
			return fmt.Errorf("%d routes", n)
		}
		return nil
	})
	ok := g.consistency("consistent")
	if len(ok.Differences) != 0 || !ok.Groups {
		t.Fatalf("%+v", ok)
	}
	for _, v := range ok.VRFs {
		if !v.Equal || v.RIB != v.Card || v.VRF == "red" && v.RIB != 3003 {
			t.Errorf("%+v", v)
		}
	}
	gone, strange := netip.MustParsePrefix("100.0.7.0/24"), netip.MustParsePrefix("192.0.2.0/24")
	c.mu.Lock()
	_, group, _ := c.tables.Get(7, gone)
	c.mu.Unlock()
	c.tamper(t, fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: 7, Prefix: gone}},
		fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: 7, Prefix: strange, Group: group.ID}})
	bad := g.consistency("different")
	want := []mgmt.FIBDifference{{VRF: "red", Prefix: gone, What: "missing on the card"}, {VRF: "red", Prefix: strange, What: "not in the RIB"}}
	if len(bad.Differences) != 2 || bad.Differences[0] != want[0] || bad.Differences[1] != want[1] {
		t.Errorf("differences %+v", bad.Differences)
	}
	c.tamper(t, fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: 7, Prefix: gone, Group: group.ID}},
		fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: 7, Prefix: strange}})
	g.consistency("consistent")
	c.tamper(t, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: group.ID, Kind: fib.Blackhole}})
	if bad = g.consistency("different"); bad.Groups || len(bad.Differences) != checkList || bad.More < 3000-checkList ||
		bad.Differences[0].What != "other next hops" {
		t.Errorf("a group that differs: groups equal %v, %d differences and %d more", bad.Groups, len(bad.Differences), bad.More)
	}
}

func (c *tableTwin) cardRoutes(vrf fib.VRF) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables.Digest(vrf).Routes
}

// TestCardThatNeverAcknowledges is cut off in time, with a window of batches at most, and gets
// everything when it has come to its senses.
func TestCardThatNeverAcknowledges(t *testing.T) {
	t.Parallel() // it takes its time: fibsync.AckTimeout
	g := newRig(t)
	g.supervisor(&supervisorTwin{})
	c := g.tableCard(1)
	c.mu.Lock()
	c.mute = true
	c.mu.Unlock()
	g.speaker(&speakerTwin{vrf: 7, routes: announce(3000, "10.0.0.2")})
	g.start(twoVRFs)
	deadline := time.Now().Add(fibsync.AckTimeout + 4*expireEvery)
	for again := false; !again; {
		c.mu.Lock()
		again = c.sessions > 1
		c.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("a silent card was not cut off")
		}
		if s, err := g.client.FIBSummary(context.Background()); err == nil && s.Cards[0].Sent > s.Cards[0].Acked+fibsync.Window {
			t.Fatalf("%d batches are on their way", s.Cards[0].Sent-s.Cards[0].Acked)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(errors.New("cancelled"))
		}
	}
	g.eventually("all routes", func() error {
		if n := c.cardRoutes(7); n != 3003 {
			return fmt.Errorf("%d routes", n)
		}
		return nil
	})
	g.consistency("consistent")
}
