package event

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startUrgent runs a loop on an urgent thread until the test ends.
func startUrgent(t *testing.T) *Loop {
	t.Helper()
	l := New(t.Name(), WithUrgency())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(t.Context()) }()
	t.Cleanup(func() {
		l.Stop()
		if err := recvWithin(t, ended, "the end of the loop"); err != nil {
			t.Error(err)
		}
		for _, tid := range threads(t) {
			if attr, err := unix.SchedGetAttr(tid, 0); err == nil && attr.Nice == UrgentNice {
				t.Errorf("thread %d is still urgent", tid)
			}
		}
	})
	return l
}

func threads(t *testing.T) []int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	var tids []int
	for _, n := range names {
		tid, err := strconv.Atoi(filepath.Base(n))
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, tid)
	}
	return tids
}

// TestUrgentThread: the loop's thread has the priority, its children have not.
func TestUrgentThread(t *testing.T) {
	l := startUrgent(t)
	h := l.Handler("h", Normal)
	pollUrgent(t, h)
	child := make(chan string, 1)
	post(t, h, func() {
		out, err := exec.Command("nice").Output()
		if err != nil {
			t.Error(err)
		}
		child <- strings.TrimSpace(string(out))
	})
	if n := recvWithin(t, child, "the child"); n != "0" {
		t.Errorf("the child's niceness is %s", n)
	}
	if p := l.Stats().Priority; p != "urgent" {
		t.Errorf("priority %q", p)
	}
	if p := New("other").Stats().Priority; p != "ordinary" {
		t.Errorf("priority of another loop %q", p)
	}
}

// pollUrgent waits for an event of h on an urgent thread: Go may move the loop
// between two waits.
func pollUrgent(t *testing.T, h *Handler) {
	t.Helper()
	poll(t, "an event on the urgent thread", func() bool {
		nice := make(chan int32, 1)
		post(t, h, func() { nice <- niceness(t) })
		return recvWithin(t, nice, "the event") == UrgentNice
	})
}

// niceness is that of the calling thread.
func niceness(t *testing.T) int32 {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Error(err)
	}
	return attr.Nice
}

// TestBusyLoopIsOrdinary: a loop that does not wait loses the priority, and has
// it back when it waits again.
func TestBusyLoopIsOrdinary(t *testing.T) {
	h := startUrgent(t).Handler("h", Normal)
	pollUrgent(t, h)
	ordinary := make(chan struct{})
	var again func()
	again = func() {
		if niceness(t) == 0 {
			close(ordinary)
			return
		}
		post(t, h, again)
	}
	post(t, h, again)
	within(t, ordinary, "the loss of the priority")
	pollUrgent(t, h)
}

// TestUrgentLoopLosesNoWakeup: posts that race with its falling asleep.
func TestUrgentLoopLosesNoWakeup(t *testing.T) {
	l := startUrgent(t)
	h := l.Handler("h", High)
	ran := make(chan struct{}, 1)
	for range 3000 {
		post(t, h, func() { ran <- struct{}{} })
		within(t, ran, "the event")
	}
	var timers atomic.Int32
	for i := range 50 {
		h.After(time.Duration(i)*time.Millisecond, func() { timers.Add(1) })
	}
	poll(t, "the timers", func() bool { return timers.Load() == 50 })
	begin := time.Now()
	early := make(chan time.Duration, 1)
	h.After(20*time.Millisecond, func() { early <- time.Since(begin) })
	if d := recvWithin(t, early, "the timer"); d < 20*time.Millisecond {
		t.Errorf("ran after %v", d)
	}
}

// TestUrgencyRefused: a loop that may not be urgent runs, and says so.
func TestUrgencyRefused(t *testing.T) {
	if os.Getenv("EVENT_UNPRIVILEGED") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestUrgencyRefused$", "-test.v")
		cmd.Env = append(os.Environ(), "EVENT_UNPRIVILEGED=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	l := startUrgent(t)
	ran := make(chan struct{})
	post(t, l.Handler("h", Normal), func() { close(ran) })
	within(t, ran, "the event")
	if p := l.Stats().Priority; !strings.HasPrefix(p, "ordinary: sched_setattr: ") {
		t.Errorf("priority %q", p)
	}
}

// TestUrgentLoopEndsWhilePosted: posters may wake a loop that ends.
func TestUrgentLoopEndsWhilePosted(t *testing.T) {
	for range 50 {
		l := New("l", WithUrgency())
		h := l.Handler("h", Normal)
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		posted := make(chan struct{})
		go func() {
			defer close(posted)
			for h.Post(func() {}) == nil {
			}
		}()
		post(t, h, l.Stop)
		within(t, posted, "the poster")
		if err := recvWithin(t, ended, "the end"); err != nil {
			t.Error(err)
		}
	}
}

// TestRealTimeThreadsAreAnothers: a loop that comes to run on a real-time thread does not demote it.
func TestRealTimeThreadsAreAnothers(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			t.Error(err)
			return
		}
		var u urgency
		u.keep()
		if now, err := unix.SchedGetAttr(0, 0); err != nil || now.Policy != unix.SCHED_FIFO || now.Priority != 1 {
			t.Errorf("the thread has become %+v, %v", now, err)
		}
		if u.tid != 0 || !strings.Contains(u.String(), "real-time") {
			t.Errorf("thread %d, %v", u.tid, &u)
		}
	}()
	<-done
}
