package fibsync

import (
	"maps"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// Stream is the way of changes to one card.
type Stream struct {
	p     *Publisher
	card  fib.CardID
	to    Sender
	epoch uint32
	sent  uint64 // sequence of the last batch built
	acked uint64

	next    uint32 // record to send next, 0: at the tail
	seen    uint64 // version of the last record sent
	start   uint64 // version when the epoch began: older tombstones are not needed
	backlog int    // records from next to the tail

	dirty map[uint32]bool // groups to send, by slot
	known map[uint32]bool // groups that the card has

	swept    bool
	body     []byte // built, but not taken by the session yet
	refusals int
	refused  string

	waiting   time.Time // since when no acknowledgement came
	waitAcked uint64
	waitEpoch uint32
}

// restart begins a new epoch: everything is to be sent again.
func (s *Stream) restart() {
	s.epoch++
	s.p.epochs[s.card] = s.epoch
	s.sent, s.acked, s.body, s.swept = 0, 0, nil, false
	s.next, s.seen, s.start, s.backlog = s.p.table.head, 0, s.p.table.version, s.p.table.count
	s.dirty, s.known = map[uint32]bool{}, map[uint32]bool{}
	for _, slot := range s.p.byID {
		s.dirty[slot] = true
	}
}

// leave is called before a record, last changed in version was, leaves its
// place in the list.
func (s *Stream) leave(i uint32, was uint64) {
	if was == 0 || was <= s.seen { // new, or sent
		return
	}
	s.backlog--
	if s.next == i {
		s.next = s.p.table.at(i).next
	}
}

// enter is called after a record came to the tail.
func (s *Stream) enter(i uint32) {
	s.backlog++
	if s.next == 0 {
		s.next = i
	}
}

func (s *Stream) ack(a wire.FIBAckBody) {
	if a.Seq > s.sent || a.Seq < s.acked {
		a.Error = "acknowledgement out of sequence"
	}
	if a.Error != "" {
		s.refused = a.Error
		if s.refusals++; s.refusals < maxRefusals {
			s.restart()
		}
		return
	}
	s.acked = a.Seq
	if s.Status().Synced {
		s.refusals, s.refused = 0, ""
	}
}

// stopped tells whether the card has refused too often to be tried again.
func (s *Stream) stopped() bool { return s.refusals >= maxRefusals }

func (s *Stream) pump() {
	for !s.stopped() {
		if s.body == nil {
			if s.sent-s.acked >= Window || s.to.Queued() >= queueBytes || !s.build() {
				return
			}
		}
		if s.to.Send(wire.FIBBatch, s.body) != nil {
			return // backlog: again at the next Pump; closed: Detach follows
		}
		s.body = nil
	}
}

// build makes the next batch; false if there is nothing to send.
func (s *Stream) build() bool {
	body := wire.AppendFIBHeader(make([]byte, 0, BatchBytes+2048), s.epoch, s.sent+1, false)
	empty := len(body)
	body = s.addGroups(body)
	if len(s.dirty) == 0 {
		body = s.addRoutes(body)
	}
	drained := len(s.dirty) == 0 && s.next == 0
	if drained {
		body = s.deleteGroups(body)
	}
	sweep := drained && s.p.converged && !s.swept
	if len(body) == empty && !sweep {
		return false
	}
	s.sent++
	wire.AppendFIBHeader(body[:0], s.epoch, s.sent, sweep)
	s.swept = s.swept || sweep
	s.body = body
	return true
}

func (s *Stream) addGroups(body []byte) []byte {
	for _, slot := range slices.Sorted(maps.Keys(s.dirty)) {
		if len(body) >= BatchBytes {
			break
		}
		body = wire.AppendFIBChange(body, &fib.Change{Op: fib.SetGroup, Group: s.p.groups[slot].g})
		delete(s.dirty, slot)
		s.known[slot] = true
	}
	return body
}

func (s *Stream) addRoutes(body []byte) []byte {
	for s.next != 0 && len(body) < BatchBytes {
		r := s.p.table.at(s.next)
		s.next, s.seen = r.next, r.version
		s.backlog--
		if r.group == 0 && r.version <= s.start {
			continue // deleted before the epoch began
		}
		c := fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: fib.VRF(r.vrf), Prefix: r.prefix()}}
		if r.group != 0 {
			c.Op, c.Route.Group = fib.SetRoute, s.p.groups[r.group].g.ID
		}
		body = wire.AppendFIBChange(body, &c)
	}
	return body
}

// deleteGroups adds the deletions that no route on the card stands against
// any more, as many as fit one message.
func (s *Stream) deleteGroups(body []byte) []byte {
	for _, slot := range slices.Sorted(maps.Keys(s.p.dead)) {
		if s.known[slot] && len(body) < BatchBytes {
			body = wire.AppendFIBChange(body, &fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: s.p.groups[slot].g.ID}})
			delete(s.known, slot)
		}
	}
	return body
}

// Status reports the stream.
func (s *Stream) Status() Status {
	st := Status{
		Card: s.card, Epoch: s.epoch, Sent: s.sent, Acked: s.acked,
		Backlog: s.backlog + len(s.dirty), Refused: s.refused,
	}
	st.Synced = st.Backlog == 0 && s.body == nil && s.sent == s.acked && s.sent > 0
	st.Swept = s.swept && st.Synced
	return st
}
