package neigh

import (
	"cmp"
	"slices"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
)

// SetInterfaces follows a change of the interfaces: adjacencies take the new
// MAC, tag and MTU; neighbours of a lost interface go, gateways in use stay down.
func (t *Table) SetInterfaces(now time.Time, ifaces *ethernet.Table) {
	old := t.ifaces
	t.ifaces = ifaces
	for _, e := range t.entries {
		if e.pins == 0 && same(old.Out(e.adj.Interface), ifaces.Out(e.adj.Interface)) {
			continue
		}
		if in := ifaces.Out(e.adj.Interface); (in == nil || !in.Up) && e.pins == 0 && e.state != Permanent {
			t.remove(e)
			continue
		}
		if in := ifaces.Out(e.adj.Interface); (in == nil || !in.Up) && e.state != Permanent {
			t.unqueue(e)
			e.mac = header.MAC{}
			t.enter(e, FailedState, now)
			t.stop(e)
		}
		t.follow(e)
		if e.pins > 0 {
			t.gateway(now, e)
		}
	}
}

// same tells that an interface's neighbours need not follow it.
func same(a, b *ethernet.Entry) bool {
	return a != nil && b != nil && a.Up == b.Up && a.MAC == b.MAC && a.VLAN == b.VLAN && a.MTU == b.MTU &&
		a.Port == b.Port && a.VRF == b.VRF
}

// SetStatic replaces the configured neighbours.
func (t *Table) SetStatic(now time.Time, list []Static) {
	want := make(map[Key]header.MAC, len(list))
	for _, s := range list {
		want[KeyOf(s.Interface, s.Address)] = s.MAC
	}
	for k := range t.static {
		if _, stays := want[k]; stays {
			continue
		}
		if e := t.entries[k]; e != nil && e.state == Permanent {
			e.mac = header.MAC{}
			t.enter(e, FailedState, now)
			t.follow(e)
		}
	}
	t.static = want
	for k, mac := range want {
		e := t.find(now, k, true)
		if e.state != Permanent || e.mac != mac {
			t.resolved(now, e, mac, Permanent)
		}
	}
}

func (t *Table) entry(e *entry) Entry {
	s := Entry{Interface: e.adj.Interface, Address: e.adj.Addr(), MAC: e.mac, State: e.state, Since: e.since}
	if in := t.ifaces.Out(s.Interface); in != nil {
		s.VRF = in.VRF
	}
	return s
}

// Get finds one neighbour.
func (t *Table) Get(k Key) (Entry, bool) {
	e := t.entries[k]
	if e == nil {
		return Entry{}, false
	}
	return t.entry(e), true
}

// List lists all neighbours that were asked for or heard of, by interface and address.
func (t *Table) List() []Entry {
	list := make([]Entry, 0, len(t.entries))
	for _, e := range t.entries {
		list = append(list, t.entry(e))
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Address.Compare(b.Address))
	})
	return list
}

// Clear forgets the neighbours that match, but configured ones, and tells how many.
func (t *Table) Clear(now time.Time, match func(Entry) bool) (n int) {
	for _, e := range t.entries {
		if e.state == Permanent || !match(t.entry(e)) {
			continue
		}
		n++
		if e.pins == 0 {
			t.remove(e)
			continue
		}
		t.unqueue(e)
		e.mac = header.MAC{}
		t.enter(e, FailedState, now)
		t.stop(e)
		t.gateway(now, e) // at once: the operator wants it asked again
	}
	return n
}
