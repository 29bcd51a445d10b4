package event

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// TestCancelIsExactFromAnywhere: after Cancel has returned on another goroutine,
// the timer's function neither runs nor begins, whatever the loop was doing.
func TestCancelIsExactFromAnywhere(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	rng := rand.New(rand.NewPCG(5, 6))
	began := 0
	for i := range 300 {
		var forbidden atomic.Bool
		var runs atomic.Int32
		tm := h.Every(MinPeriod, func() {
			if forbidden.Load() {
				t.Error("began after Cancel")
			}
			runs.Add(1)
			for end := time.Now().Add(300 * time.Microsecond); time.Now().Before(end); {
				if forbidden.Load() {
					t.Error("runs after Cancel")
					return
				}
			}
		})
		if i%3 != 0 {
			poll(t, "it runs", func() bool { return runs.Load() > 0 })
		}
		for end := time.Now().Add(time.Duration(rng.IntN(1000)) * time.Microsecond); time.Now().Before(end); {
		}
		tm.Cancel()
		forbidden.Store(true)
		if runs.Load() > 0 {
			began++
		}
	}
	if began < 100 {
		t.Errorf("only %d of 300 timers ran", began)
	}
}

func TestCancelWaitsForTheRun(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	begun, release, cancelled := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	tm := h.After(0, func() { close(begun); <-release })
	within(t, begun, "the run")
	go func() { cancelled <- tm.Cancel() }()
	poll(t, "Cancel waits", func() bool { return l.waiters.Load() == 1 })
	other := l.Handler("other", High).After(time.Hour, func() {})
	if !other.Cancel() { // that of another handler does not wait
		t.Error("nothing to cancel")
	}
	close(release)
	if recvWithin(t, cancelled, "Cancel") {
		t.Error("Cancel says that it prevented the run")
	}
}

func TestCancelOnTheLoopDoesNotWait(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	done := make(chan struct{})
	post(t, h, func() {
		var tm *Timer
		tm = h.Every(MinPeriod, func() { // its own
			tm.Cancel()
			if err := h.Go(func(*Task) { tm.Cancel(); close(done) }); err != nil { // and in a task
				t.Error(err)
			}
		})
	})
	within(t, done, "Cancel on the loop")
}

func TestCloseOfSourceIsExact(t *testing.T) {
	l := start(t)
	h := l.Handler("h", Normal)
	for range 100 {
		var closed atomic.Bool
		c := make(chan int)
		stop := make(chan struct{})
		n := 0
		s := Feed(h, "numbers", func() (int, error) {
			select {
			case v := <-c:
				return v, nil
			case <-stop:
				return 0, ErrStopped
			}
		}, func() { close(stop) }, func(int) {
			if closed.Load() {
				t.Error("ran after Close")
			}
			n++
		}, nil)
		for i := range 20 {
			c <- i
		}
		s.Close()
		closed.Store(true)
	}
	if n := len(l.Stats().Sources); n != 0 {
		t.Errorf("%d sources left", n)
	}
}
