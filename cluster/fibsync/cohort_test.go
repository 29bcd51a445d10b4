package fibsync

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"godwit/cluster/wire"
	"godwit/fib"
)

// fullTable is groups and routes of a full table in small.
func fullTable(routes int) (list []fib.Change) {
	for g := range 8 {
		list = append(list, setGroup(fib.GroupID(1+g), 1+g))
	}
	for i := range routes {
		list = append(list, setRoute(i, fib.GroupID(1+i%8)))
	}
	return list
}

// longRoute takes a batch's bytes sooner than setRoute.
func longRoute(i int, g fib.GroupID) fib.Change {
	c := setRoute(i, g)
	a := [16]byte{0x20, 1, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
	c.Route.Prefix = netip.PrefixFrom(netip.AddrFrom16(a), 128)
	return c
}

// encodings counts the batches that were encoded for the cards.
func encodings(cards ...*card) int {
	all := map[*byte]bool{}
	for _, c := range cards {
		for _, b := range c.encoded {
			all[b] = true
		}
	}
	return len(all)
}

// equal fails unless all cards have what the publisher says.
func equal(t *testing.T, p *Publisher, cards ...*card) {
	t.Helper()
	want := cards[0].tables.Routes()
	for _, c := range cards {
		if d := c.tables.Digest(0); d != p.Digest(0) {
			t.Errorf("card %d has %v, the publisher %v", c.id, d, p.Digest(0))
		}
		if got := c.tables.Routes(); !reflect.DeepEqual(got, want) {
			t.Errorf("card %d has %d routes, card %d %d", c.id, len(got), cards[0].id, len(want))
		}
	}
}

// Cards in step are sent one encoding, however many they are; the bytes are the
// same, not copies.
func TestCardsInStepShareBatches(t *testing.T) {
	for _, n := range []int{1, 2, 16} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			p := NewPublisher()
			must(t, p.Changes(fullTable(2000)))
			var cards []*card
			for i := range n {
				cards = append(cards, newCard(t, p, fib.CardID(1+i)))
				p.Pump() // the first has batches on their way when the next comes
			}
			drain(p, cards...)
			p.Converged()
			drain(p, cards...)
			must(t, p.Changes([]fib.Change{setRoute(7, 0), setGroup(3, 99)}))
			drain(p, cards...)
			equal(t, p, cards...)
			if got := encodings(cards...); got != len(cards[0].encoded) || len(p.cohorts) != 1 {
				t.Errorf("%d encodings of %d batches, %d cohorts", got, len(cards[0].encoded), len(p.cohorts))
			}
			for _, st := range p.Status() {
				if !st.Swept {
					t.Errorf("%+v", st)
				}
			}
		})
	}
}

// A card that is slow does not hold the others, costs a bounded queue, goes on
// alone, and is in step again when it has caught up.
func TestSlowCardHoldsNobody(t *testing.T) {
	p := NewPublisher()
	fast, other, slow := newCard(t, p, 1), newCard(t, p, 2), newCard(t, p, 3)
	p.Converged()
	drain(p, fast, other, slow)
	if len(p.cohorts) != 1 {
		t.Fatalf("%d cohorts", len(p.cohorts))
	}
	must(t, p.Changes(fullTable(2000)))
	for i := range 3 * maxLag {
		must(t, p.Changes([]fib.Change{setRoute(1, fib.GroupID(1+i%8)), setRoute(5000+i, 1)}))
		drain1(p, fast, other)
		if st := p.Status(); !st[0].Synced || !st[1].Synced || st[2].Synced {
			t.Fatalf("round %d: %+v", i, st)
		}
		s := p.streams[3]
		if len(s.queue) > maxLag || len(slow.queue) > Window {
			t.Fatalf("round %d: %d batches wait, %d are on their way", i, len(s.queue), len(slow.queue))
		}
	}
	if len(p.cohorts) != 2 || p.streams[1].c != p.streams[2].c {
		t.Fatalf("%d cohorts", len(p.cohorts))
	}
	if n := encodings(fast, other); n != len(fast.encoded) || fast.batches != other.batches {
		t.Errorf("%d encodings of %d and %d batches", n, fast.batches, other.batches)
	}
	// What changed while it was alone came once.
	drain(p, fast, other, slow)
	equal(t, p, fast, other, slow)
	if slow.batches > Window+maxLag+4 || len(p.cohorts) != 1 {
		t.Errorf("the slow card took %d batches; %d cohorts", slow.batches, len(p.cohorts))
	}
	before := encodings(fast, other, slow)
	must(t, p.Changes([]fib.Change{setRoute(9999, 1)}))
	drain(p, fast, other, slow)
	if got := encodings(fast, other, slow) - before; got != 1 {
		t.Errorf("%d encodings when all are in step again", got)
	}
}

