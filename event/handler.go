package event

import "time"

// Handler is a named source of events of one class: the unit of order and of
// statistics.
type Handler struct {
	name  string
	class Class
	loop  *Loop

	_       cacheLines // posters read what is above, the loop writes what is below
	meterAt int64      // when to measure the CPU time of a run again, mono time; the loop's own

	// Guarded by the loop's statMu.
	deadline  time.Duration // from post or due time to start; 0: none
	run       histogram
	delay     histogram
	missed    uint64 // deadlines
	slow      uint64 // runs longer than SlowAfter
	starved   uint64 // waits longer than StarvedAfter
	coalesced uint64
	cpu       cpuSamples
	warn      [numWarnings]warnCount

	armed int // timers in the wheel; guarded by the loop's timerMu
	fired uint64
}

// Handler registers the handler name in a class, or returns the registered one.
func (l *Loop) Handler(name string, c Class) *Handler {
	if c >= numClasses {
		panic("event: handler " + name + " has no such class: " + c.String())
	}
	l.handlerMu.Lock()
	defer l.handlerMu.Unlock()
	k := handlerKey{name, c}
	if h, ok := l.handlers[k]; ok {
		return h
	}
	h := &Handler{name: name, class: c, loop: l}
	l.handlers[k] = h
	l.order = append(l.order, h)
	return h
}

// Name returns the handler's name.
func (h *Handler) Name() string { return h.name }

// Class returns the handler's priority class.
func (h *Handler) Class() Class { return h.class }

// Loop returns the loop that runs the handler.
func (h *Handler) Loop() *Loop { return h.loop }

// Post queues f to run on the loop. When the class's bound is reached, its
// policy decides: by default Post never blocks and answers ErrFull. ErrStopped
// when the loop has ended.
func (h *Handler) Post(f func()) error {
	if h.loop.classes[h.class].policy == Coalesce {
		return h.PostKey(nil, f)
	}
	return h.post(f, false)
}

func (h *Handler) post(f func(), forced bool) error {
	l := h.loop
	if l.stopping.Load() {
		return ErrStopped
	}
	err := l.classes[h.class].push(item{h: h, f: f, at: force(l.clock.mono(), forced)}, l.onLoop)
	if err == nil {
		l.rouse()
	}
	return err
}

// PostKey queues f like Post, unless an event of h with the same key waits: f
// then takes that one's place in the queue. So a state that changes faster than
// the loop runs costs one event, with its newest value. The key must be
// comparable.
func (h *Handler) PostKey(key any, f func()) error {
	l := h.loop
	if l.stopping.Load() {
		return ErrStopped
	}
	replaced, err := l.classes[h.class].pushKey(item{h: h, f: f, at: l.clock.mono()}, key, l.onLoop)
	switch {
	case err != nil:
		return err
	case replaced:
		l.statMu.Lock()
		h.coalesced++
		l.statMu.Unlock()
	default:
		l.rouse()
	}
	return nil
}

// Async runs work on a goroutine of its own, then done with its error as an
// event of h. When the loop ends first, done does not run. A panic in work
// ends the process, with the handler's name.
func (h *Handler) Async(work func() error, done func(error)) {
	go func() {
		defer func() {
			if v := recover(); v != nil {
				panic(&PanicError{Loop: h.loop.name, Handler: h.name, Value: v})
			}
		}()
		err := work()
		_ = h.post(func() { done(err) }, true) // refused only by a loop that ended
	}()
}

// SetDeadline sets how long an event of h may wait before it starts; later
// starts count as missed. 0 is no deadline.
func (h *Handler) SetDeadline(d time.Duration) {
	h.loop.statMu.Lock()
	defer h.loop.statMu.Unlock()
	h.loop.fold() // what ran before keeps the old one
	h.deadline = d
}

// After runs f once, d from now, as an event of h: not earlier, and at most one
// tick (0.26 ms) plus the queueing later.
func (h *Handler) After(d time.Duration, f func()) *Timer {
	t := &Timer{h: h, f: f}
	t.ticket.timer = t
	h.loop.arm(t, d)
	return t
}

// TimerOption changes a periodic timer.
type TimerOption func(*Timer)

// WithJitter shortens each period by a random part of up to fraction of it
// (0 to 1), so that many timers do not run in step. RFC 4271 section 10 wants
// 0.25.
func WithJitter(fraction float64) TimerOption {
	return func(t *Timer) { t.jitter = min(max(fraction, 0), 1) }
}

// MinPeriod is the shortest period of Every; a shorter one is raised to it.
const MinPeriod = time.Millisecond

// Every runs f each d, first d from now, until Stop. Periods do not drift;
// runs that a busy loop missed are left out, not made up for.
func (h *Handler) Every(d time.Duration, f func(), opts ...TimerOption) *Timer {
	t := &Timer{h: h, f: f, period: max(d, MinPeriod)}
	t.ticket.timer = t
	for _, o := range opts {
		o(t)
	}
	t.jolts = t.jitter > 0
	h.loop.arm(t, t.period)
	return t
}
