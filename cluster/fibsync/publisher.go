package fibsync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// Bounds of what waits for a card.
const (
	// Window is how many batches a card may have unacknowledged: 16 of 32 KiB
	// are some 60,000 routes, more than a card compiles in a round trip.
	Window = 16
	// BatchBytes is where a batch ends: large enough that its cost is in its
	// routes, and one bus message.
	BatchBytes = 32 << 10
	// maxLag is how many batches a card may be behind the fastest of its cohort:
	// 2 MiB, which the cards share. Beyond, it goes on alone, and finds what
	// changed often once.
	maxLag = 64
	// maxFirst is how many batches are kept for cards that attach while a
	// cohort begins: routes of a second or less.
	maxFirst = 64
	// queueBytes is how much may wait in the session before a stream pauses.
	queueBytes = 1 << 20
	// MaxTombstones is how many deleted routes are kept for slow cards. A
	// stream that has not passed them by then starts again.
	MaxTombstones = 200_000
	// AckTimeout is how long a card may leave batches unacknowledged.
	AckTimeout = 30 * time.Second
	// maxRefusals is how many epochs in a row a card may refuse.
	maxRefusals = 3
)

// Sender is the session to a card: session.Session.
type Sender interface {
	// SendShared queues the message of head and body; body is shared with
	// other cards, nobody changes it.
	SendShared(kind wire.Kind, head, body []byte) error
	Queued() int
}

// Publisher keeps the forwarding tables of the chassis and the streams of the
// cards. It belongs to one event loop.
type Publisher struct {
	table     *table
	tombs     []tomb // in order of version
	groups    []group
	byID      map[fib.GroupID]uint32 // slots of live groups
	dead      map[uint32]bool        // slots of deleted groups that cards may hold
	freeSlots []uint32
	wireIDs   map[fib.GroupID]uint32 // slots, live and dead, by number on the wire
	streams   map[fib.CardID]*Stream
	cohorts   []*cohort              // of the streams
	epochs    map[fib.CardID]uint32  // last used
	digests   map[fib.VRF]fib.Digest // of VRFs with routes
	followers []*Follower
	converged bool
	serial    uint64 // of the last multicast
	scratch   []byte // where batches are encoded
	tombLimit int    // MaxTombstones
	maxFirst  int
}

type group struct {
	g      fib.Group // its ID is the number on the wire
	routes int
}

type tomb struct {
	rec     uint32
	version uint64
}

// NewPublisher returns a publisher without routes or cards.
func NewPublisher() *Publisher {
	return &Publisher{
		table: newTable(), groups: make([]group, 1), byID: map[fib.GroupID]uint32{}, dead: map[uint32]bool{},
		wireIDs: map[fib.GroupID]uint32{}, streams: map[fib.CardID]*Stream{}, epochs: map[fib.CardID]uint32{},
		digests: map[fib.VRF]fib.Digest{}, tombLimit: MaxTombstones, maxFirst: maxFirst,
	}
}

// Changes takes changes from the RIB, in order. A change that breaks the rules
// (bad shape, unknown group, group in use) is left out and reported.
func (p *Publisher) Changes(changes []fib.Change) error {
	var errs []error
	for i := range changes {
		if err := p.change(&changes[i]); err != nil {
			errs = append(errs, err)
		}
	}
	p.bury()
	return errors.Join(errs...)
}

func (p *Publisher) change(c *fib.Change) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("publish %v: %w", c.Op, err)
	}
	switch c.Op {
	case fib.SetGroup:
		p.setGroup(c.Group)
		return nil
	case fib.DeleteGroup:
		return p.deleteGroup(c.Group.ID)
	case fib.SetRoute:
		slot, ok := p.byID[c.Route.Group]
		if !ok {
			return fmt.Errorf("publish route %v: %w %d", c.Route.Prefix, fib.ErrUnknownGroup, c.Route.Group)
		}
		p.setRoute(&c.Route, slot)
		return nil
	}
	p.setRoute(&c.Route, 0)
	return nil
}

