package bfd

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/fib"
)

// EffectKind says what an Effect is.
type EffectKind uint8

// The kinds of effects.
const (
	Send    EffectKind = iota // Data, an IP packet, goes to Key.Peer: on one hop out of Key.Interface
	Changed                   // Status tells of a session that is new, or whose state changed
	Removed                   // Status tells of a session that is not wanted any more
)

// Effect is something that the core wants done.
type Effect struct {
	Kind   EffectKind
	Key    Key
	Data   []byte
	Status Status
}

// Status is a session as it is.
type Status struct {
	Key
	Local          netip.Addr
	State          State
	Remote         State
	Diag           Diag
	RemoteDiag     Diag
	Failed         bool // was up, and is down for another reason than an administrator
	My, Your       uint32
	Tx, Rx         time.Duration // intervals of packets, as negotiated
	Detection      time.Duration
	RemoteMinTx    time.Duration
	RemoteMinRx    time.Duration
	Multiplier     uint8
	RemoteMult     uint8
	Auth           AuthType
	Since          time.Duration // in this state
	Sent, Received uint64
	Refused, Flaps uint64
}

// Core holds the sessions of a card. It is not for concurrent use.
type Core struct {
	rng      *rand.Rand
	sessions map[Key]*session
	byDiscr  map[uint32]*session
	heap     heap
	drops    *graph.Drops
	echoes   uint64
	effects  []Effect
	buf      []byte // of the packets in effects
}

// New makes a core without sessions. rng makes discriminators and jitter.
func New(rng *rand.Rand) *Core {
	return &Core{rng: rng, sessions: make(map[Key]*session), byDiscr: make(map[uint32]*session), drops: newDrops()}
}

// Drops are the core's drop counters; any goroutine may read them.
func (c *Core) Drops() *graph.Drops { return c.drops }

// Echoes counts echo packets that were reflected.
func (c *Core) Echoes() uint64 { return c.echoes }

// Set brings the sessions to the wanted ones. A session that is not wanted any
// more tells its neighbour for a detection time that it is administratively down.
func (c *Core) Set(now int64, want []Config) {
	keep := make(map[Key]bool, len(want))
	for i := range want {
		k := want[i].Key()
		keep[k] = true
		if s := c.sessions[k]; s != nil {
			c.change(now, s, want[i])
		} else {
			c.add(now, k, want[i])
		}
	}
	for k, s := range c.sessions {
		if !keep[k] && s.closeAt == 0 {
			c.close(now, s)
		}
	}
}

func (c *Core) add(now int64, k Key, cfg Config) {
	s := &session{cfg: cfg, key: k, state: Down, remote: Down, remoteMinRx: int64(time.Microsecond), detectAt: never, nextTx: never,
		txSeq: c.rng.Uint32(), since: now, index: -1}
	for s.my == 0 || c.byDiscr[s.my] != nil {
		s.my = c.rng.Uint32()
	}
	if cfg.Shutdown {
		s.state, s.diag = AdminDown, DiagAdminDown
	}
	s.negotiate()
	c.sessions[k], c.byDiscr[s.my] = s, s
	// Sessions that are configured together do not speak together.
	s.lastTx = now - s.activeTx + int64(c.rng.Float64()*float64(s.activeTx)/4)
	c.schedule(s, now)
	c.tell(Changed, s, now)
}

func (c *Core) change(now int64, s *session, cfg Config) {
	if s.closeAt == 0 && s.cfg == cfg {
		return
	}
	if s.cfg.Auth != cfg.Auth {
		s.seqKnown = false
	}
	back := s.closeAt != 0
	s.cfg, s.closeAt = cfg, 0
	switch {
	case cfg.Shutdown && s.state != AdminDown:
		c.enter(now, s, AdminDown, DiagAdminDown)
	case !cfg.Shutdown && s.state == AdminDown:
		c.enter(now, s, Down, DiagNone)
	case back:
		c.tell(Changed, s, now)
	}
	s.negotiate()
	c.reschedule(s, now)
}

func (c *Core) close(now int64, s *session) {
	c.tell(Removed, s, now)
	linger := max(int64(s.cfg.Multiplier)*max(int64(s.cfg.MinTx), s.remoteMinRx), int64(100*time.Millisecond))
	s.closeAt = now + min(linger, 3*int64(slow))
	s.state, s.diag, s.poll = AdminDown, DiagAdminDown, false
	s.negotiate()
	c.transmit(now, s, false)
	c.schedule(s, now)
}

// LinkDown tells that an interface went down: its sessions do, too.
func (c *Core) LinkDown(now int64, id fib.InterfaceID) {
	for k, s := range c.sessions {
		if k.Interface == id && s.state >= Init {
			s.your, s.remote = 0, Down
			c.enter(now, s, Down, DiagPathDown)
		}
	}
}