// drain1 lets cards take all there is, for one change.
func drain1(p *Publisher, cards ...*card) {
	for range 4 {
		p.Pump()
		for _, c := range cards {
			c.receive(1 << 30)
		}
	}
}

// A card that joins in the middle of a full-table download gets all of it, and
// is in step at its end; one that dies in the middle leaves nothing behind.
func TestJoinAndDeathInTheMiddle(t *testing.T) {
	p := NewPublisher()
	const routes = 60_000 // some 37 batches, of which a window may be on its way
	p.maxFirst = 4
	table := fullTable(0)
	for i := range routes {
		table = append(table, longRoute(i, fib.GroupID(1+i%8)))
	}
	must(t, p.Changes(table))
	a, dying := newCard(t, p, 1), newCard(t, p, 2)
	for a.batches < p.maxFirst+4 { // later than a beginner
		p.Pump()
		a.receive(4)
		dying.receive(4)
	}
	if p.Status()[0].Backlog == 0 {
		t.Fatal("not in the middle")
	}
	late := newCard(t, p, 3)
	p.Pump()
	if len(p.cohorts) != 2 || len(p.streams[3].queue) > 0 {
		t.Errorf("%d cohorts, %d batches wait for the late card", len(p.cohorts), len(p.streams[3].queue))
	}
	must(t, p.Changes([]fib.Change{longRoute(1, 0), longRoute(routes-1, 0), longRoute(2, 3), setGroup(4, 77)}))
	p.Detach(2)
	p.Converged()
	drain(p, a, late)
	equal(t, p, a, late)
	if len(p.cohorts) != 1 || len(p.tombs) != 0 || len(p.cohorts[0].streams) != 2 {
		t.Errorf("%d cohorts, %d tombstones", len(p.cohorts), len(p.tombs))
	}
	p.Detach(1)
	p.Detach(3)
	if len(p.cohorts) != 0 {
		t.Errorf("%d cohorts without cards", len(p.cohorts))
	}
}

// A card that refuses starts again; the others of its cohort do not notice.
func TestRefusalIsOneCardsOwn(t *testing.T) {
	p := NewPublisher()
	must(t, p.Changes(fullTable(100)))
	a, b := newCard(t, p, 1), newCard(t, p, 2)
	p.Pump()
	epoch := p.Status()[0].Epoch
	bad := p.Status()[1]
	b.queue = nil
	p.Ack(2, wire.FIBAckBody{Epoch: bad.Epoch, Error: "no"})
	drain(p, a, b)
	equal(t, p, a, b)
	if st := p.Status(); st[0].Epoch != epoch || st[1].Epoch != bad.Epoch+1 || len(p.cohorts) != 1 {
		t.Errorf("%+v, %d cohorts", st, len(p.cohorts))
	}
	// One that is not tried any more stays alone.
	for range maxRefusals {
		must(t, p.Changes([]fib.Change{setRoute(5, fib.GroupID(1+p.Status()[1].Epoch%8))}))
		p.Pump()
		st := p.Status()[1]
		p.Ack(2, wire.FIBAckBody{Epoch: st.Epoch, Seq: st.Acked, Error: "never"})
	}
	drain(p, a)
	if st := p.Status(); !st[0].Synced || st[1].Refused != "never" || len(p.cohorts) != 2 {
		t.Errorf("%+v, %d cohorts", st, len(p.cohorts))
	}
	if !slices.Contains(p.cohorts, p.streams[2].c) {
		t.Error("the refused card has no place in the list")
	}
}
