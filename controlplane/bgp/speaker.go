package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"godwit/cluster/health"
	"godwit/cluster/wire"
	"godwit/event"
)

// Client is a session with a process that speaks to the speaker, as the Speaker
// uses it. Its methods do not block.
type Client interface {
	Send(kind wire.Kind, body []byte) error
	SendJSON(kind wire.Kind, v any) error
}

// Options are what a speaker is told when it starts.
type Options struct {
	VRF    string          // name: of the API socket RunDir/bgp/VRF.sock
	RunDir string          // the router's run directory
	Module wire.ModuleInfo // answer to GetModule
	Log    *slog.Logger
	Level  *slog.LevelVar // of Log: gobgp's log-level command; may be nil
	Tuner  *Tuner         // of the process; may be nil
}

// Speaker is the BGP speaker of one VRF. It belongs to the event loop of its
// handlers: all methods are called there.
type Speaker struct {
	opt    Options
	loop   *event.Loop
	high   *event.Handler // sessions and requests
	normal *event.Handler // routes
	slow   *event.Handler // limits

	srv  server // used by operations only
	feed *feed
	w    watch
	ops  []op
	busy bool // an operation runs

	leaving bool // a signal asked for it

	cfg    *wire.SpeakerConfig // last one asked for; nil: none yet
	peers  map[netip.Addr]*peerState
	redist redist
	fib    fibState
	sync   initialSync
	ticker *event.Timer // of the initial sync

	client     Client // the routing engine: who last sent SetSpeaker; nil: none
	seq, acked uint64 // of route batches to the client
	sentAt     time.Time
	paced      bool // a timer will flush
	synced     bool // the client has been told RoutesSynced
	marked     bool // syncMark is set
	syncMark   mark // RoutesSynced is due behind it
	ended      bool // Farewell or Close was called
}

// op is a call into GoBGP, and what to do with the result on the loop.
type op struct {
	work func() error
	then func(error)
}

// NewSpeaker makes a speaker that waits for its configuration.
func NewSpeaker(l *event.Loop, o Options) *Speaker {
	s := &Speaker{
		opt:    o,
		loop:   l,
		high:   l.Handler("bgp sessions", event.High),
		normal: l.Handler("bgp routes", event.Normal),
		slow:   l.Handler("bgp limits", event.Background),
		peers:  map[netip.Addr]*peerState{},
	}
	s.feed = newFeed(1, s.wake)
	s.w = watch{
		feed: s.feed,
		peer: func(n peerNews) { s.post(s.high, func() { s.peerNews(n) }) },
		eor:  func(a netip.Addr, f string) { s.post(s.high, func() { s.endOfRIB(a, f) }) },
	}
	s.srv = server{log: o.Log, level: o.Level, socket: filepath.Join(o.RunDir, "bgp", o.VRF+".sock"), addresses: listAddresses}
	s.slow.Every(limitTick, s.checkLimits)
	if o.Tuner != nil {
		s.slow.Every(time.Second, s.tune)
	}
	return s
}

// limitTick is how often prefix limits above nativeLimit are checked.
const limitTick = 2 * time.Second

// post posts an event from GoBGP's goroutines.
func (s *Speaker) post(h *event.Handler, f func()) {
	if err := h.Post(f); err != nil && !errors.Is(err, event.ErrStopped) {
		s.opt.Log.Error("event lost", "handler", h.Name(), "error", err)
	}
}

// enqueue runs an operation after those before it.
func (s *Speaker) enqueue(work func() error, then func(error)) {
	s.ops = append(s.ops, op{work, then})
	s.next()
}

func (s *Speaker) next() {
	if s.busy || len(s.ops) == 0 {
		return
	}
	o := s.ops[0]
	s.ops = slices.Delete(s.ops, 0, 1)
	s.busy = true
	s.high.Async(o.work, func(err error) {
		s.busy = false
		o.then(err)
		s.next()
	})
}