// enter changes a session's state, tells of it and, at once, the neighbour.
func (c *Core) enter(now int64, s *session, to State, why Diag) {
	from := s.state
	if from == to {
		return
	}
	s.state, s.diag, s.since = to, why, now
	if from == Up {
		s.flaps++
		s.failed = to != AdminDown && s.remote != AdminDown
	}
	if to == Up || to == AdminDown {
		s.failed = false
	}
	if to != Up {
		s.poll = false
	}
	s.negotiate()
	if to == Up {
		s.poll = true // the slow rate is over: the neighbour has to know
	}
	if s.closeAt == 0 {
		c.tell(Changed, s, now)
	}
	if s.interval() != never {
		c.transmit(now, s, false)
	}
	c.reschedule(s, now)
}

func (c *Core) tell(k EffectKind, s *session, now int64) {
	c.effects = append(c.effects, Effect{Kind: k, Key: s.key, Status: s.status(now)})
}

// transmit sends a control packet now.
func (c *Core) transmit(now int64, s *session, final bool) {
	if !s.cfg.Local.IsValid() {
		return // the interface has no address for this neighbour yet
	}
	p := s.packet(final)
	var scratch [64]byte
	b := p.Append(scratch[:0])
	if a := &s.cfg.Auth; a.Type != NoAuth {
		if a.Type.meticulous() || now-s.seqAt >= int64(seqRenew) {
			s.txSeq++
			s.seqAt = now
		}
		b = a.sign(b, s.txSeq)
	}
	to := uint16(PortControl)
	if s.key.Interface == 0 {
		to = PortMultihop
	}
	at := len(c.buf)
	c.buf = appendDatagram(c.buf, s.cfg.Local, s.key.Peer, firstPort+uint16(s.my%(65536-firstPort)), to, b)
	c.effects = append(c.effects, Effect{Kind: Send, Key: s.key, Data: c.buf[at:len(c.buf):len(c.buf)]})
	s.sent++
}

// jittered takes off up to a quarter of an interval, and at least a tenth if one
// lost packet is enough for the neighbour (RFC 5880, 6.8.7).
func (c *Core) jittered(s *session, d int64) int64 {
	cut := c.rng.Float64() * 0.25
	if s.cfg.Multiplier == 1 {
		cut = 0.1 + c.rng.Float64()*0.15
	}
	return d - int64(cut*float64(d))
}

// schedule sets when the next periodic packet is due.
func (c *Core) schedule(s *session, now int64) {
	s.nextTx = never
	if d := s.interval(); d != never {
		s.nextTx = max(s.lastTx+c.jittered(s, d), now)
	}
	c.arm(s)
}

// reschedule follows a change of the interval: what is due sooner than before
// comes sooner, what is due stays due.
func (c *Core) reschedule(s *session, now int64) {
	was := s.nextTx
	c.schedule(s, now)
	if d := s.interval(); d != never && was < s.nextTx && was-s.lastTx >= d-d/4 {
		s.nextTx = was
		c.arm(s)
	}
}

// arm puts the session in its place among the timers.
func (c *Core) arm(s *session) {
	s.due = min(s.nextTx, s.detectAt)
	if s.closeAt != 0 {
		s.due = min(s.nextTx, s.closeAt)
	}
	c.heap.fix(s)
}

// Next is when Advance has something to do.
func (c *Core) Next() int64 {
	if len(c.heap) == 0 {
		return never
	}
	return c.heap[0].due
}

// Advance runs what is due.
func (c *Core) Advance(now int64) {
	for len(c.heap) > 0 && c.heap[0].due <= now {
		s := c.heap[0]
		switch {
		case s.closeAt != 0 && s.closeAt <= now:
			c.forget(s)
			continue
		case s.closeAt == 0 && s.detectAt <= now:
			c.expire(now, s)
		}
		if s.nextTx <= now {
			s.lastTx = now
			c.transmit(now, s, false)
			c.schedule(s, now)
		}
		c.arm(s)
	}
}

// expire handles a detection time that is over.
func (c *Core) expire(now int64, s *session) {
	if now-s.detectAt > int64(lateClock) && !s.doubted {
		s.doubted = true
		s.detectAt = now + int64(lateClock)
		return
	}
	s.detectAt = never
	s.your = 0 // RFC 5880, 6.8.1
	if end := s.lastRx + 2*s.detection(); s.seqKnown && now < end {
		s.detectAt = end
	} else {
		s.seqKnown = false
	}
	s.remoteMinRx, s.remoteDemand = int64(time.Microsecond), false
	if s.state >= Init {
		s.remote = Down
		c.enter(now, s, Down, DiagExpired)
	}
}

func (c *Core) forget(s *session) {
	c.heap.remove(s)
	delete(c.sessions, s.key)
	delete(c.byDiscr, s.my)
}

