package fwdlab

import (
	"fmt"
	"time"
)

// Result is one measurement.
type Result struct {
	PPS      float64       // packets a second that reached the sink
	PerFrame time.Duration // CPU time of the router for each of them
	Offered  float64       // packets a second of the generator
	Seen     Seen
	Delays   []uint64 // with Traffic.Stamp
}

// Measure sends traffic through the router: after a warm-up it counts for the
// given time. Threads are those of the router under test besides the kernel's.
func (l *Lab) Measure(tr Traffic, threads []int, warm, d time.Duration) (Result, error) {
	r, err := l.Start(tr)
	if err != nil {
		return Result{}, err
	}
	res, err := l.measure(r, threads, warm, d)
	if err == nil && tr.Stamp {
		res.Delays, err = r.Delays()
	}
	if e := r.Stop(); err == nil {
		err = e
	}
	return res, err
}

func (l *Lab) measure(r *Running, threads []int, warm, d time.Duration) (Result, error) {
	router, err := l.pin()
	if err != nil {
		return Result{}, err
	}
	threads = append(router, threads...)
	for _, tid := range threads[len(router):] {
		if err := pinThread(tid, RouterCore, false); err != nil {
			return Result{}, err
		}
	}
	time.Sleep(warm)
	before, cpu0, t0, err := r.sample(threads)
	if err != nil {
		return Result{}, err
	}
	time.Sleep(d)
	after, cpu1, t1, err := r.sample(threads)
	if err != nil {
		return Result{}, err
	}
	took := t1.Sub(t0).Seconds()
	got := after.Good - before.Good
	res := Result{PPS: float64(got) / took, Offered: float64(after.Sent-before.Sent) / took, Seen: after}
	if after.Bad > 0 {
		return res, fmt.Errorf("%d of %d checked packets were damaged", after.Bad, after.Checked)
	}
	if got == 0 {
		return res, fmt.Errorf("no packet of %d arrived (%d foreign)", after.Sent, after.Foreign)
	}
	res.PerFrame = (cpu1 - cpu0) / time.Duration(got)
	return res, nil
}

// sample reads counters and CPU times.
func (r *Running) sample(threads []int) (Seen, time.Duration, time.Time, error) {
	var cpu time.Duration
	for _, tid := range threads {
		t, err := threadTime(tid)
		if err != nil {
			return Seen{}, 0, time.Time{}, err
		}
		cpu += t
	}
	s, err := r.Seen()
	return s, cpu, time.Now(), err
}
