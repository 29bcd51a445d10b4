package router

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fibcast"
	"godwit/cluster/fibsync"
	"godwit/cluster/member"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// expireEvery is how often cards are looked at that do not acknowledge.
const expireEvery = 5 * time.Second

// cards follows the line cards.
type cards struct {
	log    *slog.Logger
	h      *event.Handler
	pub    *fibsync.Publisher
	onAck  func() // a card has acknowledged routes
	pump   func()
	onPort func(*card) // its ports are known or have changed
	onBFD  func(fib.CardID, wire.BFDStatus)
	onLost func(fib.CardID)
	m      map[fib.CardID]*card
	member *member.Table
	turned map[fib.CardID]string // why the last one that came was turned away
}

// card is one line card: configured, connected, or both.
type card struct {
	id      fib.CardID
	cfg     *wire.CardConfig // nil: not configured
	sess    *session.Session // nil: not connected
	known   bool             // its ports are known
	ports   map[fib.PortID]wire.PortStatus
	states  map[fib.InterfaceID]ifState
	capture *capture
	absent  *absence        // nil: it is here, or counts as lost
	via     *fibcast.Sender // of multicasts on the card's bus; nil: it has none
}

// ifState is an interface as its card sees it.
type ifState struct {
	up    bool
	since time.Time
	mac   net.HardwareAddr
}

func (s *cards) get(id fib.CardID) *card {
	c := s.m[id]
	if c == nil {
		c = &card{id: id, ports: map[fib.PortID]wire.PortStatus{}, states: map[fib.InterfaceID]ifState{}}
		s.m[id] = c
	}
	return c
}

// configure brings all cards to a new desired state, each on its node.
func (s *cards) configure(cfgs map[fib.CardID]wire.CardConfig, nodes map[fib.CardID]uint32) {
	s.do(s.member.Expect(s.h.Loop().Now(), nodes))
	for id, c := range s.m {
		if _, ok := cfgs[id]; !ok {
			c.cfg = nil
		}
	}
	for id, cfg := range cfgs {
		c := s.get(id)
		if c.cfg != nil && reflect.DeepEqual(*c.cfg, cfg) {
			continue
		}
		c.cfg = &cfg
		switch s.member.State(id) {
		case member.Up:
			s.setCard(c, *c.cfg)
		case member.Joining:
			s.hold(c)
		}
	}
	s.forget()
}

// do carries out what membership asks for.
func (s *cards) do(effects []member.Effect) {
	for _, fx := range effects {
		c := s.m[fx.Card]
		switch {
		case c == nil:
		case fx.Do == member.Withdraw && c.sess != nil:
			c.sess.Close() // lost follows
		case c.cfg == nil:
		case fx.Do == member.Hold:
			s.hold(c)
		case fx.Do == member.Open:
			s.log.Info("line card is a member", "card", c.id)
			cfg := *c.cfg
			cfg.Complete = c.absent != nil // the snapshot is in: see member
			s.setCard(c, cfg)
		case fx.Do == member.Late:
			s.log.Warn("line card has not taken its snapshot: its ports come up all the same", "card", c.id)
		}
	}
}

// hold configures a card without its ports, but those that forward still, and
// without mirrors to the others.
func (s *cards) hold(c *card) {
	cfg := *c.cfg
	cfg.Ports, cfg.Hold = []wire.PortConfig{}, true
	for _, p := range c.cfg.Ports {
		if c.absent != nil && c.absent.ports[p.ID] {
			cfg.Ports = append(cfg.Ports, p)
		}
	}
	cfg.Mirrors = slices.DeleteFunc(slices.Clone(cfg.Mirrors), func(m wire.MirrorConfig) bool {
		return !slices.ContainsFunc(cfg.Ports, func(p wire.PortConfig) bool { return p.ID == m.Port })
	})
	s.setCard(c, cfg)
}

func (s *cards) forget() {
	for id, c := range s.m {
		if c.cfg == nil && c.sess == nil {
			c.returned()
			delete(s.m, id)
		}
	}
}

// up is called when a card of a node is connected. One that is not expected
// there is turned away. via multicasts on its bus; nil: not worth it.
func (s *cards) up(instance, node uint32, sess *session.Session, via *fibcast.Sender) session.Handler {
	id := fib.CardID(instance)
	if uint32(id) != instance {
		return nil
	}
	if err := s.member.Joined(s.h.Loop().Now(), id, node); err != nil {
		if s.turned[id] != err.Error() {
			s.log.Warn("line card turned away", "error", err)
			s.turned[id] = err.Error()
		}
		return nil
	}
	delete(s.turned, id)
	c := s.get(id)
	c.sess, c.known, c.via = sess, false, via
	s.log.Info("line card connected", "card", instance, "node", node)
	s.attach(c)
	return cardSession{s, c, sess}
}

