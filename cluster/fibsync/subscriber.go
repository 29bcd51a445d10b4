package fibsync

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// maxWaiting is how many batches may wait behind one that has not come: more
// than a publisher has on its way.
const maxWaiting = 4 * Window

var errWaiting = errors.New("too many batches wait")

// Subscriber is the card's side: it applies batches and makes the
// acknowledgements. It belongs to one event loop.
type Subscriber struct {
	to      fib.Applier
	epoch   uint32
	seq     uint64
	refused bool // a batch of this epoch: the rest of it is skipped
	swept   bool

	waiting []arrival // in order of sequence
	owed    []uint64  // sequences that were asked for, and have not come
	held    held      // what came by multicast before the session named it
	stats   wire.FIBCastStats
}

// arrival is a batch that the session has brought, or named.
type arrival struct {
	head    fib.Batch
	changes []byte
	here    bool // changes are
	ref     wire.FIBRefBody
	since   time.Time // zero: it has waited long enough
	asked   bool
}

// NewSubscriber returns a subscriber that applies to a, which has applied
// nothing after seq of epoch.
func NewSubscriber(a fib.Applier, epoch uint32, seq uint64) *Subscriber {
	return &Subscriber{to: a, epoch: epoch, seq: seq}
}

// Epoch is the last epoch that a batch opened.
func (s *Subscriber) Epoch() uint32 { return s.epoch }

// Swept tells that a replay has come to its end, whatever came later: the tables
// hold all that the publisher had.
func (s *Subscriber) Swept() bool { return s.swept }

// Casts counts what came by multicast.
func (s *Subscriber) Casts() wire.FIBCastStats {
	st := s.stats
	st.Dropped, st.Held = s.held.dropped, s.held.bytes
	return st
}

// Receive takes the body of a FIBBatch, and keeps it. It applies it unless it
// has to wait for one before it. The acknowledgement is to be sent if reply is
// true; after a refusal, nothing is said until the publisher has started a new
// epoch.
func (s *Subscriber) Receive(body []byte) (ack wire.FIBAckBody, reply bool) {
	head, changes, err := wire.SplitFIBBatch(body)
	if err != nil {
		return s.refuse(fmt.Errorf("decode fib-batch: %w", err))
	}
	if !s.enter(head.Epoch) {
		return wire.FIBAckBody{}, false
	}
	if i := slices.Index(s.owed, head.Seq); i >= 0 {
		s.owed = slices.Delete(s.owed, i, i+1)
		return s.answered(head, changes)
	}
	return s.arrive(arrival{head: head, changes: changes, here: true})
}

// answered takes a batch that was asked for, unless its multicast came meanwhile.
func (s *Subscriber) answered(head fib.Batch, changes []byte) (wire.FIBAckBody, bool) {
	for i := range s.waiting {
		if a := &s.waiting[i]; a.head.Seq == head.Seq && !a.here {
			a.head, a.changes, a.here = head, changes, true
			return s.Step()
		}
	}
	return wire.FIBAckBody{}, false
}

// Refer takes the body of a FIBRef: its changes may have come already, or are
// waited for.
func (s *Subscriber) Refer(now time.Time, body []byte) (ack wire.FIBAckBody, reply bool) {
	r, err := wire.DecodeFIBRef(body)
	if err != nil {
		return s.refuse(err)
	}
	if !s.enter(r.Epoch) {
		return wire.FIBAckBody{}, false
	}
	a := arrival{head: fib.Batch{Epoch: r.Epoch, Seq: r.Seq, Sweep: r.Sweep}, ref: r, since: now}
	if a.changes, a.here = s.held.take(r.Digest); a.here {
		s.stats.Applied++
	}
	if n := s.held.purge(r.Serial, r.Digest); n > 0 {
		s.stats.Forged += uint64(n)
		a.since = time.Time{}
	}
	return s.arrive(a)
}

// Cast takes what came by multicast. Nothing of it is applied unless the session
// names its digest.
func (s *Subscriber) Cast(c Cast) (ack wire.FIBAckBody, reply bool) {
	s.stats.Received++
	s.stats.Bytes += uint64(len(c.Changes))
	for i := range s.waiting {
		switch a := &s.waiting[i]; {
		case a.here:
		case a.ref.Digest == c.Digest:
			a.changes, a.here = c.Changes, true
			s.stats.Applied++
			return s.Step()
		case a.ref.Serial == c.Serial:
			s.stats.Forged++
			a.since = time.Time{}
			return wire.FIBAckBody{}, false
		}
	}
	s.held.put(c)
	return wire.FIBAckBody{}, false
}

// Forget drops what came by multicast and was not named: nobody is left who would.
func (s *Subscriber) Forget() { s.held = held{dropped: s.held.dropped + uint64(len(s.held.list))} }

// Late returns the batches to be asked for, each once, and when to call it
// again; zero if nothing is waited for.
func (s *Subscriber) Late(now time.Time) (fetch []wire.FIBFetchBody, again time.Time) {
	for i := range s.waiting {
		a := &s.waiting[i]
		if a.here || a.asked {
			continue
		}
		if due := a.since.Add(CastDeadline); due.After(now) {
			if again.IsZero() || due.Before(again) {
				again = due
			}
			continue
		}
		a.asked, s.owed = true, append(s.owed, a.head.Seq)
		s.stats.Fetched++
		fetch = append(fetch, wire.FIBFetchBody{Epoch: a.head.Epoch, Seq: a.head.Seq})
	}
	return fetch, again
}

// enter opens the epoch of a message, or tells that it is one to be skipped: of
// a stream that has started again since, or of one that was refused.
func (s *Subscriber) enter(epoch uint32) bool {
	if epoch > s.epoch {
		s.epoch, s.seq, s.refused, s.waiting, s.owed = epoch, 0, false, nil, nil
	}
	return epoch == s.epoch && !s.refused
}

func (s *Subscriber) arrive(a arrival) (wire.FIBAckBody, bool) {
	if len(s.waiting) >= maxWaiting {
		return s.refuse(errWaiting)
	}
	s.waiting = append(s.waiting, a)
	return s.Step()
}

// Ready tells whether Step has something to apply.
func (s *Subscriber) Ready() bool { return len(s.waiting) > 0 && s.waiting[0].here }

// Step applies the next batch, if it is here.
func (s *Subscriber) Step() (ack wire.FIBAckBody, reply bool) {
	if !s.Ready() {
		return wire.FIBAckBody{}, false
	}
	a := s.waiting[0]
	s.waiting[0] = arrival{}
	if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	b, err := wire.DecodeFIBChanges(a.head, a.changes)
	if err == nil {
		err = s.apply(b)
	}
	if err != nil {
		return s.refuse(err)
	}
	s.seq = b.Seq
	s.swept = s.swept || b.Sweep
	return wire.FIBAckBody{Epoch: s.epoch, Seq: s.seq}, true
}

func (s *Subscriber) refuse(err error) (wire.FIBAckBody, bool) {
	said := s.refused
	s.refused, s.waiting, s.owed = true, nil, nil
	return wire.FIBAckBody{Epoch: s.epoch, Seq: s.seq, Error: err.Error()}, !said
}

// apply checks the sequence before the tables do: theirs may lie behind ours
// after a refused first batch.
func (s *Subscriber) apply(b fib.Batch) error {
	if b.Seq != s.seq+1 {
		return fmt.Errorf("%w: %d/%d after %d", fib.ErrOutOfSequence, b.Epoch, b.Seq, s.seq)
	}
	return s.to.Apply(b)
}
