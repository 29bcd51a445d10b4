package event

import (
	"sync"
	"sync/atomic"
)

// bounds are how many posted events may wait in each class; Post answers
// ErrFull above. An entry is 32 bytes and a typical handler runs below 10 µs.
//
//   - critical: loss of links and peers. A chassis has some thousands of both;
//     all of them lost at once must fit.
//   - high: protocol timers and sessions. One event a peer and message; 16,384
//     is 0.1 s of work, after which a session would be late anyway.
//   - normal: route updates and requests arrive in batches behind windows;
//     65,536 is 2 MB and half a second of work.
//   - background: statistics can be asked again; what is refused is not missed.
//
// Expired timers and ends of Async are not counted: each exists once already
// as a Timer or a goroutine, and must not get lost.
var bounds = [numClasses]int{Critical: 16384, High: 16384, Normal: 65536, Background: 4096}

// keepCap is the largest buffer an empty queue keeps, in items (128 KiB): a
// burst must not pin its memory for ever.
const keepCap = 4096

// item is one waiting event: f, or the function of a timer.
type item struct {
	h     *Handler
	f     func()
	timer *Timer
	at    int64 // posted or due, mono time
}

// queue is a class's FIFO. Producers append to in under the lock; the loop
// takes all of it at once into out, so that a busy loop locks rarely.
type queue struct {
	depth   atomic.Int64  // of in and out together
	starved atomic.Uint64 // events that waited longer than StarvedAfter

	mu     sync.Mutex
	in     []item
	bound  int64
	max    int64
	posted uint64
	full   uint64 // refused
	closed bool

	out  []item // the loop's own
	head int
}

// push appends; unless forced, a full queue refuses.
func (q *queue) push(it item, force bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrStopped
	}
	if !force && q.depth.Load() >= q.bound {
		q.full++
		return ErrFull
	}
	q.in = append(q.in, it)
	q.posted++
	if n := q.depth.Add(1); n > q.max {
		q.max = n
	}
	return nil
}

// pop takes the oldest item. Only the loop calls it.
func (q *queue) pop() (item, bool) {
	if q.head == len(q.out) {
		spare := q.out[:0]
		if cap(spare) > keepCap {
			spare = nil
		}
		q.mu.Lock()
		q.out, q.in = q.in, spare
		q.mu.Unlock()
		q.head = 0
		if len(q.out) == 0 {
			return item{}, false
		}
	}
	it := q.out[q.head]
	q.out[q.head] = item{}
	q.head++
	q.depth.Add(-1)
	return it, true
}

// drop empties the queue and refuses what comes.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.in, q.out, q.head = nil, nil, 0
	q.depth.Store(0)
}
