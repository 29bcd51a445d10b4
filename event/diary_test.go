package event

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFiguresAreExactWhileTheLoopRuns: who reads them meanwhile neither loses nor
// doubles an event, however often the diary wraps around.
func TestFiguresAreExactWhileTheLoopRuns(t *testing.T) {
	const each, posters = 20 * TraceSize, 2
	l := start(t, WithPolicy(Normal, Block))
	h, void := l.Handler("h", Normal), l.Handler("void", High)
	stop := make(chan struct{})
	var readers, senders sync.WaitGroup
	readers.Go(func() {
		runs := uint64(0)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, s := range l.Stats().Handlers {
				if s.Name == "h" {
					if s.Runs < runs {
						t.Errorf("%d runs, %d before", s.Runs, runs)
					}
					runs = s.Runs
				}
			}
			at := time.Time{}
			for _, e := range l.Trace() {
				if e.At.Before(at) || e.Run < 0 {
					t.Errorf("%+v after %v", e, at)
				}
				at = e.At
			}
		}
	})
	var ran atomic.Int64
	for range posters {
		senders.Go(func() {
			for i := range each {
				if err := h.Post(func() { ran.Add(1) }); err != nil {
					t.Error(err)
				}
				if i%100 == 0 {
					void.After(0, func() {}).Stop() // its event may be void
				}
			}
		})
	}
	senders.Wait()
	poll(t, "all events", func() bool { return ran.Load() == posters*each })
	close(stop)
	readers.Wait()
	poll(t, "the last is counted", func() bool {
		for _, s := range l.Stats().Handlers {
			if s.Name == "h" && s.Runs == posters*each && s.Delay.Total >= 0 {
				return true
			}
		}
		return false
	})
	if n := len(l.Trace()); n == 0 || n > TraceSize {
		t.Errorf("%d events in the trace", n)
	}
	l.Clear()
	for _, s := range l.Stats().Handlers {
		if s.Runs != 0 {
			t.Errorf("%d runs of %s after Clear", s.Runs, s.Name)
		}
	}
	if n := len(l.Trace()); n != 0 {
		t.Errorf("%d events in the trace after Clear", n)
	}
}

// TestFiguresOnTheLoop: a handler sees all events before its own.
func TestFiguresOnTheLoop(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	for i := range 2 * foldEvery {
		post(t, h, func() {
			s := l.Stats()
			if s.Handlers[0].Runs != uint64(i) || s.Running != "h" {
				t.Errorf("event %d: %d runs, %q runs", i, s.Handlers[0].Runs, s.Running)
			}
		})
	}
	l.Advance(0)
}

// TestPriorityAmongCrowds: where few wait, an event of a higher class is always
// next; where many do, it is after a bounded time.
func TestPriorityAmongCrowds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		waiting int
		spin    time.Duration // of each handler
		most    int           // lower events in between
	}{
		{"few", crowd / 2, 0, 0},
		{"many short", 100 * crowd, 0, 100 * crowd / 2},
		{"many long", 2 * crowd, collectEvery, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New(t.Name())
			low, high := l.Handler("low", Normal), l.Handler("high", Critical)
			ran, posted, between := 0, -1, -1
			for range tt.waiting {
				post(t, low, func() {
					ran++
					spin(tt.spin)
					if ran == 3 {
						posted = ran
						post(t, high, func() { between = ran - posted })
					}
				})
			}
			post(t, low, l.Stop)
			if err := l.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if between < 0 || between > tt.most {
				t.Errorf("%d events of a lower class ran first, %d may", between, tt.most)
			}
		})
	}
}

// TestInboxGivesPiecesBack: a loop that keeps up needs few of them, whatever
// passes through.
func TestInboxGivesPiecesBack(t *testing.T) {
	l := virtual(t)
	h := l.Handler("h", Normal)
	ran := 0
	for range 1000 {
		for range chunkItems - 1 {
			post(t, h, func() { ran++ })
		}
		l.Advance(0)
	}
	if ran != 1000*(chunkItems-1) {
		t.Errorf("%d events ran", ran)
	}
	if n := len(l.inbox.spare); n > 2 {
		t.Errorf("%d spare pieces", n)
	}
}
