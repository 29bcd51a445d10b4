package fibsync

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"godwit/fib"
	"godwit/fib/fibtest"
)

// take takes all that a follower tells.
func take(f *Follower, look int) (list []netip.Prefix) {
	for {
		some, more := f.Next(look)
		list = append(list, some...)
		if !more {
			return list
		}
	}
}

func TestFollowerWaitsForEveryCard(t *testing.T) {
	p := NewPublisher()
	f := p.Follow(0)
	other := p.Follow(7)
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setRoute(1, 1), setRoute(2, 1)}))
	if list := take(f, 10); len(list) > 0 {
		t.Errorf("%v without a card", list)
	}
	a, b := newCard(t, p, 1), newCard(t, p, 2)
	p.Pump()
	a.receive(100)
	if list := take(f, 10); len(list) > 0 {
		t.Errorf("%v of one card only", list)
	}
	b.receive(100)
	if list := take(f, 1); len(list) != 2 {
		t.Errorf("%v, want two routes", list)
	}
	if list := take(f, 10); len(list) > 0 {
		t.Errorf("%v once more", list)
	}
	must(t, p.Changes([]fib.Change{setRoute(3, 1), setRoute(2, 0), setRoute(4, 1), setRoute(4, 0)}))
	p.Pump()
	b.receive(100)
	if list := take(f, 10); len(list) > 0 {
		t.Errorf("%v though card 1 is slow", list)
	}
	p.Detach(1) // it is gone: the others count
	if list := take(f, 10); len(list) != 1 || list[0] != setRoute(3, 1).Route.Prefix {
		t.Errorf("%v, want the one that is left", list)
	}
	a.reconnect() // a new card holds back what comes until it has caught up
	must(t, p.Changes([]fib.Change{setRoute(5, 1)}))
	p.Pump()
	b.receive(100)
	if list := take(f, 10); len(list) > 0 {
		t.Errorf("%v before the new card has it", list)
	}
	a.receive(100)
	if list := take(f, 10); len(list) != 1 {
		t.Errorf("%v, want one", list)
	}
	if list := take(other, 10); len(list) > 0 {
		t.Errorf("%v in a VRF without routes", list)
	}
	if again := take(p.Follow(0), 3); len(again) != 3 {
		t.Errorf("a new follower is told %v, want three", again)
	}
	p.Unfollow(other)
	p.Unfollow(nil)
	if len(p.followers) != 2 {
		t.Errorf("%d followers", len(p.followers))
	}
}

// TestFollowerRandomly checks with random changes, cards and acknowledgements that
// what a follower has told, less what was deleted since, is on every card; and
// in the end all of it.
func TestFollowerRandomly(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := NewPublisher()
		cards := []*card{newCard(t, p, 1), newCard(t, p, 2), newCard(t, p, 3)}
		f := p.Follow(0)
		told := map[netip.Prefix]bool{}
		groups := []fib.Change{setGroup(1, 1), setGroup(2, 2), setGroup(3, 3)}
		must(t, p.Changes(groups))
		tell := func(look int) {
			for _, x := range take(f, look) {
				told[x] = true
			}
			for x := range told {
				for _, c := range cards {
					if !has(c.tables, x) {
						t.Fatalf("seed %d: card %d does not have %v", seed, c.id, x)
					}
				}
			}
		}
		for range 400 {
			switch c := cards[r.IntN(3)]; r.IntN(8) {
			case 0, 1, 2:
				x := setRoute(r.IntN(30), fib.GroupID(r.IntN(4)))
				must(t, p.Changes([]fib.Change{x}))
				if x.Op == fib.DeleteRoute {
					delete(told, x.Route.Prefix)
				}
			case 3:
				p.Pump()
			case 4, 5:
				c.receive(1 + r.IntN(2))
			case 6:
				tell(1 + r.IntN(4))
			case 7:
				if r.IntN(10) == 0 {
					c.reconnect()
				}
			}
		}
		drain(p, cards...)
		tell(100)
		if len(told) != p.Routes() {
			t.Errorf("seed %d: told %d of %d routes", seed, len(told), p.Routes())
		}
	}
}

// TestCardsKeepTheirRoutes: a card that comes back with its routes never loses one of
// those that are valid, also where others have just been sent a former state.
func TestCardsKeepTheirRoutes(t *testing.T) {
	p := NewPublisher()
	a, b := newCard(t, p, 1), newCard(t, p, 2)
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setGroup(2, 2), setRoute(1, 1)}))
	p.Pump()
	must(t, p.Changes([]fib.Change{setRoute(1, 0)}))
	p.Pump()
	must(t, p.Changes([]fib.Change{setRoute(1, 2), setGroup(1, 3)}))
	drain(p, a, b)
	x := setRoute(1, 1).Route.Prefix
	before := a.tables.Routes()
	a.reconnect()
	for range 20 {
		p.Pump()
		a.receive(1)
		if !has(a.tables, x) || !reflect.DeepEqual(a.tables.Routes(), before) {
			t.Fatalf("on the way: %v, before %v", a.tables.Routes(), before)
		}
	}
	// An empty card gets the same batches as the others, if they are few.
	if c := newCard(t, p, 3); c.t != nil {
		drain(p, a, b, c)
		if !reflect.DeepEqual(c.tables.Routes(), before) {
			t.Errorf("a new card: %v, want %v", c.tables.Routes(), before)
		}
	}
}

func has(tables *fibtest.Twin, x netip.Prefix) bool {
	at, _, ok := tables.Find(0, x.Addr())
	return ok && at == x
}
