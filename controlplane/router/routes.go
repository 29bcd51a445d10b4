package router

import (
	"log/slog"
	"time"

	"godwit/cluster/fibsync"
	"godwit/event"
	"godwit/fib"
	"godwit/rib"
)

// routes drives the RIB: updates in, changes out to the line cards and to
// redistribution.
type routes struct {
	log     *slog.Logger
	h       *event.Handler
	table   *rib.Table
	pub     *fibsync.Publisher
	onBest  func([]rib.BestChange)
	onFIB   func([]fib.Change)
	onRoom  func(fib.VRF) // BGP routes that were refused have room again
	in      *event.Input[updates]
	onTake  func(updates) // for a replay, as onChanges
	working bool          // an event is posted that goes on
	pumping bool          // an event is posted that sends

	onChanges func(n int) // of forwarding tables
}

// retryPost is when an event is posted again for which the queue was full.
const retryPost = 5 * time.Millisecond

// later runs f as an event of h, if need be when the queue has room again.
func later(h *event.Handler, f func()) {
	if h.Post(f) != nil {
		h.After(retryPost, f)
	}
}

// apply gives updates to the RIB and passes on what follows.
func (r *routes) apply(list ...rib.Update) { r.in.Do(list) }

func (r *routes) take(list updates) {
	r.onTake(list)
	before := r.table.Stats().Rejected
	r.table.SetTime(r.h.Loop().Now())
	r.table.Apply(list...)
	if s := r.table.Stats(); s.Rejected != before {
		r.log.Warn("route update left out", "count", s.Rejected-before, "error", s.LastReject)
	}
	r.flush()
	r.goOn()
}

func (r *routes) flush() {
	if changes := r.table.Drain(); len(changes) > 0 {
		r.onChanges(len(changes))
		if err := r.pub.Changes(changes); err != nil {
			r.log.Error("route change left out", "error", err)
		}
		r.onFIB(changes)
		r.pump()
	}
	for _, n := range r.table.DrainNotices() {
		r.log.Warn("route limit", "vrf", uint32(n.VRF), "state", n.State, "prefixes", n.Count, "limit", n.Limit)
	}
	for _, v := range r.table.DrainMissing() {
		r.onRoom(v)
	}
	if best := r.table.DrainBest(); len(best) > 0 {
		r.onBest(best)
	}
}

// goOn continues what the RIB does in slices.
func (r *routes) goOn() {
	if r.working || !r.table.More() {
		return
	}
	r.working = true
	later(r.h, func() {
		r.working = false
		r.table.SetTime(r.h.Loop().Now())
		r.table.Apply()
		r.flush()
		r.goOn()
	})
}

// pump sends to the line cards, once for all changes of this turn of the loop.
func (r *routes) pump() {
	if r.pumping {
		return
	}
	r.pumping = true
	later(r.h, func() {
		r.pumping = false
		r.pub.Pump()
	})
}
