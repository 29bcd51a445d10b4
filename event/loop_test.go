package event

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("GODWIT_EVENT_PANIC") != "" {
		panicForReal()
	}
	goleak.VerifyTestMain(m)
}

// panicForReal is the child process of TestPanicEndsProcess.
func panicForReal() {
	l := New("main")
	h := l.Handler("fib-sync", Normal)
	boom := func() { panic("table is upside down") }
	if os.Getenv("GODWIT_EVENT_PANIC") == "async" {
		h.Async(func() error { boom(); return nil }, func(error) {})
	} else {
		_ = h.Post(boom)
	}
	_ = l.Run(context.Background())
	os.Exit(0)
}

// start runs a loop until the test ends.
func start(t *testing.T, opts ...Option) *Loop {
	t.Helper()
	l := New(t.Name(), opts...)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// virtual makes a loop that only Advance runs.
func virtual(t *testing.T, opts ...Option) *Loop {
	t.Helper()
	return New(t.Name(), append(opts, WithVirtualClock(time.Unix(1e9, 0)))...)
}

func post(t *testing.T, h *Handler, f func()) {
	t.Helper()
	if err := h.Post(f); err != nil {
		t.Fatal(err)
	}
}

// within fails unless c is closed or written to in time.
func within(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("timed out waiting for " + what)
	}
}

func TestClassesRunInOrderOfPriority(t *testing.T) {
	l := virtual(t)
	var got []string
	for i := range 3 {
		for c := numClasses; c > 0; c-- {
			h := l.Handler("h", c-1)
			post(t, h, func() { got = append(got, h.Class().String()+"012"[i:i+1]) })
		}
	}
	l.Advance(0)
	want := "critical0 critical1 critical2 high0 high1 high2 normal0 normal1 normal2 background0 background1 background2"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("order\n %s\nwant\n %s", s, want)
	}
}

func TestHigherClassPostedMeanwhileRunsNext(t *testing.T) {
	l := virtual(t)
	var got []string
	n, c := l.Handler("n", Normal), l.Handler("c", Critical)
	post(t, n, func() {
		got = append(got, "n1")
		post(t, c, func() { got = append(got, "c") })
	})
	post(t, n, func() { got = append(got, "n2") })
	l.Advance(0)
	if want := []string{"n1", "c", "n2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPostersKeepTheirOrderAndNothingIsLost(t *testing.T) {
	l := start(t)
	const posters, each = 8, 5000
	h := l.Handler("h", Normal)
	next := make([]int, posters) // written on the loop only
	var inside atomic.Int32
	var wrong int
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range each {
				if err := h.Post(func() {
					if inside.Add(1) != 1 || next[p] != i {
						wrong++
					}
					next[p] = i + 1
					inside.Add(-1)
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	done := make(chan struct{})
	post(t, h, func() { close(done) })
	within(t, done, "the last event")
	for p, n := range next {
		if n != each {
			t.Errorf("poster %d: %d events of %d ran", p, n, each)
		}
	}
	if wrong != 0 {
		t.Errorf("%d events out of order or at the same time", wrong)
	}
}

func TestFullClassRefusesOthersDoNot(t *testing.T) {
	l := virtual(t, WithBound(Normal, 3))
	h := l.Handler("h", Normal)
	ran := 0
	for i := range 5 {
		err := h.Post(func() { ran++ })
		if want := i >= 3; errors.Is(err, ErrFull) != want {
			t.Errorf("post %d: %v", i, err)
		}
	}
	post(t, l.Handler("h", High), func() { ran++ })
	h.After(time.Second, func() { ran++ }) // a timer is never refused
	h.After(0, func() { ran++ })
	s := l.Stats().Classes[Normal]
	if s.Queued != 4 || s.Full != 2 || s.Max != 4 || s.Bound != 3 {
		t.Errorf("stats %+v", s)
	}
	l.Advance(time.Second)
	if ran != 6 {
		t.Errorf("%d ran, want 6", ran)
	}
	post(t, h, func() {})
}

func TestStop(t *testing.T) {
	l := New("stop")
	h := l.Handler("h", Normal)
	var ran []int
	post(t, h, func() { ran = append(ran, 1); l.Stop() })
	if err := h.Post(func() { ran = append(ran, 2) }); err != nil {
		t.Fatal(err)
	}
	tm := h.After(time.Hour, func() {})
	if err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ran, []int{1}) {
		t.Errorf("ran %v: events after Stop are dropped", ran)
	}
	if err := h.Post(func() {}); !errors.Is(err, ErrStopped) {
		t.Errorf("Post after the end: %v", err)
	}
	if tm.Stop() {
		t.Error("a timer outlived its loop")
	}
	h.After(0, func() { t.Error("timer ran after the end") })
	if n := l.Stats().Timers; n != 0 {
		t.Errorf("%d timers armed after the end", n)
	}
	if err := l.Run(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("second Run: %v", err)
	}
}

func TestContextEndsRun(t *testing.T) {
	l := New("ctx")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
		close(ended)
	}()
	ran := make(chan struct{})
	post(t, l.Handler("h", Normal), func() { close(ran) })
	within(t, ran, "an event")
	if err := l.Run(ctx); err == nil || errors.Is(err, ErrStopped) {
		t.Errorf("Run of a running loop: %v", err)
	}
	cancel()
	within(t, ended, "the end of Run")
}

func TestAsyncEndsOnLoop(t *testing.T) {
	l := start(t, WithBound(Normal, 0)) // full: the end of Async gets in anyway
	h := l.Handler("h", Normal)
	broken := errors.New("broken")
	release, done := make(chan struct{}), make(chan struct{})
	onLoop := false
	post(t, l.Handler("go", High), func() {
		h.Async(func() error { <-release; return broken }, func(err error) {
			if !errors.Is(err, broken) || !onLoop {
				t.Errorf("done with %v, after the next event: %v", err, onLoop)
			}
			close(done)
		})
	})
	post(t, l.Handler("go", High), func() { onLoop = true; close(release) }) // the loop is not blocked
	within(t, done, "the end of Async")
}

func TestPanicEndsProcess(t *testing.T) {
	for _, how := range []string{"post", "async"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GODWIT_EVENT_PANIC="+how)
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: process went on", how)
		}
		for _, want := range []string{"event loop main: handler fib-sync: panic: table is upside down", "panicForReal"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: output lacks %q:\n%s", how, want, out)
			}
		}
	}
}

