// Package fibcast carries the changes of forwarding tables to many line cards
// by one multicast of the bus, beside their sessions.
//
//	Publisher ── Cast ──▶ Sender: queue ──▶ bus.Socket ══▶ {104, first card, last card}
//	                      (bounded)                          ║
//	                          Subscriber ◀── loop ◀── Receiver: from the routing engine? digest
//
// A multicast is data only: what is to be applied, and in which order, is said by
// the card's session, which is authenticated and names each batch by its
// digest (fibsync). So nothing that comes here need be believed, and what is
// lost is asked for there.
//
// Promises: Sender.Cast never blocks; multicasts leave in the order of Cast. A
// receiver takes those only whose sender has the address that a session gave
// it, which the bus vouches for.
//
// Tasks: one goroutine for each Sender and each Receiver.
package fibcast

import (
	"errors"

	"godwit/cluster/bus"
)

const (
	// LeastBytes is from where on changes go by multicast: shorter ones are cheaper in the
	// sessions, where they share bus messages with what else there is.
	LeastBytes = 4 << 10
	// queued is how many multicasts may wait for the bus: those of a window, four times.
	queued = 64
	// maxAllowed bounds the senders of a receiver: routing engines with a session.
	maxAllowed = 16
)

// ErrSenders tells that a receiver has too many senders.
var ErrSenders = errors.New("too many senders of route changes")

// Worth tells whether a multicast on the bus costs less than a copy for each
// card: whether it crosses to a node once, whatever the number of cards there.
func Worth(b bus.Bus) bool {
	m, ok := b.(bus.Multicaster)
	return ok && m.MulticastsOnce()
}
