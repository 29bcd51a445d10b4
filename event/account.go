package event

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// cpuShare: the CPU time of one event in so many is measured. It costs six
	// system calls, some 1 µs.
	cpuShare = 128
	// heavyAfter is the average run above which it is measured every time.
	heavyAfter = 100 * time.Microsecond
)

// cpuSamples are the runs whose CPU time was measured: a handler's CPU time is
// its run time times cpu/run.
type cpuSamples struct {
	run, cpu int64 // ns
}

// estimate scales the samples to all runs.
func (c cpuSamples) estimate(run int64) int64 {
	if c.run == 0 {
		return run // not one sample: as if it never waited
	}
	return int64(float64(run) * float64(c.cpu) / float64(c.run))
}

// meter runs f and returns the CPU time of its thread meanwhile; where f came
// back on another thread, because it waited or was long, that of the process: an
// upper bound.
func meter(f func()) int64 {
	thread, process, own := unix.Gettid(), cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID), cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
	f()
	own = cpuTime(unix.CLOCK_THREAD_CPUTIME_ID) - own
	if unix.Gettid() != thread {
		return cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID) - process
	}
	return own
}

// cpuTime reads a clock that every kernel has, in ns.
func cpuTime(clock int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic("event: read CPU clock: " + err.Error())
	}
	return ts.Nano()
}

// account adds one run to all figures. cpu is -1 when it was not measured.
func (l *Loop) account(h *Handler, start, wait, run, cpu int64) {
	deadline := h.deadline.Load()
	l.statMu.Lock()
	l.busy += run
	h.delay.add(wait)
	h.run.add(run)
	if cpu >= 0 {
		h.cpu.run += run
		h.cpu.cpu += min(cpu, run)
	}
	if run > int64(SlowAfter) {
		h.slow++
		h.warn[Slow].add(run)
	}
	if wait > int64(StarvedAfter) {
		h.starved++
		h.warn[Starved].add(wait)
	}
	if deadline > 0 && wait > deadline {
		h.missed++
		h.warn[Late].add(wait)
	}
	h.heavy = h.run.total > int64(h.run.count)*int64(heavyAfter)
	l.trace.add(h, start, wait, run)
	l.statMu.Unlock()
}
