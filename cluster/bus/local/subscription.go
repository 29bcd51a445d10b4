package local

import (
	"sync"
	"time"

	"godwit/cluster/bus"
)

// subscription queues events for one reader. What a slow reader has not seen
// is bounded by the name table: a binding that came and went leaves nothing.
type subscription struct {
	member  *Member
	rng     bus.Range
	expires <-chan time.Time
	counts  map[bus.Range]int // of bindings, by range: bus.Services only

	mu    sync.Mutex
	queue []pending
	index map[key]int // place in queue of an Up that waits, from head
	head  int         // of queue[0], counted from the start
	voids int         // in queue
	wake  chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newSubscription(m *Member, r bus.Range, o bus.Options) *subscription {
	s := &subscription{member: m, rng: r, index: make(map[key]int), wake: make(chan struct{}, 1), done: make(chan struct{})}
	if o.Timeout > 0 {
		s.expires = time.After(o.Timeout)
	}
	if o.Filter == bus.Services {
		s.counts = make(map[bus.Range]int)
	}
	return s
}

// tell queues an event that passes the filter. The member's mu is held.
func (s *subscription) tell(e bus.Event) {
	if s.counts != nil {
		n := s.counts[e.Range]
		first, last := e.Up && n == 0, !e.Up && n == 1
		if e.Up {
			n++
		} else {
			n--
		}
		if s.counts[e.Range] = n; n <= 0 {
			delete(s.counts, e.Range)
		}
		if !first && !last {
			return
		}
		e.Addr = bus.Address{} // of the service, not of one of its sockets
	}
	s.push(e)
}

type pending struct {
	bus.Event
	void bool // taken back
}

func (s *subscription) push(e bus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{e.Addr.Ref, e.Range}
	if i, waits := s.index[k]; waits && !e.Up {
		s.queue[i-s.head].void = true
		delete(s.index, k)
		if s.voids++; s.voids > 64 && s.voids > len(s.queue)/2 {
			s.compact()
		}
		return
	}
	if e.Up {
		s.index[k] = s.head + len(s.queue)
	}
	s.queue = append(s.queue, pending{Event: e})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// compact drops void events.
func (s *subscription) compact() {
	live := s.queue[:0]
	for _, p := range s.queue {
		if p.void {
			continue
		}
		if p.Up {
			s.index[key{p.Addr.Ref, p.Range}] = s.head + len(live)
		}
		live = append(live, p)
	}
	clear(s.queue[len(live):])
	s.queue, s.voids = live, 0
}

func (s *subscription) pop() (bus.Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		p := s.queue[0]
		s.queue[0] = pending{}
		s.queue = s.queue[1:]
		s.head++
		if p.void {
			s.voids--
			continue
		}
		if p.Up {
			delete(s.index, key{p.Addr.Ref, p.Range})
		}
		return p.Event, true
	}
	s.queue = nil
	return bus.Event{}, false
}

// Next returns the next event; it blocks until there is one.
func (s *subscription) Next() (bus.Event, error) {
	for {
		select {
		case <-s.done:
			return bus.Event{}, bus.ErrClosed
		default:
		}
		if e, ok := s.pop(); ok {
			return e, nil
		}
		select {
		case <-s.wake:
		case <-s.expires:
			s.Close()
			return bus.Event{}, bus.ErrTimeout
		case <-s.done:
		}
	}
}

// Close ends the subscription; Next returns bus.ErrClosed.
func (s *subscription) Close() error {
	s.once.Do(func() {
		s.member.mu.Lock()
		delete(s.member.subs, s)
		s.member.mu.Unlock()
		close(s.done)
	})
	return nil
}
