package event

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPostKeyKeepsTheNewestInTheFirstPlace(t *testing.T) {
	l := virtual(t, WithBound(Normal, 3))
	h := l.Handler("h", Normal)
	var got []string
	add := func(s string) func() { return func() { got = append(got, s) } }
	for _, e := range []struct{ key, val string }{{"a", "a1"}, {"b", "b1"}, {"a", "a2"}, {"c", "c1"}, {"a", "a3"}} {
		if err := h.PostKey(e.key, add(e.val)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.PostKey("d", add("d")); !errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
	l.Advance(0)
	if want := []string{"a3", "b1", "c1"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if n := l.Stats().Handlers[0].Coalesced; n != 2 {
		t.Errorf("coalesced %d", n)
	}
	// A key is free once its event runs, also for the event itself.
	got = nil
	for _, key := range []string{"d", "a"} {
		if err := h.PostKey(key, func() {
			add(key + "1")()
			if err := h.PostKey(key, add(key+"2")); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	l.Advance(0)
	if want := []string{"d1", "a1", "d2", "a2"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if n := len(l.classes[Normal].keys); n != 0 {
		t.Errorf("%d keys left", n)
	}
}

func TestPostKeyFromManyGoroutines(t *testing.T) {
	l := start(t)
	h := l.Handler("h", Normal)
	var mu sync.Mutex
	newest, seen := 0, 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				mu.Lock()
				newest++
				v := newest
				if err := h.PostKey("k", func() {
					if v < seen {
						t.Errorf("%d behind %d", v, seen)
					}
					seen = v
				}); err != nil {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	done := make(chan struct{})
	post(t, l.Handler("end", Background), func() { close(done) })
	within(t, done, "the last event")
	if seen != 8000 {
		t.Errorf("the newest value seen is %d", seen)
	}
}

func TestDeadlinesAndSlowRunsAreCounted(t *testing.T) {
	l := virtual(t)
	h, hog := l.Handler("h", Normal), l.Handler("hog", High)
	h.SetDeadline(SlowAfter / 2)
	spin := func() {
		for end := time.Now().Add(SlowAfter + time.Millisecond); time.Now().Before(end); {
		}
	}
	post(t, h, func() {})
	l.Advance(0)
	post(t, h, func() {})
	post(t, hog, spin)
	l.Advance(0)
	for _, s := range l.Stats().Handlers {
		switch s.Name {
		case "h":
			if s.Missed != 1 || s.Slow != 0 || s.Deadline != SlowAfter/2 || s.Runs != 2 {
				t.Errorf("%+v", s)
			}
		case "hog":
			if s.Missed != 0 || s.Slow != 1 {
				t.Errorf("%+v", s)
			}
		}
	}
	l.Clear()
	if s := l.Stats().Handlers; s[0].Missed+s[1].Missed+s[0].Slow+s[1].Slow != 0 {
		t.Errorf("after Clear %+v", s)
	}
}

func TestSliceLetsOthersRun(t *testing.T) {
	l := virtual(t)
	var got []string
	n := 0
	if err := l.Handler("long", Normal).Slice(0, func() bool {
		n++
		got = append(got, "step")
		return n < 3
	}); err != nil {
		t.Fatal(err)
	}
	post(t, l.Handler("other", Normal), func() { got = append(got, "other") })
	l.Advance(0)
	if want := []string{"step", "other", "step", "step"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	n = 0
	if err := l.Handler("long", Normal).Slice(time.Minute, func() bool { n++; return n < 1000 }); err != nil {
		t.Fatal(err)
	}
	before := l.Stats().Classes[Normal].Posted
	l.Advance(0)
	if s := l.Stats().Classes[Normal]; n != 1000 || s.Posted != before {
		t.Errorf("%d steps in one budget took %d events more", n, s.Posted-before)
	}
}

func TestTaskAwaitsWithoutBlocking(t *testing.T) {
	l := start(t)
	h := l.Handler("task", Normal)
	release, done := make(chan struct{}), make(chan struct{})
	broken := errors.New("broken")
	var got []string // on the loop only
	if err := h.Go(func(task *Task) {
		got = append(got, "begin")
		if err := task.Await(func() error { <-release; return nil }); err != nil {
			t.Error(err)
		}
		got = append(got, "middle")
		if err := task.Await(func() error { return broken }); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		got = append(got, "end")
		close(done)
	}); err != nil {
		t.Fatal(err)
	}
	post(t, h, func() { got = append(got, "other"); close(release) })
	within(t, done, "the task")
	if want := []string{"begin", "other", "middle", "end"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
}

func TestTaskEndsWithTheLoop(t *testing.T) {
	l := New("l")
	release := make(chan struct{})
	began := make(chan struct{})
	ended := make(chan error, 2)
	if err := l.Handler("task", Normal).Go(func(task *Task) {
		ended <- task.Await(func() error { close(began); <-release; return nil })
		ended <- task.Await(func() error { t.Error("work began after the end"); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { _ = l.Run(t.Context()); close(stopped) }()
	within(t, began, "the work")
	l.Stop()
	within(t, stopped, "the loop")
	for range 2 {
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("Await: %v", err)
		}
	}
	close(release)
}

// TestYieldLetsOthersRun: what waits runs before the routine goes on.
func TestYieldLetsOthersRun(t *testing.T) {
	l := virtual(t)
	h := l.Handler("task", Normal)
	var got []string
	if err := h.Go(func(task *Task) {
		for range 3 {
			got = append(got, "part")
			if err := task.Yield(); err != nil {
				t.Error(err)
			}
		}
		got = append(got, "end")
	}); err != nil {
		t.Fatal(err)
	}
	post(t, h, func() { got = append(got, "other") })
	post(t, l.Handler("low", Background), func() { got = append(got, "low") })
	l.Advance(0)
	if want := []string{"part", "other", "part", "part", "end", "low"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}

	l = virtual(t)
	stopped := errors.New("not yet")
	if err := l.Handler("task", Normal).Go(func(task *Task) {
		l.Stop()
		stopped = task.Yield()
	}); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	if !errors.Is(stopped, ErrStopped) {
		t.Errorf("Yield in a loop that ended: %v", stopped)
	}
}

func TestTaskPanicNamesItsHandler(t *testing.T) {
	l := virtual(t)
	if err := l.Handler("task", Normal).Go(func(*Task) { panic("x") }); err != nil {
		t.Fatal(err)
	}
	defer func() {
		var pe *PanicError
		if err, ok := recover().(error); !ok || !errors.As(err, &pe) || pe.Handler != "task" {
			t.Errorf("recovered %v", err)
		}
	}()
	l.Advance(0)
}

func TestTraceKeepsTheLast(t *testing.T) {
	l := virtual(t)
	a, b := l.Handler("a", Normal), l.Handler("b", High)
	post(t, a, func() {})
	l.Advance(0)
	tr := l.Trace()
	if len(tr) != 1 || tr[0].Handler != "a" || tr[0].Class != "normal" || time.Since(tr[0].At) > time.Minute {
		t.Errorf("trace %+v", tr)
	}
	for range TraceSize {
		post(t, b, func() {})
	}
	l.Advance(0)
	tr = l.Trace()
	if len(tr) != TraceSize || tr[0].Handler != "b" {
		t.Fatalf("%d entries, first %+v", len(tr), tr[0])
	}
	if !slices.IsSortedFunc(tr, func(x, y TraceEntry) int { return x.At.Compare(y.At) }) {
		t.Error("not in order")
	}
}

func TestWatchdogSeesStuckHandler(t *testing.T) {
	l := start(t)
	stuck := make(chan Stuck, 10)
	w := l.Watch(20*time.Millisecond, func(s Stuck) { stuck <- s })
	release, done := make(chan struct{}), make(chan struct{})
	post(t, l.Handler("well", Normal), func() {})
	post(t, l.Handler("stuck", Normal), func() { waitHere(release); close(done) })
	s := recvWithin(t, stuck, "the report")
	if s.Handler != "stuck" || s.For < 20*time.Millisecond || !strings.Contains(string(s.Stack), "waitHere") {
		t.Errorf("report %s %v, stack\n%s", s.Handler, s.For, s.Stack)
	}
	if st := l.Stats(); st.Running != "stuck" || st.Since < 20*time.Millisecond {
		t.Errorf("stats %+v", st)
	}
	close(release)
	within(t, done, "the handler")
	w.Close()
	if len(stuck) != 0 {
		t.Errorf("reported again: %+v", <-stuck)
	}
}

func waitHere(c chan struct{}) { <-c }
