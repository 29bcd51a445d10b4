// Package member follows the membership of line cards in a chassis: which are
// expected where, which have joined, and when their ports may come up. It is
// pure: events in, effects out; no clock, goroutine or connection.
//
//	absent ──Joined──▶ asking ──Tables, empty──▶ joining ──Snapshot, or 15 s──▶ up
//	   ▲                  │     Tables, it has routes ────────────────────────▶ │
//	   └──────────────────┴────────────────── Left ◀────────────────────────────┘
//
// A card whose tables are empty gets its snapshot before its ports come up, so
// that it never attracts packets that it cannot forward. One that has routes
// (the routing engine has restarted, or the link to its node was lost for a
// while) goes on forwarding while it is resynchronised. What leaves, by the end
// of its process, link or node, is withdrawn at once.
package member

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"godwit/fib"
)

// SnapshotLimit is how long ports wait for the snapshot: some routes are better
// than none.
const SnapshotLimit = 15 * time.Second

// State is where a card is.
type State uint8

// States of cards.
const (
	Absent  State = iota
	Asking        // connected; what it has is not known yet
	Joining       // the snapshot is on its way, its ports are down
	Up
)

var stateNames = [...]string{"absent", "asking", "joining", "up"}

func (s State) String() string { return stateNames[min(int(s), len(stateNames)-1)] }

// Do is what an Effect asks for.
type Do uint8

// Effects.
const (
	Hold     Do = iota // configure the card without its ports
	Open               // configure the card whole
	Withdraw           // take its interfaces out of all next-hop groups
	Late               // for the log: Open follows though the snapshot is not in
)

// Effect is something to be done for a card.
type Effect struct {
	Do   Do
	Card fib.CardID
}

// Status is what is known of a card.
type Status struct {
	Card   fib.CardID
	Node   uint32 // where it is expected; 0: in a chassis of one machine
	State  State
	Since  time.Time     // of State
	Joins  int           // how often it has joined
	Reason string        // why it left last
	Took   time.Duration // from Joined to ports up, the last time
}

// Errors of Joined.
var (
	ErrUnknown = errors.New("no such line card is configured")
	ErrNode    = errors.New("line card is on another node than configured")
	ErrTwice   = errors.New("line card has joined already")
)

// Table follows the cards of a chassis. It belongs to one event loop.
type Table struct {
	cards map[fib.CardID]*entry
}

type entry struct {
	Status
	joined time.Time
}

// New returns a table that expects nobody.
func New() *Table { return &Table{cards: map[fib.CardID]*entry{}} }

// Expect sets which cards there shall be, and their nodes. A card that is not
// expected any more, or elsewhere, counts as left: its effects say so.
func (t *Table) Expect(now time.Time, nodes map[fib.CardID]uint32) (out []Effect) {
	for _, id := range slices.Sorted(maps.Keys(t.cards)) {
		e := t.cards[id]
		node, ok := nodes[id]
		if ok && node == e.Node {
			continue
		}
		out = append(out, t.Left(now, id, "not configured any more")...)
		delete(t.cards, id)
	}
	for id, node := range nodes {
		if t.cards[id] == nil {
			t.cards[id] = &entry{Status: Status{Card: id, Node: node, Since: now}}
		}
	}
	return out
}

// Joined takes a card that has connected from a node.
func (t *Table) Joined(now time.Time, id fib.CardID, node uint32) error {
	e := t.cards[id]
	switch {
	case e == nil:
		return fmt.Errorf("line card %d of node %d: %w", id, node, ErrUnknown)
	case e.Node != node:
		return fmt.Errorf("line card %d of node %d: %w (%d)", id, node, ErrNode, e.Node)
	case e.State != Absent:
		return fmt.Errorf("line card %d of node %d: %w", id, node, ErrTwice)
	}
	e.joined = now
	e.Joins++
	e.set(now, Asking)
	return nil
}

func (e *entry) set(now time.Time, s State) { e.State, e.Since = s, now }

// Tables tells whether the card that has joined is without routes.
func (t *Table) Tables(now time.Time, id fib.CardID, empty bool) []Effect {
	e := t.cards[id]
	if e == nil || e.State != Asking {
		return nil
	}
	if !empty {
		return e.open(now)
	}
	e.set(now, Joining)
	return []Effect{{Hold, id}}
}

func (e *entry) open(now time.Time) []Effect {
	e.set(now, Up)
	e.Took = now.Sub(e.joined)
	return []Effect{{Open, e.Card}}
}

// Snapshot tells that the card has everything that there was when it joined.
func (t *Table) Snapshot(now time.Time, id fib.CardID) []Effect {
	if e := t.cards[id]; e != nil && e.State == Joining {
		return e.open(now)
	}
	return nil
}

// Left takes the end of a card: of its process, or the link to its node.
func (t *Table) Left(now time.Time, id fib.CardID, reason string) []Effect {
	e := t.cards[id]
	if e == nil || e.State == Absent {
		return nil
	}
	e.Reason = reason
	e.set(now, Absent)
	return []Effect{{Withdraw, id}}
}

// Tick opens the ports of cards that have waited for too long. It is called
// every few seconds.
func (t *Table) Tick(now time.Time) (out []Effect) {
	for _, id := range slices.Sorted(maps.Keys(t.cards)) {
		if e := t.cards[id]; e.State == Joining && now.Sub(e.joined) >= SnapshotLimit {
			out = append(append(out, Effect{Late, id}), e.open(now)...)
		}
	}
	return out
}

// State is the state of a card; Absent if it is not expected.
func (t *Table) State(id fib.CardID) State {
	if e := t.cards[id]; e != nil {
		return e.State
	}
	return Absent
}

// Waiting tells whether a card waits for its snapshot.
func (t *Table) Waiting(id fib.CardID) bool { return t.State(id) == Joining }

// List returns all cards that are expected, by number.
func (t *Table) List() []Status {
	list := make([]Status, 0, len(t.cards))
	for _, e := range t.cards {
		list = append(list, e.Status)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Card, b.Card) })
	return list
}
