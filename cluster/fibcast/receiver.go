package fibcast

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"godwit/cluster/bus"
	"godwit/cluster/fibsync"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/fib"
)

// Receiver is a line card's side.
type Receiver struct {
	sock   bus.Socket
	source *event.Source

	foreign, malformed atomic.Uint64

	mu      sync.Mutex
	allowed map[bus.Address]int // sessions
}

// Receive binds the card's instance on the bus. f runs on the loop for each
// multicast of a sender that is allowed; ended once if no more come, because the bus ended.
func Receive(h *event.Handler, b bus.Bus, card fib.CardID, f func(fibsync.Cast), ended func(error)) (*Receiver, error) {
	sock, err := b.Socket(bus.Of(bus.RDM))
	if err != nil {
		return nil, fmt.Errorf("receive route changes: %w", err)
	}
	if err := sock.Bind(bus.One(bus.TypeFIB, uint32(card))); err != nil {
		return nil, errors.Join(fmt.Errorf("receive route changes: %w", err), sock.Close())
	}
	r := &Receiver{sock: sock, allowed: map[bus.Address]int{}}
	r.source = event.Feed(h, "multicasts", r.next, func() { sock.Close() }, f, ended)
	return r, nil
}

// Allow takes multicasts from the address, until as many calls of Disallow.
func (r *Receiver) Allow(from bus.Address) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allowed[from] == 0 && len(r.allowed) >= maxAllowed {
		return ErrSenders
	}
	r.allowed[from]++
	return nil
}

// Disallow ends what Allow began.
func (r *Receiver) Disallow(from bus.Address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allowed[from]--; r.allowed[from] <= 0 {
		delete(r.allowed, from)
	}
}

func (r *Receiver) known(from bus.Address) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allowed[from] > 0
}

// next waits for a multicast of a sender that is allowed, and makes its digest, away from
// the loop.
func (r *Receiver) next() (fibsync.Cast, error) {
	for {
		d, err := r.sock.Recv()
		if err != nil {
			return fibsync.Cast{}, err
		}
		if d.Code != bus.OK || !r.known(d.From) {
			r.foreign.Add(1)
			continue
		}
		serial, changes, err := wire.DecodeFIBCast(d.Data)
		if err != nil {
			r.malformed.Add(1)
			continue
		}
		return fibsync.NewCast(serial, changes), nil
	}
}

// Count adds what the receiver has left out.
func (r *Receiver) Count(st *wire.FIBCastStats) {
	st.Foreign, st.Malformed = r.foreign.Load(), r.malformed.Load()
}

// Close ends reception.
func (r *Receiver) Close() { r.source.Close() }
