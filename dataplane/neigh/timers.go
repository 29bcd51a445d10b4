package neigh

import (
	"container/heap"
	"time"

	"godwit/dataplane/header"
)

// Tick runs the timers that are due.
func (t *Table) Tick(now time.Time) {
	for len(t.timers) > 0 && !t.timers[0].due.After(now) {
		e := t.timers[0]
		t.stop(e)
		t.expire(now, e)
	}
}

func (t *Table) expire(now time.Time, e *entry) {
	if e.adj.takeUsed() {
		e.used = now
	}
	switch e.state {
	case Incomplete:
		if e.probes < maxProbes {
			t.ask(now, e)
			return
		}
		t.fail(now, e)
	case Reachable:
		t.enter(e, Stale, now)
		t.staleUse(now, e)
	case Stale:
		t.staleUse(now, e)
	case Probe:
		if e.probes < maxProbes {
			t.ask(now, e)
			return
		}
		t.enter(e, Incomplete, now) // perhaps it has another link-layer address now
		t.follow(e)
		t.die(e, true)
		t.ask(now, e)
	case FailedState:
		if e.pins == 0 {
			t.remove(e)
			return
		}
		if e.adj.mode.CompareAndSwap(uint32(Failed), uint32(Ask)) { // the next packet asks again,
			t.start(e, now.Add(gatewayLife)) // or we do: its groups may have left it
			return
		}
		t.gateway(now, e)
	}
}

// staleUse probes a stale neighbour that is in use and forgets one that is not.
func (t *Table) staleUse(now time.Time, e *entry) {
	idle := now.Sub(e.used)
	switch {
	case idle < staleCheck:
		t.enter(e, Probe, now)
		t.ask(now, e)
	case idle >= staleLife && e.pins == 0:
		t.remove(e)
	default:
		t.start(e, now.Add(staleCheck))
	}
}

func (t *Table) fail(now time.Time, e *entry) {
	for _, p := range e.queue {
		t.drops.Add(dropUnreachable)
		t.out = append(t.out, Output{Kind: Unreachable, Interface: e.adj.Interface, Packet: p})
	}
	t.unqueue(e)
	t.enter(e, FailedState, now)
	t.die(e, true)
}

// ask sends one request or solicitation and starts its timer.
func (t *Table) ask(now time.Time, e *entry) {
	e.probes++
	t.start(e, now.Add(retransmit))
	in := t.ifaces.Out(e.adj.Interface)
	if in == nil || !in.Up {
		return
	}
	unicast := header.MAC{}
	if e.state == Probe {
		unicast = e.mac
	}
	if a := e.adj.Addr(); a.Is4() {
		t.arpRequest(in, a, unicast)
	} else {
		t.solicit(in, a, unicast)
	}
}

func (t *Table) start(e *entry, due time.Time) {
	e.due = due
	if e.heap >= 0 {
		heap.Fix(&t.timers, e.heap)
		return
	}
	heap.Push(&t.timers, e)
}

func (t *Table) stop(e *entry) {
	if e.heap >= 0 {
		heap.Remove(&t.timers, e.heap)
	}
}

// timerHeap orders entries by due time.
type timerHeap []*entry

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

// Push is for container/heap.
func (h *timerHeap) Push(x any) {
	e := x.(*entry)
	e.heap = len(*h)
	*h = append(*h, e)
}

// Pop is for container/heap.
func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.heap = -1
	return e
}
