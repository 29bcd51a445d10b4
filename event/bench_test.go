package event

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// BenchmarkBacklog is what events cost that wait in four classes: the poster and
// the loop in turn, on a thread each, in CPU time, which other load on the machine
// does not add to. The baseline is the same over channels.
func BenchmarkBacklog(b *testing.B) {
	l := New("b")
	handlers := oneEachClass(l)
	f := func() {}
	b.Run("loop", func(b *testing.B) {
		backlog(b, func(c int) { _ = handlers[c].Post(f) }, func() {
			for l.runNext() {
			}
		})
	})
	b.Run("channels", func(b *testing.B) {
		var c [numClasses]chan func()
		for i := range c {
			c[i] = make(chan func(), benchBacklog)
		}
		backlog(b, func(i int) { c[i] <- f }, func() {
			for {
				var f func()
				select {
				case f = <-c[0]:
				default:
					select {
					case f = <-c[1]:
					default:
						select {
						case f = <-c[2]:
						default:
							select {
							case f = <-c[3]:
							default:
								return
							}
						}
					}
				}
				f()
			}
		})
	})
}

// benchBacklog is how many events of each class wait.
const benchBacklog = 1024

func backlog(b *testing.B, post func(class int), run func()) {
	fill, filled := make(chan struct{}), make(chan int64)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for range fill {
			begin := cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
			for range benchBacklog {
				for c := range int(numClasses) {
					post(c)
				}
			}
			filled <- cpuTime(unix.CLOCK_THREAD_CPUTIME_ID) - begin
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var posting, running int64
	n := 0
	for ; n < b.N; n += benchBacklog * int(numClasses) {
		fill <- struct{}{}
		posting += <-filled
		begin := cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
		run()
		running += cpuTime(unix.CLOCK_THREAD_CPUTIME_ID) - begin
	}
	close(fill)
	b.ReportMetric(float64(posting)/float64(n), "post-ns/op")
	b.ReportMetric(float64(running)/float64(n), "run-ns/op")
}

func oneEachClass(l *Loop) []*Handler {
	var handlers []*Handler
	for c := range numClasses {
		handlers = append(handlers, l.Handler(fmt.Sprint("h", c), c))
	}
	return handlers
}

// BenchmarkSaturated posts as fast as the loop runs, in four classes; the
// baseline is the same over channels.
func BenchmarkSaturated(b *testing.B) {
	b.Run("loop", func(b *testing.B) {
		opts := []Option{}
		for c := range numClasses {
			opts = append(opts, WithPolicy(c, Block), WithBound(c, 4096))
		}
		l := New("b", opts...)
		handlers := oneEachClass(l)
		ended := make(chan struct{})
		go func() { _ = l.Run(b.Context()); close(ended) }()
		b.ResetTimer()
		for i := range b.N {
			_ = handlers[i%len(handlers)].Post(work)
		}
		last := make(chan struct{})
		_ = handlers[Background].Post(func() { close(last) })
		<-last
		b.StopTimer()
		l.Stop()
		<-ended
	})
	b.Run("channels", func(b *testing.B) {
		var c [numClasses]chan func()
		for i := range c {
			c[i] = make(chan func(), 4096)
		}
		ended := make(chan struct{})
		go runChannels(c, ended)
		b.ResetTimer()
		for i := range b.N {
			c[i%len(c)] <- work
		}
		c[Background] <- nil
		<-ended
	})
}

// runChannels runs what comes over channels, the first first, until a nil.
func runChannels(c [numClasses]chan func(), ended chan<- struct{}) {
	defer close(ended)
	for {
		var f func()
		select {
		case f = <-c[0]:
		default:
			select {
			case f = <-c[1]:
			default:
				select {
				case f = <-c[2]:
				default:
					select {
					case f = <-c[0]:
					case f = <-c[1]:
					case f = <-c[2]:
					case f = <-c[3]:
					}
				}
			}
		}
		if f == nil {
			return
		}
		f()
	}
}

// work is a handler of some 120 ns: about two readings of the clock.
func work() {
	for range 2 {
		_ = time.Now()
	}
}

// BenchmarkPaced posts a million events a second, 50 µs at a time, in four
// classes, and reports their delays beside the hiccups of the machine: how late
// the poster itself was.
func BenchmarkPaced(b *testing.B) {
	const step, each = 50 * time.Microsecond, 50
	l := New("b", WithBound(Critical, 1<<20), WithBound(High, 1<<20), WithBound(Normal, 1<<20), WithBound(Background, 1<<20))
	handlers := oneEachClass(l)
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
