package rib

import (
	"net/netip"
	"time"

	"godwit/fib"
)

// RouteChange is one change of a prefix in the FIB.
type RouteChange struct {
	Time   time.Time // of the Apply that made it, as SetTime told
	VRF    fib.VRF
	Prefix netip.Prefix
	Old    Installed
	New    Installed
}

// Installed is what forwards a prefix; Protocol 0: nothing.
type Installed struct {
	Protocol Protocol
	Origin   fib.VRF // the VRF of the prefix, or the one that it is leaked from
	Group    fib.GroupID
}

// history is a ring of changes.
type history struct {
	ring []RouteChange
	n    uint64 // changes ever
	now  time.Time
}

// SetTime tells the time of the Apply calls that follow, for the change log.
func (t *Table) SetTime(now time.Time) { t.hist.now = now }

func (h *history) add(c RouteChange) {
	if len(h.ring) > 0 {
		c.Time = h.now
		h.ring[h.n%uint64(len(h.ring))] = c
		h.n++
	}
}

// Changes lists the changes of prefixes that the log still has, the newest
// first, as far as keep wants them and at most limit; all is how many changes
// there ever were.
func (t *Table) Changes(keep func(*RouteChange) bool, limit int) (list []RouteChange, all uint64) {
	h := &t.hist
	for i := h.n; i > 0 && h.n-i < uint64(len(h.ring)) && len(list) < limit; i-- {
		if c := &h.ring[(i-1)%uint64(len(h.ring))]; keep == nil || keep(c) {
			list = append(list, *c)
		}
	}
	return list, h.n
}
