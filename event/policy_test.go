package event

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestPolicies(t *testing.T) {
	for _, tt := range []struct {
		policy  Policy
		want    []int
		errs    int
		dropped uint64
	}{
		{Reject, []int{0, 1, 2}, 3, 0},
		{DropOldest, []int{3, 4, 5}, 0, 3},
		{Coalesce, []int{5}, 0, 0},
		{Block, []int{0, 1, 2}, 3, 0}, // on the loop it rejects
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			l := virtual(t, WithBound(Normal, 3), WithPolicy(Normal, tt.policy))
			h := l.Handler("h", Normal)
			var got []int
			errs := 0
			post(t, l.Handler("poster", High), func() {
				for i := range 6 {
					if err := h.Post(func() { got = append(got, i) }); errors.Is(err, ErrFull) {
						errs++
					}
				}
			})
			l.Advance(0)
			s := l.Stats().Classes[Normal]
			if !slices.Equal(got, tt.want) || errs != tt.errs || s.Dropped != tt.dropped || s.Full != uint64(tt.errs) || s.Queued != 0 {
				t.Errorf("ran %v, %d errors, %+v", got, errs, s)
			}
			if s.Policy != tt.policy.String() || s.Max > 3 {
				t.Errorf("%+v", s)
			}
		})
	}
	if s := Policy(9).String(); s != "policy(9)" {
		t.Error(s)
	}
}

// TestDropOldestKeepsTimersAndKeys: what must not get lost stays, in order, and
// a key whose event was dropped is free again.
func TestDropOldestKeepsTimersAndKeys(t *testing.T) {
	l := virtual(t, WithBound(Normal, 4), WithPolicy(Normal, DropOldest))
	h := l.Handler("h", Normal)
	var got []string
	add := func(s string) func() { return func() { got = append(got, s) } }
	h.After(0, add("timer"))
	if err := h.PostKey("k", add("k1")); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "b", "c", "d", "e"} {
		post(t, h, add(s))
	}
	if err := h.PostKey("k", add("k2")); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	if want := []string{"timer", "d", "e", "k2"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if n := len(l.classes[Normal].keys); n != 0 {
		t.Errorf("%d keys left", n)
	}
	for range 100 { // nothing may be dropped: refused
		h.After(0, func() {})
	}
	post(t, l.Handler("high", High), func() {
		if err := h.Post(func() {}); !errors.Is(err, ErrFull) {
			t.Errorf("post into a queue of timers: %v", err)
		}
	})
	l.Advance(0)
}

func TestBlockWaitsForRoom(t *testing.T) {
	l := New("l", WithBound(Normal, 2), WithPolicy(Normal, Block))
	h := l.Handler("h", Normal)
	var ran atomic.Int32
	posted := make(chan error, 1)
	go func() {
		for range 1000 {
			if err := h.Post(func() { ran.Add(1) }); err != nil {
				posted <- err
				return
			}
		}
		posted <- nil
	}()
	poll(t, "the poster waits", func() bool { return l.Stats().Classes[Normal].Blocked > 0 })
	ended := make(chan struct{})
	go func() { _ = l.Run(t.Context()); close(ended) }()
	if err := recvWithin(t, posted, "the last post"); err != nil {
		t.Fatal(err)
	}
	poll(t, "all ran", func() bool { return ran.Load() == 1000 })
	// On the loop, and in a task of it, Post answers at once.
	full := make(chan error, 2)
	try := func() {
		for {
			if err := h.Post(func() {}); err != nil {
				full <- err
				return
			}
		}
	}
	post(t, l.Handler("self", High), try)
	if err := recvWithin(t, full, "the handler's post"); !errors.Is(err, ErrFull) {
		t.Errorf("post on the loop: %v", err)
	}
	if err := l.Handler("task", High).Go(func(*Task) { try() }); err != nil {
		t.Fatal(err)
	}
	if err := recvWithin(t, full, "the task's post"); !errors.Is(err, ErrFull) {
		t.Errorf("post in a task: %v", err)
	}
	l.Stop()
	within(t, ended, "the loop")
}

func TestStopFreesBlockedPosters(t *testing.T) {
	l := New("l", WithBound(Normal, 1), WithPolicy(Normal, Block))
	h := l.Handler("h", Normal)
	post(t, h, func() {})
	freed := make(chan error, 1)
	go func() { freed <- h.Post(func() {}) }()
	poll(t, "the poster waits", func() bool { return l.Stats().Classes[Normal].Blocked == 1 })
	l.Stop()
	if err := recvWithin(t, freed, "the post"); !errors.Is(err, ErrStopped) {
		t.Errorf("post: %v", err)
	}
}

// TestStarvingClassGetsItsShare: under a flood that never ends, a lower class
// waits StarveBound and then gets one event in 64.
func TestStarvingClassGetsItsShare(t *testing.T) {
	l := start(t)
	flood, low := l.Handler("flood", High), l.Handler("low", Background)
	var floods atomic.Int64
	done := make(chan struct{})
	left := 20
	var again func()
	again = func() {
		floods.Add(1)
		if left > 0 {
			_ = flood.post(again, true)
		}
	}
	post(t, flood, func() {
		for range left {
			post(t, low, func() {
				if left--; left == 0 {
					close(done)
				}
			})
		}
		again()
	})
	begin := time.Now()
	within(t, done, "the background events")
	if took := time.Since(begin); took < StarveBound {
		t.Errorf("a lower class ran after %v", took)
	}
	poll(t, "all count as starved", func() bool { return l.Stats().Classes[Background].Starved == 20 })
}

// poll waits for a condition.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("timed out: " + what)
		}
	}
}