// Receive takes an IP packet with a UDP datagram for one of the ports. It came
// in on the interface; 0 is any. The core may change packet, and does not keep it.
func (c *Core) Receive(now int64, vrf fib.VRF, in fib.InterfaceID, packet []byte) {
	d, why := parse(packet)
	switch {
	case why != passed:
	case d.port == PortEcho:
		why = c.reflect(vrf, in, &d, packet)
	case d.port == PortControl:
		why = c.control(now, Key{VRF: vrf, Interface: in, Peer: d.src}, &d)
	case d.port == PortMultihop:
		why = c.control(now, Key{VRF: vrf, Peer: d.src, Local: d.dst}, &d)
	default:
		why = DropDatagram
	}
	if why != passed {
		c.drops.Add(int(why))
	}
}

// control handles a control packet (RFC 5880, 6.8.6).
func (c *Core) control(now int64, k Key, d *datagram) Drop {
	if k.Interface != 0 && d.ttl != ttlMost {
		return DropTTL // RFC 5881, 5
	}
	p, body, section, why := Decode(d.payload)
	if why != passed {
		return why
	}
	s := c.sessions[k]
	if p.Your != 0 {
		if s = c.byDiscr[p.Your]; s != nil && s.key != k {
			return DropMismatch
		}
	}
	switch {
	case s == nil || s.closeAt != 0:
		return DropUnknown
	case d.ttl < s.cfg.MinTTL:
		s.refused++
		return DropTTL
	}
	if why := s.authentic(&p, body, section); why != passed {
		s.refused++
		return why
	}
	s.heard++
	c.accept(now, s, &p)
	return passed
}

// accept takes over what a valid packet says.
func (c *Core) accept(now int64, s *session, p *Packet) {
	was := s.interval()
	s.your, s.remote, s.remoteDiag, s.remoteDemand = p.My, p.State, p.Diag, p.Demand
	s.remoteMinTx, s.remoteMinRx, s.remoteMult = nanos(p.MinTx), nanos(p.MinRx), p.Multiplier
	if s.remote == AdminDown && s.failed {
		s.failed = false
		c.tell(Changed, s, now)
	}
	if p.Final && s.poll {
		s.agreed()
	}
	s.lastRx, s.doubted = now, false
	s.detectAt = now + s.detection()
	if s.state != AdminDown {
		to, diag := s.next(p.State)
		c.enter(now, s, to, diag)
	}
	if p.Poll {
		c.transmit(now, s, true)
	}
	if s.interval() != was {
		c.reschedule(s, now)
	} else {
		c.arm(s)
	}
}

// reflect sends an echo packet back (RFC 5881, 4): with a TTL of 255 it is the
// neighbour's, which has a session that allows it.
func (c *Core) reflect(vrf fib.VRF, in fib.InterfaceID, d *datagram, packet []byte) Drop {
	k := Key{VRF: vrf, Interface: in, Peer: d.src}
	s := c.sessions[k]
	if s == nil || s.cfg.MinEcho == 0 || d.ttl != ttlMost || d.src.Is4() != d.dst.Is4() {
		return DropEcho
	}
	at := len(c.buf)
	c.buf = append(c.buf, packet...)
	b := c.buf[at:len(c.buf):len(c.buf)]
	if h := header.IPv4(b); d.src.Is4() {
		swap(b[12:16], b[16:20])
		h.DecrementTTL()
		b = b[:h.TotalLen()]
	} else {
		swap(b[8:24], b[24:40])
		b[7]--
		b = b[:header.IPv6(b).TotalLen()]
	}
	c.effects = append(c.effects, Effect{Kind: Send, Key: k, Data: b})
	c.echoes++
	return passed
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// Drain returns what is to be done since the last Drain; valid until the next
// call of any method.
func (c *Core) Drain() []Effect {
	list := c.effects
	c.effects, c.buf = c.effects[:0], c.buf[:0]
	return list
}

// Sessions lists the wanted sessions, by VRF, interface and neighbour.
func (c *Core) Sessions(now int64) []Status {
	list := make([]Status, 0, len(c.sessions))
	for _, s := range c.sessions {
		if s.closeAt == 0 {
			list = append(list, s.status(now))
		}
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.VRF, b.VRF), cmp.Compare(a.Interface, b.Interface), a.Peer.Compare(b.Peer), a.Key.Local.Compare(b.Key.Local))
	})
	return list
}

func (s *session) status(now int64) Status {
	st := Status{
		Key: s.key, Local: s.cfg.Local, State: s.state, Remote: s.remote, Diag: s.diag, RemoteDiag: s.remoteDiag, Failed: s.failed,
		My: s.my, Your: s.your, RemoteMinTx: time.Duration(s.remoteMinTx), RemoteMinRx: time.Duration(s.remoteMinRx),
		Multiplier: s.cfg.Multiplier, RemoteMult: s.remoteMult, Auth: s.cfg.Auth.Type, Since: time.Duration(now - s.since),
		Sent: s.sent, Received: s.heard, Refused: s.refused, Flaps: s.flaps, Detection: time.Duration(s.detection()),
		Rx: time.Duration(max(s.activeRx, s.remoteMinTx)),
	}
	if d := s.interval(); d != never {
		st.Tx = time.Duration(d)
	}
	return st
}
