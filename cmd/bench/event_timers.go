package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"godwit/event"
)

const (
	benchTimers   = 1_000_000
	protocolTimer = 50 * time.Millisecond
	protocolCount = 200 // timers
	protocolTime  = 10 * time.Second
)

// distances are when the timers are due: spread over an hour, the same each run.
func distances() []time.Duration {
	d := make([]time.Duration, benchTimers)
	x := uint64(1)
	for i := range d {
		x = x*6364136223846793005 + 1442695040888963407
		d[i] = time.Minute + time.Duration(x>>33)*time.Hour/(1<<31)
	}
	return d
}

// timerCosts are ns a timer.
type timerCosts struct{ start, reset, stop float64 }

// timerCost measures with a million armed.
func timerCost[T any](d []time.Duration, start func(time.Duration) T, reset func(T, time.Duration), stop func(T)) timerCosts {
	timers := make([]T, len(d))
	runtime.GC()
	per := func(f func()) float64 {
		begin := time.Now()
		f()
		return float64(time.Since(begin).Nanoseconds()) / float64(len(d))
	}
	var c timerCosts
	c.start = per(func() {
		for i := range timers {
			timers[i] = start(d[i])
		}
	})
	c.reset = per(func() {
		for i, t := range timers {
			reset(t, d[len(d)-1-i])
		}
	})
	c.stop = per(func() {
		for _, t := range timers {
			stop(t)
		}
	})
	return c
}

func benchEventTimers(r *report) error {
	d := distances()
	var ours, theirs [3][]float64
	for i := range eventRuns {
		l := event.New("bench")
		h := l.Handler("h", event.High)
		ended := make(chan error, 1)
		go func() { ended <- l.Run(context.Background()) }()
		a := timerCost(d, func(d time.Duration) *event.Timer { return h.After(d, func() {}) },
			func(t *event.Timer, d time.Duration) { t.Reset(d) }, func(t *event.Timer) { t.Stop() })
		l.Stop()
		<-ended
		b := timerCost(d, func(d time.Duration) *time.Timer { return time.AfterFunc(d, func() {}) },
			func(t *time.Timer, d time.Duration) { t.Reset(d) }, func(t *time.Timer) { t.Stop() })
		r.progress("timers run %d: start %.0f reset %.0f stop %.0f ns; AfterFunc %.0f %.0f %.0f ns", i+1, a.start, a.reset, a.stop, b.start, b.reset, b.stop)
		for k, v := range [][2]float64{{a.start, b.start}, {a.reset, b.reset}, {a.stop, b.stop}} {
			ours[k], theirs[k] = append(ours[k], v[0]), append(theirs[k], v[1])
		}
	}
	for k, name := range []string{"event.timer_start", "event.timer_reset", "event.timer_stop"} {
		if err := r.against(name, "ns", "less", ours[k], "afterfunc", theirs[k]); err != nil {
			return err
		}
	}
	return nil
}

// benchProtocolTimer lets timers of 50 ms run beside two processes that do
// nothing but compute.
func benchProtocolTimer(r *report) (err error) {
	for range 2 {
		hog := exec.Command("sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			return fmt.Errorf("start hog: %w", err)
		}
		defer func() {
			_ = hog.Process.Kill()
			_ = hog.Wait()
		}()
	}
	var ours, theirs []float64
	for i := range eventRuns {
		a, b := protocolOnLoop(), protocolAfterFunc()
		r.progress("protocol timer run %d: %.2f ms; AfterFunc %.2f ms", i+1, a, b)
		ours, theirs = append(ours, a), append(theirs, b)
	}
	return r.against("event.protocol_timer_p999", "ms", "less", ours, "afterfunc", theirs)
}

// phases spreads the timers' starts over the period.
func phases() []time.Duration {
	p := make([]time.Duration, protocolCount)
	for i := range p {
		p[i] = protocolTimer + protocolTimer*time.Duration(i)/protocolCount
	}
	return p
}

func protocolOnLoop() float64 {
	l := event.New("bench", event.WithUrgency())
	h := l.Handler("keepalive", event.High)
	var late []float64 // ms; the loop's
	for _, d := range phases() {
		due := time.Now().Add(d)
		var t *event.Timer
		t = h.After(d, func() {
			now := time.Now()
			late = append(late, now.Sub(due).Seconds()*1e3)
			due = now.Add(protocolTimer)
			t.Reset(protocolTimer)
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), protocolTime/eventRuns)
	defer cancel()
	_ = l.Run(ctx)
	return quantile(late, 0.999)
}

func protocolAfterFunc() float64 {
	samples := make(chan float64, 1<<16)
	var timers []*time.Timer
	for _, d := range phases() {
		due := time.Now().Add(d)
		ready := make(chan *time.Timer, 1)
		var t *time.Timer
		timer := time.AfterFunc(d, func() {
			if t == nil {
				t = <-ready
			}
			now := time.Now()
			samples <- now.Sub(due).Seconds() * 1e3
			due = now.Add(protocolTimer)
			t.Reset(protocolTimer)
		})
		ready <- timer
		timers = append(timers, timer)
	}
	time.Sleep(protocolTime / eventRuns)
	for _, t := range timers {
		t.Stop()
	}
	late := make([]float64, 0, len(samples))
	for len(samples) > 0 {
		late = append(late, <-samples)
	}
	return quantile(slices.Clip(late), 0.999)
}
