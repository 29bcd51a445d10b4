package fibsync

import (
	"maps"
	"slices"

	"godwit/cluster/wire"
	"godwit/fib"
)

// batch is what a cohort's cards are sent: one encoding for all of them. A
// card's header goes before it.
type batch struct {
	changes []byte // not changed any more
	items   int    // routes and groups
	sweep   bool
	upTo    uint64 // version of the last record that it, or one before it, has

	casts  []sentBy       // by which it was sent to many cards at once
	digest wire.FIBDigest // of changes, if it was
}

// cohort is a place in the list, and the cards that have been sent everything
// before it, by the same batches. Batches are built at the pace of the fastest
// card; the others have them queued. A card that is maxLag batches behind
// goes on alone, in a cohort of its own from the same place; cohorts that have
// come to the tail become one again.
type cohort struct {
	p       *Publisher
	streams []*Stream // in order of card

	next    uint32 // record to send next, 0: at the tail
	seen    uint64 // version of the last record sent
	start   uint64 // version when the epoch began: older tombstones are not needed
	backlog int    // records from next to the tail
	swept   bool

	dirty map[uint32]bool // groups to send, by slot
	known map[uint32]bool // groups that the cards have

	// first are all batches since the cohort began at the head of the list, as
	// long as they are few and no sweep is among them: a card that attaches
	// meanwhile gets them queued and belongs to the cohort.
	first    []*batch
	beginner bool // first is complete
	// changed: something in first was changed or deleted since. A card that has the
	// present state already would fall back to a former one on the way.
	changed bool
}

// newCohort begins at the head of the list.
func (p *Publisher) newCohort() *cohort {
	c := &cohort{
		p: p, next: p.table.head, start: p.table.version, backlog: p.table.count,
		dirty: map[uint32]bool{}, known: map[uint32]bool{}, beginner: true,
	}
	for _, slot := range p.byID {
		c.dirty[slot] = true
	}
	p.cohorts = append(p.cohorts, c)
	return c
}

// beginners returns the cohort that a card may still belong to that attaches, or a
// new one. empty: the card has no routes.
func (p *Publisher) beginners(empty bool) *cohort {
	for _, c := range p.cohorts {
		if c.beginner && (empty || !c.changed) {
			return c
		}
	}
	return p.newCohort()
}

// admit makes the stream one of the cohort's. What the cohort has sent must be
// what the card has, or in the stream's queue.
func (c *cohort) admit(s *Stream) {
	s.c = c
	i, _ := slices.BinarySearchFunc(c.streams, s.card, func(s *Stream, card fib.CardID) int { return int(s.card) - int(card) })
	c.streams = slices.Insert(c.streams, i, s)
}

// dismiss takes a stream out; a cohort without streams ends.
func (c *cohort) dismiss(s *Stream) {
	c.streams = slices.DeleteFunc(c.streams, func(o *Stream) bool { return o == s })
	if len(c.streams) == 0 {
		c.p.cohorts = slices.DeleteFunc(c.p.cohorts, func(o *cohort) bool { return o == c })
	}
}

// part lets a stream go on alone from here.
func (c *cohort) part(s *Stream) {
	if len(c.streams) == 1 {
		return
	}
	c.dismiss(s)
	alone := *c
	alone.streams, alone.first, alone.beginner = nil, nil, false
	alone.dirty, alone.known = maps.Clone(c.dirty), maps.Clone(c.known)
	c.p.cohorts = append(c.p.cohorts, &alone)
	alone.admit(s)
}

// restart lets all cards begin again, in new epochs.
func (c *cohort) restart() {
	streams := slices.Clone(c.streams)
	for _, s := range streams {
		c.dismiss(s)
	}
	c = c.p.newCohort()
	for _, s := range streams {
		s.begin(c)
	}
}

