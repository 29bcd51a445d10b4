package linecard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"godwit/cluster/wire"
	"godwit/dataplane/bfd"
	"godwit/dataplane/graph"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/worker"
	"godwit/fib"
)

// sessions are the card's BFD sessions: they live on a thread of their own, and
// go on while the routing engine, or this loop, does something else. The loop
// hears of changes.
type sessions struct {
	runner *bfd.Runner
	drops  *graph.Drops
	last   map[bfd.Key]wire.BFDStatus // as last told; the loop's
	local  map[bfd.Key]netip.Addr     // our addresses on one hop; the loop's
	up     map[fib.InterfaceID]bool   // interfaces, as last told; the loop's
	missed atomic.Bool                // a change found the loop full
}

func newSessions(a *Agent) (*sessions, error) {
	s := &sessions{last: make(map[bfd.Key]wire.BFDStatus), local: make(map[bfd.Key]netip.Addr), up: make(map[fib.InterfaceID]bool)}
	core := bfd.New(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	s.drops = core.Drops()
	var err error
	s.runner, err = bfd.NewRunner(core, a.now, func(list []bfd.Effect) { a.bfdEffects(s, list) }, func(err error) {
		a.log.Warn("BFD runs on an ordinary thread", "error", err)
	})
	if err != nil {
		return nil, err
	}
	s.runner.Start()
	return s, nil
}

// close tells the neighbours that the sessions are administratively down, which
// is not a failure, and ends the thread.
func (s *sessions) close(a *Agent) error {
	err := s.runner.Do(func(c *bfd.Core, now int64) { c.Set(now, nil) })
	if errors.Is(err, bfd.ErrStopped) {
		err = nil
	}
	if err == nil {
		err = s.runner.Do(func(*bfd.Core, int64) {}) // the packets are with the workers
	}
	if a.plane != nil {
		for _, w := range a.plane.workers {
			w.Do(func() {}) // and sent
		}
	}
	if errors.Is(err, bfd.ErrStopped) {
		err = nil
	}
	return errors.Join(err, s.runner.Close())
}

// bfdEffects runs on the sessions' thread.
func (a *Agent) bfdEffects(s *sessions, list []bfd.Effect) {
	var w *worker.Worker
	for i := range list {
		e := &list[i]
		if e.Kind == bfd.Send {
			if w == nil {
				if w = a.entry.Load(); w == nil {
					continue // no worker, no port
				}
			}
			w.Urgently(e.Key.VRF, e.Key.Interface, e.Data)
			continue
		}
		st := bfdStatus(&e.Status)
		st.Removed = e.Kind == bfd.Removed
		key := e.Key
		if a.links.Post(func() { a.bfdChanged(key, st) }) != nil {
			s.missed.Store(true)
		}
	}
}

// bfdChanged follows a session: groups leave a neighbour whose session failed at
// once, the routing engine hears of it.
func (a *Agent) bfdChanged(key bfd.Key, st wire.BFDStatus) {
	old, known := a.bfd.last[key]
	if st.Removed {
		delete(a.bfd.last, key)
	} else {
		a.bfd.last[key] = st
	}
	if key.Interface != 0 && old.Failed != (st.Failed && !st.Removed) {
		a.slow.SetPath(a.opt.Loop.Now(), key.Interface, key.Peer, st.Failed && !st.Removed)
		a.effects()
	}
	a.broadcast(wire.BFDEvent, st)
	switch {
	case st.Removed:
		a.log.Info("BFD session removed", "vrf", uint32(st.VRF), "peer", st.Peer)
	case !known:
		a.log.Info("BFD session added", "vrf", uint32(st.VRF), "peer", st.Peer)
	case st.Failed && !old.Failed:
		a.log.Warn("BFD session failed", "vrf", uint32(st.VRF), "peer", st.Peer, "diag", st.Diag, "remote", st.RemoteDiag)
	default:
		a.log.Info("BFD session", "vrf", uint32(st.VRF), "peer", st.Peer, "state", st.State, "diag", st.Diag, "remote", st.Remote)
	}
}

// catchUpBFD takes over what the loop, when it was full, was not told.
func (a *Agent) catchUpBFD() {
	if !a.bfd.missed.Swap(false) {
		return
	}
	var list []bfd.Status
	if a.bfd.runner.Do(func(c *bfd.Core, now int64) { list = c.Sessions(now) }) != nil {
		return
	}
	there := make(map[bfd.Key]bool)
	for i := range list {
		st := bfdStatus(&list[i])
		there[list[i].Key] = true
		if old, ok := a.bfd.last[list[i].Key]; !ok || old.State != st.State || old.Remote != st.Remote || old.Failed != st.Failed {
			a.bfdChanged(list[i].Key, st)
		}
	}
	for key, st := range a.bfd.last {
		if !there[key] {
			st.Removed = true
			a.bfdChanged(key, st)
		}
	}
}

// refreshBFD brings the sessions up to date with the configuration and the
// interfaces: those that went down take their sessions with them at once.
func (a *Agent) refreshBFD(list []pipeline.Interface) {
	s := a.bfd
	ifaces := make(map[fib.InterfaceID]*pipeline.Interface, len(list))
	var fallen []fib.InterfaceID
	for i := range list {
		ifaces[list[i].ID] = &list[i]
	}
	for id, up := range s.up {
		if f := ifaces[id]; up && (f == nil || !f.Up) {
			fallen = append(fallen, id)
		}
		delete(s.up, id)
	}
	var want []bfd.Config
	local := make(map[bfd.Key]netip.Addr)
	for i := range a.cfg.BFD {
		c := bfdConfig(&a.cfg.BFD[i])
		if f := ifaces[c.Interface]; f != nil {
			s.up[f.ID] = f.Up
			c.Local = localFor(f, c.Peer)
		}
		key := c.Key()
		if !c.Local.IsValid() {
			c.Local = s.local[key] // the interface is away for the moment
		}
		local[key] = c.Local
		want = append(want, c)
	}
	s.local = local
	err := s.runner.Do(func(c *bfd.Core, now int64) {
		c.Set(now, want)
		for _, id := range fallen {
			c.LinkDown(now, id)
		}
	})
	if err != nil {
		a.log.Error("set BFD sessions", "error", err)
	}
}

// localFor picks the interface's address to talk to a neighbour with: of its family
// and scope, of its prefix if there is one.
func localFor(f *pipeline.Interface, peer netip.Addr) (best netip.Addr) {
	for _, p := range f.Addresses {
		x := p.Addr()
		if x.Is4() != peer.Is4() || x.Is6() && x.IsLinkLocalUnicast() != peer.IsLinkLocalUnicast() {
			continue
		}
		if p.Contains(peer) {
			return x
		}
		if !best.IsValid() {
			best = x
		}
	}
	return best
}

// checkBFD refuses what the sessions could not work with.
func checkBFD(s *wire.BFDSession, card fib.CardID) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("BFD session with %v: %s", s.Peer, fmt.Sprintf(format, args...))
	}
	typ, err := bfd.ParseAuthType(s.Auth)
	outside := func(d time.Duration) bool { return d < bfd.MinInterval || d > bfd.MaxInterval }
	switch {
	case !s.Peer.IsValid() || s.Peer.Zone() != "":
		return fail("no plain address")
	case s.Interface != 0 && s.Interface.Card() != card:
		return fail("interface %#x is not of card %d", uint32(s.Interface), card)
	case s.Interface == 0 && (!s.Local.IsValid() || s.Local.Is4() != s.Peer.Is4()):
		return fail("several hops away, without our address %v", s.Local)
	case outside(s.MinTx), outside(s.MinRx), s.MinEcho != 0 && outside(s.MinEcho):
		return fail("intervals %v, %v, %v: want %v to %v", s.MinTx, s.MinRx, s.MinEcho, bfd.MinInterval, bfd.MaxInterval)
	case s.Multiplier == 0:
		return fail("multiplier 0")
	case err != nil:
		return fail("%v", err)
	case typ != bfd.NoAuth && (s.Key == "" || len(s.Key) > typ.MaxKey()):
		return fail("a key of %v has 1 to %d bytes", typ, typ.MaxKey())
	}
	return nil
}