func TestPanicIsTyped(t *testing.T) {
	l := virtual(t)
	post(t, l.Handler("h", Normal), func() { panic("x") })
	defer func() {
		var pe *PanicError
		if err, ok := recover().(error); !ok || !errors.As(err, &pe) || pe.Handler != "h" || pe.Value != "x" {
			t.Errorf("recovered %v", err)
		}
	}()
	l.Advance(0)
	t.Error("Advance survived a panic")
}

func TestHandlerIsRegisteredOnce(t *testing.T) {
	l := New("l")
	a := l.Handler("a", High)
	if l.Handler("a", High) != a || l.Handler("a", Normal) == a || l.Handler("b", High) == a {
		t.Error("handlers are not told apart by name and class")
	}
	if a.Name() != "a" || a.Class() != High || a.Loop() != l || l.Name() != "l" {
		t.Errorf("handler %s %s of %s", a.Name(), a.Class(), a.Loop().Name())
	}
	defer func() {
		if recover() == nil {
			t.Error("a class that does not exist was accepted")
		}
	}()
	l.Handler("x", numClasses)
}

func TestStatsCountAndClear(t *testing.T) {
	l := virtual(t)
	h, idle := l.Handler("busy", High), l.Handler("idle", Normal)
	for range 10 {
		post(t, h, func() {
			if s := l.Stats(); s.Running != "busy" {
				t.Errorf("running %q", s.Running)
			}
			for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
			}
		})
	}
	h.After(time.Hour, func() {})
	l.Advance(time.Minute)
	s := l.Stats()
	got := s.Handlers[0]
	if got.Name != "busy" || got.Runs != 10 || got.Run.Avg < time.Millisecond || got.Run.Max < got.Run.Avg ||
		got.Run.P99 < time.Millisecond || got.Run.Total < 10*time.Millisecond || got.Delay.Max < 8*time.Millisecond {
		t.Errorf("handler %+v", got)
	}
	if s.Timers != 1 || s.Classes[High].Posted != 10 || s.Classes[High].Max != 10 || s.Busy < 10*time.Millisecond {
		t.Errorf("stats %+v", s)
	}
	if s.Handlers[1].Name != idle.Name() || s.Handlers[1].Runs != 0 {
		t.Errorf("idle handler %+v", s.Handlers[1])
	}
	b, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(b), `"name":"busy","class":"high","runs":10`) {
		t.Errorf("JSON %s, %v", b, err)
	}
	var back Stats
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back.Handlers[0], got) {
		t.Errorf("JSON comes back as %+v, %v", back, err)
	}
	l.Clear()
	if s := l.Stats(); s.Handlers[0].Runs != 0 || s.Classes[High].Posted != 0 || s.Timers != 1 || s.Busy != 0 {
		t.Errorf("after Clear %+v", s)
	}
}

func TestStarvedEventsAreCounted(t *testing.T) {
	l := virtual(t)
	post(t, l.Handler("low", Background), func() {})
	post(t, l.Handler("hog", High), func() {
		for end := time.Now().Add(StarvedAfter + time.Millisecond); time.Now().Before(end); {
		}
	})
	l.Advance(0)
	s := l.Stats()
	if s.Classes[Background].Starved != 1 || s.Classes[High].Starved != 0 {
		t.Errorf("classes %+v", s.Classes)
	}
}