func (p *Publisher) setGroup(g fib.Group) {
	g.NextHops = slices.Clone(g.NextHops)
	slot, ok := p.byID[g.ID]
	if ok {
		g.ID = p.groups[slot].g.ID
		p.groups[slot].g = g
	} else {
		slot = p.newSlot()
		p.byID[g.ID] = slot
		g.ID = p.wireID(g.ID)
		p.wireIDs[g.ID] = slot
		p.groups[slot] = group{g: g}
	}
	for _, c := range p.cohorts {
		c.dirty[slot] = true
		c.changed = c.changed || c.known[slot]
	}
}

func (p *Publisher) newSlot() uint32 {
	if n := len(p.freeSlots); n > 0 {
		slot := p.freeSlots[n-1]
		p.freeSlots = p.freeSlots[:n-1]
		return slot
	}
	p.groups = append(p.groups, group{})
	return uint32(len(p.groups) - 1)
}

// wireID is the number of a new group on the wire: its own, unless a card may
// still know another group by it.
func (p *Publisher) wireID(id fib.GroupID) fib.GroupID {
	if _, taken := p.wireIDs[id]; !taken {
		return id
	}
	for id = 1 << 31; ; id++ {
		if _, taken := p.wireIDs[id]; !taken {
			return id
		}
	}
}

func (p *Publisher) deleteGroup(id fib.GroupID) error {
	slot, ok := p.byID[id]
	if !ok {
		return fmt.Errorf("publish delete %w %d", fib.ErrUnknownGroup, id)
	}
	if n := p.groups[slot].routes; n > 0 {
		return fmt.Errorf("publish delete %w: %d by %d routes", fib.ErrGroupInUse, id, n)
	}
	delete(p.byID, id)
	p.dead[slot] = true
	for _, c := range p.cohorts {
		delete(c.dirty, slot)
	}
	return nil
}

// setRoute leads a route to the group in slot; 0 deletes it.
func (p *Publisher) setRoute(r *fib.Route, slot uint32) {
	key := makeRecord(r.VRF, r.Prefix)
	i, _ := p.table.find(&key)
	if i == 0 {
		if slot == 0 {
			return
		}
		i = p.table.add(&key)
	}
	rec := p.table.at(i)
	if rec.group == slot && rec.version != 0 {
		return
	}
	p.count(rec, -1)
	rec.group = slot
	p.count(rec, 1)
	was := rec.version
	for _, c := range p.cohorts {
		c.leave(i, was)
	}
	for _, f := range p.followers {
		f.leave(i, was)
	}
	p.table.unlink(i)
	p.table.link(i)
	for _, c := range p.cohorts {
		c.enter(i)
	}
	for _, f := range p.followers {
		f.enter(i)
	}
	if slot == 0 {
		p.tombs = append(p.tombs, tomb{i, rec.version})
	}
}

// count adds the route of rec to its group and VRF, or with -1 takes it away.
func (p *Publisher) count(rec *record, n int) {
	if rec.group == 0 {
		return
	}
	g := &p.groups[rec.group]
	g.routes += n
	p.table.routes += n
	vrf := fib.VRF(rec.vrf)
	d := p.digests[vrf]
	d.Routes += n
	d.Sum += uint64(n) * fib.RouteSum(rec.hi, rec.lo, uint(rec.bits), rec.v6, g.g.ID)
	if d.Routes == 0 {
		delete(p.digests, vrf)
		return
	}
	p.digests[vrf] = d
}

// Digest sums up the routes of a VRF. A card that is synced and has swept
// (Status) has the same digest of every VRF.
func (p *Publisher) Digest(vrf fib.VRF) fib.Digest { return p.digests[vrf] }

// GroupSum is the sum of fib.Group.Sum over all groups, modulo 2^64, as a card
// has them when it is synced and has swept.
func (p *Publisher) GroupSum() (sum uint64) {
	for _, slot := range p.byID {
		sum += p.groups[slot].g.Sum()
	}
	return sum
}