func bfdConfig(s *wire.BFDSession) bfd.Config {
	typ, _ := bfd.ParseAuthType(s.Auth) // checkBFD has refused others
	return bfd.Config{
		VRF: s.VRF, Interface: s.Interface, Peer: s.Peer, Local: s.Local, MinTx: s.MinTx, MinRx: s.MinRx, MinEcho: s.MinEcho,
		Multiplier: s.Multiplier, MinTTL: s.MinTTL, Passive: s.Passive, Shutdown: s.Shutdown,
		Auth: bfd.Auth{Type: typ, KeyID: s.KeyID, Key: s.Key},
	}
}

func bfdStatus(s *bfd.Status) wire.BFDStatus {
	return wire.BFDStatus{
		VRF: s.VRF, Interface: s.Interface, Peer: s.Peer, Local: s.Local, State: s.State.String(), Remote: s.Remote.String(),
		Diag: s.Diag.String(), RemoteDiag: s.RemoteDiag.String(), Failed: s.Failed, Discriminator: s.My, RemoteDiscr: s.Your,
		Tx: s.Tx, Rx: s.Rx, Detection: s.Detection, RemoteMinTx: s.RemoteMinTx, RemoteMinRx: s.RemoteMinRx,
		Multiplier: s.Multiplier, RemoteMult: s.RemoteMult, Auth: s.Auth.String(), Age: s.Since,
		Sent: s.Sent, Received: s.Received, Refused: s.Refused, Flaps: s.Flaps,
	}
}

// bfdList answers GetBFD.
func (a *Agent) bfdList() (wire.BFDList, error) {
	out := wire.BFDList{Card: a.opt.Card, Sessions: []wire.BFDStatus{}, Drops: []wire.Drop{}}
	var list []bfd.Status
	if err := a.bfd.runner.Do(func(c *bfd.Core, now int64) { list, out.Echoes = c.Sessions(now), c.Echoes() }); err != nil {
		return out, err
	}
	for i := range list {
		out.Sessions = append(out.Sessions, bfdStatus(&list[i]))
	}
	for _, d := range a.bfd.drops.Append(nil) {
		out.Drops = append(out.Drops, wire.Drop{Node: d.Node, Reason: d.Reason, Count: d.Count, Help: d.Help})
	}
	most, often := a.bfd.runner.Lateness()
	out.LateMost, out.LateLong = time.Duration(most), often
	return out, nil
}
