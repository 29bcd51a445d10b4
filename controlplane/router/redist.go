package router

import (
	"errors"
	"net/netip"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/rib"
)

const (
	// redistSlice is how many routes one message redistributes, and how many one
	// event looks at.
	redistSlice = 5000
	// redistQueue is how many bytes may wait in the session before the list of
	// all routes pauses; a message has some 300 KB.
	redistQueue = 2 << 20
	// redistPause is when it is looked at again.
	redistPause = 5 * time.Millisecond
)

// redistList is a list of all routes on its way to a speaker, in parts. What
// changes meanwhile goes between the parts.
type redistList struct {
	at    rib.Cursor
	begun bool // the first part is sent
}

// redistributeAll tells a speaker all routes that it shall announce.
func (s *speakers) redistributeAll(sp *speaker) {
	sp.list = &redistList{}
	s.redistributePart(sp, sp.sess, sp.list)
}

// redistributePart sends a part and goes on as an event of its own.
func (s *speakers) redistributePart(sp *speaker, sess *session.Session, l *redistList) {
	if sp.sess != sess || sp.list != l || sp.plan == nil {
		return // there is a new session, or list
	}
	next := func() { s.redistributePart(sp, sess, l) }
	if sess.Queued() > redistQueue {
		s.normal.After(redistPause, next)
		return
	}
	body := wire.RedistBody{Replace: !l.begun, Routes: []wire.RedistRoute{}}
	done := len(sp.plan.redistribute) == 0
	if !done {
		var list []rib.BestChange
		list, l.at, done = s.routes.table.Best(sp.vrf, l.at, redistSlice)
		for _, b := range list {
			if sp.plan.redistributes(&b) {
				body.Routes = append(body.Routes, redistRoute(b.Prefix))
			}
		}
	}
	l.begun = true
	if done {
		sp.list = nil
	}
	s.redistribute(sp, body)
	if !done {
		later(s.normal, next)
	}
}

// redistRoute offers one route. The RIB has one choice for a prefix, so that
// one name stands for all protocols: it is announced or withdrawn under that.
func redistRoute(p netip.Prefix) wire.RedistRoute {
	return wire.RedistRoute{Prefix: p, Protocol: "rib"}
}

// best passes changes of chosen routes to the speakers that redistribute them.
func (s *speakers) best(changes []rib.BestChange) {
	bodies := map[*speaker][]wire.RedistRoute{}
	for _, b := range changes {
		sp := s.m[b.VRF]
		if sp == nil || sp.plan == nil || sp.sess == nil || len(sp.plan.redistribute) == 0 || sp.list != nil && !sp.list.begun {
			continue
		}
		r := redistRoute(b.Prefix)
		r.Withdraw = !sp.plan.redistributes(&b)
		bodies[sp] = append(bodies[sp], r)
	}
	for sp, list := range bodies {
		for len(list) > 0 {
			n := min(len(list), redistSlice)
			if !s.redistribute(sp, wire.RedistBody{Routes: list[:n]}) {
				break
			}
			list = list[n:]
		}
	}
}

// redistribute sends a message; false if the speaker gets all routes anew
// instead, because too much waits for it or its session has ended.
func (s *speakers) redistribute(sp *speaker, body wire.RedistBody) bool {
	body.More = sp.list != nil
	err := sp.sess.SendJSON(wire.Redistribute, body)
	switch {
	case err == nil:
		return true
	case errors.Is(err, session.ErrBacklog):
		s.log.Info("BGP speaker is slow: all routes follow", "vrf", uint32(sp.vrf))
		s.redistributeAll(sp)
	default:
		s.log.Error("redistribute routes", "vrf", uint32(sp.vrf), "error", err)
		sp.sess.Close() // the next session starts with all of them
	}
	return false
}
