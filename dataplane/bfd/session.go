package bfd

import (
	"math"
	"net/netip"
	"time"

	"godwit/fib"
)

// Bounds of a session's intervals.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = 60 * time.Second
	// slow is the least interval of packets while a session is not up (RFC 5880, 6.8.3).
	slow = time.Second
	// seqRenew is how long a sequence number that is not meticulous stays the same.
	seqRenew = time.Second
	// lateClock is how late the core may be told of a detection time that is over before it
	// doubts itself: it waits as long again for packets that may lie unread.
	lateClock = 10 * time.Millisecond
)

// never is a time that does not come.
const never = int64(math.MaxInt64)

// Config is one session as it is wanted.
type Config struct {
	VRF       fib.VRF
	Interface fib.InterfaceID // of a neighbour on the link; 0: several hops away
	Peer      netip.Addr
	Local     netip.Addr // our address
	MinTx     time.Duration
	MinRx     time.Duration
	// MinEcho is the least interval of echo packets that are reflected; 0: none are.
	MinEcho    time.Duration
	Multiplier uint8
	MinTTL     uint8 // several hops: the least TTL accepted
	Passive    bool  // do not speak first
	Shutdown   bool  // administratively down
	Auth       Auth
}

// Key names a session.
type Key struct {
	VRF       fib.VRF
	Interface fib.InterfaceID
	Peer      netip.Addr
	Local     netip.Addr // several hops only
}

// Key is the session's name. On one hop our address may change.
func (c *Config) Key() Key {
	k := Key{VRF: c.VRF, Interface: c.Interface, Peer: c.Peer}
	if c.Interface == 0 {
		k.Local = c.Local
	}
	return k
}

// session is one session. The names in parentheses are those of RFC 5880, 6.8.1.
type session struct {
	cfg Config
	key Key

	state, remote State
	diag          Diag
	remoteDiag    Diag
	my, your      uint32
	failed        bool // was up, and went down for another reason than an administrator

	// Intervals, ns. While a poll sequence runs, the old ones are in use if the
	// neighbour does not know the new ones yet (RFC 5880, 6.8.3).
	desired, activeTx  int64 // bfd.DesiredMinTxInterval
	required, activeRx int64 // bfd.RequiredMinRxInterval
	remoteMinRx        int64
	remoteMinTx        int64
	remoteMult         uint8
	remoteDemand       bool
	poll               bool

	lastTx, nextTx int64
	lastRx         int64 // 0: nothing heard
	detectAt       int64
	doubted        bool  // the core was late, and has waited once more
	closeAt        int64 // 0: stays

	txSeq, rxSeq uint32
	seqKnown     bool
	seqAt        int64

	due   int64 // the next of its timers
	index int   // in the heap

	since       int64
	sent, heard uint64
	flaps       uint64 // times it left Up
	refused     uint64
}

func (s *session) slowest() int64 { return int64(max(s.cfg.MinTx, slow)) }

// wanted is the interval that packets shall have in the present state.
func (s *session) wanted() int64 {
	if s.state == Up || s.closeAt != 0 {
		return int64(s.cfg.MinTx)
	}
	return s.slowest()
}

// negotiate takes over what this side wants. In state Up the neighbour has to
// agree before anything becomes slower, or is expected sooner.
func (s *session) negotiate() {
	desired, required := s.wanted(), int64(s.cfg.MinRx)
	if s.state == Up && (desired != s.desired || required != s.required) {
		s.poll = true
	}
	s.desired, s.required = desired, required
	if s.state != Up || desired < s.activeTx {
		s.activeTx = desired
	}
	if s.state != Up || required > s.activeRx {
		s.activeRx = required
	}
}

// agreed ends a poll sequence.
func (s *session) agreed() {
	s.poll = false
	s.activeTx, s.activeRx = s.desired, s.required
}

// interval is that of our periodic packets, before jitter; never if there are none.
func (s *session) interval() int64 {
	switch {
	case s.cfg.Passive && s.your == 0, s.remoteMinRx == 0:
		return never
	case s.remoteDemand && s.state == Up && s.remote == Up && !s.poll:
		return never // RFC 5880, 6.8.7
	}
	return max(s.activeTx, s.remoteMinRx)
}

// detection is the detection time, ns; 0 until something was heard.
func (s *session) detection() int64 {
	return int64(s.remoteMult) * max(s.activeRx, s.remoteMinTx)
}

// packet is the next control packet.
func (s *session) packet(final bool) Packet {
	return Packet{
		Diag: s.diag, State: s.state, Poll: s.poll && !final, Final: final, Independent: true,
		Auth: s.cfg.Auth.Type != NoAuth, Multiplier: s.cfg.Multiplier, My: s.my, Your: s.your,
		MinTx: micros(s.desired), MinRx: micros(s.required), MinEcho: micros(int64(s.cfg.MinEcho)),
	}
}

func micros(ns int64) uint32 { return uint32(ns / int64(time.Microsecond)) }

func nanos(us uint32) int64 { return int64(us) * int64(time.Microsecond) }

// authentic checks a packet's authentication and notes its sequence number.
func (s *session) authentic(p *Packet, body, section []byte) Drop {
	a := &s.cfg.Auth
	if p.Auth != (a.Type != NoAuth) {
		return DropAuth
	}
	if !p.Auth {
		return passed
	}
	seq, ok := a.verify(body, section)
	switch {
	case !ok:
		return DropAuth
	case s.seqKnown && !a.Type.fresh(seq, s.rxSeq, p.Multiplier):
		return DropReplay
	}
	s.rxSeq, s.seqKnown = seq, true
	return passed
}

// next is the state after a packet (RFC 5880, 6.8.6), and why.
func (s *session) next(remote State) (State, Diag) {
	switch {
	case remote == AdminDown && s.state != Down:
		return Down, DiagNeighborDown
	case remote == AdminDown:
	case s.state == Down && remote == Down:
		return Init, DiagNone
	case s.state == Down && remote == Init, s.state == Init && remote >= Init:
		return Up, DiagNone
	case s.state == Up && remote == Down:
		return Down, DiagNeighborDown
	}
	return s.state, s.diag
}
