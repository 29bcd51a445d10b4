package router

import (
	"net/netip"
	"reflect"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/fib"
	"godwit/rib"
)

// bfdStates is what the cards have told of their BFD sessions. A session that
// nobody has told of is not known to be down: a routing engine that restarts
// withdraws nothing.
type bfdStates struct {
	m map[config.BFDKey]bfdState
	// The configuration's users of a session.
	statics map[config.BFDKey][]staticRef
	peers   map[config.BFDKey][]netip.Addr
}

type bfdState struct {
	card fib.CardID
	st   wire.BFDStatus
}

// staticRef is a static route with a next hop that has a session.
type staticRef struct {
	vrf    *config.VRF
	static *config.Static
}

func newBFDStates() *bfdStates {
	return &bfdStates{m: map[config.BFDKey]bfdState{}}
}

// configure notes who uses which session.
func (b *bfdStates) configure(c *config.Config) {
	b.statics, b.peers = map[config.BFDKey][]staticRef{}, map[config.BFDKey][]netip.Addr{}
	for i := range c.VRFs {
		v := &c.VRFs[i]
		for j := range v.Static {
			s := &v.Static[j]
			for k := range s.Via {
				if key, ok := s.Via[k].BFDKey(c, v); ok {
					b.statics[key] = append(b.statics[key], staticRef{v, s})
				}
			}
		}
		if v.BGP == nil {
			continue
		}
		for j := range v.BGP.Neighbors {
			if key, ok := v.BGP.Neighbors[j].BFDKey(c, v); ok {
				b.peers[key] = append(b.peers[key], v.BGP.Neighbors[j].Address.WithZone(""))
			}
		}
	}
}

// usable tells whether a static route's next hop may be used: its session is up,
// or an administrator has taken it down (RFC 5882, 4.1), or it has none.
func (b *bfdStates) usable(c *config.Config, v *config.VRF, via *config.Via) bool {
	key, ok := via.BFDKey(c, v)
	return !ok || b.passes(key)
}

func (b *bfdStates) passes(key config.BFDKey) bool {
	x, known := b.m[key]
	return !known || x.st.State == "up" || x.st.State == "admin-down" || x.st.Remote == "admin-down"
}

func bfdKeyOf(st *wire.BFDStatus) config.BFDKey {
	k := config.BFDKey{VRF: st.VRF, Interface: st.Interface, Peer: st.Peer}
	if st.Interface == 0 {
		k.Local = st.Local
	}
	return k
}

// failureFresh is how young a failure must be to end a BGP session, if it is the first that a routing
// engine hears of the session: BGP may have come up since.
const failureFresh = 30 * time.Second

// bfdChanged follows a session: a failure ends the BGP session, static routes
// leave a next hop whose session is down.
func (r *Router) bfdChanged(card fib.CardID, st wire.BFDStatus) {
	b := r.bfd
	key := bfdKeyOf(&st)
	old, known := b.m[key]
	passed := b.passes(key)
	if st.Removed {
		if old.card == card {
			delete(b.m, key)
		}
	} else {
		b.m[key] = bfdState{card, st}
	}
	if now := b.passes(key); now != passed {
		r.followStatics(key, passed)
	}
	failed := st.Failed && !st.Removed && (known && !old.st.Failed || !known && st.Age < failureFresh)
	if !known || old.st.State != st.State || st.Removed {
		r.opt.Log.Info("BFD session", "card", uint16(card), "vrf", r.names.vrf(st.VRF), "peer", st.Peer, "state", st.State,
			"diag", st.Diag, "remote", st.Remote, "failed", st.Failed, "removed", st.Removed)
	}
	switch {
	case !failed:
	case st.Diag == "neighbor signaled session down" && st.RemoteDiag == "none":
		r.timers.After(renewal, func() { r.endBGP(key) })
	default:
		r.endBGP(key)
	}
}

// renewal is how long BGP is left alone when a neighbour begins its session anew
// without telling of a failure: some do, when their BGP has ended a moment ago. Ours
// should have heard by then.
const renewal = 200 * time.Millisecond

// endBGP ends the BGP sessions whose path has failed.
func (r *Router) endBGP(key config.BFDKey) {
	for _, peer := range r.bfd.peers[key] {
		r.speakers.pathDown(key.VRF, peer)
	}
}

