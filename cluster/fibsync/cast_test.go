package fibsync

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
	"godwit/fib/fibtest"
)

// air carries multicasts to the cards that are on it. A bad one loses, forges,
// doubles and swaps some.
type air struct {
	r     *rand.Rand
	bad   int // in eighths; needs r
	full  bool
	least int // bytes that are worth it
	cards []*card
	waits []func()
	casts int // taken
	bytes int // of them
	lose  func(id fib.CardID, serial uint64) bool
}

func onAir(a *air, cards ...*card) {
	a.cards = append(a.cards, cards...)
	for _, c := range cards {
		c.air = a
		c.p.streams[c.id].CastVia(a)
	}
}

func (a *air) Cast(lower, upper fib.CardID, serial uint64, changes []byte) bool {
	if a.full || len(changes) < a.least {
		return false
	}
	a.casts++
	a.bytes += len(changes)
	for _, c := range a.cards {
		if c.id < lower || c.id > upper || a.lose != nil && a.lose(c.id, serial) {
			continue
		}
		sub := c.sub // a new process does not get what was under way
		deliver := func(x Cast) {
			a.waits = append(a.waits, func() {
				if c.sub == sub {
					c.took(sub.Cast(x))
				}
			})
		}
		if a.bad == 0 || a.r.IntN(8) >= a.bad {
			deliver(NewCast(serial, changes))
			continue
		}
		forged := slices.Clone(changes)
		forged[a.r.IntN(len(forged))]++
		switch a.r.IntN(4) {
		case 0: // lost
		case 1:
			deliver(NewCast(serial, forged))
		case 2:
			deliver(NewCast(serial, forged))
			deliver(NewCast(serial, changes))
		case 3:
			deliver(NewCast(serial, changes))
			deliver(NewCast(serial, changes))
		}
	}
	return true
}

func (a *air) deliver() {
	waits := a.waits
	a.waits = nil
	if a.bad > 0 {
		a.r.Shuffle(len(waits), func(i, j int) { waits[i], waits[j] = waits[j], waits[i] })
	}
	for _, f := range waits {
		f()
	}
}

// longTable is a table of n routes, some 1,300 in a batch.
func longTable(n int) []fib.Change {
	list := fullTable(0)
	for i := range n {
		list = append(list, longRoute(i, fib.GroupID(1+i%8)))
	}
	return list
}

// twoCards are cards in step, with a table that takes several batches.
func twoCards(t *testing.T, n int) (*Publisher, *air, []*card) {
	t.Helper()
	p := NewPublisher()
	p.Converged()
	var cards []*card
	for i := range n {
		cards = append(cards, newCard(t, p, fib.CardID(1+i)))
	}
	a := &air{least: 4 << 10}
	onAir(a, cards...)
	drain(p, cards...)
	must(t, p.Changes(longTable(8_000)))
	return p, a, cards
}

// whole adds up what was sent whole, named, and asked for again.
func counts(p *Publisher) (c CastCounts) {
	for _, st := range p.Status() {
		c.Whole, c.Named, c.Again = c.Whole+st.Casts.Whole, c.Named+st.Casts.Named, c.Again+st.Casts.Again
	}
	return c
}

// Whatever the number of cards, the changes of a batch are sent once, and the
// sessions carry names only.
func TestOneMulticastForAllCards(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			p, a, cards := twoCards(t, n)
			drain(p, cards...)
			equal(t, p, cards...)
			want := 0
			if n > 1 {
				want = cards[0].batches - 1 // the last of a table may be small; the sweep is
			}
			if a.casts < want-1 || a.casts > want || n == 1 && a.casts > 0 {
				t.Errorf("%d multicasts of %d batches for %d cards", a.casts, cards[0].batches, n)
			}
			for _, c := range cards {
				if c.refs != a.casts || c.batches != cards[0].batches {
					t.Errorf("card %d: %d batches, of which %d were named", c.id, c.batches, c.refs)
				}
			}
			if c := counts(p); c.Named != uint64(n*a.casts) || c.Again != 0 {
				t.Errorf("%+v after %d multicasts", c, a.casts)
			}
			// A change of one route goes whole: it is small.
			before := a.casts
			must(t, p.Changes([]fib.Change{setRoute(7, 0)}))
			drain(p, cards...)
			equal(t, p, cards...)
			if a.casts != before {
				t.Error("one route by multicast")
			}
		})
	}
}

