package event

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestTimersRunInOrderAtTheirTime(t *testing.T) {
	l := virtual(t)
	begin := l.Now()
	type run struct{ at, due time.Duration }
	var runs []run
	handlers := []*Handler{l.Handler("a", High), l.Handler("b", High)}
	for i, d := range []time.Duration{5 * time.Hour, 1, 0, -1, time.Millisecond, 3 * time.Second, 64, 63, 65, 4096, time.Millisecond, 400 * 24 * time.Hour} {
		handlers[i%2].After(d, func() { runs = append(runs, run{l.Now().Sub(begin), max(d, 0)}) })
	}
	l.Advance(0)
	if len(runs) != 2 {
		t.Errorf("%d timers ran at once, want those of 0 and -1", len(runs))
	}
	l.Advance(time.Millisecond - 1)
	if len(runs) != 7 {
		t.Errorf("%d timers ran before 1 ms", len(runs))
	}
	l.Advance(500 * 24 * time.Hour)
	if len(runs) != 12 {
		t.Errorf("%d timers ran", len(runs))
	}
	for i, r := range runs {
		if r.at != r.due || (i > 0 && r.at < runs[i-1].at) {
			t.Errorf("run %d: due %v, ran %v", i, r.due, r.at)
		}
	}
	if want := begin.Add(500*24*time.Hour + time.Millisecond - 1); !l.Now().Equal(want) {
		t.Errorf("now %v, want %v", l.Now(), want)
	}
}

// TestTimersAgainstTwin compares the wheel with a sorted list, at both
// resolutions.
func TestTimersAgainstTwin(t *testing.T) {
	seed := rand.Uint64()
	for _, shift := range []uint{0, tickShift} {
		rng := rand.New(rand.NewPCG(seed, uint64(shift)))
		var w wheel
		w.shift = shift
		twin := map[*Timer]bool{}
		now := int64(0)
		distance := func() int64 { return 1 + rng.Int64N(1<<rng.IntN(50)) }
		for range 20_000 {
			switch rng.IntN(4) {
			case 0, 1:
				timer := &Timer{due: now + distance()}
				w.add(timer)
				twin[timer] = true
			case 2:
				for timer := range twin {
					w.remove(timer)
					delete(twin, timer)
					break
				}
			default:
				now += distance() / 2
				checkExpired(t, seed, &w, twin, now)
			}
			if w.count != len(twin) {
				t.Fatalf("seed %d: %d timers, want %d", seed, w.count, len(twin))
			}
		}
		for len(twin) > 0 { // the wheel says itself when it wants to run
			next := w.nextTime()
			if next <= now && shift == 0 {
				t.Fatalf("seed %d: next %d is not after %d", seed, next, now)
			}
			now = next
			checkExpired(t, seed, &w, twin, now)
		}
		if w.nextTime() != never {
			t.Errorf("seed %d: an empty wheel wants to run", seed)
		}
	}
}

// checkExpired moves the wheel and checks that exactly those timers come whose
// tick has begun, in order.
func checkExpired(t *testing.T, seed uint64, w *wheel, twin map[*Timer]bool, now int64) {
	t.Helper()
	last := int64(0)
	for _, timer := range w.expire(now) {
		if !twin[timer] || timer.due > now || timer.due < last {
			t.Fatalf("seed %d: timer of %d came at %d behind %d, known %v", seed, timer.due, now, last, twin[timer])
		}
		last = timer.due
		delete(twin, timer)
	}
	for timer := range twin {
		if w.tickOf(timer.due) <= now>>w.shift {
			t.Fatalf("seed %d: timer of %d is overdue at %d", seed, timer.due, now)
		}
	}
}

func TestStopAndReset(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	var got []string
	add := func(name string) func() { return func() { got = append(got, name) } }
	a, b, c := h.After(10, add("a")), h.After(20, add("b")), h.After(30, add("c"))
	if !a.Stop() || a.Stop() {
		t.Error("Stop does not tell what it did")
	}
	b.Reset(100) // later: stays in its slot
	c.Reset(5)   // earlier
	l.Advance(4)
	if len(got) != 0 {
		t.Errorf("ran %v too early", got)
	}
	l.Advance(1)
	if !slices.Equal(got, []string{"c"}) {
		t.Errorf("ran %v", got)
	}
	l.Advance(45)
	a.Reset(10) // a stopped one starts again
	b.Reset(200)
	b.Reset(20)
	l.Advance(50)
	if !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("ran %v", got)
	}
	if a.Stop() || b.Stop() {
		t.Error("stopped what had run")
	}
	b.Reset(1)
	l.Advance(1)
	if len(got) != 4 || l.Stats().Timers != 0 {
		t.Errorf("ran %v, %d left", got, l.Stats().Timers)
	}
}

// TestStopOnLoopIsExact: a timer that has expired and waits in the queue does
// not run once a handler has stopped it, and runs once when it was reset.
func TestStopOnLoopIsExact(t *testing.T) {
	l := virtual(t)
	high, low := l.Handler("high", High), l.Handler("low", Background)
	stopped := low.After(10, func() { t.Error("ran after Stop") })
	ran := 0
	var at time.Time
	reset := low.After(10, func() { ran++; at = l.Now() })
	begin := l.Now()
	high.After(10, func() {
		if !stopped.Stop() {
			t.Error("nothing to stop")
		}
		reset.Reset(15)
	})
	l.Advance(100)
	if ran != 1 || at.Sub(begin) != 25 {
		t.Errorf("ran %d times, at %v", ran, at.Sub(begin))
	}
	again := low.After(0, func() { ran++ })
	again.Reset(0)
	l.Advance(0)
	if ran != 2 {
		t.Errorf("ran %d times", ran)
	}
}