func TestStatsWhileRunning(t *testing.T) {
	l := start(t)
	h := l.Handler("h", Normal)
	for range 1000 {
		post(t, h, func() { h.After(time.Hour, func() {}) })
		l.Stats()
	}
	done := make(chan struct{})
	post(t, l.Handler("end", Background), func() { close(done) })
	within(t, done, "the last event")
	if s := l.Stats(); s.Timers != 1000 || s.Handlers[0].Runs < 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestQueueAgainstTwin: what comes out is what a slice would give, whatever is
// pushed and popped in between, over many chunks.
func TestQueueAgainstTwin(t *testing.T) {
	for _, policy := range []Policy{Reject, DropOldest} {
		l := New("l", WithBound(Normal, 1000), WithPolicy(Normal, policy))
		h, q := l.Handler("h", Normal), &l.classes[Normal]
		var twin []int64
		rng := rand.New(rand.NewPCG(1, uint64(policy)))
		never := func() bool { return true }
		// The oldest event left, of which posters need not know yet.
		behind := func() int { return len(twin) + int(q.untold) }
		for i := range int64(50_000) {
			if rng.IntN(2+int(i/10_000)%2) == 0 { // sometimes more in than out
				c := l.first()
				if (c == Normal) != (len(twin) > 0) {
					t.Fatalf("%v: step %d: first class %v with %d waiting", policy, i, c, len(twin))
				}
				if c != Normal {
					continue
				}
				if at := q.oldest(); at != twin[0] {
					t.Fatalf("%v: step %d: the oldest is %d, want %d", policy, i, at, twin[0])
				}
				if it := l.pop(q); it.at != twin[0] {
					t.Fatalf("%v: step %d: popped %d, want %d", policy, i, it.at, twin[0])
				}
				twin = twin[1:]
				continue
			}
			err := q.push(item{h: h, at: i}, never)
			switch {
			case behind() < 1000 && err == nil:
			case policy == DropOldest && err == nil:
				twin = twin[1:]
			case policy == Reject && behind() == 1000 && errors.Is(err, ErrFull):
				continue
			default:
				t.Fatalf("%v: push with %d waiting: %v", policy, len(twin), err)
			}
			twin = append(twin, i)
		}
		if s := q.stats(); s.Queued != behind() || s.Max != 1000 || s.Queued > len(twin)+1000/lagShare {
			t.Errorf("%v: %d waiting: %+v", policy, len(twin), s)
		}
	}
}

// TestFIFOAgainstTwin: items come out in the order they went in, and leave nothing
// behind.
func TestFIFOAgainstTwin(t *testing.T) {
	var f fifo
	var twin []int64
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range int64(50_000) {
		switch {
		case rng.IntN(3+int(i/5_000)%2) > 1 || len(twin) == 0: // sometimes more in than out
			f.push(&item{at: i})
			twin = append(twin, i)
		default:
			it := f.pop()
			if it.at != twin[0] {
				t.Fatalf("step %d: popped %d, want %d", i, it.at, twin[0])
			}
			*it = item{}
			twin = twin[1:]
		}
		if f.n != len(twin) || f.n > 0 && f.at(f.n-1).at != twin[len(twin)-1] {
			t.Fatalf("step %d: %d items, want %d", i, f.n, len(twin))
		}
	}
	for f.n > 0 {
		*f.pop() = item{}
	}
	for _, c := range f.chunks {
		for i := range c {
			if c[i].at != 0 {
				t.Fatal("an item is left behind")
			}
		}
	}
}

// TestPostAllocatesNothing: a loop in service leaves no garbage behind.
func TestPostAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := virtual(t)
	h := l.Handler("h", Normal)
	f := func() {}
	for range 1000 { // the histograms and chunks are there then
		post(t, h, f)
	}
	l.Advance(0)
	if n := testing.AllocsPerRun(100, func() {
		for range 300 {
			_ = h.Post(f)
		}
		l.Advance(0)
	}); n > 3 {
		t.Errorf("%v allocations for 300 events", n)
	}
}

func TestBurstMemoryIsReleased(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	for range 10 * keepCap {
		post(t, h, func() {})
	}
	l.Advance(0)
	l.Advance(0)
	post(t, h, func() {})
	l.Advance(0)
	if f := l.classes[Normal].waits; len(f.chunks) > keepChunks || cap(f.chunks) > 2*keepChunks {
		t.Errorf("%d chunks kept, room for %d", len(f.chunks), cap(f.chunks))
	}
	if n := len(l.inbox.spare); n > keepChunks || l.inbox.last != l.reading {
		t.Errorf("%d pieces kept", n)
	}
}
