package event

import (
	"sync/atomic"
	"time"
)

// TraceSize is how many of the last events the trace keeps: some milliseconds
// of a busy loop, minutes of a quiet one.
const TraceSize = 1024

// TraceEntry is one event that ran.
type TraceEntry struct {
	At      time.Time     `json:"at"` // when it started
	Handler string        `json:"handler"`
	Class   string        `json:"class"`
	Delay   time.Duration `json:"delay_ns"` // from post or due time to start
	Run     time.Duration `json:"run_ns"`
}

// diary is where the loop writes down each event, without a lock. Who wants to
// know folds what is new into the figures, under statMu; the loop itself does so
// every foldEvery events, and cannot write further without: what is read under
// statMu, at most TraceSize events back, is not written.
type diary struct {
	begun   atomic.Uint64 // events ever begun, doubled; odd: the last has ended and none runs
	folded  uint64        // events that are in the figures; guarded by statMu
	cleared uint64        // events that Clear forgot; guarded by statMu
	entries [2 * TraceSize]entry
}

// entry is one event.
type entry struct {
	h                *Handler
	start, wait, run int64 // mono time, ns, ns
}

// void is the run of an event that was cancelled.
const void = -1

// foldEvery bounds what whoever asks has to fold: some 20 µs.
const foldEvery = 512

func (d *diary) at(n uint64) *entry { return &d.entries[n%uint64(len(d.entries))] }

// ended is how many events have ended.
func (d *diary) ended() uint64 {
	n := d.begun.Load()
	if n%2 == 0 && n > 0 {
		return n/2 - 1
	}
	return n / 2
}

// begin writes down that an event begins.
func (l *Loop) begin(h *Handler, start, wait int64) *entry {
	if l.turn-l.written >= foldEvery {
		l.statMu.Lock()
		l.fold()
		l.written = l.diary.folded
		l.statMu.Unlock()
	}
	e := l.diary.at(l.turn)
	e.h, e.start, e.wait = h, start, wait
	l.turn++
	l.diary.begun.Store(2 * l.turn)
	l.idle = false
	if l.waiters.Load() > 0 {
		l.settled(l.turn - 1)
	}
	return e
}

// rest writes down that the last event has ended and none runs.
func (l *Loop) rest() {
	if l.idle {
		return
	}
	l.idle = true
	l.diary.begun.Store(2*l.turn + 1)
	if l.waiters.Load() > 0 {
		l.settled(l.turn)
	}
}

// present is the event that runs: number, handler and when it began.
type present struct {
	n     uint64
	h     *Handler // nil: none runs
	begin int64
}

// running tells what runs.
func (l *Loop) running() present {
	l.statMu.Lock() // keeps the entry
	defer l.statMu.Unlock()
	n := l.diary.begun.Load()
	if n == 0 || n%2 == 1 {
		return present{}
	}
	e := l.diary.at(n/2 - 1)
	return present{n / 2, e.h, e.start}
}

// Trace returns the last events, oldest first.
func (l *Loop) Trace() []TraceEntry {
	d := &l.diary
	l.statMu.Lock()
	defer l.statMu.Unlock()
	end := d.ended()
	i := d.cleared
	if end > TraceSize {
		i = max(i, end-TraceSize)
	}
	list := make([]TraceEntry, 0, end-i)
	for ; i < end; i++ {
		e := d.at(i)
		if e.run == void {
			continue
		}
		list = append(list, TraceEntry{
			At: l.clock.zero.Add(time.Duration(e.start)), Handler: e.h.name, Class: e.h.class.String(),
			Delay: time.Duration(e.wait), Run: time.Duration(e.run),
		})
	}
	return list
}
