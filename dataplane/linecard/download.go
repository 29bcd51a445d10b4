package linecard

import (
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fibcast"
	"godwit/cluster/fibsync"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
)

// downloads is how routes come: in the routing engine's session, and by
// multicast what the session names. It belongs to the loop.
type downloads struct {
	casts *fibcast.Receiver                // nil: the bus gave none, all comes in the session
	from  map[*session.Session]bus.Address // whose multicasts are taken
	sess  *session.Session                 // of the epoch: it gets the acknowledgements
	late  *event.Timer                     // until a batch is asked for that was named; or nil
	goOn  bool                             // an event is posted that applies the next
}

// receiveCasts begins the reception of multicasts.
func (a *Agent) receiveCasts() {
	a.downloads.from = map[*session.Session]bus.Address{}
	r, err := fibcast.Receive(a.requests, a.opt.Bus, a.opt.Card, a.castCame, a.castsEnded)
	if err != nil {
		a.log.Warn("routes come by unicast only", "error", err)
		return
	}
	a.downloads.casts = r
}

func (a *Agent) castsEnded(err error) {
	a.log.Warn("multicasts have ended: routes come by unicast", "error", err)
	a.downloads.casts = nil
}

// allow takes multicasts of a session's routing engine; false if none come here.
func (d *downloads) allow(s *session.Session, from bus.Address) bool {
	if d.casts == nil {
		return false
	}
	if d.from[s] == from {
		return true
	}
	d.left(s)
	if d.casts.Allow(from) != nil {
		return false
	}
	d.from[s] = from
	return true
}

// left ends what allow began.
func (d *downloads) left(s *session.Session) {
	if d.sess == s {
		d.sess = nil
	}
	if from, ok := d.from[s]; ok && d.casts != nil {
		d.casts.Disallow(from)
	}
	delete(d.from, s)
}

// program takes a batch of routes, or what names one.
func (a *Agent) program(s *session.Session, m session.Message) {
	before := a.fibs.Epoch()
	var ack wire.FIBAckBody
	var reply bool
	if m.Kind == wire.FIBRef {
		ack, reply = a.fibs.Refer(time.Now(), m.Body)
	} else {
		ack, reply = a.fibs.Receive(m.Body)
	}
	if a.fibs.Epoch() != before || a.downloads.sess == nil {
		a.downloads.sess = s // an epoch is of one session alone
	}
	a.programmed(ack, reply)
}

// castCame takes a multicast.
func (a *Agent) castCame(c fibsync.Cast) { a.programmed(a.fibs.Cast(c)) }

// programmed acknowledges what was applied; new gateways are asked for at once.
// Of several batches that can be applied it applies one for each event.
func (a *Agent) programmed(ack wire.FIBAckBody, reply bool) {
	if reply {
		a.effects()
		a.acknowledge(ack)
	}
	if a.fibs.Ready() && !a.downloads.goOn {
		a.downloads.goOn = true
		next := func() {
			a.downloads.goOn = false
			a.programmed(a.fibs.Step())
		}
		if a.requests.Post(next) != nil { // full: as a timer, which is not refused
			a.requests.After(0, next)
		}
	}
	a.fetch()
}

func (a *Agent) acknowledge(ack wire.FIBAckBody) {
	if ack.Error != "" {
		a.log.Warn("routes refused", "epoch", ack.Epoch, "seq", ack.Seq, "error", ack.Error)
	}
	a.tell(wire.FIBAck, ack)
}

// tell sends to the session that the routes come from.
func (a *Agent) tell(k wire.Kind, body any) {
	s := a.downloads.sess
	if s == nil {
		return
	}
	if err := s.SendJSON(k, body); err != nil && !isClosed(err) {
		a.log.Warn("answer routing engine", "kind", k, "error", err)
		s.Close() // it will come again, and replay
	}
}

// fetch asks for batches that were named and have not come in time.
func (a *Agent) fetch() {
	list, again := a.fibs.Late(time.Now())
	for _, f := range list {
		a.tell(wire.FIBFetch, f)
	}
	if again.IsZero() || a.downloads.late != nil {
		return
	}
	a.downloads.late = a.requests.After(time.Until(again), func() {
		a.downloads.late = nil
		a.fetch()
	})
}
