package linecard

import (
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
)

// drainMost is how many punted or captured frames one event handles, before
// events of other handlers run: some 0.3 ms.
const drainMost = 64

// wakePunts runs on workers: it queues a drain unless one is queued.
func (a *Agent) wakePunts() {
	if a.draining.punts.CompareAndSwap(false, true) && a.punts.Post(a.drainPunts) != nil {
		a.draining.punts.Store(false) // the next punt, or tick, tries again
	}
}

// drainPunts hands what the workers have punted to the slow path.
func (a *Agent) drainPunts() {
	a.draining.punts.Store(false)
	if a.plane == nil {
		return
	}
	now := a.opt.Loop.Now()
	for range drainMost {
		var m punt.Meta
		n, ok := a.plane.punts.Take(&m, a.frame)
		if !ok {
			return
		}
		a.slow.Punted(now, m, a.frame[:n])
		a.effects()
	}
	if a.plane.punts.Len() > 0 {
		a.wakePunts()
	}
}

// effects does what the slow path wants done. It never waits: a full queue is
// a counted drop of the worker's.
func (a *Agent) effects() {
	w := a.entry.Load()
	for _, e := range a.slow.Drain() {
		switch e.Kind {
		case pipeline.Send:
			if w != nil {
				w.Inject(e.Interface, e.Data, false)
			}
		case pipeline.Route:
			if w != nil {
				w.Host(e.VRF, e.Interface, e.Data, false)
			}
		case pipeline.Deliver:
			if i := a.ifaces[e.Interface]; i != nil && i.tap != nil {
				i.tap.Write(e.Data)
			}
		case pipeline.Notice:
			a.log.Warn(e.Text)
		}
	}
}
