package router

import (
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
	"godwit/rib"
)

const (
	// slice is how many route changes one event applies: some 5 ms.
	slice = 2000
	// syncGrace is added to the restart time for a speaker that is back, and
	// waits for its peers' tables.
	syncGrace = 60 * time.Second
	// requestTimeout bounds a request to another process.
	requestTimeout = 10 * time.Second
)

// speakers follows the BGP speakers of all VRFs.
type speakers struct {
	log      *slog.Logger
	high     *event.Handler // timers
	normal   *event.Handler // routes
	routes   *routes
	onSynced func(fib.VRF)
	m        map[fib.VRF]*speaker
}

// speaker is one VRF's: configured, connected, or both.
type speaker struct {
	vrf   fib.VRF
	plan  *speakerPlan     // nil: not configured
	sess  *session.Session // nil: not connected
	stale bool             // its routes are from before a restart
	sync  bool             // RoutesSynced came, and everything before it is applied
	timer *event.Timer     // sweeps when it ends
	queue []pending
	busy  bool // an event is posted that applies the queue
	list  *redistList

	follow *follower // with "advertise: fib"

	batches, changes uint64
}

// pending is a batch, or the mark that the initial tables are complete.
type pending struct {
	batch  wire.RouteBatchBody
	at     int // changes already applied
	synced bool
}

func (s *speakers) get(v fib.VRF) *speaker {
	sp := s.m[v]
	if sp == nil {
		sp = &speaker{vrf: v}
		s.m[v] = sp
	}
	return sp
}

// configure brings all speakers to a new desired state.
func (s *speakers) configure(plans map[fib.VRF]speakerPlan) {
	for v, sp := range s.m {
		if _, ok := plans[v]; !ok && sp.plan != nil {
			sp.plan = nil
			s.stopFollow(sp)
			s.sweep(sp, true)
		}
	}
	for v, p := range plans {
		sp := s.get(v)
		old := sp.plan
		sp.plan = &p
		switch {
		case sp.sess == nil:
		case old == nil || !reflect.DeepEqual(old.cfg, p.cfg):
			s.setSpeaker(sp)
			if (sp.follow != nil) != p.cfg.AdvertiseFIB {
				s.startFollow(sp)
			}
			fallthrough
		case !reflect.DeepEqual(old.redistribute, p.redistribute):
			s.redistributeAll(sp)
		}
	}
	s.forget()
}

// forget drops what is neither configured nor connected.
func (s *speakers) forget() {
	for v, sp := range s.m {
		if sp.plan == nil && sp.sess == nil {
			delete(s.m, v)
		}
	}
}

// up is called when a speaker is connected.
func (s *speakers) up(instance uint32, sess *session.Session) session.Handler {
	sp := s.get(fib.VRF(instance))
	sp.sess, sp.sync, sp.queue, sp.list = sess, false, nil, nil
	sp.batches, sp.changes = 0, 0
	s.log.Info("BGP speaker connected", "vrf", instance, "stale", sp.stale)
	if sp.plan != nil {
		if sp.stale {
			s.startTimer(sp, sp.plan.cfg.GracefulRestart+syncGrace)
		}
		s.setSpeaker(sp)
		s.redistributeAll(sp)
		s.startFollow(sp)
	}
	return speakerSession{s, sp, sess}
}

// setSpeaker sends the desired state.
func (s *speakers) setSpeaker(sp *speaker) {
	cfg := sp.plan.cfg
	cfg.Restarting = sp.stale
	sess := sp.sess
	sess.Request(wire.SetSpeaker, cfg, requestTimeout, func(_ session.Message, err error) {
		if err != nil {
			s.log.Error("configure BGP speaker", "vrf", cfg.VRF, "error", err)
		}
	})
}

// lost is called when a speaker's session has ended.
func (s *speakers) lost(sp *speaker, err error) {
	s.log.Warn("BGP speaker lost", "vrf", uint32(sp.vrf), "error", err)
	s.stopFollow(sp)
	sp.sess, sp.sync, sp.queue = nil, false, nil
	if sp.plan == nil {
		s.forget()
		return
	}
	gr := sp.plan.cfg.GracefulRestart
	if gr == 0 {
		s.sweep(sp, true)
		return
	}
	sp.stale = true
	s.routes.apply(rib.MarkStale{VRF: sp.vrf, Protocol: rib.BGP})
	s.startTimer(sp, gr)
}

func (s *speakers) startTimer(sp *speaker, d time.Duration) {
	if sp.timer != nil {
		sp.timer.Stop()
	}
	sp.timer = s.high.After(d, func() {
		s.log.Warn("restart time is over: stale routes go", "vrf", uint32(sp.vrf))
		s.sweep(sp, false)
		s.onSynced(sp.vrf)
	})
}

// sweep removes a speaker's stale routes; all makes all of them stale.
func (s *speakers) sweep(sp *speaker, all bool) {
	if sp.timer != nil {
		sp.timer.Stop()
		sp.timer = nil
	}
	sp.stale = false
	if all {
		s.routes.apply(rib.MarkStale{VRF: sp.vrf, Protocol: rib.BGP})
	}
	s.routes.apply(rib.Sweep{VRF: sp.vrf, Protocol: rib.BGP})
}

// speakerSession is a speaker's session.
type speakerSession struct {
	s    *speakers
	sp   *speaker
	sess *session.Session
}

