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

// StarveBound is how long priority is strict: a class whose oldest event has
// waited longer gets one event in 64, whatever waits above it. Bursts, such as a
// full table, are over by then.
const StarveBound = time.Second

// SlowAfter is how long a handler may run before the run counts as slow: a
// 50 ms protocol timer must start within 10 ms.
const SlowAfter = 10 * time.Millisecond

// Stats are a loop's figures since its start, or since Clear.
type Stats struct {
	Loop     string         `json:"loop"`
	Window   time.Duration  `json:"window_ns"`         // since the start or Clear
	Busy     time.Duration  `json:"busy_ns"`           // time in handlers
	Priority string         `json:"priority"`          // of the loop's thread: "urgent", or "ordinary" and why
	Timers   int            `json:"timers"`            // armed now
	Missed   uint64         `json:"missed"`            // runs of periodic timers left out, because the loop was late
	Running  string         `json:"running,omitempty"` // handler that runs now
	Since    time.Duration  `json:"running_ns"`        // how long it has been running
	Classes  []ClassStats   `json:"classes"`
	Handlers []HandlerStats `json:"handlers"` // the one that ran longest first
	Sources  []SourceStats  `json:"sources"`  // open now, as added
}

// ClassStats are the figures of a priority class.
type ClassStats struct {
	Class   string `json:"class"`
	Queued  int    `json:"queued"`
	Max     int    `json:"max"`
	Bound   int    `json:"bound"`
	Policy  string `json:"policy"` // of a full queue
	Posted  uint64 `json:"posted"`
	Full    uint64 `json:"full"`    // posts refused
	Dropped uint64 `json:"dropped"` // oldest events dropped for newer ones
	Blocked uint64 `json:"blocked"` // posts that waited for room
	Starved uint64 `json:"starved"` // events that waited longer than StarvedAfter
}

// HandlerStats are the figures of a handler.
type HandlerStats struct {
	Name  string        `json:"name"`
	Class string        `json:"class"`
	Runs  uint64        `json:"runs"`
	CPU   time.Duration `json:"cpu_ns"` // of its runs, from samples
	Slow  uint64        `json:"slow"`   // runs longer than SlowAfter
	Run   Distribution  `json:"run"`    // time of a run
	Delay Distribution  `json:"delay"`  // from post or due time to start

	Deadline  time.Duration `json:"deadline_ns,omitempty"`
	Missed    uint64        `json:"missed"`    // starts behind the deadline
	Coalesced uint64        `json:"coalesced"` // posts with a key that replaced one that waited
	Starved   uint64        `json:"starved"`   // waits longer than StarvedAfter

	Armed int    `json:"timers_armed"` // now
	Fired uint64 `json:"timers_fired"`

	// Delays holds the histogram of Delay: how many events waited up to the
	// bound of DelayBounds with the same index, and more than the one before.
	// The last entry counts those above all bounds.
	Delays []uint64 `json:"delays"`
}

// DelayBounds are the bounds of HandlerStats.Delays: powers of four from 1 µs.
func DelayBounds() []time.Duration {
	bounds := make([]time.Duration, 0, 12)
	for shift := 10; shift <= 32; shift += 2 {
		bounds = append(bounds, 1<<shift)
	}
	return bounds
}

// SourceStats are the figures of a source.
type SourceStats struct {
	Kind    string    `json:"kind"` // "signal", "child", "readable", "netlink", "files", "feed", "watchdog", "warnings", or as Handler.Source was told
	Name    string    `json:"name"`
	Handler string    `json:"handler,omitempty"`
	Since   time.Time `json:"since"`
	Events  uint64    `json:"events"`
	Lost    uint64    `json:"lost"`
}

