package fibsync

import (
	"fmt"

	"godwit/cluster/wire"
	"godwit/fib"
)

// Subscriber is the card's side: it applies batches and makes the
// acknowledgements. It belongs to one event loop.
type Subscriber struct {
	to      fib.Applier
	epoch   uint32
	seq     uint64
	refused bool // a batch of this epoch: the rest of it is skipped
	swept   bool
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

// Receive applies the body of a FIBBatch. The acknowledgement is to be sent if
// reply is true; after a refusal, nothing is said until the publisher has
// started a new epoch.
func (s *Subscriber) Receive(body []byte) (ack wire.FIBAckBody, reply bool) {
	b, err := wire.DecodeFIBBatch(body)
	if err != nil {
		if b.Epoch > s.epoch { // the publisher listens to its own epoch only
			s.epoch, s.seq, s.refused = b.Epoch, 0, false
		}
		return s.refuse(err)
	}
	if b.Epoch <= s.epoch && s.refused {
		return wire.FIBAckBody{}, false
	}
	if b.Epoch > s.epoch {
		s.epoch, s.seq, s.refused = b.Epoch, 0, false
	}
	if b.Epoch < s.epoch { // of a stream that has started again since
		return wire.FIBAckBody{}, false
	}
	if err := s.apply(b); err != nil {
		return s.refuse(err)
	}
	s.seq = b.Seq
	s.swept = s.swept || b.Sweep
	return wire.FIBAckBody{Epoch: s.epoch, Seq: s.seq}, true
}

func (s *Subscriber) refuse(err error) (wire.FIBAckBody, bool) {
	said := s.refused
	s.refused = true
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