// bury removes the tombstones that no stream needs, and makes streams start
// again that hold too many back.
func (p *Publisher) bury() {
	n := 0
	for ; n < len(p.tombs); n++ {
		t := p.tombs[n]
		rec := p.table.at(t.rec)
		if rec.group != 0 || rec.version != t.version { // the route has come back
			continue
		}
		if !p.passed(t.version, len(p.tombs)-n > p.tombLimit) {
			break
		}
		for _, c := range p.cohorts {
			c.leave(t.rec, t.version)
		}
		for _, f := range p.followers {
			f.leave(t.rec, t.version)
		}
		p.table.remove(t.rec)
	}
	p.tombs = slices.Delete(p.tombs, 0, n)
	for slot := range p.dead {
		if !p.held(slot) {
			delete(p.dead, slot)
			delete(p.wireIDs, p.groups[slot].g.ID)
			p.groups[slot] = group{}
			p.freeSlots = append(p.freeSlots, slot)
		}
	}
}

func (p *Publisher) passed(version uint64, force bool) bool {
	for _, c := range slices.Clone(p.cohorts) {
		if c.seen < version && c.start < version {
			if !force {
				return false
			}
			c.restart()
		}
	}
	return true
}

func (p *Publisher) held(slot uint32) bool {
	for _, c := range p.cohorts {
		if c.known[slot] {
			return true
		}
	}
	return false
}

// Attach starts the stream of a card, in an epoch above all that it has had
// and above lastEpoch, the last that the card says it knows. It replaces the
// card's former stream.
func (p *Publisher) Attach(card fib.CardID, to Sender, lastEpoch uint32) *Stream {
	p.drop(card)
	s := &Stream{p: p, card: card, to: to, epoch: max(lastEpoch, p.epochs[card])}
	p.streams[card] = s
	s.begin(p.beginners(lastEpoch == 0))
	return s
}

// Detach ends the stream of a card: its session is lost.
func (p *Publisher) Detach(card fib.CardID) {
	p.drop(card)
	p.bury()
}

func (p *Publisher) drop(card fib.CardID) {
	if s := p.streams[card]; s != nil {
		s.c.dismiss(s)
		delete(p.streams, card)
	}
}

// Converged tells that all protocols have delivered: from now on streams that
// have sent everything sweep.
func (p *Publisher) Converged() { p.converged = true }

// Ack takes a card's acknowledgement.
func (p *Publisher) Ack(card fib.CardID, a wire.FIBAckBody) {
	if s := p.streams[card]; s != nil && a.Epoch == s.epoch {
		s.ack(a)
	}
}

// Pump sends what the windows allow.
func (p *Publisher) Pump() {
	for _, c := range slices.Clone(p.cohorts) {
		c.pump()
	}
	p.meet()
	p.bury()
}

// Expire returns the cards that have not acknowledged anything for AckTimeout
// although batches wait. Their sessions must be closed: they are cut off, and
// resynchronised when they connect again. To be called every few seconds.
func (p *Publisher) Expire(now time.Time) (stalled []fib.CardID) {
	for _, card := range slices.Sorted(maps.Keys(p.streams)) {
		s := p.streams[card]
		switch {
		case s.sent == s.acked:
			s.waiting = time.Time{}
		case s.waiting.IsZero() || s.waitAcked != s.acked || s.waitEpoch != s.epoch:
			s.waiting, s.waitAcked, s.waitEpoch = now, s.acked, s.epoch
		case now.Sub(s.waiting) >= AckTimeout:
			stalled = append(stalled, card)
		}
	}
	return stalled
}

// Status is the state of one card's stream.
type Status struct {
	Card    fib.CardID
	Epoch   uint32
	Sent    uint64 // sequence of the last batch sent
	Acked   uint64
	Backlog int  // routes and groups not sent yet
	Synced  bool // everything is sent and acknowledged
	Swept   bool // ... including the sweep that ends the replay
	Refused string
	Casts   CastCounts
}

// Status reports all streams, in order of card.
func (p *Publisher) Status() []Status {
	var all []Status
	for _, card := range slices.Sorted(maps.Keys(p.streams)) {
		all = append(all, p.streams[card].Status())
	}
	return all
}

// Routes is how many routes the publisher retains.
func (p *Publisher) Routes() int { return p.table.routes }
