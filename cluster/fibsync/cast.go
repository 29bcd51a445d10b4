package fibsync

import (
	"crypto/sha256"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

const (
	// CastDeadline is how long a card waits for changes that its session has named
	// before it asks for them: long, because the bus loses hardly any, and a busy machine is late.
	CastDeadline = 250 * time.Millisecond
	// HeldBatches and HeldBytes bound what a card keeps of multicasts that its
	// session has not named; the oldest are dropped.
	HeldBatches = 64
	HeldBytes   = 4 << 20
	// castLag is how many batches a card may have queued to be counted as one that a
	// multicast is for.
	castLag = 4
	// A card that asks for batches again gets missPoints for each, and gives one back
	// for each that came; at maxMissPoints it is sent soloBatches by unicast.
	missPoints    = 4
	maxMissPoints = 32
	soloBatches   = 256
)

// Caster sends to many cards at once: fibcast.Sender.
type Caster interface {
	// Cast queues changes for the cards from lower to upper; nobody changes them.
	// False: not worth it, or too much waits already; nothing was queued.
	Cast(lower, upper fib.CardID, serial uint64, changes []byte) bool
}

// Cast is a multicast of changes as it came.
type Cast struct {
	Serial  uint64
	Digest  wire.FIBDigest // of Changes
	Changes []byte
}

// NewCast makes the digest.
func NewCast(serial uint64, changes []byte) Cast {
	return Cast{serial, sha256.Sum256(changes), changes}
}

// held is what came by multicast and was not named yet, oldest first.
type held struct {
	list    []Cast
	bytes   int
	dropped uint64
}

func (h *held) put(c Cast) {
	h.list = append(h.list, c)
	h.bytes += len(c.Changes)
	for len(h.list) > HeldBatches || h.bytes > HeldBytes {
		h.remove(0)
		h.dropped++
	}
}

func (h *held) remove(i int) {
	h.bytes -= len(h.list[i].Changes)
	h.list = slices.Delete(h.list, i, i+1)
}

func (h *held) take(d wire.FIBDigest) ([]byte, bool) {
	i := slices.IndexFunc(h.list, func(c Cast) bool { return c.Digest == d })
	if i < 0 {
		return nil, false
	}
	changes := h.list[i].Changes
	h.remove(i)
	return changes, true
}

// purge drops what came with the serial, and tells how many of it had another digest.
func (h *held) purge(serial uint64, d wire.FIBDigest) (forged int) {
	h.list = slices.DeleteFunc(h.list, func(c Cast) bool {
		if c.Serial != serial {
			return false
		}
		if c.Digest != d {
			forged++
		}
		h.bytes -= len(c.Changes)
		return true
	})
	return forged
}

// sentBy is a multicast of a batch.
type sentBy struct {
	via          Caster
	lower, upper fib.CardID
	serial       uint64
}

// cast sends a batch by multicast, once on each transport that has two and more
// of the cohort's cards that may take it.
func (c *cohort) cast(b *batch) {
	if len(b.changes) == 0 || len(c.streams) < 2 {
		return
	}
	var to []sentBy
	var cards []int
	for _, s := range c.streams { // in order of card
		if !s.casts() || len(s.queue) >= castLag {
			continue
		}
		i := slices.IndexFunc(to, func(x sentBy) bool { return x.via == s.via })
		if i < 0 {
			i = len(to)
			to, cards = append(to, sentBy{via: s.via, lower: s.card}), append(cards, 0)
		}
		to[i].upper = s.card
		cards[i]++
	}
	for i, x := range to {
		if cards[i] < 2 {
			continue
		}
		x.serial = c.p.serial + 1
		if !x.via.Cast(x.lower, x.upper, x.serial, b.changes) {
			continue // the sessions take it
		}
		c.p.serial = x.serial
		if len(b.casts) == 0 {
			b.digest = sha256.Sum256(b.changes)
		}
		b.casts = append(b.casts, x)
	}
}

// casts tells whether the stream's card takes multicasts at present.
func (s *Stream) casts() bool { return s.via != nil && s.solo == 0 && !s.stopped() }

// CastVia makes the card one that receives multicasts of c from now on.
func (s *Stream) CastVia(c Caster) { s.via, s.from = c, s.p.serial }

// castOf is the multicast by which the card has the batch, or will have it; 0:
// there is none, or the card may have dropped it since.
func (s *Stream) castOf(b *batch) uint64 {
	if !s.casts() {
		return 0
	}
	for _, x := range b.casts {
		if x.via == s.via && x.lower <= s.card && s.card <= x.upper && x.serial > s.from && s.p.serial-x.serial < HeldBatches/2 {
			return x.serial
		}
	}
	return 0
}

// send hands the batch to the session, or what names it.
func (s *Stream) send(b *batch) error {
	if serial := s.castOf(b); serial != 0 {
		ref := wire.FIBRefBody{Epoch: s.epoch, Seq: s.sent + 1, Sweep: b.sweep, Serial: serial, Digest: b.digest}
		if err := s.to.SendShared(wire.FIBRef, wire.AppendFIBRef(nil, &ref), nil); err != nil {
			return err
		}
		s.counts.Named++
		s.marks = append(s.marks, mark{seq: ref.Seq, version: b.upTo, b: b})
		return nil
	}
	if err := s.to.SendShared(wire.FIBBatch, wire.AppendFIBHeader(nil, s.epoch, s.sent+1, b.sweep), b.changes); err != nil {
		return err
	}
	s.counts.Whole++
	s.solo = max(0, s.solo-1)
	s.marks = append(s.marks, mark{seq: s.sent + 1, version: b.upTo})
	return nil
}

// Fetch takes a card's request for a batch whose multicast it does not have.
func (p *Publisher) Fetch(card fib.CardID, f wire.FIBFetchBody) {
	s := p.streams[card]
	if s == nil || f.Epoch != s.epoch {
		return
	}
	i := slices.IndexFunc(s.marks, func(m mark) bool { return m.seq == f.Seq })
	if i < 0 || s.marks[i].b == nil || s.marks[i].asked != notAsked {
		return // acknowledged, sent whole, or asked for before
	}
	s.marks[i].asked = asked
	s.counts.Again++
	if s.points += missPoints; s.points >= maxMissPoints {
		s.points, s.solo = 0, soloBatches
	}
	s.answer()
}

// answer sends what the card has asked for.
func (s *Stream) answer() {
	for i := range s.marks {
		m := &s.marks[i]
		if m.asked != asked {
			continue
		}
		if s.to.SendShared(wire.FIBBatch, wire.AppendFIBHeader(nil, s.epoch, m.seq, m.b.sweep), m.b.changes) != nil {
			return // backlog: again at the next Pump
		}
		m.asked = answered
	}
}

// CastCounts counts how batches went to a card in its session.
type CastCounts struct {
	Named uint64 // of those sent by multicast, the name alone
	Again uint64 // named, then asked for and sent whole
	Whole uint64
	Takes bool // the card takes multicasts at present
}
