package event

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

func BenchmarkTimer(b *testing.B) {
	l := New("b")
	h := l.Handler("h", Normal)
	b.Run("start", func(b *testing.B) {
		for range b.N {
			h.After(time.Hour, func() {})
		}
	})
	t := h.After(time.Hour, func() {})
	b.Run("reset", func(b *testing.B) {
		for i := range b.N {
			t.Reset(time.Hour + time.Duration(i))
		}
	})
	b.Run("stop", func(b *testing.B) {
		timers := make([]*Timer, b.N)
		for i := range timers {
			timers[i] = h.After(time.Hour, func() {})
		}
		b.ResetTimer()
		for _, t := range timers {
			t.Stop()
		}
	})
}

func BenchmarkAfterFunc(b *testing.B) {
	b.Run("start", func(b *testing.B) {
		timers := make([]*time.Timer, b.N)
		for i := range b.N {
			timers[i] = time.AfterFunc(time.Hour, func() {})
		}
		b.StopTimer()
		for _, t := range timers {
			t.Stop()
		}
	})
	t := time.AfterFunc(time.Hour, func() {})
	b.Run("reset", func(b *testing.B) {
		for i := range b.N {
			t.Reset(time.Hour + time.Duration(i))
		}
	})
	t.Stop()
}

func BenchmarkPost(b *testing.B) {
	l := New("b", WithBound(Normal, 1<<30))
	h := l.Handler("h", Normal)
	done := make(chan struct{})
	go func() { _ = l.Run(b.Context()); close(done) }()
	last := make(chan struct{})
	for i := range b.N {
		f := func() {}
		if i == b.N-1 {
			f = func() { close(last) }
		}
		_ = h.Post(f)
	}
	<-last
	l.Stop()
	<-done
}

// work is a handler of some 120 ns.
func work() {
	for end := time.Now().Add(80 * time.Nanosecond); time.Now().Before(end); {
	}
}

// BenchmarkPaced posts a million events a second, 50 µs at a time, in four
// classes, and reports their delays beside the hiccups of the machine: how late
// the poster itself was.
func BenchmarkPaced(b *testing.B) {
	const step, each = 50 * time.Microsecond, 50
	l := New("b", WithBound(Critical, 1<<20), WithBound(High, 1<<20), WithBound(Normal, 1<<20), WithBound(Background, 1<<20))
	var handlers []*Handler
	for c := range numClasses {
		handlers = append(handlers, l.Handler(fmt.Sprint("h", c), c))
	}
	ended := make(chan struct{})
	go func() { _ = l.Run(b.Context()); close(ended) }()
	var late []time.Duration
	begin := time.Now()
	sent := 0
	for next := begin; sent < b.N; next = next.Add(step) {
		for time.Now().Before(next) {
			runtime.Gosched()
		}
		late = append(late, time.Since(next))
		for i := range each {
			_ = handlers[i%len(handlers)].Post(work)
		}
		sent += each
	}
	took := time.Since(begin)
	idle := make(chan struct{})
	_ = l.Handler("end", Background).Post(func() { close(idle) })
	<-idle
	slices.Sort(late)
	b.ReportMetric(float64(sent)/took.Seconds(), "events/s")
	b.ReportMetric(float64(late[len(late)*999/1000].Microseconds()), "hiccup-p999-µs")
	for _, h := range l.Stats().Handlers {
		if h.Runs > 1 {
			b.ReportMetric(float64(h.Delay.P999.Microseconds()), h.Class+"-p999-µs")
		}
	}
	l.Stop()
	<-ended
}