// What is lost is asked for, once, and comes whole; those who have it get nothing more.
func TestLostMulticastComesByUnicast(t *testing.T) {
	p, a, cards := twoCards(t, 3)
	a.lose = func(id fib.CardID, serial uint64) bool { return id == 2 && serial%3 == 1 }
	drain(p, cards...)
	equal(t, p, cards...)
	lost := uint64(a.casts+2) / 3
	if c := counts(p); c.Again != lost || lost < 2 {
		t.Errorf("%+v, %d were lost", c, lost)
	}
	if st := cards[1].sub.Casts(); st.Fetched != lost || st.Applied != uint64(a.casts)-lost || st.Forged != 0 {
		t.Errorf("%+v", st)
	}
	if st := cards[0].sub.Casts(); st.Fetched != 0 || st.Applied != uint64(a.casts) || st.Held != 0 {
		t.Errorf("card 1: %+v", st)
	}
}

// A card that no multicast reaches is sent everything whole after a few, and tried
// again later.
func TestCardWithoutReception(t *testing.T) {
	p, a, cards := twoCards(t, 2)
	must(t, p.Changes(longTable(20_000)))
	deaf := true
	a.lose = func(id fib.CardID, _ uint64) bool { return deaf && id == 2 }
	drain(p, cards...)
	asked := counts(p).Again
	if most := uint64(maxMissPoints/missPoints + Window); asked == 0 || asked > most || p.Status()[1].Casts.Takes {
		t.Fatalf("asked for %d again, at most %d: %+v", asked, most, p.Status()[1])
	}
	deaf = false
	for i := range soloBatches + 20 {
		var many []fib.Change
		for j := range 250 {
			many = append(many, longRoute(80_000+j, fib.GroupID(1+(i+j)%8)))
		}
		must(t, p.Changes(many))
		drain(p, cards...)
	}
	drain(p, cards...)
	equal(t, p, cards...)
	if st := p.Status()[1].Casts; st.Again != asked || st.Named < asked+5 || !st.Takes {
		t.Errorf("not tried again: %+v, %d before", st, asked)
	}
}

// Forged changes are never applied: the digest that the session names is of others.
func TestForgedMulticast(t *testing.T) {
	p, a, cards := twoCards(t, 2)
	evil := wire.AppendFIBChange(nil, &fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: setRoute(99, 1).Route.Prefix, Group: 1}})
	a.lose = func(id fib.CardID, serial uint64) bool {
		if id != 1 || serial > 4 {
			return false
		}
		c := cards[0]
		c.took(c.sub.Cast(NewCast(serial, evil))) // first of all
		return serial%2 == 0                      // and sometimes instead of the true one
	}
	drain(p, cards...)
	equal(t, p, cards...)
	if st := cards[0].sub.Casts(); st.Forged < 2 || st.Fetched != 2 {
		t.Errorf("%+v", st)
	}
	// Without end: what nobody names is bounded, and no harm.
	for i := range 3 * HeldBatches {
		cards[0].sub.Cast(NewCast(uint64(1000+i), make([]byte, 60_000)))
	}
	h := &cards[0].sub.held
	if len(h.list) > HeldBatches || h.bytes > HeldBytes || cards[0].sub.Casts().Dropped < HeldBatches {
		t.Errorf("%d held of %d bytes, %+v", len(h.list), h.bytes, cards[0].sub.Casts())
	}
	must(t, p.Changes(longTable(12_000)))
	drain(p, cards...)
	equal(t, p, cards...)
	cards[0].sub.Forget()
	if st := cards[0].sub.Casts(); st.Held != 0 {
		t.Errorf("after the last session: %+v", st)
	}
}

