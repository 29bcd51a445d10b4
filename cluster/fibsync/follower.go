package fibsync

import (
	"net/netip"
	"slices"

	"godwit/fib"
)

// Follower is a place in the list of routes behind which all cards are: it tells
// the routes of a VRF that every card has acknowledged. A route that changes is told
// again; of one that goes it says nothing, whoever deletes it knows.
type Follower struct {
	p    *Publisher
	vrf  fib.VRF
	next uint32 // record to look at next, 0: at the tail
	seen uint64 // version of the last record looked at
}

// Follow starts a follower with all routes of a VRF that there are.
func (p *Publisher) Follow(vrf fib.VRF) *Follower {
	f := &Follower{p: p, vrf: vrf, next: p.table.head}
	p.followers = append(p.followers, f)
	return f
}

// Unfollow ends a follower; nil does nothing.
func (p *Publisher) Unfollow(f *Follower) {
	p.followers = slices.DeleteFunc(p.followers, func(o *Follower) bool { return o == f })
}

// Next looks at up to so many routes of all VRFs, and returns those of its VRF that
// all cards have acknowledged by now. More: there are others to look at.
func (f *Follower) Next(look int) (list []netip.Prefix, more bool) {
	done := f.p.acknowledged()
	for ; f.next != 0; look-- {
		r := f.p.table.at(f.next)
		if r.version > done {
			return list, false
		}
		if look == 0 {
			return list, true
		}
		f.next, f.seen = r.next, r.version
		if r.group != 0 && r.vrf == uint32(f.vrf) {
			list = append(list, r.prefix())
		}
	}
	return list, false
}

// leave is called before a record, last changed in version was, leaves its
// place in the list.
func (f *Follower) leave(i uint32, was uint64) {
	if was > f.seen && f.next == i {
		f.next = f.p.table.at(i).next
	}
}

// enter is called after a record came to the tail.
func (f *Follower) enter(i uint32) {
	if f.next == 0 {
		f.next = i
	}
}

// acknowledged is the version up to which all cards have acknowledged the
// list; 0 without cards.
func (p *Publisher) acknowledged() uint64 {
	least := uint64(0)
	first := true
	for _, s := range p.streams {
		if first || s.done < least {
			least, first = s.done, false
		}
	}
	return least
}

// mark is a batch that is on its way: how far into the list it led.
type mark struct {
	seq     uint64
	version uint64
	b       *batch // of one that was named only, in case the card asks for it
	asked   askState
}

// askState is whether a card has asked for a batch that was named.
type askState uint8

const (
	notAsked askState = iota
	asked             // and its session had no room yet
	answered
)

// reached notes up to which version the card has acknowledged the list.
func (s *Stream) reached(seq uint64) {
	n := 0
	for ; n < len(s.marks) && s.marks[n].seq <= seq; n++ {
		m := &s.marks[n]
		s.done = m.version
		if m.b != nil && m.asked == notAsked {
			s.points = max(0, s.points-1)
		}
	}
	s.marks = slices.Delete(s.marks, 0, n)
}
