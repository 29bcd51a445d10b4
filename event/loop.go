package event

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Loop runs the handlers of one process (or of one test) on one goroutine.
type Loop struct {
	name    string
	clock   clock
	inbox   inbox
	classes [numClasses]queue
	wheel   wheel // guarded by timerMu

	timerMu sync.Mutex
	rng     *rand.Rand   // jitter; guarded by timerMu
	nextDue atomic.Int64 // when the wheel wants to run, loop time
	late    atomic.Uint64

	handlerMu sync.Mutex
	handlers  map[handlerKey]*Handler
	order     []*Handler // as registered

	sourceMu sync.Mutex
	sources  []*Source // as added

	sleeping atomic.Bool   // the loop is about to wait, or waits
	wake     chan struct{} // capacity 1
	alarm    *time.Timer   // of wait
	stopping atomic.Bool
	done     chan struct{} // closed when Run has ended
	doneOnce sync.Once
	ran      atomic.Bool
	runMu    sync.Mutex // held by whoever runs handlers: Run, or Advance without Run
	advMu    sync.Mutex // one Advance at a time
	advance  chan time.Duration
	advanced chan struct{}
	urgent   urgency

	_       cacheLines // posters read what is above, the loop writes what is below
	diary   diary
	turn    uint64 // events begun ever; belongs, with what follows, to who holds runMu
	written uint64 // diary.folded, as last looked up
	idle    bool   // no event runs, and the diary says so
	ready   uint32 // classes (1<<Class) of which events wait in their own queues
	reading *piece // of the inbox
	read    int    // items of it
	sorted  int64  // when the inbox was last read, mono time
	fresh   int64  // mono time of just now, 0: not known
	brisk   bool   // events come closer than spinFor; belongs to Run

	_        cacheLines
	runner   atomic.Uint64 // goroutine that holds runMu
	routine  atomic.Uint64 // goroutine of the task that runs
	settleMu sync.Mutex
	settling []settler
	waiters  atomic.Int32 // len(settling)

	// Guarded by statMu, with the figures of all handlers.
	statMu  sync.Mutex
	busy    int64 // ns spent in handlers
	cleared int64 // mono time of Clear

	_        cacheLines
	recorder atomic.Pointer[Recorder]
	inputs   map[string]func([]byte) error // by name, for Replay; guarded by handlerMu

	tasks map[*Task]func() // stops a task that waits; belongs to who holds runMu
}

type handlerKey struct {
	name  string
	class Class
}

// Option changes a new Loop.
type Option func(*Loop)

// WithBound sets how many posted events may wait in a class.
func WithBound(c Class, n int) Option {
	return func(l *Loop) { l.classes[c].bound = int64(n) }
}

// WithPolicy sets what Post does when a class is full.
func WithPolicy(c Class, p Policy) Option {
	return func(l *Loop) { l.classes[c].policy = p }
}

// WithVirtualClock makes the loop's time stand still at start until Advance
// moves it: for tests.
func WithVirtualClock(start time.Time) Option {
	return func(l *Loop) {
		l.clock.virtual = true
		l.clock.base = start
		l.wheel.shift = 0 // exact to the nanosecond
		l.rng = rand.New(rand.NewPCG(1, 2))
	}
}

// New makes a loop. It runs nothing until Run.
func New(name string, opts ...Option) *Loop {
	l := &Loop{
		name:     name,
		clock:    clock{base: time.Now(), zero: time.Now()},
		handlers: make(map[handlerKey]*Handler),
		rng:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		advance:  make(chan time.Duration, 1),
		advanced: make(chan struct{}, 1),
	}
	l.wheel.shift = tickShift
	for c := range l.classes {
		q := &l.classes[c]
		q.class, q.box, q.bound, q.room.L = Class(c), &l.inbox, int64(bounds[c]), &l.inbox.mu
	}
	for _, o := range opts {
		o(l)
	}
	for c := range l.classes {
		q := &l.classes[c]
		q.lag = min(q.bound/lagShare, maxLag)
	}
	l.inbox.last = new(piece)
	l.reading = l.inbox.last
	l.nextDue.Store(never)
	l.tasks = make(map[*Task]func())
	return l
}