// meet makes one of the cohorts that are at the tail: what follows is the same
// for all their cards.
func (p *Publisher) meet() {
	for i := 0; i < len(p.cohorts); i++ {
		a := p.cohorts[i]
		for j := len(p.cohorts) - 1; j > i && a.done(); j-- {
			b := p.cohorts[j]
			if !b.done() || a.swept != b.swept || !maps.Equal(a.known, b.known) {
				continue
			}
			a.seen, a.first, a.beginner = max(a.seen, b.seen), nil, false
			a.start = min(a.start, b.start)
			for _, s := range slices.Clone(b.streams) {
				b.dismiss(s)
				a.admit(s)
			}
		}
	}
}

// done tells whether the cohort is at the tail with nothing to send, and may
// go on together with another: a card that is far behind or is not tried any
// more would not.
func (c *cohort) done() bool {
	return c.next == 0 && len(c.dirty) == 0 && !slices.ContainsFunc(c.streams, func(s *Stream) bool {
		return s.stopped() || len(s.queue) > 1
	})
}

// leave is called before a record, last changed in version was, leaves its
// place in the list.
func (c *cohort) leave(i uint32, was uint64) {
	if was == 0 || was <= c.seen { // new, or sent
		c.changed = c.changed || was != 0
		return
	}
	c.backlog--
	if c.next == i {
		c.next = c.p.table.at(i).next
	}
}

// enter is called after a record came to the tail.
func (c *cohort) enter(i uint32) {
	c.backlog++
	if c.next == 0 {
		c.next = i
	}
}

// pump builds batches while there is a card that takes them.
func (c *cohort) pump() {
	for {
		ready := false
		for _, s := range slices.Clone(c.streams) {
			s.pump()
			ready = ready || s.ready()
			if len(s.queue) >= maxLag {
				c.part(s)
			}
		}
		if !ready {
			return
		}
		b := c.build()
		if b == nil {
			return
		}
		c.cast(b)
		for _, s := range c.streams {
			s.queue = append(s.queue, b)
		}
		if c.beginner = c.beginner && !b.sweep && len(c.first) < c.p.maxFirst; c.beginner {
			c.first = append(c.first, b)
		} else {
			c.first = nil
		}
	}
}

// build makes the next batch; nil if there is nothing to send.
func (c *cohort) build() *batch {
	b := &batch{changes: c.p.scratch[:0]}
	c.addGroups(b)
	if len(c.dirty) == 0 {
		c.addRoutes(b)
	}
	if len(c.dirty) == 0 && c.next == 0 {
		c.deleteGroups(b)
		b.sweep = c.p.converged && !c.swept
	}
	if b.items == 0 && !b.sweep {
		return nil
	}
	c.p.scratch, b.changes = b.changes, slices.Clone(b.changes)
	c.swept, b.upTo = c.swept || b.sweep, c.seen
	return b
}

func (b *batch) add(c *fib.Change) {
	b.changes = wire.AppendFIBChange(b.changes, c)
	b.items++
}

func (b *batch) full() bool { return len(b.changes) >= BatchBytes }

func (c *cohort) addGroups(b *batch) {
	for _, slot := range slices.Sorted(maps.Keys(c.dirty)) {
		if b.full() {
			break
		}
		b.add(&fib.Change{Op: fib.SetGroup, Group: c.p.groups[slot].g})
		delete(c.dirty, slot)
		c.known[slot] = true
	}
}

func (c *cohort) addRoutes(b *batch) {
	for c.next != 0 && !b.full() {
		r := c.p.table.at(c.next)
		c.next, c.seen = r.next, r.version
		c.backlog--
		if r.group == 0 && r.version <= c.start {
			continue // deleted before the epoch began
		}
		ch := fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: fib.VRF(r.vrf), Prefix: r.prefix()}}
		if r.group != 0 {
			ch.Op, ch.Route.Group = fib.SetRoute, c.p.groups[r.group].g.ID
		}
		b.add(&ch)
	}
}

// deleteGroups adds the deletions that no route on the cards stands against
// any more, as many as fit one message.
func (c *cohort) deleteGroups(b *batch) {
	for _, slot := range slices.Sorted(maps.Keys(c.p.dead)) {
		if c.known[slot] && !b.full() {
			b.add(&fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: c.p.groups[slot].g.ID}})
			delete(c.known, slot)
		}
	}
}
