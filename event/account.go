package event

import (
	"time"

	"golang.org/x/sys/unix"
)

// meterEvery: of each handler, the CPU time of a run is measured once in so long
// at most, so that of each long run. It costs six system calls, some 1 µs.
const meterEvery = time.Millisecond

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

// runMetered runs f and adds its CPU time to the samples of h.
func (l *Loop) runMetered(h *Handler, f func()) {
	begin := l.clock.mono()
	cpu := meter(f)
	run := l.clock.mono() - begin
	l.statMu.Lock()
	h.cpu.run += run
	h.cpu.cpu += min(cpu, run)
	l.statMu.Unlock()
}

// fold adds the events that have ended to all figures. statMu is held.
func (l *Loop) fold() {
	d := &l.diary
	for end := d.ended(); d.folded < end; d.folded++ {
		if e := d.at(d.folded); e.run != void {
			l.busy += e.run
			e.h.account(e.wait, e.run)
		}
	}
}

// account adds one run. statMu is held.
func (h *Handler) account(wait, run int64) {
	h.delay.add(wait)
	h.run.add(run)
	if run > int64(SlowAfter) {
		h.slow++
		h.warn[Slow].add(run)
	}
	if wait > int64(StarvedAfter) {
		h.starved++
		h.warn[Starved].add(wait)
	}
	if deadline := h.deadline; deadline > 0 && wait > int64(deadline) {
		h.missed++
		h.warn[Late].add(wait)
	}
}
