package rib

import (
	"cmp"
	"encoding/binary"
	"slices"

	"godwit/fib"
)

// set is a next-hop set: what one or many routes said, interned, with the
// group that the FIB has for it while routes are installed with it.
type set struct {
	vrf     *vrf
	id      string // in Table.setIndex
	kind    fib.Kind
	members []member
	tracks  []uint32  // hops that have to lead somewhere for the set to be usable
	usable  bool      // step 1 of the decision
	dirty   bool      // in Table.dirtySets
	idling  bool      // in Table.idleSets
	walking bool      // in Table.flips
	is      fib.Group // content as the FIB has it or shall have it; ID 0: not in the FIB
	users   uint32    // first candidate
	cursor  uint32    // next candidate to decide again, while walking
	held    int       // references besides candidates: attrs, and hands
	routes  int       // nodes installed with it
}

// member is one next hop of a set and its weight.
type member struct {
	hop    uint32
	weight uint8
	backup bool // used while no other member leads anywhere
}

// intern finds or makes a set and holds it: the caller releases it. members
// is the caller's again afterwards.
func (t *Table) intern(v *vrf, kind fib.Kind, members []member, tracks []uint32) uint32 {
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.hop, b.hop) })
	slices.Sort(tracks)
	tracks = slices.Compact(tracks)
	b := binary.BigEndian.AppendUint32(t.scratch[:0], uint32(v.id))
	b = append(b, byte(kind), byte(len(members)))
	for _, m := range members {
		b = binary.BigEndian.AppendUint32(b, m.hop)
		b = append(b, m.weight, byte(order(m.backup)))
	}
	for _, h := range tracks {
		b = binary.BigEndian.AppendUint32(b, h)
	}
	t.scratch = b
	if i, ok := t.setIndex[string(b)]; ok {
		t.sets.at(i).held++
		return i
	}
	i, s := t.sets.get()
	*s = set{vrf: v, id: string(b), kind: kind, members: slices.Clone(members), tracks: slices.Clone(tracks), held: 1}
	t.setIndex[s.id] = i
	for _, m := range members {
		h := t.hops.at(m.hop)
		h.sets = append(h.sets, i)
	}
	for _, x := range tracks {
		h := t.hops.at(x)
		h.sets = append(h.sets, i)
	}
	if kind == fib.Forward || len(tracks) > 0 {
		t.markSet(i, s)
	} else {
		s.usable, s.is.Kind = true, kind
	}
	return i
}

// hold takes a reference to a set besides its candidates'.
func (t *Table) hold(i uint32) { t.sets.at(i).held++ }

// release gives it back.
func (t *Table) release(i uint32) {
	s := t.sets.at(i)
	if s.held--; s.held == 0 {
		t.idle(i, s)
	}
}

// idle notes a set that may be unused.
func (t *Table) idle(i uint32, s *set) {
	if !s.idling {
		s.idling = true
		t.idleSets = append(t.idleSets, i)
	}
}

// releaseIdle deletes the groups that no route uses, and the sets that nobody
// uses. It runs behind the decisions: deletes come after.
func (t *Table) releaseIdle() {
	for len(t.idleSets) > 0 {
		list := t.idleSets
		t.idleSets = nil
		for _, i := range list {
			s := t.sets.at(i)
			s.idling = false
			if s.routes == 0 && s.is.ID != 0 {
				t.out = append(t.out, fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: s.is.ID}})
				s.is.ID = 0
				t.groups--
			}
			if s.routes == 0 && s.users == 0 && s.held == 0 && !s.walking {
				t.dropSet(i, s)
			}
		}
	}
}

func (t *Table) dropSet(i uint32, s *set) {
	delete(t.setIndex, s.id)
	for _, m := range s.members {
		t.leave(m.hop, i)
	}
	for _, h := range s.tracks {
		t.leave(h, i)
	}
	t.sets.put(i)
}

func (t *Table) markSet(i uint32, s *set) {
	if !s.dirty {
		s.dirty = true
		t.dirtySets = append(t.dirtySets, i)
	}
}

// refresh makes a set's content from its next hops, after they are resolved.
func (t *Table) refresh(i uint32, s *set) {
	s.dirty = false
	kind, hops := t.content(s)
	usable := kind != fib.Forward || len(hops) > 0
	if !usable {
		kind = fib.Blackhole // until its routes are decided again
	}
	if usable == s.usable && kind == s.is.Kind && slices.Equal(hops, s.is.NextHops) {
		return
	}
	s.is.Kind, s.is.NextHops = kind, hops
	if s.is.ID != 0 {
		t.out = append(t.out, fib.Change{Op: fib.SetGroup, Group: s.is})
	}
	if usable != s.usable {
		s.usable = usable
		s.cursor = s.users
		if !s.walking {
			s.walking = true
			t.flips = append(t.flips, i)
		}
	}
}

// content joins what a set's next hops resolve to: those that forward; else
// those that discard. Nothing, if something tracked is down.
func (t *Table) content(s *set) (fib.Kind, []fib.NextHop) {
	for _, x := range s.tracks {
		if len(t.hops.at(x).leaves) == 0 {
			return fib.Forward, nil
		}
	}
	if s.kind != fib.Forward {
		return s.kind, nil
	}
	var m merger
	kind := fib.Forward
	for _, x := range s.members {
		h := t.hops.at(x.hop)
		switch {
		case len(h.leaves) > 0:
			m.add(h.leaves, x.weight, x.backup)
		case h.kind == fib.Blackhole:
			kind = fib.Blackhole
		case h.kind == fib.Reject && kind == fib.Forward:
			kind = fib.Reject
		}
	}
	if hops := m.hops(); len(hops) > 0 {
		return fib.Forward, hops
	}
	return kind, nil
}

// runFlips decides the routes of sets that became usable or unusable.
func (t *Table) runFlips(budget *int) {
	for len(t.flips) > 0 && *budget > 0 {
		i := t.flips[0]
		s := t.sets.at(i)
		for s.cursor != 0 && *budget > 0 {
			c := t.cands.at(s.cursor)
			s.cursor = c.setNext
			t.decide(t.home(s, c), c.node, false)
			*budget--
		}
		if s.cursor == 0 {
			s.walking = false
			t.idle(i, s)
			t.flips = t.flips[1:]
		}
	}
	if len(t.flips) == 0 {
		t.flips = nil
	}
}
