package worker

import (
	"slices"
	"sync/atomic"

	"godwit/dataplane/fabric"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/fib"
)

// AddPort gives the worker its share of a port's queues. It replaces a port of
// the same number, which is the caller's to close.
func (w *Worker) AddPort(p graph.Port) {
	w.Do(func() {
		w.dropPort(p.ID())
		own := &port{id: p.ID(), p: p}
		w.ports = append(w.ports, own)
		w.egress[own.id] = own
		w.stale = true
	})
}

// AddRemote tells the worker who sends for it on a port where it has no queue.
func (w *Worker) AddRemote(id fib.PortID, owner *Worker) {
	w.Do(func() {
		w.dropPort(id)
		w.egress[id] = &port{id: id, remote: owner}
	})
}

// RemovePort takes the port from the worker and, if it has queues there, runs
// release on the worker's goroutine with its share (to close it).
func (w *Worker) RemovePort(id fib.PortID, release func(graph.Port)) {
	w.Do(func() {
		if p := w.dropPort(id); p != nil && release != nil {
			release(p)
		}
	})
}

func (w *Worker) dropPort(id fib.PortID) graph.Port {
	p := w.egress[id]
	if p == nil {
		return nil
	}
	delete(w.egress, id)
	w.ports = slices.DeleteFunc(w.ports, func(o *port) bool { return o == p })
	w.stale = true
	return p.p
}

// AddLink opens the way to another card.
func (w *Worker) AddLink(card fib.CardID, l *Link) { w.Do(func() { w.links[card] = l }) }

// RemoveLink closes it.
func (w *Worker) RemoveLink(card fib.CardID) { w.Do(func() { delete(w.links, card) }) }

// AddConsumer lets the worker receive from another card.
func (w *Worker) AddConsumer(c *fabric.Consumer) {
	w.Do(func() {
		w.consumers = append(w.consumers, c)
		w.stale = true
	})
}

// RemoveConsumer ends that; the consumer is the caller's to close.
func (w *Worker) RemoveConsumer(c *fabric.Consumer) {
	w.Do(func() {
		w.consumers = slices.DeleteFunc(w.consumers, func(o *fabric.Consumer) bool { return o == c })
		w.stale = true
	})
}

// Stats is what a worker has done.
type Stats struct {
	Rounds  uint64 `json:"rounds"`
	Sleeps  uint64 `json:"sleeps"`
	Packets uint64 `json:"packets"` // taken from all sources
	Moves   uint64 `json:"moves"`   // to another thread
}

// counters are written by the worker alone and read by any goroutine.
type counters struct{ rounds, sleeps, packets, moves atomic.Uint64 }

func (c *counters) round(n int) {
	c.rounds.Add(1)
	if n > 0 {
		c.packets.Add(uint64(n))
	}
}

// Stats may be called from any goroutine.
func (w *Worker) Stats() Stats {
	c := &w.counter
	return Stats{Rounds: c.rounds.Load(), Sleeps: c.sleeps.Load(), Packets: c.packets.Load(), Moves: c.moves.Load()}
}

// Thread is the cores that the worker may run on, and whether it runs before ordinary threads.
func (w *Worker) Thread() (cores []int, urgent bool) {
	w.Do(func() { cores, urgent = netdev.Cores(0), netdev.UrgentNow() })
	return cores, urgent
}

// Drops are the worker's own; its pipeline and its ports have theirs.
func (w *Worker) Drops() []graph.DropCount { return w.drops.Append(nil) }

// Pipe is the worker's pipeline, for its counters.
func (w *Worker) Pipe() Pipeline { return w.pipe }

// Pool is the worker's; only the worker may use it, or whoever made it stand still.
func (w *Worker) Pool() *graph.Pool { return w.pool }

// MaxFrame is the longest frame, or packet, that Inject and Host take, in bytes.
func (w *Worker) MaxFrame() int { return w.inject.Size() }
