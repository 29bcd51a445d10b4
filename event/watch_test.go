package event

import (
	"strings"
	"testing"
	"time"
)

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

func TestWarningsSumUp(t *testing.T) {
	l := start(t)
	warned := make(chan Warning, 100)
	slow, low := l.Handler("slow", High), l.Handler("low", Background)
	low.SetDeadline(time.Millisecond)
	done := make(chan struct{})
	post(t, slow, func() {
		post(t, low, func() { close(done) })
		spin(StarvedAfter + time.Millisecond)
	})
	post(t, slow, func() { spin(2 * SlowAfter) })
	within(t, done, "the events")
	w := l.Warn(10*time.Millisecond, func(w Warning) { warned <- w })
	got := map[string]Warning{}
	for len(got) < 4 { // the second run of slow waited, too
		w := recvWithin(t, warned, "a warning")
		got[w.Handler+" "+w.Kind.String()] = w
	}
	if w := got["slow slow"]; w.Count != 2 || w.Worst < StarvedAfter || w.Class != High || w.Loop != t.Name() {
		t.Errorf("slow: %+v", w)
	}
	if w := got["low starved"]; w.Count != 1 || w.Worst < StarvedAfter {
		t.Errorf("starved: %+v", w)
	}
	if w := got["low late"]; w.Count != 1 {
		t.Errorf("late: %+v", w)
	}
	w.Close()
	if len(warned) != 0 {
		t.Errorf("warned twice: %+v", <-warned)
	}
}

func TestCPUTimeIsNotRunTime(t *testing.T) {
	l := start(t)
	waits, works := l.Handler("waits", Normal), l.Handler("works", Normal)
	done := make(chan struct{})
	for i := range 20 {
		post(t, waits, func() { <-time.After(2 * time.Millisecond) })
		post(t, works, func() {
			spin(2 * time.Millisecond)
			if i == 19 {
				close(done)
			}
		})
	}
	within(t, done, "the events")
	poll(t, "the last is counted", func() bool { s := l.Stats().Handlers; return s[0].Runs == 20 && s[1].Runs == 20 })
	for _, h := range l.Stats().Handlers {
		switch h.Name {
		case "waits":
			if h.CPU > h.Run.Total/2 {
				t.Errorf("a handler that waits: CPU %v of %v", h.CPU, h.Run.Total)
			}
		case "works": // other processes may take some of it
			if h.CPU < h.Run.Total/50 || h.CPU > h.Run.Total {
				t.Errorf("a handler that works: CPU %v of %v", h.CPU, h.Run.Total)
			}
		}
	}
}

func TestDelayHistogram(t *testing.T) {
	l := virtual(t)
	h, hog := l.Handler("h", Normal), l.Handler("hog", High)
	for range 5 {
		post(t, h, func() {})
	}
	post(t, hog, func() { spin(20 * time.Millisecond) })
	l.Advance(0)
	bounds := DelayBounds()
	for _, s := range l.Stats().Handlers {
		if len(s.Delays) != len(bounds)+1 {
			t.Fatalf("%d counts for %d bounds", len(s.Delays), len(bounds))
		}
		var sum, late uint64
		for i, n := range s.Delays {
			sum += n
			if i == len(bounds) || bounds[i] > 20*time.Millisecond {
				late += n
			}
		}
		if sum != s.Runs || (s.Name == "h" && late != 5) {
			t.Errorf("%s: %d events counted, %d late: %v", s.Name, sum, late, s.Delays)
		}
	}
	var g histogram
	for _, b := range bounds {
		g.add(int64(b) - 1)
		g.add(int64(b))
	}
	if c := g.counts(); c[0] != 1 || c[1] != 2 || c[len(bounds)] != 1 {
		t.Errorf("counts %v", c)
	}
}

func TestSourcesAndTimersShow(t *testing.T) {
	l := start(t)
	h := l.Handler("h", Normal)
	h.After(time.Hour, func() {})
	done := make(chan struct{})
	h.After(0, func() { close(done) })
	within(t, done, "the timer")
	w := l.Watch(time.Second, func(Stuck) {})
	st := l.Stats()
	if len(st.Sources) != 1 || st.Sources[0].Kind != "watchdog" || time.Since(st.Sources[0].Since) > time.Minute {
		t.Errorf("sources %+v", st.Sources)
	}
	if h := st.Handlers[0]; h.Armed != 1 || h.Fired != 1 {
		t.Errorf("timers %d armed, %d fired", h.Armed, h.Fired)
	}
	w.Close()
	if st := l.Stats(); len(st.Sources) != 0 {
		t.Errorf("sources %+v", st.Sources)
	}
	poll(t, "the run is counted", func() bool { return len(l.Trace()) == 1 })
	l.Clear()
	if st := l.Stats(); st.Handlers[0].Fired != 0 || st.Handlers[0].Armed != 1 || len(l.Trace()) != 0 || st.Window > time.Minute {
		t.Errorf("after Clear %+v", st)
	}
}

func TestStuckTaskShowsItsOwnStack(t *testing.T) {
	l := start(t)
	stuck := make(chan Stuck, 10)
	l.Watch(20*time.Millisecond, func(s Stuck) { stuck <- s })
	release, done := make(chan struct{}), make(chan struct{})
	if err := l.Handler("task", Normal).Go(func(*Task) { waitHere(release); close(done) }); err != nil {
		t.Fatal(err)
	}
	s := recvWithin(t, stuck, "the report")
	if stack := string(s.Stack); !strings.Contains(stack, "waitHere") || strings.Contains(stack, "testing.tRunner") {
		t.Errorf("stack\n%s", stack)
	}
	if !strings.Contains(string(s.All), "testing.tRunner") {
		t.Error("the dump of all lacks the test")
	}
	close(release)
	within(t, done, "the task")
}
