package local

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"godwit/cluster/bus"
)

// TestTableAgainstTwin compares the table with a plain list.
func TestTableAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		var twin []key
		keys := rapid.Custom(func(t *rapid.T) key {
			lower := rapid.Uint32Range(0, 8).Draw(t, "lower")
			return key{
				ref: rapid.Uint32Range(1, 4).Draw(t, "ref"),
				rng: bus.Range{Type: rapid.Uint32Range(1, 2).Draw(t, "type"), Lower: lower, Upper: lower + rapid.Uint32Range(0, 3).Draw(t, "more")},
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				if isNew := tab.add(binding{key: k}); isNew == slices.Contains(twin, k) {
					t.Fatalf("add %v: new %v", k, isNew)
				} else if isNew {
					twin = append(twin, k)
				}
			},
			"remove": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				i := slices.Index(twin, k)
				if b := tab.remove(k); (b != nil) != (i >= 0) {
					t.Fatalf("remove %v: %v", k, b)
				}
				if i >= 0 {
					twin = slices.Delete(twin, i, i+1)
				}
			},
			"": func(t *rapid.T) {
				q := keys.Draw(t, "query").rng
				var overlap, got []key
				refs := map[uint32]bool{}
				s := bus.Service{Type: q.Type, Instance: q.Lower}
				for _, k := range twin {
					if k.rng.Overlaps(q) {
						overlap = append(overlap, k)
					}
					if k.rng.Contains(s) {
						refs[k.ref] = true
					}
				}
				for _, b := range tab.overlapping(q) {
					got = append(got, b.key)
				}
				slices.SortFunc(overlap, compare)
				if !slices.Equal(got, overlap) {
					t.Fatalf("overlapping %v: %v, want %v", q, got, overlap)
				}
				first := map[uint32]int{}
				for range len(refs) { // a full round: each first once
					p := tab.pick(s)
					if len(p) != len(refs) {
						t.Fatalf("pick %v: %v, want %v", s, p, refs)
					}
					first[p[0]]++
				}
				for ref := range refs {
					if first[ref] != 1 {
						t.Fatalf("pick %v: turns %v of %v", s, first, refs)
					}
				}
			},
		})
	})
}

func TestTurnsAreBounded(t *testing.T) {
	tab := newTable()
	tab.add(binding{key: key{1, bus.All(1)}})
	tab.add(binding{key: key{2, bus.All(1)}})
	for i := range uint32(3 * maxTurns) {
		tab.pick(bus.Service{Type: 1, Instance: i})
	}
	if len(tab.turn) > maxTurns+1 {
		t.Errorf("%d turns remembered", len(tab.turn))
	}
}

func TestSubscriptionForgetsWhatCameAndWent(t *testing.T) {
	s := newSubscription(nil, bus.All(1), bus.Options{})
	event := func(up bool, ref uint32) bus.Event {
		return bus.Event{Up: up, Addr: bus.Address{Ref: ref}, Range: bus.One(1, ref)}
	}
	s.push(event(true, 1))
	s.push(event(false, 2)) // its Up was read before
	for range 100_000 {
		s.push(event(true, 3))
		s.push(event(false, 3))
	}
	s.push(event(true, 2))
	if len(s.queue) > 256 {
		t.Errorf("%d events wait", len(s.queue))
	}
	want := []bus.Event{event(true, 1), event(false, 2), event(true, 2)}
	for _, w := range want {
		if e, ok := s.pop(); !ok || e != w {
			t.Errorf("event %+v, want %+v", e, w)
		}
	}
	if e, ok := s.pop(); ok {
		t.Errorf("one more: %+v", e)
	}
}