func TestEvery(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	begin := l.Now()
	var at []time.Duration
	var tm *Timer
	tm = h.Every(10*time.Millisecond, func() {
		at = append(at, l.Now().Sub(begin))
		if len(at) == 3 {
			tm.Reset(25 * time.Millisecond)
		}
		if len(at) == 5 {
			tm.Stop()
		}
	})
	l.Advance(time.Second)
	ms := time.Millisecond
	if want := []time.Duration{10 * ms, 20 * ms, 30 * ms, 55 * ms, 65 * ms}; !slices.Equal(at, want) {
		t.Errorf("ran at %v, want %v", at, want)
	}
	n := 0
	fast := h.Every(0, func() { n++ })
	l.Advance(10 * MinPeriod)
	if n != 10 || !fast.Stop() {
		t.Errorf("a period of 0 ran %d times in %v", n, 10*MinPeriod)
	}
}

func TestEveryLeavesOutWhatWasMissed(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	begin := l.Now()
	var at []time.Duration
	h.Every(10*time.Millisecond, func() {
		at = append(at, l.Now().Sub(begin))
		if len(at) == 2 {
			l.clock.set(int64(47 * time.Millisecond)) // a handler that takes 27 ms
		}
	})
	l.Advance(60 * time.Millisecond)
	ms := time.Millisecond
	if want := []time.Duration{10 * ms, 20 * ms, 47 * ms, 50 * ms, 60 * ms}; !slices.Equal(at, want) {
		t.Errorf("ran at %v, want %v", at, want)
	}
	if n := l.Stats().Missed; n != 1 { // that of 40; that of 30 ran at 47
		t.Errorf("missed %d", n)
	}
}

func TestJitter(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	begin := l.Now()
	var at []time.Duration
	h.Every(time.Second, func() { at = append(at, l.Now().Sub(begin)) }, WithJitter(0.25))
	l.Advance(1000 * time.Second)
	last, low, high := time.Duration(0), time.Hour, time.Duration(0)
	for _, a := range at {
		low, high = min(low, a-last), max(high, a-last)
		last = a
	}
	if low < 750*time.Millisecond || low > 760*time.Millisecond || high > time.Second || high < 990*time.Millisecond {
		t.Errorf("periods of %v to %v, want 0.75 to 1 s", low, high)
	}
}

func TestTimersOfTheRealClock(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	done := make(chan time.Duration, 3)
	for _, d := range []time.Duration{0, 3 * time.Millisecond, 30 * time.Millisecond} {
		begin := time.Now()
		h.After(d, func() { done <- time.Since(begin) - d })
	}
	for range 3 {
		select {
		case late := <-done:
			if late < 0 || late > 5*time.Second {
				t.Errorf("%v late", late)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a timer did not run")
		}
	}
	if d := time.Since(l.Now()); d < 0 || d > time.Second {
		t.Errorf("Now is %v ago", d)
	}
}

// TestEarlierTimerWakesTheLoop: the loop sleeps towards a late timer.
func TestEarlierTimerWakesTheLoop(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	h.After(time.Hour, func() {})
	for range 20 {
		done := make(chan struct{})
		h.After(time.Millisecond, func() { close(done) })
		within(t, done, "the earlier timer")
	}
}

func TestTimersFromManyGoroutines(t *testing.T) {
	l := start(t)
	h := l.Handler("h", High)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ran := map[int]int{}
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 500 {
				id := g*500 + i
				tm := h.After(time.Duration(rng.IntN(5))*time.Millisecond, func() { mu.Lock(); ran[id]++; mu.Unlock() })
				switch rng.IntN(3) {
				case 0:
					if tm.Stop() {
						mu.Lock()
						ran[id]++ // will not
						mu.Unlock()
					}
				case 1:
					if tm.Stop() {
						tm.Reset(time.Millisecond)
					}
				}
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for {
		mu.Lock()
		n := len(ran)
		mu.Unlock()
		if n == 2000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 2000 timers ran or were stopped", n)
		}
		<-time.After(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range ran {
		if n != 1 {
			t.Errorf("timer %d: %d times", id, n)
		}
	}
}

func TestMillionTimers(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	rng := rand.New(rand.NewPCG(3, 4))
	n := 1_000_000
	if raceEnabled {
		n = 50_000
	}
	ran := 0
	timers := make([]*Timer, n)
	for i := range timers {
		timers[i] = h.After(time.Duration(rng.Int64N(int64(time.Hour))), func() { ran++ })
	}
	if got := l.Stats().Timers; got != n {
		t.Errorf("%d armed", got)
	}
	for _, tm := range timers[:n/2] {
		tm.Stop()
	}
	l.Advance(time.Hour)
	if ran != n/2 || l.Stats().Timers != 0 {
		t.Errorf("%d ran, %d left", ran, l.Stats().Timers)
	}
}

func TestLongestTimer(t *testing.T) {
	for _, l := range []*Loop{virtual(t), New("real")} {
		h := l.Handler("h", Normal)
		tm := h.After(1<<63-1, func() { t.Error("ran") })
		if !tm.Stop() {
			t.Error("was not armed")
		}
	}
}

func TestAdvanceWithRunningLoop(t *testing.T) {
	l := start(t, WithVirtualClock(time.Unix(0, 0)))
	h := l.Handler("h", Normal)
	n := 0
	h.Every(time.Second, func() { n++ })
	for i := range 100 {
		l.Advance(time.Second)
		if n != i+1 { // Advance returned: the loop has written n
			t.Fatalf("%d runs after %d s", n, i+1)
		}
	}
	if l.Now() != time.Unix(100, 0) {
		t.Errorf("now %v", l.Now())
	}
	defer func() {
		if recover() == nil {
			t.Error("Advance of a real clock")
		}
	}()
	New("real").Advance(1)
}
