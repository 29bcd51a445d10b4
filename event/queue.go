package event

import (
	"fmt"
	"slices"
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
	// chunkItems is how many events one piece of a queue holds: a queue grows
	// without moving what it holds. 6 KiB.
	chunkItems = 128
	// keepCap is for how many events an empty queue keeps memory (192 KiB): a
	// burst must not pin its own for ever.
	keepCap = 4096
	// keepChunks is the same in chunks.
	keepChunks = keepCap / chunkItems
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

// queue is a class's FIFO. Posters fill in, under the lock; the loop takes all
// of it at once into out, so that neither waits for the other for longer than it
// takes to append one event, however much waits.
//
// What one side writes at each event lies on lines of the processor's cache that
// the other does not read at each event: a line that both use costs more than
// the rest of an event.
type queue struct {
	filled  atomic.Bool  // in holds something
	blocked atomic.Int32 // posters that wait for room
	policy  Policy

	_       cacheLines // what follows is written by posters
	mu      sync.Mutex
	room    sync.Cond // of mu: an event was taken
	in      []*chunk
	first   int // of in: items dropped or taken off its front
	n       int // items in in
	spare   []*chunk
	pushed  int64 // ever
	seen    int64 // taken, as last looked up: a line that the loop writes
	keys    map[handlerKeyed]*keyed
	bound   int64
	max     int64
	posted  uint64
	full    uint64 // refused
	dropped uint64
	waited  uint64 // posts that blocked
	closed  bool

	_     cacheLines   // what follows is written by the loop
	taken atomic.Int64 // ever: run or dropped
	out   []*chunk     // the loop's own from here on
	head  int          // of out
	left  int          // items in out
	spent []*chunk     // empty, to be given back
	_     cacheLines
}

// cacheLines keep apart what lies before and behind them: two lines, since
// processors fetch pairs.
type cacheLines [128]byte

type chunk [chunkItems]item

// depth is how many events wait. mu is held.
func (q *queue) depth() int64 {
	q.seen = q.taken.Load()
	return q.pushed - q.seen
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
	if !it.forced && q.pushed-q.seen >= q.bound && q.depth() >= q.bound {
		if err := q.makeRoom(onLoop); err != nil {
			return err
		}
	}
	q.append(it)
	if q.pushed-q.seen > q.max {
		q.max = max(q.max, q.depth())
	}
	return nil
}

// append adds to in.
func (q *queue) append(it item) {
	end := q.first + q.n
	if end == len(q.in)*chunkItems {
		c := (*chunk)(nil)
		if last := len(q.spare) - 1; last >= 0 {
			c, q.spare = q.spare[last], q.spare[:last]
		} else {
			c = new(chunk)
		}
		q.in = append(q.in, c)
	}
	q.in[end/chunkItems][end%chunkItems] = it
	q.n++
	q.pushed++
	q.posted++
	if !q.filled.Load() {
		q.filled.Store(true)
	}
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
		for q.depth() >= q.bound && !q.closed {
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

// at is the i-th item of in.
func (q *queue) at(i int) *item {
	i += q.first
	return &q.in[i/chunkItems][i%chunkItems]
}

// dropOldest removes the oldest event that may be dropped.
func (q *queue) dropOldest() bool {
	for i := range q.n {
		it := q.at(i)
		if it.forced {
			continue
		}
		if it.key != nil {
			delete(q.keys, it.key.id)
		}
		for ; i > 0; i-- { // those before it move up
			*q.at(i) = *q.at(i - 1)
		}
		q.shift()
		q.taken.Add(1)
		q.dropped++
		return true
	}
	return false
}

// shift takes the first item off in.
func (q *queue) shift() item {
	it := *q.at(0)
	*q.at(0) = item{}
	q.first++
	q.n--
	if q.first == chunkItems || q.n == 0 {
		q.recycle(q.in[0])
		q.in = slices.Delete(q.in, 0, 1)
		q.first = 0
	}
	if q.n == 0 {
		q.filled.Store(false)
	}
	return it
}

// recycle keeps an empty chunk for later, if there are few.
func (q *queue) recycle(c *chunk) {
	if len(q.spare) < keepChunks {
		q.spare = append(q.spare, c)
	}
}

// lock waits for posters without sleeping, as long as that is short: they hold
// the lock for less than it takes to wake up.
func (q *queue) lock() {
	for range lockSpins {
		if q.mu.TryLock() {
			return
		}
	}
	q.mu.Lock()
}

// lockSpins are tries of some 10 ns.
const lockSpins = 100

// refill takes what waits and reports whether there is any. Only the loop calls
// it, with out used up.
func (q *queue) refill() bool {
	if !q.filled.Load() {
		return false
	}
	q.lock()
	defer q.mu.Unlock()
	for _, c := range q.spent {
		q.recycle(c)
	}
	clear(q.spent)
	q.spent = q.spent[:0]
	if q.n == 0 {
		return false
	}
	if q.policy == DropOldest { // what is in out could not be dropped: one at a time
		if len(q.out) == 0 {
			q.out = []*chunk{new(chunk)}
		}
		q.out[0][0], q.head, q.left = q.shift(), 0, 1
		return true
	}
	q.out, q.in = q.in, q.out[:0]
	q.head, q.left = q.first, q.n
	q.first, q.n = 0, 0
	q.filled.Store(false)
	return true
}

// waiting tells whether there is an event to pop. Only the loop calls it.
func (q *queue) waiting() bool { return q.left > 0 || q.filled.Load() }

// pop takes the oldest item. Only the loop calls it.
func (q *queue) pop() (item, bool) {
	if q.left == 0 && !q.refill() {
		return item{}, false
	}
	c := q.out[q.head/chunkItems]
	it := c[q.head%chunkItems]
	c[q.head%chunkItems] = item{}
	q.head++
	q.left--
	q.taken.Add(1)
	if q.policy != DropOldest && (q.head%chunkItems == 0 || q.left == 0) {
		q.spend((q.head - 1) / chunkItems)
	}
	if q.blocked.Load() > 0 {
		q.mu.Lock()
		q.room.Broadcast()
		q.mu.Unlock()
	}
	return it, true
}

// spend gives an empty chunk of out back.
func (q *queue) spend(i int) {
	if len(q.spent) < keepChunks {
		q.spent = append(q.spent, q.out[i])
	}
	q.out[i] = nil
	if q.left > 0 {
		return
	}
	if q.out = q.out[:0]; cap(q.out) > keepChunks {
		q.out = nil
	}
}

// oldest returns when the event that pop would return was posted. Only the loop
// calls it.
func (q *queue) oldest() (int64, bool) {
	if q.policy == DropOldest && q.left == 0 { // it stays where it may be dropped
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.n == 0 {
			return 0, false
		}
		return q.at(0).at, true
	}
	if q.left == 0 && !q.refill() {
		return 0, false
	}
	return q.out[q.head/chunkItems][q.head%chunkItems].at, true
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
	q.in, q.first, q.n, q.out, q.head, q.left, q.keys = nil, 0, 0, nil, 0, 0, nil
	q.spare, q.spent = nil, nil
	q.filled.Store(false)
	q.taken.Store(q.pushed)
	q.room.Broadcast()
}