// Receive takes a message of the speaker.
func (x speakerSession) Receive(_ *session.Session, m session.Message) {
	if x.sp.sess != x.sess {
		return
	}
	switch m.Kind {
	case wire.RouteBatch:
		b, err := wire.DecodeRouteBatch(m.Body)
		if err != nil {
			x.s.log.Error("BGP speaker cut off", "vrf", uint32(x.sp.vrf), "error", err)
			x.sess.Close()
			return
		}
		x.s.enqueue(x.sp, pending{batch: b})
	case wire.RoutesSynced:
		x.s.enqueue(x.sp, pending{synced: true})
	case wire.PeerEvent:
		var p wire.PeerStatus
		if err := wire.DecodeKind(m.Kind, m.Body, &p); err != nil {
			x.s.log.Error("message of BGP speaker", "vrf", uint32(x.sp.vrf), "error", err)
			return
		}
		x.s.log.Info("BGP neighbor", "vrf", uint32(x.sp.vrf), "neighbor", p.Address, "state", p.State, "error", p.LastError)
	default:
		if m.ID != 0 {
			_ = x.sess.ReplyError(m, fmt.Errorf("routing engine does not answer %v", m.Kind))
		}
	}
}

// Closed is called when the session has ended.
func (x speakerSession) Closed(_ *session.Session, err error) {
	if x.sp.sess == x.sess {
		x.s.lost(x.sp, err)
	}
}

func (s *speakers) enqueue(sp *speaker, p pending) {
	sp.queue = append(sp.queue, p)
	s.work(sp)
}

func (s *speakers) work(sp *speaker) {
	if !sp.busy && len(sp.queue) > 0 {
		sp.busy = true
		later(s.normal, func() {
			sp.busy = false
			s.applyQueue(sp)
			s.work(sp)
		})
	}
}

// applyQueue applies a slice of what waits, and acknowledges a batch that is done.
func (s *speakers) applyQueue(sp *speaker) {
	if len(sp.queue) == 0 || sp.plan == nil {
		sp.queue = nil
		return
	}
	p := &sp.queue[0]
	if p.synced {
		sp.queue = sp.queue[1:]
		sp.sync = true
		s.log.Info("BGP routes complete", "vrf", uint32(sp.vrf), "batches", sp.batches)
		s.sweep(sp, false)
		s.onSynced(sp.vrf)
		if sp.follow != nil {
			s.followOne(sp)
		}
		return
	}
	part := p.batch.Changes[p.at:min(p.at+slice, len(p.batch.Changes))]
	p.at += len(part)
	s.routes.apply(rib.BGPRoutes{VRF: sp.vrf, Routes: sp.plan.convert(part)})
	sp.changes += uint64(len(part))
	if p.at < len(p.batch.Changes) {
		return
	}
	sp.batches++
	if err := sp.sess.SendJSON(wire.RouteAck, wire.RouteAckBody{Seq: p.batch.Seq}); err != nil {
		s.log.Error("acknowledge routes", "vrf", uint32(sp.vrf), "error", err)
		sp.sess.Close()
	}
	sp.queue = sp.queue[1:]
}

// convert makes the RIB's form of changes. Changes that share paths go on doing so.
func (p *speakerPlan) convert(changes []wire.RouteChange) []rib.BGPRoute {
	out := make([]rib.BGPRoute, len(changes))
	shared := map[*wire.RoutePath][]rib.Path{}
	for i, c := range changes {
		out[i].Prefix = c.Prefix
		if len(c.Paths) == 0 {
			continue
		}
		paths := shared[&c.Paths[0]]
		if len(paths) != len(c.Paths) {
			paths = p.paths(c.Paths)
			shared[&c.Paths[0]] = paths
		}
		out[i].Paths = paths
	}
	return out
}

func (p *speakerPlan) paths(in []wire.RoutePath) []rib.Path {
	out := make([]rib.Path, len(in))
	for i, x := range in {
		out[i] = rib.Path{
			NextHop: x.NextHop.WithZone(""), Peer: x.Peer, PeerAS: x.PeerAS, MED: x.MED, LocalPref: x.LocalPref,
			ASPathLen: x.ASPathLen, Internal: x.PeerAS == p.cfg.AS, Communities: x.Communities,
		}
		if x.NextHop.Is6() && x.NextHop.IsLinkLocalUnicast() {
			out[i].Interface = p.zones[x.Peer.WithZone("")]
		}
	}
	return out
}

// redistributes tells whether a chosen route goes to BGP.
func (p *speakerPlan) redistributes(b *rib.BestChange) bool {
	for i := range p.redistribute {
		if p.redistribute[i].accepts(b) {
			return true
		}
	}
	return false
}

// resend asks a VRF's speaker for all of its routes, since there is room again for
// those that were refused.
func (s *speakers) resend(v fib.VRF) {
	sp := s.m[v]
	if sp == nil || sp.plan == nil || sp.sess == nil {
		return
	}
	s.log.Info("room again for BGP routes", "vrf", uint32(v))
	if err := sp.sess.SendJSON(wire.ResendRoutes, struct{}{}); err != nil {
		s.log.Error("ask for routes", "vrf", uint32(v), "error", err)
		sp.sess.Close() // the next session starts with all of them
	}
}