// attach starts the download of routes, above the epoch that the card has.
func (s *cards) attach(c *card) {
	sess := c.sess
	receives := false
	if c.via != nil { // its answer comes before that of the next request
		s.offer(c, func(yes bool) { receives = yes })
	}
	sess.Request(wire.GetFIBStats, struct{}{}, requestTimeout, func(m session.Message, err error) {
		var st wire.FIBStats
		if err == nil {
			err = wire.DecodeKind(wire.GetFIBStats, m.Body, &st)
		}
		if c.sess != sess {
			return
		}
		if err != nil {
			s.log.Error("ask line card for its tables", "card", c.id, "error", err)
			sess.Close()
			return
		}
		// A card tells its ports before anything else: with none it forwards nothing.
		s.do(s.member.Tables(s.h.Loop().Now(), c.id, st.Epoch == 0 || len(c.ports) == 0))
		stream := s.pub.Attach(c.id, sess, st.Epoch)
		if receives {
			stream.CastVia(c.via)
		}
		s.pump()
		s.snapshot(c)
	})
}

// offer tells a card where multicasts will come from. One that takes none gets
// everything in its session.
func (s *cards) offer(c *card, receives func(bool)) {
	from := c.via.Addr()
	c.sess.Request(wire.SetFIBSource, wire.FIBSourceBody{Ref: from.Ref, Node: from.Node}, requestTimeout, func(m session.Message, err error) {
		var res wire.FIBSourceResult
		if err == nil {
			err = wire.DecodeKind(wire.SetFIBSource, m.Body, &res)
		}
		if err != nil {
			s.log.Info("line card takes no multicasts", "card", c.id, "reason", err)
		}
		receives(res.Receives)
	})
}

// snapshot looks whether a card that waits for it has everything.
func (s *cards) snapshot(c *card) {
	if !s.member.Waiting(c.id) {
		return
	}
	for _, st := range s.pub.Status() {
		if st.Card == c.id && st.Backlog == 0 && st.Sent == st.Acked {
			s.do(s.member.Snapshot(s.h.Loop().Now(), c.id))
		}
	}
}

// setCard sends a desired state, then asks what came of it.
func (s *cards) setCard(c *card, cfg wire.CardConfig) {
	sess := c.sess
	if sess == nil {
		return
	}
	sess.Request(wire.SetCard, cfg, 3*requestTimeout, func(m session.Message, err error) {
		var res wire.CardResult
		if err == nil {
			err = wire.DecodeKind(wire.SetCard, m.Body, &res)
		}
		if err != nil {
			s.log.Error("configure line card", "card", c.id, "error", err)
			return
		}
		for _, p := range res.Problems {
			s.log.Warn("line card", "card", c.id, "problem", p)
		}
		if c.sess == sess && s.member.State(c.id) == member.Up {
			s.askPorts(c)
		}
	})
}

func (s *cards) askPorts(c *card) {
	sess := c.sess
	sess.Request(wire.GetPorts, struct{}{}, requestTimeout, func(m session.Message, err error) {
		var list wire.PortList
		if err == nil {
			err = wire.DecodeKind(wire.GetPorts, m.Body, &list)
		}
		if err != nil {
			s.log.Error("ask line card for its ports", "card", c.id, "error", err)
			return
		}
		if c.sess != sess {
			return
		}
		c.known = true
		c.returned()
		c.ports = map[fib.PortID]wire.PortStatus{}
		for _, p := range list.Ports {
			c.ports[p.ID] = p
		}
		s.refresh(c)
	})
}

// refresh makes the states of a card's interfaces from its ports. While a card that was absent
// opens them one by one, they count as they were.
func (s *cards) refresh(c *card) {
	if c.absent != nil {
		return
	}
	now := s.h.Loop().Now()
	next := map[fib.InterfaceID]ifState{}
	for _, p := range c.ports {
		mac, _ := net.ParseMAC(p.MAC) // none while the device is missing
		for _, f := range p.Interfaces {
			st := ifState{up: p.Up && f.Up, since: now, mac: mac}
			if old, ok := c.states[f.ID]; ok {
				if old.up == st.up {
					st.since = old.since
				}
				if st.mac == nil {
					st.mac = old.mac
				}
			}
			next[f.ID] = st
		}
	}
	c.states = next
	s.onPort(c)
}

