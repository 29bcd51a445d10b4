package event

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// bounds are how many posted events may wait in each class; above, the class's
// policy decides. An entry is 48 bytes and a typical handler runs below 10 µs.
//
//   - critical: loss of links and peers. A chassis has some thousands of both;
//     all of them lost at once must fit.
//   - high: protocol timers and sessions. One event a peer and message; 16,384
//     is 0.1 s of work, after which a session would be late anyway.
//   - normal: route updates and requests arrive in batches behind windows;
//     65,536 is 3 MB and half a second of work.
//   - background: statistics can be asked again; what is refused is not missed.
//
// Expired timers and ends of Async are not counted against the bound: each
// exists once already as a Timer or a goroutine, and must not get lost.
var bounds = [numClasses]int{Critical: 16384, High: 16384, Normal: 65536, Background: 4096}

// Policy says what Post does when a class holds as many events as its bound.
type Policy uint8

const (
	// Reject answers ErrFull: the sender knows best what to do. The default.
	Reject Policy = iota
	// Block lets Post wait for room: for goroutines that read what comes in and
	// shall read slower. On the loop itself, which alone makes room, it rejects.
	Block
	// DropOldest makes room by dropping the class's oldest event: for states of
	// which a newer one comes. Timers and ends of Async are never dropped.
	DropOldest
	// Coalesce keeps one waiting event a handler, or a key of PostKey: a newer
	// one takes its place, at any depth. At the bound it rejects.
	Coalesce
)

var policyNames = [...]string{"reject", "block", "drop-oldest", "coalesce"}

func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

const (
	// keepCap is the largest buffer an empty queue keeps, in items (192 KiB): a
	// burst must not pin its memory for ever.
	keepCap = 4096
	// batch is how many events the loop takes under one lock: enough to make
	// the lock cheap, few enough to have no part in the queue's memory.
	batch = 64
)

// item is one waiting event: f, the function of a timer or that of a key.
type item struct {
	h      *Handler
	f      func()
	timer  *Timer
	key    *keyed
	at     int64 // posted or due, mono time
	forced bool  // not counted against the bound, never dropped
}

// keyed is a waiting event that a newer one may replace.
type keyed struct {
	id handlerKeyed
	f  func()
}

type handlerKeyed struct {
	h   *Handler
	key any
}

// queue is a class's FIFO: a ring that producers fill under the lock, and from
// which the loop takes batches into out.
type queue struct {
	depth   atomic.Int64 // of ring and out together
	blocked atomic.Int32 // posters that wait for room

	mu      sync.Mutex
	room    sync.Cond // of mu: an event was taken
	ring    []item    // a power of two
	first   int
	n       int
	keys    map[handlerKeyed]*keyed
	bound   int64
	policy  Policy
	max     int64
	posted  uint64
	full    uint64 // refused
	dropped uint64
	waited  uint64 // posts that blocked
	closed  bool

	out  []item // the loop's own
	head int
}

// push appends; unless forced, the policy decides over a full queue. onLoop
// tells whether the caller is the loop.
func (q *queue) push(it item, onLoop func() bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(it, onLoop)
}

// pushKey replaces the waiting event of the key, or appends. It reports whether
// it replaced.
func (q *queue) pushKey(it item, key any, onLoop func() bool) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := handlerKeyed{it.h, key}
	if k := q.keys[id]; k != nil {
		k.f = it.f
		return true, nil
	}
	it.key = &keyed{id: id, f: it.f}
	it.f = nil
	err := q.add(it, onLoop)
	if err == nil {
		if q.keys == nil {
			q.keys = make(map[handlerKeyed]*keyed)
		}
		q.keys[id] = it.key // the newest, if add waited and another came first
	}
	return false, err
}

func (q *queue) add(it item, onLoop func() bool) error {
	if q.closed {
		return ErrStopped
	}
	if !it.forced && q.depth.Load() >= q.bound {
		if err := q.makeRoom(onLoop); err != nil {
			return err
		}
	}
	if q.n == len(q.ring) {
		q.resize(max(2*len(q.ring), batch))
	}
	q.ring[(q.first+q.n)&(len(q.ring)-1)] = it
	q.n++
	q.posted++
	if n := q.depth.Add(1); n > q.max {
		q.max = n
	}
	return nil
}

// makeRoom does what the policy says, with the lock held.
func (q *queue) makeRoom(onLoop func() bool) error {
	switch q.policy {
	case DropOldest:
		if q.dropOldest() {
			return nil
		}
	case Block:
		if onLoop() {
			break
		}
		q.waited++
		q.blocked.Add(1)
		for q.depth.Load() >= q.bound && !q.closed {
			q.room.Wait()
		}
		q.blocked.Add(-1)
		if q.closed {
			return ErrStopped
		}
		return nil
	}
	q.full++
	return ErrFull
}

// dropOldest removes the oldest event that may be dropped.
func (q *queue) dropOldest() bool {
	mask := len(q.ring) - 1
	for i := range q.n {
		it := q.ring[(q.first+i)&mask]
		if it.forced {
			continue
		}
		if it.key != nil {
			delete(q.keys, it.key.id)
		}
		for ; i > 0; i-- { // those before it move up
			q.ring[(q.first+i)&mask] = q.ring[(q.first+i-1)&mask]
		}
		q.ring[q.first] = item{}
		q.first = (q.first + 1) & mask
		q.n--
		q.depth.Add(-1)
		q.dropped++
		return true
	}
	return false
}

func (q *queue) resize(size int) {
	ring := make([]item, size)
	for i := range q.n {
		ring[i] = q.ring[(q.first+i)&(len(q.ring)-1)]
	}
	q.ring, q.first = ring, 0
}

// refill takes the next batch and reports whether there is one. Only the loop
// calls it, with out used up.
func (q *queue) refill() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	// A small queue is taken in small parts: what is in out cannot be dropped.
	n := min(q.n, max(1, min(batch, int(q.bound)/4)))
	if q.out == nil && n > 0 {
		q.out = make([]item, 0, batch)
	}
	q.out, q.head = q.out[:0], 0
	for range n {
		q.out = append(q.out, q.ring[q.first])
		q.ring[q.first] = item{}
		q.first = (q.first + 1) & (len(q.ring) - 1)
	}
	q.n -= n
	if q.n == 0 && len(q.ring) > keepCap {
		q.ring, q.first = nil, 0
	}
	return n > 0
}

// pop takes the oldest item. Only the loop calls it.
func (q *queue) pop() (item, bool) {
	if q.head == len(q.out) && !q.refill() {
		return item{}, false
	}
	it := q.out[q.head]
	q.out[q.head] = item{}
	q.head++
	q.depth.Add(-1)
	if q.blocked.Load() > 0 {
		q.mu.Lock()
		q.room.Broadcast()
		q.mu.Unlock()
	}
	return it, true
}

// oldest returns when the event that pop would return was posted. Only the loop
// calls it.
func (q *queue) oldest() (int64, bool) {
	if q.head == len(q.out) && !q.refill() {
		return 0, false
	}
	return q.out[q.head].at, true
}

// claim takes the newest function of a key, which is free from here on.
func (q *queue) claim(k *keyed) func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys[k.id] == k {
		delete(q.keys, k.id)
	}
	return k.f
}

// drop empties the queue and refuses what comes.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ring, q.first, q.n, q.out, q.head, q.keys = nil, 0, 0, nil, 0, nil
	q.depth.Store(0)
	q.room.Broadcast()
}