// A card that attaches while others download gets what was sent before whole,
// and the rest by name; its first batches are not named.
func TestCardJoinsMidstream(t *testing.T) {
	p, a, cards := twoCards(t, 2)
	for range 3 {
		p.Pump()
		a.deliver()
		for _, c := range cards {
			c.receive(1)
		}
	}
	casts := a.casts
	if casts == 0 {
		t.Fatal("nothing was sent yet")
	}
	late := newCard(t, p, 3)
	onAir(a, late)
	p.Pump()
	if len(late.queue) == 0 || late.queue[0].kind != wire.FIBBatch {
		t.Fatalf("first message of %d", len(late.queue))
	}
	cards = append(cards, late)
	drain(p, cards...)
	must(t, p.Changes(longTable(14_000)))
	drain(p, cards...)
	equal(t, p, cards...)
	if st := late.sub.Casts(); st.Fetched > 0 || late.refs == 0 || late.refs > a.casts-casts {
		t.Errorf("%+v, named %d of %d", st, late.refs, a.casts)
	}
}

// A card that is slow gets what it may have dropped meanwhile whole, without having to
// ask for it.
func TestSlowCardAndMulticasts(t *testing.T) {
	p, a, cards := twoCards(t, 3)
	slow := cards[2]
	drain1 := func() {
		p.Pump()
		a.deliver()
		for _, c := range cards[:2] {
			c.receive(1 << 30)
		}
	}
	for i := range 2 * HeldBatches {
		drain1()
		must(t, p.Changes([]fib.Change{setRoute(1, fib.GroupID(1+i%8))}))
		var many []fib.Change
		for j := range 250 {
			many = append(many, longRoute(90_000+j, fib.GroupID(1+(i+j)%8)))
		}
		must(t, p.Changes(many))
	}
	if h := &slow.sub.held; len(h.list) > HeldBatches {
		t.Errorf("%d held", len(h.list))
	}
	for range 100 {
		drain1()
		slow.receive(1)
	}
	drain(p, cards...)
	equal(t, p, cards...)
	if st := slow.sub.Casts(); st.Fetched > 0 || counts(p).Again > 0 {
		t.Errorf("%+v, %+v", st, counts(p))
	}
}

// A transport that has no room, and cards on several transports and on none.
func TestSeveralTransports(t *testing.T) {
	p := NewPublisher()
	p.Converged()
	var cards []*card
	for i := range 6 {
		cards = append(cards, newCard(t, p, fib.CardID(1+i)))
	}
	one, two, three := &air{}, &air{}, &air{full: true}
	onAir(one, cards[0], cards[2])
	onAir(two, cards[1], cards[3])
	onAir(three, cards[4])
	drain(p, cards...)
	must(t, p.Changes(longTable(8_000)))
	drain(p, cards...)
	equal(t, p, cards...)
	if one.casts == 0 || one.casts != two.casts || three.casts > 0 || cards[4].refs+cards[5].refs > 0 {
		t.Errorf("%d, %d and %d multicasts; named %d and %d", one.casts, two.casts, three.casts, cards[4].refs, cards[5].refs)
	}
	one.full = true
	named := cards[0].refs
	must(t, p.Changes(longTable(12_000)))
	drain(p, cards...)
	equal(t, p, cards...)
	if cards[0].refs != named || cards[1].refs == named {
		t.Errorf("named %d and %d, before %d", cards[0].refs, cards[1].refs, named)
	}
}