// bfdLost forgets what a card told that is gone.
func (r *Router) bfdLost(card fib.CardID) {
	for key, x := range r.bfd.m {
		if x.card == card {
			passed := r.bfd.passes(key)
			delete(r.bfd.m, key)
			if !passed {
				r.followStatics(key, false)
			}
		}
	}
}

// followStatics changes the static routes that use a session, after passes changed
// from the given value.
func (r *Router) followStatics(key config.BFDKey, before bool) {
	was := func(v *config.VRF, via *config.Via) bool {
		if k, ok := via.BFDKey(r.cfg, v); ok && k == key {
			return before
		}
		return r.bfd.usable(r.cfg, v, via)
	}
	is := func(v *config.VRF, via *config.Via) bool { return r.bfd.usable(r.cfg, v, via) }
	var list []rib.Update
	for _, ref := range r.bfd.statics[key] {
		k, old, had := staticOf(r.cfg, ref.vrf, ref.static, was)
		_, next, has := staticOf(r.cfg, ref.vrf, ref.static, is)
		switch {
		case has && (!had || !reflect.DeepEqual(old, next)):
			list = append(list, rib.SetStatic{VRF: k.vrf, Route: next})
		case had && !has:
			list = append(list, rib.DeleteStatic{VRF: k.vrf, Prefix: k.prefix, Distance: k.distance})
		}
	}
	if len(list) > 0 {
		r.routes.apply(list...)
	}
}

// pathDown ends a BGP session whose path has failed.
func (s *speakers) pathDown(v fib.VRF, peer netip.Addr) {
	sp := s.m[v]
	if sp == nil || sp.sess == nil {
		return
	}
	s.log.Warn("BGP session ends: BFD says that the path has failed", "vrf", uint32(v), "neighbor", peer)
	sp.sess.Request(wire.ResetPeer, wire.PeerReset{Address: peer, Reason: "BFD down"}, requestTimeout, func(_ session.Message, err error) {
		if err != nil {
			s.log.Error("end BGP session", "vrf", uint32(v), "neighbor", peer, "error", err)
		}
	})
}

// planBFD gives the cards their sessions: on one hop the interface's card, else the one with our address.
func planBFD(c *config.Config, cards map[fib.CardID]wire.CardConfig) {
	seen := map[config.BFDKey]bool{}
	add := func(key config.BFDKey, b *config.BFD) {
		id := cardOfBFD(c, key)
		w, ok := cards[id]
		if seen[key] || !ok {
			return
		}
		seen[key] = true
		s := wire.BFDSession{
			VRF: key.VRF, Interface: key.Interface, Peer: key.Peer, Local: key.Local, MinTx: b.Interval, MinRx: b.Receive, MinEcho: b.Echo,
			Multiplier: b.Multiplier, MinTTL: b.MinTTL, Passive: b.Passive, Shutdown: b.Shutdown,
		}
		if b.Auth != nil {
			s.Auth, s.KeyID, s.Key = b.Auth.Type, b.Auth.KeyID, b.Auth.Key
		}
		w.BFD = append(w.BFD, s)
		cards[id] = w
	}
	for i := range c.VRFs {
		v := &c.VRFs[i]
		for j := range v.Static {
			for k := range v.Static[j].Via {
				via := &v.Static[j].Via[k]
				if key, ok := via.BFDKey(c, v); ok {
					add(key, via.BFD)
				}
			}
		}
		if v.BGP == nil {
			continue
		}
		for j := range v.BGP.Neighbors {
			n := &v.BGP.Neighbors[j]
			if key, ok := n.BFDKey(c, v); ok && !n.Shutdown {
				add(key, n.BFD)
			}
		}
	}
}

func cardOfBFD(c *config.Config, key config.BFDKey) fib.CardID {
	if key.Interface != 0 {
		return key.Interface.Card()
	}
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		if config.VRFID(c, vrfName(f)) != key.VRF {
			continue
		}
		for _, a := range f.Addresses {
			if a.Addr() == key.Local {
				return fib.CardID(f.Card)
			}
		}
	}
	return 0
}
