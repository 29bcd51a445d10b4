package worker

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
)

// SetUrgent makes the worker's thread run before all ordinary ones (see
// netdev.UrgentThread), or makes it ordinary again. The worker runs. Leave a core to the rest
// of the machine: urgent workers that are busy on all cores starve routing.
func (w *Worker) SetUrgent(on bool) (err error) {
	w.Do(func() {
		if w.urgent == on {
			return
		}
		if on {
			err = netdev.UrgentThread()
		} else {
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
			if e := unix.SchedSetAttr(0, &attr, 0); e != nil {
				err = fmt.Errorf("make thread ordinary: %w", e)
			}
		}
		if err == nil {
			w.urgent = on
		}
	})
	return err
}

// SetCores keeps the worker on these processor cores. The worker runs.
func (w *Worker) SetCores(cores []int) (err error) {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	w.Do(func() { err = unix.SchedSetaffinity(0, &set) })
	if err != nil {
		return fmt.Errorf("keep thread on cores %v: %w", cores, err)
	}
	return nil
}

// yieldEvery is how often a worker hands its P to the Go scheduler and takes it
// back. The scheduler's monitor preempts a goroutine that has held a P for 10 ms,
// even if it slept in between. For a goroutine locked to its thread
// that means: another thread of the process, an ordinary one, must run and hand
// the P back. On a busy machine the worker stood still for milliseconds, and
// its ports' rings overflowed. Unlocked for a moment it just goes on, in about 1 µs.
//
// Goroutines that the worker has just woken would take its thread: it waits for
// yieldLate, then, so that others take them.
const (
	yieldEvery = int64(5 * time.Millisecond)
	yieldLate  = int64(8 * time.Millisecond)
)

func (w *Worker) maybeYield() {
	if held := w.at - w.yielded; held < yieldEvery || held < yieldLate && w.at-w.obeyed < yieldLate-yieldEvery {
		return
	}
	w.yielded = w.at
	w.reader.Offline()
	runtime.UnlockOSThread()
	runtime.Gosched()
	runtime.LockOSThread()
	w.reader.Online()
	if tid := unix.Gettid(); tid != w.tid {
		w.moved(tid)
	}
	w.stayUrgent()
}

// moved goes on on another thread, which was faster: it gets what the worker's
// thread had, cores and urgency. An error leaves a slower worker.
func (w *Worker) moved(tid int) {
	_ = netdev.SwapThreads(w.tid, tid) // the other one may have ended
	w.tid = tid
	w.counter.moves.Add(1)
	w.stayUrgent()
}

// stayUrgent makes the thread urgent again: while the worker was not locked to it, an
// event loop may have been there, which makes its threads what it needs itself.
func (w *Worker) stayUrgent() {
	if w.urgent && !netdev.UrgentNow() {
		_ = netdev.UrgentThread()
	}
}
