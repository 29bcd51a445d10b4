package neigh

import (
	"time"

	"godwit/dataplane/header"
)

// Inherit takes a neighbour as an earlier process knew it: stale, so that it is used as it
// is and probed. One that is resolved already is left alone. It fails while the interface is down.
func (t *Table) Inherit(now time.Time, k Key, mac header.MAC) bool {
	if in := t.ifaces.Out(k.Interface); in == nil || !in.Up {
		return false
	}
	if e := t.find(now, k, false); e != nil && e.state != Permanent && e.adj.rewrite.Load() == nil {
		t.resolved(now, e, mac, Stale)
	}
	return true
}

// Pending counts the gateways of groups that are asked for.
func (t *Table) Pending() (n int) {
	for _, e := range t.entries {
		if e.pins > 0 && e.state == Incomplete {
			n++
		}
	}
	return n
}
