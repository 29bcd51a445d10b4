package worker

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
)

// How long a worker sleeps at most, in milliseconds. After sending it looks
// soon again: a port may hold frames that the kernel refused for the moment,
// and sent buffers wait to be reclaimed.
const (
	napAfterSend = 1
	napUnpolled  = 1 // a port has no descriptor to wait for
	napIdle      = 1000
)

// napAwake is how long a worker sleeps without telling the Go scheduler. Between
// packets it is always that. Of a system call that the scheduler hears of, its
// monitor looks at the goroutine some thousand times a second, under a spin lock
// that the return from the call takes. An urgent worker that packets wake
// on the monitor's core meanwhile would spin until the kernel stops it, for up to 950 ms:
// the monitor, which holds the lock, is ordinary and does not run. Meanwhile the worker
// keeps its P, of which a line card has some more than cores.
const napAwake = 2 // ms, less than yieldEvery

// maxPollErrors is how many polls in a row may report an error on a port that
// has no frame, before the port counts as failed.
const maxPollErrors = 16

// sleep waits until a source has work. It does not, if one has already.
func (w *Worker) sleep() {
	if w.stale {
		w.collectFds()
	}
	if w.busy > 0 {
		if w.busy = w.busyFor(); w.at-w.active < w.busy {
			return // ports are polled a little longer
		}
	}
	w.sleeping.Store(true)
	if w.waiting() || !w.bellsOn() {
		w.sleeping.Store(false)
		return
	}
	timeout := napIdle
	if w.sent {
		timeout, w.sent = napAfterSend, false
	} else if w.unpolled() {
		timeout = napUnpolled
	}
	w.counter.sleeps.Add(1)
	w.reader.Offline()
	n, _ := poll(w.fds, min(timeout, napAwake)) // interrupted: as if it were time, too
	if n == 0 && timeout > napAwake {
		n, _ = unix.Poll(w.fds, timeout-napAwake) // EINTR: as if it were time
	}
	w.reader.Online()
	w.sleeping.Store(false)
	w.awake(n > 0)
}

// poll is unix.Poll that the Go scheduler does not hear of. It interrupts the
// call with a signal when it wants the goroutine to stop.
func poll(fds []unix.PollFd, ms int) (ready int, interrupted bool) {
	ts := unix.NsecToTimespec(int64(ms) * int64(time.Millisecond))
	n, _, e := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if e != 0 {
		return 0, true
	}
	return int(n), false
}

func (w *Worker) waiting() bool {
	return w.stopping.Load() || w.asked.Load() || w.inject.Len() > 0 || w.first.Len() > 0 || w.host.Len() > 0 || w.hand.Len() > 0
}

// bellsOn asks all producers to ring; it reports false, and takes that back,
// when packets wait.
func (w *Worker) bellsOn() bool {
	for i, c := range w.consumers {
		if !c.Sleep() {
			for _, b := range w.consumers[:i] {
				b.Wake(false)
			}
			return false
		}
	}
	return true
}

// awake reads what woke the worker.
func (w *Worker) awake(ready bool) {
	for i, c := range w.consumers {
		c.Wake(ready && w.fds[w.bells+i].Revents != 0)
	}
	if !ready {
		return
	}
	if w.fds[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(w.event, b[:])
	}
	for i, p := range w.owners {
		if p == nil || p.failed {
			continue
		}
		re := w.fds[i].Revents
		if re&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0 {
			continue
		}
		if p.errs++; p.errs > maxPollErrors {
			w.fail(p, errPort)
		}
	}
}

// collectFds makes the list to poll: the eventfd, the ports, the doorbells.
func (w *Worker) collectFds() {
	w.stale = false
	w.fds = append(w.fds[:0], unix.PollFd{Fd: int32(w.event), Events: unix.POLLIN})
	w.owners = append(w.owners[:0], nil)
	w.busy = w.busyFor()
	var list []int
	for _, p := range w.ports {
		poller, ok := p.p.(graph.Poller)
		if p.failed || !ok {
			continue
		}
		list = poller.Fds(list[:0])
		for _, fd := range list {
			w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			w.owners = append(w.owners, p)
		}
	}
	w.bells = len(w.fds)
	for _, c := range w.consumers {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(c.Fd()), Events: unix.POLLIN})
		w.owners = append(w.owners, nil)
	}
}

// busyFor is for how long after a packet the ports want to be asked before the worker sleeps, ns.
func (w *Worker) busyFor() (d int64) {
	for _, p := range w.ports {
		if b, ok := p.p.(graph.BusyPoller); ok && !p.failed {
			d = max(d, int64(b.BusyPoll()))
		}
	}
	return d
}

func (w *Worker) unpolled() bool {
	for _, p := range w.ports {
		if _, ok := p.p.(graph.Poller); !ok && !p.failed {
			return true
		}
	}
	return false
}
