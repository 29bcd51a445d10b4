package event

import (
	"iter"
	"time"
)

// keyed is a waiting event with a key.
type keyed struct{ f func() }

// PostKey queues f like Post, unless an event of h with the same key waits: f
// then takes that one's place in the queue. So a state that changes faster than
// the loop runs costs one event, with its newest value. The key must be
// comparable.
func (h *Handler) PostKey(key any, f func()) error {
	h.keyMu.Lock()
	defer h.keyMu.Unlock()
	if k := h.keys[key]; k != nil {
		k.f = f
		h.coalesced++
		return nil
	}
	k := &keyed{f: f}
	err := h.post(func() {
		h.keyMu.Lock()
		delete(h.keys, key)
		f := k.f
		h.keyMu.Unlock()
		f()
	}, false)
	if err == nil {
		if h.keys == nil {
			h.keys = make(map[any]*keyed)
		}
		h.keys[key] = k
	}
	return err
}

// Slice runs step again and again, until it returns false, in slices of about
// budget: between two slices other events run, also those of lower classes
// that were posted before. It is for long work that must stay on the loop.
func (h *Handler) Slice(budget time.Duration, step func() (more bool)) error {
	clock := &h.loop.clock
	var slice func()
	slice = func() {
		for until := clock.mono() + int64(budget); ; {
			if !step() {
				return
			}
			if clock.mono() >= until {
				break
			}
		}
		_ = h.post(slice, true) // one a Slice; refused only by a loop that ended
	}
	return h.post(slice, false)
}

// Task is a routine on the loop that may wait for work elsewhere in its middle.
type Task struct {
	h     *Handler
	yield func(func() error) bool
	err   error // of the last work
}

// Go runs routine as an event of h. Where the routine calls Await, the loop
// goes on with other events and returns to the routine when the work has
// ended: the same as nested Async, written in one piece. Between two calls of
// Await no other handler runs, as in any event.
func (h *Handler) Go(routine func(*Task)) error {
	return h.post(func() {
		t := &Task{h: h}
		next, stop := iter.Pull(func(yield func(func() error) bool) {
			t.yield = yield
			routine(t)
		})
		t.resume(next, stop)
	}, false)
}

// resume runs the routine up to its next Await or its end.
func (t *Task) resume(next func() (func() error, bool), stop func()) {
	tasks := t.h.loop.tasks
	delete(tasks, t)
	work, more := next()
	if !more {
		return
	}
	tasks[t] = stop
	t.h.Async(work, func(err error) {
		t.err = err
		t.resume(next, stop)
	})
}

// Await runs work on a goroutine and returns its error when the task goes on,
// on the loop. When the loop has ended it returns ErrStopped: the routine then
// returns, without touching what belongs to the loop. Only the routine calls it.
func (t *Task) Await(work func() error) error {
	if !t.yield(work) {
		t.yield = func(func() error) bool { return false }
		return ErrStopped
	}
	return t.err
}
