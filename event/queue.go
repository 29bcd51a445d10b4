package event

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// bounds are how many posted events may wait in each class; above, the class's
// policy decides. An entry is 32 bytes and a typical handler runs below 10 µs.
//
//   - critical: loss of links and peers. A chassis has some thousands of both;
//     all of them lost at once must fit.
//   - high: protocol timers and sessions. One event a peer and message; 16,384
//     is 0.1 s of work, after which a session would be late anyway.
//   - normal: route updates and requests arrive in batches behind windows;
//     65,536 is 2 MB and half a second of work.
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

// item is one waiting event. Queues are copied between processors: it is small.
type item struct {
	h    *Handler
	f    func()  // runs, if what is nil
	what *ticket // what runs, if not nil
	at   int64   // posted or due, mono time; ^at if forced
}

// ticket is a timer or a key, which know what runs.
type ticket struct {
	timer *Timer
	key   *keyed
}

// forced events are not counted against the bound, and never dropped.
func (it *item) forced() bool { return it.at < 0 }

// posted is when the event was posted or due.
func (it *item) posted() int64 { return it.at ^ it.at>>63 }

// force is the time of a forced event.
func force(at int64, yes bool) int64 {
	if yes {
		return ^at
	}
	return at
}

// keyed is a waiting event that a newer one may replace.
type keyed struct {
	id     handlerKeyed
	f      func()
	ticket ticket // itself
}

type handlerKeyed struct {
	h   *Handler
	key any
}

// cacheLines keep apart what lies before and behind them: two lines, since
// processors fetch pairs. A line that two processors write costs more than the
// rest of an event.
type cacheLines [128]byte

// inbox is where posters leave events of all classes, in pieces. The loop reads
// them without the lock, many at once, and sorts them into its own queues: so
// what posters and the loop share is touched once a batch, however short the
// events are, and neither waits for the other.
type inbox struct {
	_      cacheLines
	filled atomic.Uint32 // classes (1<<Class) of which something came; the loop clears it, and reads then
	kept   atomic.Uint32 // classes of which something waits with the posters: DropOldest; written under mu
	_      cacheLines
	mu     sync.Mutex // of posters
	closed bool
	last   *piece
	n      int      // items in last
	spare  []*piece // empty
	_      cacheLines
}

// piece is a part of the inbox, filled once.
type piece struct {
	n     atomic.Int32 // items that may be read
	next  atomic.Pointer[piece]
	_     cacheLines
	items [chunkItems]item
}

// put appends an event. mu is held.
func (b *inbox) put(it *item, c Class) {
	if b.n == chunkItems {
		p := (*piece)(nil)
		if last := len(b.spare) - 1; last >= 0 {
			p, b.spare = b.spare[last], b.spare[:last]
		} else {
			p = new(piece)
		}
		b.last.next.Store(p)
		b.last, b.n = p, 0
	}
	b.last.items[b.n] = *it
	b.n++
	b.last.n.Store(int32(b.n))
	if b.filled.Load()&(1<<c) == 0 { // the loop reads after it has cleared this
		b.filled.Or(1 << c)
	}
}

// recycle keeps a piece that was read, if there are few.
func (b *inbox) recycle(p *piece) {
	p.n.Store(0)
	p.next.Store(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spare) < keepChunks {
		b.spare = append(b.spare, p)
	}
}

// queue is a priority class.
type queue struct {
	class  Class
	policy Policy
	box    *inbox
	bound  int64
	lag    int64 // events the loop may take before it tells: 0 in a short queue

	// Guarded by box.mu.
	kept    fifo      // with DropOldest: what waits, where posters can drop it
	room    sync.Cond // of box.mu: events were taken
	pushed  int64     // ever
	seen    int64     // taken, as last looked up: a line that the loop writes
	keys    map[handlerKeyed]*keyed
	max     int64
	posted  uint64
	full    uint64 // refused
	dropped uint64
	waited  uint64 // posts that blocked

	_       cacheLines
	blocked atomic.Int32 // posters that wait for room
	taken   atomic.Int64 // ever: run or dropped

	_      cacheLines // what follows is the loop's own
	waits  fifo
	untold int64 // taken since taken was written
	popped item  // by popKept
	_      cacheLines
}

const (
	// maxLag and lagShare: the loop tells posters of each 32nd event it takes, of
	// each in a queue with a bound below 512, and when it has taken the last one.
	// So a queue may look fuller than it is by 0.2 % of its bound.
	maxLag   = 31
	lagShare = 512
)

// depth is how many events wait; up to lag more while the loop takes them.
// box.mu is held.
func (q *queue) depth() int64 {
	q.seen = q.taken.Load()
	return q.pushed - q.seen
}

// push appends; unless forced, the policy decides over a full queue. onLoop
// tells whether the caller is the loop.
func (q *queue) push(it item, onLoop func() bool) error {
	q.box.mu.Lock()
	err := q.add(&it, onLoop)
	q.box.mu.Unlock()
	return err
}

// pushKey replaces the waiting event of the key, or appends. It reports whether
// it replaced.
func (q *queue) pushKey(it item, key any, onLoop func() bool) (bool, error) {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	id := handlerKeyed{it.h, key}
	if old := q.keys[id]; old != nil {
		old.f = it.f
		return true, nil
	}
	k := &keyed{id: id, f: it.f}
	k.ticket.key = k
	it.what, it.f = &k.ticket, nil
	err := q.add(&it, onLoop)
	if err == nil {
		if q.keys == nil {
			q.keys = make(map[handlerKeyed]*keyed)
		}
		q.keys[id] = k // the newest, if add waited and another came first
	}
	return false, err
}

