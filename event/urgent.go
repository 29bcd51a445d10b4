package event

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// WithUrgency lets the loop's thread run before others when it wakes up, so that
// timers and events are in time on a machine that others keep busy. The loop
// then waits in the kernel by itself: no other thread must run before it does.
// A loop that stays busy becomes an ordinary one until it waits again: it must
// not take the processor from those that post to it, nor from the rest of the
// machine.
//
// It needs CAP_SYS_NICE, or an RLIMIT_NICE that allows UrgentNice; without, the loop runs as an ordinary thread and
// Stats.Priority says why. With a virtual clock it means nothing.
func WithUrgency() Option {
	return func(l *Loop) { l.urgent.want = true }
}

const (
	// UrgentNice is the niceness of an urgent thread: 9 times an ordinary one's share.
	UrgentNice = -10
	// urgentSlice is what the thread asks for at a time: the kernel (Linux 6.12)
	// lets it in before those that ask for more. The shortest it takes.
	urgentSlice = 100 * time.Microsecond
	// urgentFor is for how long a loop may be busy and urgent. Go lets a
	// goroutine run for 10 ms before it may go on on another thread.
	urgentFor = time.Millisecond
)

// urgency is the thread of a loop that wants to be in time.
type urgency struct {
	want bool
	on   bool // Run waits in the kernel

	// fd wakes the thread: an eventfd, open while Run runs. Posters hold users
	// while they use it.
	fd     int
	users  atomic.Int32
	closed atomic.Bool

	tid   int                    // which has the priority, 0: none; belongs to Run
	since int64                  // when the loop woke up, mono time; belongs to Run
	told  atomic.Pointer[string] // for Stats
}

// begin opens what wakes the thread. Without it the loop is as others are.
func (u *urgency) begin() {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		u.tell(fmt.Errorf("make eventfd: %w", err))
		return
	}
	u.fd = fd
	u.on = true
	u.keep()
}

// end makes the thread ordinary again: it goes on to serve other goroutines.
func (u *urgency) end() {
	if !u.on {
		return
	}
	u.closed.Store(true)
	for u.users.Load() > 0 {
		runtime.Gosched()
	}
	_ = unix.Close(u.fd)
	makeOrdinary(u.tid)
}

// relax makes the thread ordinary, until keep.
func (u *urgency) relax() {
	makeOrdinary(u.tid)
	u.tid = 0
}

// keep sees to it that the thread which the loop runs on has the priority: Go
// may have moved it.
func (u *urgency) keep() {
	tid := unix.Gettid()
	if tid == u.tid {
		return
	}
	err := makeUrgent()
	makeOrdinary(u.tid)
	u.tid = tid
	if errors.Is(err, errRealTime) {
		u.tid = 0 // looks again at the next wait: its owner takes the priority away with it
	}
	u.tell(err)
}

// errRealTime: the thread has been made more urgent than a loop, by a goroutine that was locked to it and
// will be again. It must not be demoted for that.
var errRealTime = errors.New("the thread has a real-time priority, which is another's")

func (u *urgency) tell(err error) {
	s := "urgent"
	if err != nil {
		s = "ordinary: " + err.Error()
	}
	if old := u.told.Load(); old == nil || *old != s {
		u.told.Store(&s)
	}
}

func (u *urgency) String() string {
	if s := u.told.Load(); s != nil {
		return *s
	}
	return "ordinary"
}

// makeUrgent gives the calling thread the priority. Its children, be they
// threads or processes, do not inherit it.
func makeUrgent() error {
	if now, err := unix.SchedGetAttr(0, 0); err == nil && (now.Policy == unix.SCHED_FIFO || now.Policy == unix.SCHED_RR) {
		return errRealTime
	}
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: UrgentNice,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, Runtime: uint64(urgentSlice),
	}
	return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &attr, 0))
}

// makeOrdinary takes it from a thread, unless that has become something else
// since.
func makeOrdinary(tid int) {
	if tid == 0 {
		return
	}
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL || attr.Nice != UrgentNice {
		return
	}
	attr = &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	_ = unix.SchedSetAttr(tid, attr, 0)
}

// wait sleeps until wake or for d; negative: for ever.
func (u *urgency) wait(d time.Duration) {
	u.keep()
	var timeout *unix.Timespec
	if d >= 0 {
		ts := unix.NsecToTimespec(int64(d))
		timeout = &ts
	}
	fds := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}
	n, err := unix.Ppoll(fds, timeout, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic("event: wait for events: " + err.Error()) // a bad descriptor: ours was closed by others
	}
	if n > 0 {
		var count [8]byte
		_, _ = unix.Read(u.fd, count[:])
	}
}

var one = [8]byte{1}

// wake ends wait.
func (u *urgency) wake() {
	u.users.Add(1)
	if !u.closed.Load() {
		_, _ = unix.Write(u.fd, one[:]) // only a counter at its limit refuses: it is readable
	}
	u.users.Add(-1)
}
