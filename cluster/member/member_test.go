package member

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"godwit/fib"
)

var start = time.Unix(1_700_000_000, 0)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func expect(t *testing.T, what string, got []Effect, want ...Effect) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: effects %v, want %v", what, got, want)
	}
}

func table(t *testing.T) *Table {
	m := New()
	expect(t, "expect", m.Expect(start, map[fib.CardID]uint32{1: 1, 2: 2}))
	return m
}

func TestPortsComeUpBehindTheSnapshot(t *testing.T) {
	m := table(t)
	if err := m.Joined(at(1), 2, 2); err != nil {
		t.Fatal(err)
	}
	expect(t, "snapshot before its tables are known", m.Snapshot(at(1), 2))
	expect(t, "empty tables", m.Tables(at(2), 2, true), Effect{Hold, 2})
	if !m.Waiting(2) || m.Waiting(1) {
		t.Error("card 2 should wait, card 1 should not")
	}
	expect(t, "its tables again", m.Tables(at(2), 2, true))
	expect(t, "tick", m.Tick(at(3)))
	expect(t, "snapshot", m.Snapshot(at(4), 2), Effect{Open, 2})
	expect(t, "snapshot again", m.Snapshot(at(5), 2))
	want := Status{Card: 2, Node: 2, State: Up, Since: at(4), Joins: 1, Took: 3 * time.Second}
	if got := m.List()[1]; got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

func TestACardWithRoutesGoesOn(t *testing.T) {
	m := table(t)
	if err := m.Joined(at(1), 1, 1); err != nil {
		t.Fatal(err)
	}
	expect(t, "it has routes", m.Tables(at(1), 1, false), Effect{Open, 1})
	expect(t, "the link is lost", m.Left(at(9), 1, "no node"), Effect{Withdraw, 1})
	expect(t, "once", m.Left(at(9), 1, "no port"))
	if s := m.List()[0]; s.State != Absent || s.Reason != "no node" || s.Since != at(9) {
		t.Errorf("%+v", s)
	}
	expect(t, "late news", m.Tables(at(9), 1, true))
	expect(t, "late news", m.Snapshot(at(9), 1))
	if err := m.Joined(at(10), 1, 1); err != nil {
		t.Errorf("back: %v", err)
	}
	if s := m.List()[0]; s.Joins != 2 || s.State != Asking {
		t.Errorf("%+v", s)
	}
}

func TestASnapshotThatNeverEnds(t *testing.T) {
	m := table(t)
	if err := m.Joined(start, 1, 1); err != nil {
		t.Fatal(err)
	}
	m.Tables(at(1), 1, true)
	expect(t, "before", m.Tick(start.Add(SnapshotLimit-1)))
	expect(t, "behind", m.Tick(start.Add(SnapshotLimit)), Effect{Late, 1}, Effect{Open, 1})
	expect(t, "again", m.Tick(start.Add(2*SnapshotLimit)))
}

func TestWhoMayNotJoin(t *testing.T) {
	m := table(t)
	if err := m.Joined(start, 9, 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if err := m.Joined(start, 2, 1); !errors.Is(err, ErrNode) {
		t.Errorf("from another node: %v", err)
	}
	if err := m.Joined(start, 2, 2); err != nil {
		t.Fatal(err)
	}
	if err := m.Joined(start, 2, 2); !errors.Is(err, ErrTwice) {
		t.Errorf("twice: %v", err)
	}
	for _, s := range m.List() {
		if s.Joins != int(s.Card)-1 {
			t.Errorf("%+v", s)
		}
	}
}

func TestNotExpectedAnyMore(t *testing.T) {
	m := table(t)
	for _, c := range []fib.CardID{1, 2} {
		if err := m.Joined(start, c, uint32(c)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "2 moves, 1 stays", m.Expect(at(1), map[fib.CardID]uint32{1: 1, 2: 3}), Effect{Withdraw, 2})
	if m.State(1) != Asking || m.State(2) != Absent {
		t.Errorf("states %v, %v", m.State(1), m.State(2))
	}
	expect(t, "all go", m.Expect(at(2), nil), Effect{Withdraw, 1})
	if len(m.List()) != 0 || m.State(1) != Absent {
		t.Errorf("left: %v", m.List())
	}
}

// TestAnyOrder: whatever comes in whatever order, ports are never opened twice
// for one join, nor of a card that is absent, and each join is withdrawn once.
func TestAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	m := table(t)
	joined, opened := map[fib.CardID]bool{}, map[fib.CardID]bool{}
	now := start
	for range 20_000 {
		now = now.Add(time.Duration(rng.IntN(3)) * time.Second)
		id := fib.CardID(1 + rng.IntN(2))
		var out []Effect
		switch rng.IntN(6) {
		case 0:
			if err := m.Joined(now, id, uint32(id)); (err == nil) == joined[id] {
				t.Fatalf("seed %d: joined %v: %v", seed, joined[id], err)
			}
			joined[id] = true
		case 1:
			out = m.Tables(now, id, rng.IntN(2) == 0)
		case 2:
			out = m.Snapshot(now, id)
		case 3:
			out = m.Left(now, id, "x")
		case 4:
			out = m.Tick(now)
		case 5:
			out = m.Expect(now, map[fib.CardID]uint32{1: 1, 2: 2})
		}
		for _, fx := range out {
			switch fx.Do {
			case Hold, Open:
				if !joined[fx.Card] || opened[fx.Card] {
					t.Fatalf("seed %d: %v, joined %v, opened %v", seed, fx, joined[fx.Card], opened[fx.Card])
				}
				opened[fx.Card] = fx.Do == Open
			case Withdraw:
				if !joined[fx.Card] {
					t.Fatalf("seed %d: withdrawn without having joined", seed)
				}
				joined[fx.Card], opened[fx.Card] = false, false
			}
		}
	}
}

func TestStateNames(t *testing.T) {
	for s, want := range map[State]string{Absent: "absent", Asking: "asking", Joining: "joining", Up: "up"} {
		if s.String() != want {
			t.Errorf("%d is %q", s, s)
		}
	}
}