// Name returns the loop's name.
func (l *Loop) Name() string { return l.name }

// Now returns the loop's time: the system's, or the virtual clock's.
func (l *Loop) Now() time.Time { return l.clock.wall() }

// Run runs handlers on the calling goroutine until ctx ends or Stop is called;
// both are a normal end and return nil. Events that still wait are dropped and
// timers released. A loop runs once.
func (l *Loop) Run(ctx context.Context) error {
	if !l.ran.CompareAndSwap(false, true) {
		select {
		case <-l.done:
			return fmt.Errorf("run event loop %s: %w", l.name, ErrStopped)
		default:
			return fmt.Errorf("run event loop %s: already running", l.name)
		}
	}
	l.runMu.Lock() // an Advance may be under way
	defer l.runMu.Unlock()
	l.runner.Store(goid())
	defer l.runner.Store(0)
	defer context.AfterFunc(ctx, l.Stop)()
	defer l.crash()
	if l.urgent.want && !l.clock.virtual {
		l.urgent.begin()
		defer l.urgent.end()
	}
	for !l.stopping.Load() {
		if !l.runNext() {
			l.sleep()
		} else if l.urgent.tid != 0 && l.fresh-l.urgent.since > int64(urgentFor) {
			l.urgent.relax()
		}
	}
	l.release()
	return nil
}

// Stop ends Run after the event that runs now. Posting fails from here on.
func (l *Loop) Stop() {
	l.stopping.Store(true)
	l.rouse()
	if l.runMu.TryLock() { // nobody runs handlers who would do it
		defer l.runMu.Unlock()
		l.release()
	}
}

// Done is closed when the loop has ended: no handler runs any more.
func (l *Loop) Done() <-chan struct{} { return l.done }

// release drops what waits once the loop has ended.
func (l *Loop) release() {
	l.rest()
	l.inbox.mu.Lock()
	l.inbox.closed, l.inbox.spare, l.ready = true, nil, 0
	l.inbox.last, l.inbox.n, l.reading, l.read = nil, 0, nil, 0
	l.inbox.filled.Store(0)
	l.inbox.kept.Store(0)
	for c := range l.classes {
		l.classes[c].close()
	}
	l.inbox.mu.Unlock()
	l.timerMu.Lock()
	l.wheel.clear()
	l.nextDue.Store(never)
	l.timerMu.Unlock()
	l.doneOnce.Do(func() { close(l.done) })
	for _, stop := range l.tasks {
		stop()
	}
	l.tasks = nil
	l.sourceMu.Lock()
	sources := l.sources
	l.sources = nil
	l.sourceMu.Unlock()
	for _, s := range sources {
		s.end()
	}
}

// runNext runs the first waiting event of the highest class, after moving
// expired timers to their queues. It reports whether there was one.
func (l *Loop) runNext() bool {
	if next := l.nextDue.Load(); next != never {
		now := l.stamp()
		if l.clock.virtual {
			now = l.clock.now()
		}
		if now >= next {
			l.expire(now)
			l.fresh = 0
		}
	}
	if l.turn%starveShare == 0 && !l.clock.virtual && l.runStarving() {
		return true
	}
	c := l.first()
	if c == numClasses {
		l.rest()
		return false
	}
	l.run(&l.classes[c])
	return true
}

// To look after events of a higher class that came meanwhile costs as much as
// some short events: while more than crowd of a class wait, the loop does so once
// in collectEvery only, and so catches up sooner, for all.
const (
	crowd        = 64
	collectEvery = 5 * time.Microsecond
)

