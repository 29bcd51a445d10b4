package router

import (
	"net/netip"
	"time"

	"godwit/cluster/fibsync"
	"godwit/cluster/wire"
	"godwit/fib"
)

// Bounds of what a speaker with "advertise: fib" is told at a time.
const (
	followSlice = 5000      // routes looked at in one event
	followQueue = 256 << 10 // bytes in the session above which it waits
	followRetry = 50 * time.Millisecond
)

// follower tells one session of a speaker what is in the FIB of all line cards.
type follower struct {
	at      *fibsync.Follower
	ended   bool // End was sent
	waiting bool // an event is posted that goes on
}

// startFollow begins to tell a session all that is installed.
func (s *speakers) startFollow(sp *speaker) {
	s.stopFollow(sp)
	if sp.plan == nil || sp.sess == nil || !sp.plan.cfg.AdvertiseFIB {
		return
	}
	sp.follow = &follower{at: s.routes.pub.Follow(sp.vrf)}
	s.sendFIB(sp, wire.FIBStateBody{Begin: true})
	s.followOne(sp)
}

func (s *speakers) stopFollow(sp *speaker) {
	if sp.follow != nil {
		s.routes.pub.Unfollow(sp.follow.at)
		sp.follow = nil
	}
}

// follow tells all speakers that want it what has come to the line cards.
func (s *speakers) follow() {
	for _, sp := range s.m {
		if sp.follow != nil {
			s.followOne(sp)
		}
	}
}

// followOne tells a slice, and posts an event for the rest.
func (s *speakers) followOne(sp *speaker) {
	f := sp.follow
	if f.waiting {
		return
	}
	goOn := func() {
		f.waiting = false
		if sp.follow == f {
			s.followOne(sp)
		}
	}
	if sp.sess.Queued() > followQueue {
		f.waiting = true
		s.high.After(followRetry, goOn)
		return
	}
	list, more := f.at.Next(followSlice)
	body := wire.FIBStateBody{Installed: list, End: !more && !f.ended && sp.sync}
	if len(list) > 0 || body.End {
		f.ended = f.ended || body.End
		s.sendFIB(sp, body)
	}
	if more && sp.follow == f {
		f.waiting = true
		later(s.normal, goOn)
	}
}

// gone tells speakers which prefixes left the FIB: at once, whatever the line
// cards have acknowledged.
func (s *speakers) gone(changes []fib.Change) {
	var bodies map[*speaker][]netip.Prefix
	for i := range changes {
		c := &changes[i]
		if c.Op != fib.DeleteRoute {
			continue
		}
		if sp := s.m[c.Route.VRF]; sp != nil && sp.follow != nil {
			if bodies == nil {
				bodies = map[*speaker][]netip.Prefix{}
			}
			bodies[sp] = append(bodies[sp], c.Route.Prefix)
		}
	}
	for sp, list := range bodies {
		for len(list) > 0 {
			n := min(len(list), followSlice)
			s.sendFIB(sp, wire.FIBStateBody{Gone: list[:n]})
			list = list[n:]
		}
	}
}

func (s *speakers) sendFIB(sp *speaker, body wire.FIBStateBody) {
	if err := sp.sess.SendJSON(wire.FIBState, body); err != nil {
		s.log.Error("tell what is in the FIB", "vrf", uint32(sp.vrf), "error", err)
		sp.sess.Close() // the next session starts with all of it
	}
}