func (q *queue) add(it *item, onLoop func() bool) error {
	if q.box.closed {
		return ErrStopped
	}
	if !it.forced() && q.pushed-q.seen >= q.bound && q.depth() >= q.bound {
		if err := q.makeRoom(onLoop); err != nil {
			return err
		}
	}
	if q.policy == DropOldest {
		q.kept.push(it)
		q.box.kept.Store(q.box.kept.Load() | 1<<q.class)
	} else {
		q.box.put(it, q.class)
	}
	q.pushed++
	q.posted++
	if q.pushed-q.seen > q.max {
		q.max = max(q.max, q.depth())
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
		for q.depth() >= q.bound && !q.box.closed {
			q.room.Wait()
		}
		q.blocked.Add(-1)
		if q.box.closed {
			return ErrStopped
		}
		return nil
	}
	q.full++
	return ErrFull
}

// dropOldest removes the oldest event that may be dropped.
func (q *queue) dropOldest() bool {
	for i := range q.kept.n {
		it := q.kept.at(i)
		if it.forced() {
			continue
		}
		if it.what != nil {
			delete(q.keys, it.what.key.id)
		}
		for ; i > 0; i-- { // those before it move up
			*q.kept.at(i) = *q.kept.at(i - 1)
		}
		*q.kept.pop() = item{}
		q.taken.Add(1)
		q.dropped++
		return true
	}
	return false
}

// pop takes the oldest event of a queue that has one. It is valid until the next
// push. Only the loop calls it.
func (q *queue) pop() *item {
	if q.policy == DropOldest {
		return q.popKept()
	}
	it := q.waits.pop()
	if q.untold++; q.untold > q.lag || q.waits.n == 0 {
		q.tell()
	}
	return it
}

// tell tells posters how much was taken.
func (q *queue) tell() {
	q.taken.Add(q.untold)
	q.untold = 0
	if q.blocked.Load() > 0 {
		q.box.mu.Lock()
		q.room.Broadcast()
		q.box.mu.Unlock()
	}
}

// popKept is pop of a queue whose events stay where posters can drop them.
func (q *queue) popKept() *item {
	b := q.box
	b.mu.Lock()
	defer b.mu.Unlock()
	it := q.kept.pop()
	q.popped = *it
	*it = item{}
	q.taken.Add(1)
	if q.kept.n == 0 {
		b.kept.Store(b.kept.Load() &^ (1 << q.class))
	}
	return &q.popped
}

// oldest returns when the event that pop would return was posted. Only the loop
// calls it.
func (q *queue) oldest() int64 {
	if q.policy == DropOldest {
		q.box.mu.Lock()
		defer q.box.mu.Unlock()
		return q.kept.at(0).posted()
	}
	return q.waits.at(0).posted()
}

// claim takes the newest function of a key, which is free from here on.
func (q *queue) claim(k *keyed) func() {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	if q.keys[k.id] == k {
		delete(q.keys, k.id)
	}
	return k.f
}

// close empties the queue for good. box.mu is held, by whoever runs handlers.
func (q *queue) close() {
	q.kept, q.waits, q.keys = fifo{}, fifo{}, nil
	q.taken.Store(q.pushed)
	q.untold = 0
	q.room.Broadcast()
}

const (
	// chunkItems is how many events one piece of a fifo holds: it grows without
	// moving what it holds. 4 KiB.
	chunkItems = 128
	// keepCap is for how many events an empty fifo keeps memory (128 KiB): a
	// burst must not pin its own for ever.
	keepCap = 4096
	// keepChunks is the same in chunks.
	keepChunks = keepCap / chunkItems
)

type chunk [chunkItems]item

// fifo holds items in the order of push.
type fifo struct {
	chunks []*chunk // the oldest item is in the first; the last ones may be empty
	head   int      // of the oldest item, in the first chunk
	n      int
}

func (f *fifo) push(it *item) {
	end := f.head + f.n
	if end == len(f.chunks)*chunkItems {
		f.chunks = append(f.chunks, new(chunk))
	}
	f.chunks[end/chunkItems][end%chunkItems] = *it
	f.n++
}

// at is the i-th item.
func (f *fifo) at(i int) *item {
	i += f.head
	return &f.chunks[i/chunkItems][i%chunkItems]
}

// pop takes the oldest item of a fifo that is not empty. It stays there until
// the next push: the caller clears it.
func (f *fifo) pop() *item {
	it := &f.chunks[0][f.head]
	f.head++
	f.n--
	if f.n == 0 {
		f.rewind()
	} else if f.head == chunkItems {
		f.rotate()
	}
	return it
}

// rotate makes the first chunk, which is empty, the last; enough of them go.
func (f *fifo) rotate() {
	first, last := f.chunks[0], len(f.chunks)-1
	copy(f.chunks, f.chunks[1:])
	f.chunks[last] = first
	f.head = 0
	if used := f.n/chunkItems + 1; last-used >= keepChunks {
		f.chunks[last] = nil
		f.chunks = f.chunks[:last]
	}
}

// rewind begins at the first chunk again, with nothing waiting.
func (f *fifo) rewind() {
	f.head = 0
	if len(f.chunks) > keepChunks {
		f.chunks = append(make([]*chunk, 0, keepChunks), f.chunks[:keepChunks]...)
	}
}
