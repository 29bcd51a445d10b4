package fibsync

import (
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// Stream is the way of changes to one card.
type Stream struct {
	p     *Publisher
	c     *cohort
	card  fib.CardID
	to    Sender
	epoch uint32
	sent  uint64 // sequence of the last batch that the session has taken
	acked uint64
	marks []mark // of batches that are not acknowledged
	done  uint64 // version up to which the card has acknowledged the list, in this epoch

	queue    []*batch // built, but not taken by the session yet
	refusals int
	refused  string

	via    Caster // of multicasts that the card receives; nil: none
	from   uint64 // serial of the last multicast before it did
	points int    // for batches that it has asked for again
	solo   int    // batches still to be sent by unicast before multicast is tried again
	counts CastCounts

	waiting   time.Time // since when no acknowledgement came
	waitAcked uint64
	waitEpoch uint32
}

// begin opens a new epoch in a cohort that has sent nothing but its first
// batches.
func (s *Stream) begin(c *cohort) {
	s.epoch++
	s.p.epochs[s.card] = s.epoch
	s.marks, s.done = nil, 0
	s.sent, s.acked, s.queue = 0, 0, append([]*batch(nil), c.first...)
	c.admit(s)
}

func (s *Stream) ack(a wire.FIBAckBody) {
	if a.Seq > s.sent || a.Seq < s.acked {
		a.Error = "acknowledgement out of sequence"
	}
	if a.Error != "" {
		s.refused = a.Error
		if s.refusals++; s.stopped() {
			s.c.part(s)
			return
		}
		s.c.dismiss(s)
		s.begin(s.p.newCohort())
		return
	}
	s.acked = a.Seq
	s.reached(a.Seq)
	if s.Status().Synced {
		s.refusals, s.refused = 0, ""
	}
}

// stopped tells whether the card has refused too often to be tried again.
func (s *Stream) stopped() bool { return s.refusals >= maxRefusals }

// ready tells whether the stream takes a batch that is built now.
func (s *Stream) ready() bool { return len(s.queue) == 0 && s.room() }

func (s *Stream) room() bool {
	return !s.stopped() && s.sent-s.acked < Window && s.to.Queued() < queueBytes
}

// pump hands queued batches to the session.
func (s *Stream) pump() {
	s.answer()
	for len(s.queue) > 0 && s.room() {
		if s.send(s.queue[0]) != nil {
			return // backlog: again at the next Pump; closed: Detach follows
		}
		s.sent++
		s.queue[0] = nil
		s.queue = s.queue[1:]
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
}

// Status reports the stream.
func (s *Stream) Status() Status {
	st := Status{
		Card: s.card, Epoch: s.epoch, Sent: s.sent, Acked: s.acked,
		Backlog: s.c.backlog + len(s.c.dirty), Refused: s.refused, Casts: s.counts,
	}
	st.Casts.Takes = s.casts()
	for _, b := range s.queue {
		st.Backlog += b.items
	}
	st.Synced = st.Backlog == 0 && len(s.queue) == 0 && s.sent == s.acked && s.sent > 0
	st.Swept = s.c.swept && st.Synced
	return st
}
