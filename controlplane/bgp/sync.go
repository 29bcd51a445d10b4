package bgp

import (
	"net/netip"
	"slices"
	"time"

	"godwit/cluster/wire"
)

// Times of the wait for the peers' initial tables.
const (
	// refusedWait is how long a neighbour that refused the session may still
	// change its mind.
	refusedWait = 10 * time.Second
	// quietTime without a change means the end of the table of a peer that does
	// not mark it.
	quietTime = 2 * time.Second
	// syncTick is how often quiet and late peers are looked for.
	syncTick = 500 * time.Millisecond
)

// initialSync knows which peers' initial tables are still awaited. It has no
// clock: time arrives as an argument.
type initialSync struct {
	waiting  map[netip.Addr]*awaited
	deadline time.Time
	done     bool
}

// awaited is one peer whose table is not in yet.
type awaited struct {
	since    time.Time // established; zero: not yet
	graceful bool
	families []string // End-of-RIB awaited
	giveUp   time.Time
}

// begin starts the wait for all neighbours that are not shut down.
func (y *initialSync) begin(cfg *wire.SpeakerConfig, now time.Time) {
	y.waiting = map[netip.Addr]*awaited{}
	y.deadline = now.Add(deferral(cfg))
	y.done = false
	for _, p := range cfg.Neighbors {
		if !p.Shutdown {
			y.waiting[p.Address] = &awaited{giveUp: y.deadline}
		}
	}
}

// keep drops the peers that are not configured any more.
func (y *initialSync) keep(cfg *wire.SpeakerConfig) {
	for a := range y.waiting {
		if !slices.ContainsFunc(cfg.Neighbors, func(p wire.SpeakerPeer) bool { return p.Address == a && !p.Shutdown }) {
			delete(y.waiting, a)
		}
	}
}

// news takes over a change of a session; families are the configured ones.
func (y *initialSync) news(n peerNews, families []string, now time.Time) {
	w := y.waiting[n.address]
	switch {
	case w == nil:
	case n.state == established:
		if !w.since.IsZero() {
			return
		}
		w.since, w.graceful = now, n.graceful
		w.giveUp = y.deadline
		w.families = slices.DeleteFunc(slices.Clone(families), func(f string) bool {
			// Without the multiprotocol capability, a peer speaks IPv4 only.
			return !slices.Contains(n.families, f) && (len(n.families) > 0 || f != ipv4)
		})
		if len(w.families) == 0 {
			delete(y.waiting, n.address)
		}
	default:
		w.since = time.Time{}
		if n.limited {
			delete(y.waiting, n.address)
		}
		if n.refused && now.Add(refusedWait).Before(w.giveUp) {
			w.giveUp = now.Add(refusedWait)
		}
	}
}

// eor takes over an End-of-RIB.
func (y *initialSync) eor(peer netip.Addr, family string) {
	w := y.waiting[peer]
	if w == nil {
		return
	}
	w.families = slices.DeleteFunc(w.families, func(f string) bool { return f == family })
	if len(w.families) == 0 {
		delete(y.waiting, peer)
	}
}

// tick gives up late peers, takes quiet ones as complete, and tells whether
// nothing is awaited any more.
func (y *initialSync) tick(now, lastChange time.Time) bool {
	for a, w := range y.waiting {
		if !now.Before(w.giveUp) {
			delete(y.waiting, a)
			continue
		}
		if !w.since.IsZero() && !w.graceful && now.Sub(w.since) >= quietTime && now.Sub(lastChange) >= quietTime {
			delete(y.waiting, a)
		}
	}
	y.done = y.done || len(y.waiting) == 0
	return y.done
}