// Handle takes a message. For a request, reply is called exactly once, with the
// body of the answer or an error; messages that are no requests ignore it.
func (s *Speaker) Handle(c Client, kind wire.Kind, body []byte, reply func(v any, err error)) {
	var err error
	switch kind {
	case wire.SetSpeaker:
		var cfg wire.SpeakerConfig
		if err = wire.DecodeKind(kind, body, &cfg); err == nil {
			err = s.setSpeaker(c, cfg, reply)
		}
	case wire.RouteAck:
		var ack wire.RouteAckBody
		if err = wire.DecodeKind(kind, body, &ack); err == nil {
			s.routeAck(c, ack.Seq)
		}
	case wire.Redistribute:
		var r wire.RedistBody
		if err = wire.DecodeKind(kind, body, &r); err == nil {
			err = s.redistribute(r)
		}
	case wire.FIBState:
		var b wire.FIBStateBody
		if err = wire.DecodeKind(kind, body, &b); err == nil && c == s.client {
			err = s.fibState(b)
		}
	case wire.ResendRoutes:
		if c == s.client {
			s.feed.again()
			s.flush()
		}
	case wire.GetPeers:
		s.getPeers(reply)
	case wire.ResetPeer:
		var r wire.PeerReset
		if err = wire.DecodeKind(kind, body, &r); err == nil {
			err = s.resetPeer(r, reply)
		}
	case wire.GetEvents, wire.GetTrace, wire.ClearEvents:
		answer, _ := health.Answer(s.loop, kind)
		reply(answer, nil)
	case wire.GetModule:
		reply(s.opt.Module, nil)
	default:
		err = fmt.Errorf("handle %v: not a message for a BGP speaker", kind)
	}
	if err != nil {
		s.opt.Log.Warn("message refused", "kind", kind.String(), "error", err)
		reply(nil, err)
	}
}

// Lost tells that a client's session ended. BGP goes on.
func (s *Speaker) Lost(c Client) {
	if s.client == c {
		s.client = nil
		s.feed.detach()
	}
}

// setSpeaker takes over a configuration. Its sender is the routing engine: a new
// one gets all routes.
func (s *Speaker) setSpeaker(c Client, cfg wire.SpeakerConfig, reply func(any, error)) error {
	cfg, err := normalize(cfg)
	if err != nil {
		return err
	}
	first := s.cfg == nil
	if !first {
		cfg.Restarting = false // only what starts can be restarting
	}
	restart := !first && needsRestart(s.cfg, &cfg)
	if !first {
		for _, p := range diffPeers(s.cfg, &cfg).update {
			s.peers[p.Address].limited = false // the operation lets it in again
		}
	}
	s.cfg = &cfg
	s.configurePeers()
	now := s.loop.Now()
	if first || restart {
		s.sync.begin(&cfg, now)
		s.synced, s.marked = false, false
		if s.ticker == nil {
			s.ticker = s.high.Every(syncTick, s.syncTick)
		}
	} else {
		s.sync.keep(&cfg)
	}
	if c != s.client {
		s.client, s.seq, s.acked = c, 0, 0
		s.synced, s.marked = false, false
		s.feed.attach()
		for _, p := range cfg.Neighbors {
			s.tellPeer(s.peers[p.Address])
		}
		s.checkSync()
		s.flush()
	}
	s.applyConfig(&cfg, false, reply)
	return nil
}

// applyConfig brings the server to the configuration. Where it cannot start (its
// port is taken, say), it is tried again as long as the configuration is wanted.
func (s *Speaker) applyConfig(cfg *wire.SpeakerConfig, again bool, reply func(any, error)) {
	routes := s.redist.all()
	stopped := false
	s.enqueue(func() error {
		err := s.srv.apply(*cfg, &s.w, routes)
		stopped = s.srv.bgp == nil
		return err
	}, func(err error) {
		if err != nil {
			s.opt.Log.Error("configure BGP", "error", err)
			reply(nil, err)
		} else {
			reply(struct{}{}, nil)
		}
		switch {
		case stopped:
			s.high.After(startAgain, func() {
				if s.cfg == cfg && !s.ended {
					s.applyConfig(cfg, true, func(any, error) {})
				}
			})
		case again && !s.sync.done && s.cfg == cfg:
			s.sync.begin(cfg, s.loop.Now()) // the peers could not send anything yet
		}
	})
}

// startAgain is how long the speaker waits after the server did not start.
const startAgain = 2 * time.Second

func (s *Speaker) configurePeers() {
	now := s.loop.Now()
	old := s.peers
	s.peers = make(map[netip.Addr]*peerState, len(s.cfg.Neighbors))
	for _, p := range s.cfg.Neighbors {
		st := old[p.Address]
		if st == nil {
			st = newPeerState(p, now)
		} else if st.configure(p, now) {
			s.tellPeer(st)
		}
		s.peers[p.Address] = st
	}
}