// Distribution sums up durations. The quantiles are at most 12.5 % too high.
type Distribution struct {
	Total time.Duration `json:"total_ns"`
	Avg   time.Duration `json:"avg_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Stats returns the figures of now. It may be called from any goroutine, also
// when the loop is stuck.
func (l *Loop) Stats() Stats {
	s := Stats{Loop: l.name, Missed: l.late.Load(), Priority: l.urgent.String(), Sources: l.sourceStats()}
	if now := l.running(); now.h != nil {
		s.Running = now.h.name
		s.Since = time.Duration(max(l.clock.mono()-now.begin, 0))
	}
	l.handlerMu.Lock()
	handlers := slices.Clone(l.order)
	l.handlerMu.Unlock()
	starved := [numClasses]uint64{}
	for _, h := range handlers {
		st := h.stats()
		starved[h.class] += st.Starved
		s.Handlers = append(s.Handlers, st)
	}
	l.statMu.Lock()
	l.fold()
	s.Busy = time.Duration(l.busy)
	s.Window = time.Duration(l.clock.mono() - l.cleared)
	l.statMu.Unlock()
	l.timerMu.Lock()
	s.Timers = l.wheel.count
	l.timerMu.Unlock()
	for c := range l.classes {
		st := l.classes[c].stats()
		st.Starved = starved[c]
		s.Classes = append(s.Classes, st)
	}
	slices.SortStableFunc(s.Handlers, func(a, b HandlerStats) int { return cmp.Compare(b.Run.Total, a.Run.Total) })
	return s
}

func (l *Loop) sourceStats() []SourceStats {
	l.sourceMu.Lock()
	defer l.sourceMu.Unlock()
	list := []SourceStats{}
	for _, s := range l.sources {
		st := SourceStats{Kind: s.kind, Name: s.name, Since: s.since, Events: s.events.Load(), Lost: s.lost.Load()}
		if s.h != nil {
			st.Handler = s.h.name
		}
		list = append(list, st)
	}
	return list
}

// Clear sets all figures to zero and empties the trace; what waits and what is
// armed stays.
func (l *Loop) Clear() {
	l.late.Store(0)
	l.inbox.mu.Lock()
	for c := range l.classes {
		q := &l.classes[c]
		q.posted, q.full, q.dropped, q.waited, q.max = 0, 0, 0, 0, q.depth()
	}
	l.inbox.mu.Unlock()
	l.sourceMu.Lock()
	for _, s := range l.sources {
		s.events.Store(0)
		s.lost.Store(0)
	}
	l.sourceMu.Unlock()
	l.handlerMu.Lock()
	defer l.handlerMu.Unlock()
	l.timerMu.Lock()
	for _, h := range l.order {
		h.fired = 0
	}
	l.timerMu.Unlock()
	l.statMu.Lock()
	defer l.statMu.Unlock()
	l.fold()
	l.busy, l.cleared = 0, l.clock.mono()
	l.diary.cleared = l.diary.folded
	for _, h := range l.order {
		h.run, h.delay, h.cpu = histogram{}, histogram{}, cpuSamples{}
		h.missed, h.slow, h.starved, h.coalesced = 0, 0, 0, 0
	}
}

func (q *queue) stats() ClassStats {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	return ClassStats{
		Class: q.class.String(), Queued: int(q.depth()), Max: int(q.max), Bound: int(q.bound), Policy: q.policy.String(),
		Posted: q.posted, Full: q.full, Dropped: q.dropped, Blocked: q.waited,
	}
}

func (h *Handler) stats() HandlerStats {
	l := h.loop
	l.timerMu.Lock()
	armed, fired := h.armed, h.fired
	l.timerMu.Unlock()
	l.statMu.Lock()
	l.fold()
	run, delay, cpu := h.run, h.delay, h.cpu
	st := HandlerStats{
		Name: h.name, Class: h.class.String(), Slow: h.slow, Deadline: h.deadline,
		Missed: h.missed, Coalesced: h.coalesced, Starved: h.starved, Armed: armed, Fired: fired,
	}
	l.statMu.Unlock() // the loop goes on while we count
	st.Runs, st.Run, st.Delay = run.count, run.distribution(), delay.distribution()
	st.CPU = time.Duration(cpu.estimate(run.total))
	st.Delays = delay.counts()
	return st
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

// counts sums the buckets up by DelayBounds.
func (g *histogram) counts() []uint64 {
	bounds := DelayBounds()
	counts := make([]uint64, len(bounds)+1)
	i := 0
	for b, n := range g.bucket {
		for i < len(bounds) && upper(b) > int64(bounds[i]) {
			i++
		}
		counts[i] += n
	}
	return counts
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