// The session's order is kept: what comes behind a batch that is missing waits, within bounds.
func TestSubscriberWaits(t *testing.T) {
	tables := fibtest.NewTwin()
	s := NewSubscriber(tables, 0, 0)
	now := time.Unix(1000, 0)
	changes := func(i int) []byte {
		g, r := setGroup(1, 1), setRoute(i, 1)
		return wire.AppendFIBChange(wire.AppendFIBChange(nil, &g), &r)
	}
	ref := func(epoch uint32, seq uint64) []byte {
		c := NewCast(seq, changes(int(seq)))
		return wire.AppendFIBRef(nil, &wire.FIBRefBody{Epoch: epoch, Seq: seq, Serial: c.Serial, Digest: c.Digest})
	}
	whole := func(epoch uint32, seq uint64) []byte {
		return append(wire.AppendFIBHeader(nil, epoch, seq, false), changes(int(seq))...)
	}
	none := func(_ wire.FIBAckBody, reply bool) {
		t.Helper()
		if reply {
			t.Error("answered")
		}
	}
	none(s.Refer(now, ref(1, 1)))
	none(s.Receive(whole(1, 2)))
	none(s.Refer(now.Add(time.Millisecond), ref(1, 3)))
	if list, again := s.Late(now); len(list) > 0 || !again.Equal(now.Add(CastDeadline)) {
		t.Errorf("at once: %v, again %v", list, again)
	}
	if list, again := s.Late(now.Add(CastDeadline)); len(list) != 1 || list[0] != (wire.FIBFetchBody{Epoch: 1, Seq: 1}) || again.IsZero() {
		t.Errorf("late: %v, %v", list, again)
	}
	none(s.Cast(NewCast(3, changes(3))))
	if ack, reply := s.Receive(whole(1, 1)); !reply || ack.Seq != 1 || !s.Ready() {
		t.Errorf("%+v %v", ack, reply)
	}
	for want := uint64(2); want <= 3; want++ {
		if ack, reply := s.Step(); !reply || ack != (wire.FIBAckBody{Epoch: 1, Seq: want}) {
			t.Errorf("%+v %v, want %d", ack, reply, want)
		}
	}
	none(s.Step())
	if len(tables.Routes()) != 3 {
		t.Errorf("%v", tables.Routes())
	}
	// A new epoch does not wait for the former, which is skipped from then on.
	none(s.Refer(now, ref(1, 4)))
	if ack, reply := s.Receive(whole(2, 1)); !reply || ack.Epoch != 2 {
		t.Errorf("%+v %v", ack, reply)
	}
	none(s.Refer(now, ref(1, 5)))
	if list, again := s.Late(now.Add(time.Hour)); len(list) > 0 || !again.IsZero() || s.Epoch() != 2 {
		t.Errorf("%v %v", list, again)
	}
	// Too many.
	for i := range maxWaiting {
		none(s.Refer(now, ref(2, uint64(2+i))))
	}
	if ack, reply := s.Receive(whole(2, 2+maxWaiting)); !reply || ack.Error == "" || len(s.waiting) > 0 {
		t.Errorf("%+v %v, %d wait", ack, reply, len(s.waiting))
	}
	none(s.Refer(now, ref(2, 2)))
	// What is named and comes true may still be refused.
	bad := NewCast(7, []byte{99})
	none(s.Refer(now, wire.AppendFIBRef(nil, &wire.FIBRefBody{Epoch: 3, Seq: 1, Serial: 7, Digest: bad.Digest})))
	if ack, reply := s.Cast(bad); !reply || ack.Error == "" || ack.Epoch != 3 {
		t.Errorf("%+v %v", ack, reply)
	}
	if ack, reply := s.Refer(now, []byte{1, 2}); reply {
		t.Errorf("says so twice: %+v", ack)
	}
}

// Requests that name nothing are no harm.
func TestFetchOfNothing(t *testing.T) {
	p, a, cards := twoCards(t, 2)
	a.lose = func(id fib.CardID, _ uint64) bool { return id == 1 }
	p.Pump()
	a.deliver()
	st := p.Status()[0]
	for _, f := range []wire.FIBFetchBody{{Epoch: st.Epoch, Seq: st.Sent + 1}, {Epoch: st.Epoch}, {Epoch: st.Epoch + 1, Seq: 1}} {
		p.Fetch(1, f)
		p.Fetch(77, f)
	}
	a.lose = nil
	refs := cards[0].refs
	cards[0].receive(1)
	if cards[0].refs != refs+1 {
		t.Fatal("not named")
	}
	queued := len(cards[0].queue)
	cards[0].full = true
	list, _ := cards[0].sub.Late(cards[0].now.Add(CastDeadline))
	for range 3 { // one answer only, when there is room
		p.Fetch(1, list[0])
	}
	cards[0].full = false
	p.Pump()
	if n := len(cards[0].queue) - queued; len(list) != 1 || n != 1 || counts(p).Again != 1 {
		t.Errorf("%d answers, %+v", n, counts(p))
	}
	drain(p, cards...)
	equal(t, p, cards...)
}
