package bfd

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
	"godwit/dataplane/punt"
	"godwit/dataplane/worker"
)

// Sizes of the queue between workers and the runner. A control packet is at
// most 100 bytes; 1,000 sessions of 10 ms fill the slots in 5 ms.
const (
	queueSlots = 512
	queueSize  = 512
)

// Runner drives a Core on a thread of its own, which runs before all ordinary
// ones and before the workers: what it does takes microseconds. Its methods may
// be called from any goroutine.
type Runner struct {
	Queue *worker.Queue[punt.Meta] // what workers receive

	core    *Core
	now     func() int64
	effects func([]Effect)
	late    func(error)

	mu       sync.Mutex
	commands []command
	done     chan struct{} // of the goroutine
	event    int           // eventfd; -1: closed

	sleeping atomic.Bool
	asked    atomic.Bool
	stopping atomic.Bool
	lateMost atomic.Int64 // ns that a timer ran late, the most so far
	lateLong atomic.Uint64

	buf [queueSize]byte
}

type command struct {
	f    func(c *Core, now int64)
	done chan struct{}
}

// NewRunner makes a runner that stands still until Start. effects is called on
// its thread and must not block; so is ordinary, once, if the thread can't be
// made urgent.
func NewRunner(c *Core, now func() int64, effects func([]Effect), ordinary func(error)) (*Runner, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	r := &Runner{core: c, now: now, effects: effects, late: ordinary, event: fd}
	r.Queue = worker.NewQueue[punt.Meta](queueSlots, queueSize, r.wake)
	return r, nil
}

// Start starts the thread.
func (r *Runner) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = make(chan struct{})
	go r.run(r.done)
}

// Close ends the thread and refuses packets from then on.
func (r *Runner) Close() error {
	r.mu.Lock()
	done := r.done
	r.mu.Unlock()
	r.stopping.Store(true)
	r.wake()
	if done != nil {
		<-done
	}
	r.Queue.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.event < 0 {
		return nil
	}
	err := unix.Close(r.event)
	r.event = -1
	return err
}

// ErrStopped is the answer of a runner that was closed.
var ErrStopped = errors.New("BFD has stopped")

// Do runs f with the core and returns when it has run.
func (r *Runner) Do(f func(c *Core, now int64)) error {
	r.mu.Lock()
	if r.done == nil || r.stopping.Load() {
		r.mu.Unlock()
		return ErrStopped
	}
	cmd := command{f, make(chan struct{})}
	r.commands = append(r.commands, cmd)
	r.asked.Store(true)
	end := r.done
	r.mu.Unlock()
	r.wake()
	select {
	case <-cmd.done:
		return nil
	case <-end:
		return ErrStopped
	}
}

// Lateness is the most that a timer ever ran late, ns, and how often it was
// more than 5 ms.
func (r *Runner) Lateness() (most int64, often uint64) {
	return r.lateMost.Load(), r.lateLong.Load()
}

var one = [8]byte{1}

func (r *Runner) wake() {
	if !r.sleeping.CompareAndSwap(true, false) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.event >= 0 {
		_, _ = unix.Write(r.event, one[:]) // refused only when it is readable anyway
	}
}

func (r *Runner) run(done chan struct{}) {
	defer close(done)
	runtime.LockOSThread() // for good: an urgent thread ends with its goroutine
	if err := netdev.Urgent(0, netdev.WorkerPriority+1); err != nil {
		r.late(err)
	}
	for !r.stopping.Load() {
		if r.round() == 0 {
			r.sleep()
		}
	}
}

// round handles what is there and returns how many packets that was. Packets
// come before timers: what has arrived is not missing.
func (r *Runner) round() int {
	now := r.now()
	if r.asked.Load() {
		r.obey(now)
	}
	n := 0
	var m punt.Meta
	for ; n < queueSlots; n++ {
		size, ok := r.Queue.Take(&m, r.buf[:])
		if !ok {
			break
		}
		if int(m.L3) < size {
			r.core.Receive(now, m.VRF, m.In, r.buf[m.L3:size])
		}
	}
	if due := r.core.Next(); due <= now {
		r.measure(now - due)
		r.core.Advance(now)
	}
	if list := r.core.Drain(); len(list) > 0 {
		r.effects(list)
	}
	return n
}

const longDelay = int64(lateClock) / 2

func (r *Runner) measure(late int64) {
	if late > r.lateMost.Load() {
		r.lateMost.Store(late)
	}
	if late > longDelay {
		r.lateLong.Add(1)
	}
}

func (r *Runner) obey(now int64) {
	r.mu.Lock()
	list := r.commands
	r.commands = nil
	r.asked.Store(false)
	r.mu.Unlock()
	for _, c := range list {
		c.f(r.core, now)
		close(c.done)
	}
}

// sleep waits for a packet, a command or the next timer.
func (r *Runner) sleep() {
	r.sleeping.Store(true)
	if r.Queue.Len() > 0 || r.asked.Load() || r.stopping.Load() {
		r.sleeping.Store(false)
		return
	}
	var timeout *unix.Timespec
	if due := r.core.Next(); due != never {
		t := unix.NsecToTimespec(max(due-r.now(), 0))
		timeout = &t
	}
	fds := [1]unix.PollFd{{Fd: int32(r.event), Events: unix.POLLIN}}
	_, _ = unix.Ppoll(fds[:], timeout, nil) // interrupted or not: the round looks
	r.sleeping.Store(false)
	if fds[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(r.event, b[:])
	}
}
