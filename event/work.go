package event

import (
	"iter"
	"time"
)

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
	h       *Handler
	yield   func(func() error) bool
	err     error  // of the last work
	routine uint64 // its goroutine
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
			t.routine = goid()
			h.loop.routine.Store(t.routine)
			routine(t)
		})
		t.resume(next, stop)
	}, false)
}

// resume runs the routine up to its next Await or its end.
func (t *Task) resume(next func() (func() error, bool), stop func()) {
	tasks := t.h.loop.tasks
	delete(tasks, t)
	t.h.loop.routine.Store(t.routine)
	work, more := next()
	t.h.loop.routine.Store(0)
	if !more {
		return
	}
	tasks[t] = stop
	if work == nil { // refused only by a loop that ended
		_ = t.h.post(func() { t.err = nil; t.resume(next, stop) }, true)
		return
	}
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

// Yield lets the events run that wait: for a routine with more to do than others
// should wait for. When the loop has ended it returns ErrStopped, as Await does.
func (t *Task) Yield() error { return t.Await(nil) }
