package fibcast

import (
	"fmt"
	"sync"
	"sync/atomic"

	"godwit/cluster/bus"
	"godwit/cluster/fibsync"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// Sender is the routing engine's side on one bus.
type Sender struct {
	sock  bus.Socket
	least int // LeastBytes
	queue chan cast
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}

	sent, bytes, failed, busy atomic.Uint64
}

// cast waits to be sent.
type cast struct {
	to      bus.Range
	serial  uint64
	changes []byte
}

var _ fibsync.Caster = (*Sender)(nil)

// NewSender opens a socket on the bus. Its goroutine is a source of h.
func NewSender(h *event.Handler, b bus.Bus) (*Sender, error) {
	sock, err := b.Socket(bus.Of(bus.RDM), bus.Droppable(), bus.With(bus.High))
	if err != nil {
		return nil, fmt.Errorf("send route changes by multicast: %w", err)
	}
	s := &Sender{sock: sock, least: LeastBytes, queue: make(chan cast, queued), quit: make(chan struct{}), done: make(chan struct{})}
	h.Source("multicast", sock.Addr().String(), s.run)
	return s, nil
}

// Addr is what receivers have to allow.
func (s *Sender) Addr() bus.Address { return s.sock.Addr() }

// Cast queues a multicast; false if it is not worth it, or would have to wait for too many.
func (s *Sender) Cast(lower, upper fib.CardID, serial uint64, changes []byte) bool {
	if len(changes) < s.least || len(changes) > bus.MaxMessage-wire.CastHeaderLen {
		return false // in the sessions, which cut up what is longer than a message
	}
	select {
	case s.queue <- cast{bus.Range{Type: bus.TypeFIB, Lower: uint32(lower), Upper: uint32(upper)}, serial, changes}:
		return true
	default:
		s.busy.Add(1)
		return false
	}
}

// run sends what is queued. A multicast that fails is not tried again: the cards
// ask for it in their sessions.
func (s *Sender) run(src *event.Source) {
	defer close(s.done)
	var b []byte
	for {
		select {
		case c := <-s.queue:
			b = append(wire.AppendFIBCast(b[:0], c.serial), c.changes...)
			if err := s.sock.Multicast(c.to, b); err != nil {
				s.failed.Add(1)
				continue
			}
			s.sent.Add(1)
			s.bytes.Add(uint64(len(b)))
			src.Count()
		case <-s.quit:
			return
		}
	}
}

// Stats counts multicasts.
type Stats struct {
	Sent   uint64
	Bytes  uint64
	Failed uint64 // nobody is there, or the bus could not take it
	Busy   uint64 // too many waited: these went by unicast
}

// Stats counts multicasts so far.
func (s *Sender) Stats() Stats {
	return Stats{s.sent.Load(), s.bytes.Load(), s.failed.Load(), s.busy.Load()}
}

// Close drops what waits.
func (s *Sender) Close() error {
	s.once.Do(func() { close(s.quit) })
	err := s.sock.Close() // ends a send that waits
	<-s.done
	return err
}