// first returns the highest class of which an event waits, or numClasses. It
// takes over what has come if that may be of a higher class than what waits.
func (l *Loop) first() Class {
	filled, kept := l.inbox.filled.Load(), l.inbox.kept.Load()
	c := highest(l.ready | kept)
	if filled&(1<<c-1) == 0 {
		return c
	}
	if c < numClasses && l.classes[c].waits.n > crowd && !l.clock.virtual && l.stamp()-l.sorted < int64(collectEvery) {
		return c
	}
	l.collect()
	return highest(l.ready | kept)
}

// highest is the highest class of a set of 1<<Class, numClasses of the empty one.
func highest(set uint32) Class {
	return Class(bits.TrailingZeros32(set | 1<<numClasses))
}

// collect sorts what posters have left into the queues of its classes.
func (l *Loop) collect() {
	l.sorted = l.stamp()
	l.inbox.filled.Store(0) // before it reads: see put
	for {
		p := l.reading
		n := int(p.n.Load())
		for i := l.read; i < n; i++ {
			it := &p.items[i]
			c := it.h.class
			l.classes[c].waits.push(it)
			l.ready |= 1 << c
		}
		clear(p.items[l.read:n])
		l.read = n
		next := p.next.Load()
		if next == nil || n < chunkItems {
			return
		}
		l.reading, l.read = next, 0
		l.inbox.recycle(p)
	}
}

// pop takes the oldest event of a class that has one. It is valid until another
// event comes.
func (l *Loop) pop(q *queue) *item {
	it := q.pop()
	if q.waits.n == 0 {
		l.ready &^= 1 << q.class
	}
	return it
}

// starveShare: one event in so many is of the lowest class that starves: an
// endless flood of a higher class does not stop it, and loses 1.6 % to it.
const starveShare = 64

// runStarving runs the oldest event of the lowest class whose oldest has waited
// longer than StarveBound.
func (l *Loop) runStarving() bool {
	if l.inbox.filled.Load() != 0 {
		l.collect()
	}
	set := l.ready | l.inbox.kept.Load()
	for c := range l.classes {
		q := &l.classes[len(l.classes)-1-c]
		if set&(1<<q.class) != 0 && l.stamp()-q.oldest() > int64(StarveBound) {
			l.run(q)
			return true
		}
	}
	return false
}

// run runs the oldest event of a class and accounts for it.
func (l *Loop) run(q *queue) {
	it := l.pop(q)
	h, start := it.h, l.stamp()
	e := l.begin(h, start, max(start-it.posted(), 0)) // before the claim: see settle; posted since the clock was read: no wait
	f := it.claim(l, q)
	*it = item{}
	if f == nil {
		e.run = void
		return
	}
	if start >= h.meterAt {
		h.meterAt = start + int64(meterEvery)
		l.runMetered(h, f)
	} else {
		f()
	}
	l.fresh = l.clock.mono()
	e.run = l.fresh - start
}

// claim returns what the event runs: nil if it was cancelled meanwhile.
func (it *item) claim(l *Loop, q *queue) func() {
	switch {
	case it.what == nil:
		return it.f
	case it.what.timer != nil:
		return l.take(it.what.timer)
	}
	return q.claim(it.what.key)
}

// stamp is the mono time, read when the last event ended: reading the clock
// costs as much as a short handler.
func (l *Loop) stamp() int64 {
	if l.fresh == 0 {
		l.fresh = l.clock.mono()
	}
	return l.fresh
}

// spinFor is for how long a loop looks for the next event before it sleeps,
// while events come closer than that: to wake a thread costs about as much. On a
// busy machine, who looks for longer uses up the time that it needs later.
const spinFor = 10 * time.Microsecond

// linger looks for the next event, if the last one came soon after the loop had
// nothing to do. It reports whether there is one. A wait in vain is the last
// until events come quickly again, so that an idle loop does not linger.
func (l *Loop) linger() bool {
	if !l.brisk {
		return false
	}
	for begin := l.stamp(); ; {
		for range 16 {
			if l.waiting() {
				return true
			}
		}
		now := l.clock.mono()
		if l.fresh = now; now-begin > int64(spinFor) || l.stopping.Load() {
			l.brisk = false
			return false
		}
		if now >= l.nextDue.Load() {
			return true
		}
	}
}