// peerNews takes over a change of a session.
func (s *Speaker) peerNews(n peerNews) {
	p := s.peers[n.address]
	if p == nil {
		return // removed meanwhile
	}
	if n.limited && !p.limited {
		s.hold(p)
	}
	n.limited = p.limited
	now := s.loop.Now()
	s.sync.news(n, p.cfg.Families, now)
	if n.state == established && p.status.State != established {
		s.opt.Tuner.begin(now)
	}
	if p.news(n, now) {
		s.opt.Log.Info("neighbour", "address", n.address, "state", p.status.State, "reason", n.reason)
		s.tellPeer(p)
	}
	s.checkSync()
	s.flush()
}

func (s *Speaker) tellPeer(p *peerState) {
	if s.client == nil {
		return
	}
	if err := s.client.SendJSON(wire.PeerEvent, p.status); err != nil {
		s.opt.Log.Warn("tell of neighbour", "address", p.status.Address, "error", err)
	}
}

// hold keeps a neighbour down that exceeded its prefix limit.
func (s *Speaker) hold(p *peerState) {
	p.limited = true
	a := p.cfg.Address
	s.enqueue(func() error { return s.srv.hold(a) }, func(err error) {
		if err != nil {
			s.opt.Log.Error("hold neighbour down", "address", a, "error", err)
		}
	})
}

func (s *Speaker) checkLimits() {
	if !slices.ContainsFunc(s.limitedPeers(), func(p *peerState) bool { return p.status.State == established }) {
		return
	}
	var over []netip.Addr
	s.enqueue(func() error { over = s.srv.checkLimits(); return nil }, func(error) {
		for _, a := range over {
			if p := s.peers[a]; p != nil && !p.limited {
				s.hold(p)
				s.peerNews(peerNews{address: a, state: idle})
			}
		}
	})
}

// limitedPeers are the neighbours whose prefix limit GoBGP does not check.
func (s *Speaker) limitedPeers() []*peerState {
	var list []*peerState
	for _, p := range s.peers {
		if p.cfg.MaxPrefixes > nativeLimit && !p.limited {
			list = append(list, p)
		}
	}
	return list
}

func (s *Speaker) endOfRIB(a netip.Addr, family string) {
	s.sync.eor(a, family)
	s.checkSync()
	s.flush()
}

func (s *Speaker) redistribute(r wire.RedistBody) error {
	list, err := s.redist.change(r)
	if err != nil || len(list) == 0 {
		return err
	}
	s.enqueue(func() error { return s.srv.originate(list) }, func(err error) {
		if err != nil {
			s.opt.Log.Error("redistribute", "error", err)
		}
	})
	return nil
}

func (s *Speaker) resetPeer(r wire.PeerReset, reply func(any, error)) error {
	p := s.peers[r.Address]
	if p == nil {
		return fmt.Errorf("reset neighbour %v: not configured", r.Address)
	}
	if r.Reason != "" {
		if p.status.State != established {
			// There is nothing to end. GoBGP would keep the NOTIFICATION for the next session.
			reply(struct{}{}, nil)
			return nil
		}
		p.why = r.Reason
	}
	if !r.Soft {
		p.limited = false
	}
	s.enqueue(func() error { return s.srv.reset(r.Address, r.Soft, resetBoth, r.Reason) }, func(err error) { reply(struct{}{}, err) })
	return nil
}

// getPeers answers with the loop's states and GoBGP's counters.
func (s *Speaker) getPeers(reply func(any, error)) {
	stats := s.feed.stats()
	var counts map[netip.Addr]peerCounts
	s.enqueue(func() (err error) { counts, err = s.srv.counts(stats); return err }, func(err error) {
		if err != nil {
			reply(nil, err)
			return
		}
		list := wire.PeerList{VRF: s.opt.VRF, Peers: []wire.PeerStatus{}}
		if s.cfg != nil {
			list.AS, list.RouterID = s.cfg.AS, s.cfg.RouterID
			for _, p := range s.cfg.Neighbors {
				st := s.peers[p.Address].status
				c := counts[p.Address]
				st.MessagesIn, st.MessagesOut = c.messagesIn, c.messagesOut
				if st.State == established {
					st.Received, st.Accepted, st.Advertised = c.received, c.accepted, c.advertised
				}
				list.Peers = append(list.Peers, st)
			}
		}
		reply(list, nil)
	})
}
