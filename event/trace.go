package event

import (
	"runtime"
	"sync"
	"time"
)

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

// ring keeps the last events.
type ring struct {
	mu   sync.Mutex
	next uint64 // counts all events
	buf  [TraceSize]struct {
		h                *Handler
		start, wait, run int64
	}
}

func (r *ring) add(h *Handler, start, wait, run int64) {
	r.mu.Lock()
	e := &r.buf[r.next%TraceSize]
	e.h, e.start, e.wait, e.run = h, start, wait, run
	r.next++
	r.mu.Unlock()
}

// Trace returns the last events, oldest first.
func (l *Loop) Trace() []TraceEntry {
	r := &l.trace
	r.mu.Lock()
	defer r.mu.Unlock()
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

// Stuck tells of a handler that does not end.
type Stuck struct {
	Loop    string
	Handler string
	For     time.Duration
	Stack   []byte // of all goroutines
}

// maxStack bounds the stack dump of a stuck handler.
const maxStack = 1 << 20

// Watch calls report, from a goroutine of its own, when a handler runs for
// longer than limit: once a run. It ends with the loop, or by Close.
func (l *Loop) Watch(limit time.Duration, report func(Stuck)) *Source {
	return newSource(l, func() {}, func(s *Source) {
		tick := time.NewTicker(max(limit/4, time.Millisecond))
		defer tick.Stop()
		reported := int64(-1)
		for {
			select {
			case <-tick.C:
			case <-s.closed:
				return
			}
			h, begin := l.current.Load(), l.started.Load()
			d := time.Duration(l.clock.mono() - begin)
			if h == nil || d < limit || begin == reported || l.started.Load() != begin {
				continue
			}
			reported = begin
			stack := make([]byte, maxStack)
			stack = stack[:runtime.Stack(stack, true)]
			report(Stuck{Loop: l.name, Handler: h.name, For: d, Stack: stack})
		}
	})
}
