package fwdlab

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
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
		if err := pinThread(tid, RouterCore, 0); err != nil {
			return Result{}, err
		}
	}
	before, after, err := r.sampleTwice(threads, warm, d)
	if err != nil {
		return Result{}, err
	}
	for i, n := range before.delays {
		after.delays[i] -= n
	}
	took := after.at.Sub(before.at).Seconds()
	got := after.Good - before.Good
	res := Result{PPS: float64(got) / took, Offered: float64(after.Sent-before.Sent) / took, Seen: after.Seen, Delays: after.delays}
	if after.Bad > 0 {
		return res, fmt.Errorf("%d of %d checked packets were damaged", after.Bad, after.Checked)
	}
	if got == 0 {
		return res, fmt.Errorf("no packet of %d arrived (%d foreign)", after.Sent, after.Foreign)
	}
	res.PerFrame = (after.cpu - before.cpu) / time.Duration(got)
	return res, nil
}

// sample is what was counted until a moment.
type sample struct {
	Seen
	cpu    time.Duration
	at     time.Time
	delays []uint64 // if packets are stamped
}

// sampleTwice takes a sample after the warm-up and one after d. It runs on an
// urgent thread of its own that sleeps in the kernel: generator and router may
// take both cores from everything else, the Go scheduler too.
func (r *Running) sampleTwice(threads []int, warm, d time.Duration) (before, after sample, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- func() (err error) {
			if err := netdev.Urgent(0, samplerPriority); err != nil {
				return err
			}
			sleep(warm)
			if before, err = r.sample(threads); err != nil {
				return err
			}
			sleep(d)
			after, err = r.sample(threads)
			return err
		}()
	}()
	return before, after, <-done
}

// sleep sleeps in the kernel.
func sleep(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&left, &left) == unix.EINTR {
	}
}

// sample reads counters and CPU times.
func (r *Running) sample(threads []int) (s sample, err error) {
	if s.cpu, err = threadTimes(threads); err != nil {
		return s, err
	}
	if r.stamped {
		if s.delays, err = r.Delays(); err != nil {
			return s, err
		}
	}
	s.Seen, err = r.Seen()
	s.at = time.Now()
	return s, err
}
