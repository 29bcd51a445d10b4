package event

import "time"

// TraceSize is how many of the last events the trace keeps: some milliseconds
// of a busy loop, minutes of a quiet one; 48 KiB.
const TraceSize = 1024

// TraceEntry is one event that ran.
type TraceEntry struct {
	At      time.Time     `json:"at"` // when it started
	Handler string        `json:"handler"`
	Class   string        `json:"class"`
	Delay   time.Duration `json:"delay_ns"` // from post or due time to start
	Run     time.Duration `json:"run_ns"`
}

// ring keeps the last events; guarded by statMu.
type ring struct {
	next uint64 // counts all events
	buf  [TraceSize]struct {
		h                *Handler
		start, wait, run int64
	}
}

func (r *ring) add(h *Handler, start, wait, run int64) {
	e := &r.buf[r.next%TraceSize]
	e.h, e.start, e.wait, e.run = h, start, wait, run
	r.next++
}

// Trace returns the last events, oldest first.
func (l *Loop) Trace() []TraceEntry {
	r := &l.trace
	l.statMu.Lock()
	defer l.statMu.Unlock()
	n := min(r.next, TraceSize)
	list := make([]TraceEntry, 0, n)
	for i := r.next - n; i < r.next; i++ {
		e := &r.buf[i%TraceSize]
		list = append(list, TraceEntry{
			At: l.clock.zero.Add(time.Duration(e.start)), Handler: e.h.name, Class: e.h.class.String(),
			Delay: time.Duration(e.wait), Run: time.Duration(e.run),
		})
	}
	return list
}
