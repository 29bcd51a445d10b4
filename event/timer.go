package event

import "time"

// Timer runs a function at a time, as an event of its handler. Its methods may
// be called from any goroutine. On the loop, Stop and Reset are exact: the
// cancelled run does not happen. From elsewhere it may be running already;
// Cancel waits for that.
type Timer struct {
	// What moving a timer later touches comes first: half a line.
	h     *Handler
	due   int64  // loop time; guarded, with tick, pos and state, by the loop's timerMu
	tick  int64  // of the slot it is in; due may have moved later since
	pos   uint16 // level and slot
	state timerState
	jolts bool // has a period with jitter

	next, prev *Timer // in the slot; guarded by timerMu
	f          func()
	ticket     ticket        // itself
	period     time.Duration // 0: once
	jitter     float64       // part of the period
}

type timerState uint8

const (
	timerIdle   timerState = iota
	timerArmed             // in the wheel
	timerQueued            // expired, its event waits
)

// Stop cancels the timer. It reports whether a run was cancelled.
func (t *Timer) Stop() bool {
	l := t.h.loop
	l.timerMu.Lock()
	defer l.timerMu.Unlock()
	return l.disarm(t)
}

// Cancel stops the timer for good measure: it does not run once Cancel has
// returned. From another goroutine Cancel waits for the end of a run that has
// begun; in the timer's own function, and in others of the loop, it is Stop.
func (t *Timer) Cancel() bool {
	was := t.Stop()
	t.h.loop.settle(t.h)
	return was
}

// Reset lets the timer run d from now, instead of when it was to run. A
// periodic timer goes on from there.
func (t *Timer) Reset(d time.Duration) { t.h.loop.arm(t, d) }

// disarm takes the timer out of the wheel or makes its waiting event void.
func (l *Loop) disarm(t *Timer) bool {
	was := t.state
	if was == timerArmed {
		l.wheel.remove(t)
		t.h.armed--
	}
	t.state = timerIdle
	return was != timerIdle
}

// arm sets the timer to d from now.
func (l *Loop) arm(t *Timer, d time.Duration) {
	now := l.clock.now()
	due := now + int64(max(d, 0))
	if due < now {
		due = never - 1 // overflow: some 290 years
	}
	l.timerMu.Lock()
	if l.stopping.Load() {
		l.disarm(t)
		l.timerMu.Unlock()
		return
	}
	rouse := true
	if due > now {
		rouse = l.armAt(t, l.jittered(t, now, due))
	} else {
		l.disarm(t)
		l.enqueue(t, due)
	}
	l.timerMu.Unlock()
	if rouse {
		l.rouse()
	}
}

// armAt moves the timer to due and reports whether the loop must wake earlier
// than it planned. A timer that moves later stays in its slot until that comes:
// resetting a hold timer costs next to nothing.
func (l *Loop) armAt(t *Timer, due int64) bool {
	if t.state == timerArmed && l.wheel.tickOf(due) >= t.tick {
		t.due = due
		return false
	}
	l.disarm(t)
	t.due = due
	t.state = timerArmed
	l.wheel.add(t)
	t.h.armed++
	if at := l.wheel.time(t.tick); at < l.nextDue.Load() {
		l.nextDue.Store(at)
		return true
	}
	return false
}

// jittered brings due nearer to from by a random part of the timer's jitter.
func (l *Loop) jittered(t *Timer, from, due int64) int64 {
	if !t.jolts {
		return due
	}
	return due - int64(float64(due-from)*t.jitter*l.rng.Float64())
}

// expire queues the events of timers that are due at loop time now.
func (l *Loop) expire(now int64) {
	l.timerMu.Lock()
	defer l.timerMu.Unlock()
	for _, t := range l.wheel.expire(now) {
		t.h.armed--
		l.enqueue(t, t.due)
	}
	l.nextDue.Store(l.wheel.nextTime())
}

// enqueue posts the event of a timer that is due and in no slot.
func (l *Loop) enqueue(t *Timer, due int64) {
	t.due = due
	t.state = timerQueued
	at := due
	if l.clock.virtual {
		at = l.clock.mono()
	}
	// Refused only by a loop that ended.
	_ = l.classes[t.h.class].push(item{h: t.h, what: &t.ticket, at: force(at, true)}, nil)
}

// take claims an expired timer's run: nil if it was cancelled meanwhile. If it
// expired again since, the older of its two events runs it. A
// periodic timer is armed again before it runs, so that it may stop itself.
func (l *Loop) take(t *Timer) func() {
	l.timerMu.Lock()
	defer l.timerMu.Unlock()
	if t.state != timerQueued {
		return nil
	}
	t.state = timerIdle
	t.h.fired++
	if t.period > 0 {
		now, from := l.clock.now(), t.due
		due := l.jittered(t, from, from+int64(t.period))
		if due <= now { // missed: keep the phase, leave the runs out
			periods := (now-from)/int64(t.period) + 1
			l.late.Add(uint64(periods - 1))
			due = from + periods*int64(t.period)
		}
		l.armAt(t, due)
	}
	return t.f
}