// lost is called when a card's session has ended: its interfaces are down.
func (s *cards) lost(c *card, err error) {
	s.log.Warn("line card lost", "card", c.id, "error", err)
	reason := "session closed"
	if gone := (*bus.GoneError)(nil); errors.As(err, &gone) {
		reason = gone.Code.String()
	}
	c.sess, c.known = nil, false
	s.member.Left(s.h.Loop().Now(), c.id, reason)
	s.pub.Detach(c.id)
	s.onLost(c.id)
	s.onAck() // the others may have acknowledged more
	if c.capture != nil {
		close(c.capture.frames)
		c.capture = nil
	}
	s.leave(c, err)
	s.down(c)
	s.forget()
}

// down marks the interfaces of a card as down, but those that go on without it.
func (s *cards) down(c *card) {
	now := s.h.Loop().Now()
	c.ports = map[fib.PortID]wire.PortStatus{}
	for id, st := range c.states {
		if st.up && !c.goesOn(id) {
			c.states[id] = ifState{since: now, mac: st.mac}
		}
	}
	s.onPort(c)
}

// expire cuts off the cards that do not acknowledge; they connect again.
func (s *cards) expire() {
	s.do(s.member.Tick(s.h.Loop().Now()))
	for _, id := range s.pub.Expire(s.h.Loop().Now()) {
		if c := s.m[id]; c != nil && c.sess != nil {
			s.log.Error("line card does not acknowledge routes: session closed", "card", id)
			c.sess.Close()
		}
	}
}

// state tells what is known of an interface.
func (s *cards) state(id fib.InterfaceID) (ifState, bool) {
	c := s.m[id.Card()]
	if c == nil {
		return ifState{}, false
	}
	st, ok := c.states[id]
	return st, ok
}

// macs lists the MAC addresses of all interfaces that are known.
func (s *cards) macs() map[fib.InterfaceID]net.HardwareAddr {
	m := map[fib.InterfaceID]net.HardwareAddr{}
	for _, c := range s.m {
		for id, st := range c.states {
			if st.mac != nil {
				m[id] = st.mac
			}
		}
	}
	return m
}

// cardSession is a card's session.
type cardSession struct {
	s    *cards
	c    *card
	sess *session.Session
}

// Receive takes a message of the card.
func (x cardSession) Receive(_ *session.Session, m session.Message) {
	if x.c.sess != x.sess {
		return
	}
	var err error
	switch m.Kind {
	case wire.FIBAck:
		var a wire.FIBAckBody
		if err = wire.DecodeKind(m.Kind, m.Body, &a); err == nil {
			if a.Error != "" {
				x.s.log.Error("line card refused routes", "card", x.c.id, "error", a.Error)
			}
			x.s.pub.Ack(x.c.id, a)
			x.s.onAck()
			x.s.snapshot(x.c)
			x.s.pump()
		}
	case wire.FIBFetch:
		var f wire.FIBFetchBody
		if err = wire.DecodeKind(m.Kind, m.Body, &f); err == nil {
			x.s.pub.Fetch(x.c.id, f)
		}
	case wire.PortEvent:
		var p wire.PortStatus
		if err = wire.DecodeKind(m.Kind, m.Body, &p); err == nil {
			x.s.log.Info("port", "card", x.c.id, "device", p.Device, "up", p.Up, "reason", p.Reason)
			x.c.ports[p.ID] = p
			x.s.refresh(x.c)
		}
	case wire.BFDEvent:
		var st wire.BFDStatus
		if err = wire.DecodeKind(m.Kind, m.Body, &st); err == nil {
			x.s.onBFD(x.c.id, st)
		}
	case wire.CaptureFrame:
		if x.c.capture != nil {
			err = x.c.capture.take(m.Body)
		}
	default:
		if m.ID != 0 {
			_ = x.sess.ReplyError(m, fmt.Errorf("routing engine does not answer %v", m.Kind))
		}
	}
	if err != nil {
		x.s.log.Error("message of line card", "card", x.c.id, "error", err)
	}
}

// Closed is called when the session has ended.
func (x cardSession) Closed(_ *session.Session, err error) {
	if x.c.sess == x.sess {
		x.s.lost(x.c, err)
	}
}