// sleep waits for an event, a timer, an Advance or the end.
func (l *Loop) sleep() {
	if l.clock.virtual {
		l.wait()
		return
	}
	if l.linger() {
		return
	}
	begin := l.stamp()
	l.wait()
	l.brisk = l.stamp()-begin < int64(spinFor) && runtime.GOMAXPROCS(0) > 1
}

// wait is sleep without looking first.
func (l *Loop) wait() {
	l.sleeping.Store(true)
	defer l.sleeping.Store(false)
	l.fresh = 0
	if l.stopping.Load() || l.waiting() {
		return
	}
	if l.urgent.on {
		l.sleepInKernel()
		return
	}
	var due <-chan time.Time
	if next := l.nextDue.Load(); next != never && !l.clock.virtual {
		d := next - l.clock.now()
		if d <= 0 {
			return
		}
		if l.alarm == nil {
			l.alarm = time.NewTimer(time.Duration(d))
		} else {
			l.alarm.Reset(time.Duration(d))
		}
		defer l.alarm.Stop()
		due = l.alarm.C
	}
	select {
	case <-l.wake:
	case <-due:
	case d := <-l.advance:
		l.sleeping.Store(false)
		l.advanceTo(l.clock.now() + int64(d))
		l.advanced <- struct{}{}
	}
}

// sleepInKernel is wait of a loop that is urgent.
func (l *Loop) sleepInKernel() {
	d := int64(-1)
	if next := l.nextDue.Load(); next != never {
		if d = next - l.clock.now(); d <= 0 {
			return
		}
	}
	l.urgent.wait(time.Duration(d))
	l.urgent.since = l.stamp()
}

// waiting tells whether an event waits in any class.
func (l *Loop) waiting() bool { return l.ready|l.inbox.filled.Load()|l.inbox.kept.Load() != 0 }

// rouse ends sleep, if the loop sleeps. The first of several does it.
func (l *Loop) rouse() {
	if l.sleeping.Load() && l.sleeping.CompareAndSwap(true, false) {
		if l.urgent.on {
			l.urgent.wake()
			return
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Advance moves a virtual clock by d and returns when everything that was due
// on the way has run, each timer at its own time. It runs the handlers itself
// when Run does not run. Advance(0) runs what waits. It does not wait for the
// goroutines of Async. Handlers must not call it.
func (l *Loop) Advance(d time.Duration) {
	if !l.clock.virtual {
		panic("event: Advance of loop " + l.name + ", which has no virtual clock")
	}
	l.advMu.Lock()
	defer l.advMu.Unlock()
	if l.runMu.TryLock() {
		defer l.runMu.Unlock()
		l.runner.Store(goid())
		defer l.runner.Store(0)
		defer l.crash()
		l.advanceTo(l.clock.now() + int64(d))
		if l.stopping.Load() {
			l.release()
		}
		return
	}
	select {
	case l.advance <- d:
	case <-l.done:
		return
	}
	select {
	case <-l.advanced:
	case <-l.done:
	}
}

// advanceTo runs what is due until the virtual time target.
func (l *Loop) advanceTo(target int64) {
	l.fresh = 0
	for !l.stopping.Load() {
		if l.runNext() {
			continue
		}
		next := l.nextDue.Load()
		if next > target {
			l.clock.set(target)
			return
		}
		l.clock.set(next)
	}
}

// PanicError is what the process dies of when a handler panics.
type PanicError struct {
	Loop, Handler string
	Value         any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("event loop %s: handler %s: panic: %v", e.Loop, e.Handler, e.Value)
}

// crash adds the handler's name to a panic and lets it go on: the process
// ends, its supervisor starts it again. The stack shown is the handler's.
func (l *Loop) crash() {
	h := l.running().h
	if h == nil {
		return
	}
	if v := recover(); v != nil {
		panic(&PanicError{Loop: l.name, Handler: h.name, Value: v})
	}
}
