package event

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// StarvedAfter is how long an event may wait before it counts as starved: half
// of the shortest time (200 ms) after which a person or a peer notices.
const StarvedAfter = 100 * time.Millisecond

// SlowAfter is how long a handler may run before the run counts as slow: a
// 50 ms protocol timer must start within 10 ms.
const SlowAfter = 10 * time.Millisecond

// Stats are a loop's figures since its start, or since Clear.
type Stats struct {
	Loop     string         `json:"loop"`
	Busy     time.Duration  `json:"busy_ns"`           // time in handlers
	Timers   int            `json:"timers"`            // armed now
	Missed   uint64         `json:"missed"`            // runs of periodic timers left out, because the loop was late
	Running  string         `json:"running,omitempty"` // handler that runs now
	Since    time.Duration  `json:"running_ns"`        // how long it has been running
	Classes  []ClassStats   `json:"classes"`
	Handlers []HandlerStats `json:"handlers"` // the one that ran longest first
}

// ClassStats are the figures of a priority class.
type ClassStats struct {
	Class   string `json:"class"`
	Queued  int    `json:"queued"`
	Max     int    `json:"max"`
	Bound   int    `json:"bound"`
	Posted  uint64 `json:"posted"`
	Full    uint64 `json:"full"`    // posts refused
	Starved uint64 `json:"starved"` // events that waited longer than StarvedAfter
}

// HandlerStats are the figures of a handler.
type HandlerStats struct {
	Name  string       `json:"name"`
	Class string       `json:"class"`
	Runs  uint64       `json:"runs"`
	Slow  uint64       `json:"slow"`  // runs longer than SlowAfter
	Run   Distribution `json:"run"`   // time of a run
	Delay Distribution `json:"delay"` // from post or due time to start

	Deadline  time.Duration `json:"deadline_ns,omitempty"`
	Missed    uint64        `json:"missed"`    // starts behind the deadline
	Coalesced uint64        `json:"coalesced"` // posts with a key that replaced one that waited
}

// Distribution sums up durations. P99 is at most 12.5 % too high.
type Distribution struct {
	Total time.Duration `json:"total_ns"`
	Avg   time.Duration `json:"avg_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Stats returns the figures of now. It may be called from any goroutine.
func (l *Loop) Stats() Stats {
	s := Stats{Loop: l.name, Busy: time.Duration(l.busy.Load()), Missed: l.late.Load()}
	if h := l.current.Load(); h != nil {
		s.Running = h.name
		s.Since = time.Duration(max(l.clock.mono()-l.started.Load(), 0))
	}
	l.timerMu.Lock()
	s.Timers = l.wheel.count
	l.timerMu.Unlock()
	for c := range l.classes {
		s.Classes = append(s.Classes, l.classes[c].stats(Class(c)))
	}
	l.handlerMu.Lock()
	handlers := slices.Clone(l.order)
	l.handlerMu.Unlock()
	for _, h := range handlers {
		s.Handlers = append(s.Handlers, h.stats())
	}
	slices.SortStableFunc(s.Handlers, func(a, b HandlerStats) int { return cmp.Compare(b.Run.Total, a.Run.Total) })
	return s
}

// Clear sets all figures to zero; what waits and what is armed stays.
func (l *Loop) Clear() {
	l.busy.Store(0)
	l.late.Store(0)
	for c := range l.classes {
		q := &l.classes[c]
		q.mu.Lock()
		q.posted, q.full, q.max = 0, 0, q.depth.Load()
		q.mu.Unlock()
		q.starved.Store(0)
	}
	l.handlerMu.Lock()
	defer l.handlerMu.Unlock()
	for _, h := range l.order {
		h.mu.Lock()
		h.run, h.delay, h.missed, h.slow = histogram{}, histogram{}, 0, 0
		h.mu.Unlock()
		h.keyMu.Lock()
		h.coalesced = 0
		h.keyMu.Unlock()
	}
}

func (q *queue) stats(c Class) ClassStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return ClassStats{
		Class: c.String(), Queued: int(q.depth.Load()), Max: int(q.max), Bound: int(q.bound),
		Posted: q.posted, Full: q.full, Starved: q.starved.Load(),
	}
}

func (h *Handler) stats() HandlerStats {
	h.keyMu.Lock()
	coalesced := h.coalesced
	h.keyMu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return HandlerStats{
		Name: h.name, Class: h.class.String(), Runs: h.run.count, Slow: h.slow,
		Run: h.run.distribution(), Delay: h.delay.distribution(),
		Deadline: time.Duration(h.deadline.Load()), Missed: h.missed, Coalesced: coalesced,
	}
}

const (
	subBits = 3  // 8 buckets for each power of two: 12.5 % wide
	maxBits = 40 // 2^40 ns = 18 minutes; the rest goes to the last bucket
	buckets = (maxBits - subBits + 1) << subBits
)

// histogram is log-linear: fixed size, constant cost.
type histogram struct {
	count  uint64
	total  int64
	max    int64
	bucket [buckets]uint64
}

func (g *histogram) add(ns int64) {
	ns = max(ns, 0)
	g.count++
	g.total += ns
	g.max = max(g.max, ns)
	g.bucket[bucketOf(ns)]++
}

func bucketOf(ns int64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	n := bits.Len64(uint64(ns))
	if n > maxBits {
		return buckets - 1
	}
	exp := n - subBits // from 1
	return exp<<subBits | int(ns>>(exp-1))&(1<<subBits-1)
}

// upper is the largest value of a bucket.
func upper(b int) int64 {
	if b < 1<<subBits {
		return int64(b)
	}
	exp, sub := b>>subBits, int64(b&(1<<subBits-1))
	return (1<<subBits+sub+1)<<(exp-1) - 1
}

// quantile is an upper bound of the q-th quantile.
func (g *histogram) quantile(q float64) int64 {
	want := g.count - uint64(float64(g.count)*(1-q))
	var seen uint64
	for b, n := range g.bucket {
		if seen += n; n > 0 && seen >= want {
			if b == buckets-1 {
				return g.max
			}
			return min(upper(b), g.max)
		}
	}
	return g.max
}

func (g *histogram) distribution() Distribution {
	if g.count == 0 {
		return Distribution{}
	}
	return Distribution{
		Total: time.Duration(g.total), Avg: time.Duration(g.total / int64(g.count)),
		P99: time.Duration(g.quantile(0.99)), P999: time.Duration(g.quantile(0.999)), Max: time.Duration(g.max),
	}
}
