package bgp

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"godwit/cluster/wire"
)

const resetBoth = api.ResetPeerRequest_DIRECTION_BOTH

// wake is called by the feed from GoBGP's watch goroutine.
func (s *Speaker) wake() { s.post(s.normal, s.flush) }

// routeAck opens the window.
func (s *Speaker) routeAck(c Client, seq uint64) {
	if c != s.client || seq <= s.acked || seq > s.seq {
		return // of an earlier session, or nonsense
	}
	s.acked = seq
	s.flush()
}

// pace is the least time between batches that are not full: a flood of changes
// goes out in large batches, a single change at once.
const pace = 20 * time.Millisecond

// flush sends what window and pace allow.
func (s *Speaker) flush() {
	for s.client != nil {
		wait := pace - s.loop.Now().Sub(s.sentAt)
		if !s.send(wait > 0) {
			return
		}
		need := 1
		switch {
		case s.seq-s.acked == wire.RouteWindow:
			need = never
		case s.seq != s.acked:
			need = full
		case s.loop.Now().Sub(s.sentAt) < pace:
			need = full
			if !s.paced {
				s.paced = true
				s.normal.After(max(wait, time.Millisecond), func() { s.paced = false; s.flush() })
			}
		}
		if !s.feed.arm(need) {
			break
		}
	}
	s.tellSynced()
}

// send sends batches while the window is open: any while none is on its way and
// it is not too soon, otherwise full ones. False: the client is lost.
func (s *Speaker) send(soon bool) bool {
	for s.seq-s.acked < wire.RouteWindow {
		b := s.feed.batch(s.seq+1, soon || s.seq != s.acked)
		if b == nil {
			break
		}
		s.seq++
		s.sentAt = s.loop.Now()
		soon = true
		if err := s.client.Send(wire.RouteBatch, b); err != nil {
			s.opt.Log.Error("send routes", "error", err)
			s.Lost(s.client)
			return false
		}
	}
	return true
}

// tune gives memory back when a bulk load is over.
func (s *Speaker) tune() {
	if s.opt.Tuner.tick(s.loop.Now(), s.feed.lastChange()) {
		s.slow.Async(func() error { debug.FreeOSMemory(); return nil }, func(error) {})
	}
}

// syncTick looks for peers to give up.
func (s *Speaker) syncTick() {
	s.checkSync()
	s.flush()
}

// checkSync notes, once the peers' tables are in, behind which routes
// RoutesSynced is due.
func (s *Speaker) checkSync() {
	if s.cfg == nil || !s.sync.tick(s.loop.Now(), s.feed.lastChange()) {
		return
	}
	if s.ticker != nil {
		s.ticker.Stop()
		s.ticker = nil
	}
	if !s.synced && !s.marked && s.client != nil {
		s.marked, s.syncMark = true, s.feed.end()
	}
}

// tellSynced sends RoutesSynced when the routes before it were sent.
func (s *Speaker) tellSynced() {
	if s.client == nil || !s.marked || s.synced || !s.feed.passed(s.syncMark) {
		return
	}
	if err := s.client.SendJSON(wire.RoutesSynced, struct{}{}); err != nil {
		s.opt.Log.Error("tell that routes are in", "error", err)
		return
	}
	s.synced = true
}

// farewellTime bounds how long a stop waits for NOTIFICATIONs to be sent.
const farewellTime = time.Second

// Farewell ends all sessions with a NOTIFICATION, so that neighbours drop our
// routes at once, and then calls done: the final stop. A speaker that shall be
// replaced just exits: its neighbours keep its routes and help the next one
// (RFC 4724).
func (s *Speaker) Farewell(done func()) {
	s.client, s.ended = nil, true // the withdrawals that follow are not news
	s.feed.detach()
	s.enqueue(func() error { return errors.Join(s.srv.farewell(), s.srv.clearSocket()) }, func(err error) {
		if err != nil {
			s.opt.Log.Warn("say farewell", "error", err)
		}
		deadline := s.loop.Now().Add(farewellTime)
		s.awaitIdle(deadline, done)
	})
}

func (s *Speaker) awaitIdle(deadline time.Time, done func()) {
	for _, p := range s.peers {
		if p.status.State == established && s.loop.Now().Before(deadline) {
			s.high.After(5*time.Millisecond, func() { s.awaitIdle(deadline, done) })
			return
		}
	}
	done()
}

// Close stops the BGP server whole and then calls done: for programs that go on.
func (s *Speaker) Close(done func()) {
	s.client, s.ended = nil, true
	s.feed.detach()
	s.enqueue(func() error { s.srv.stop(); return nil }, func(error) { done() })
}
