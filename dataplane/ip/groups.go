package ip

import (
	"net/netip"
	"sync/atomic"
	"time"

	"godwit/dataplane/neigh"
	"godwit/fib"
)

// Member is one next hop of a group as workers use it.
type Member struct {
	Out   fib.InterfaceID
	Adj   *neigh.Adjacency // nil: glean, or another card's
	Card  fib.CardID       // of Out, if it is not ours; else 0
	Gate  [16]byte         // another card's: the gateway; zero: the destination itself
	Glean bool             // the destination itself is the neighbour
}

// Group is a next-hop group as workers use it. Immutable.
type Group struct {
	Kind    fib.Kind
	one     *Member          // the only member; nil if there are several
	adj     *neigh.Adjacency // of the only member, if it has one
	buckets []*Member
}

// maxBuckets bounds the buckets of a weighted group.
const maxBuckets = 1024

// pick chooses a member by flow hash.
func (g *Group) pick(hash uint32) *Member {
	return g.buckets[uint64(hash)*uint64(len(g.buckets))>>32]
}

const pageSize = 1024

type page [pageSize]atomic.Pointer[Group]

// Groups are the next-hop groups of a card by dense index. One goroutine
// writes; workers read without locks. An old group lives as long as a
// worker looks at it (the garbage collector sees to that).
type Groups struct {
	pages atomic.Pointer[[]*page]
	card  fib.CardID
	neigh *neigh.Table
	pins  map[uint32][]*neigh.Adjacency // by index
}

// NewGroups makes an empty table; gateways are pinned in t.
func NewGroups(card fib.CardID, t *neigh.Table) *Groups {
	g := &Groups{card: card, neigh: t, pins: make(map[uint32][]*neigh.Adjacency)}
	g.pages.Store(&[]*page{})
	return g
}

// get finds a group; nil if there is none.
func (t *Groups) get(pages []*page, index uint32) *Group {
	if int(index/pageSize) >= len(pages) {
		return nil
	}
	return pages[index/pageSize][index%pageSize].Load()
}

// Set makes or replaces a group.
func (t *Groups) Set(now time.Time, index uint32, g fib.Group) {
	pages := *t.pages.Load()
	if int(index/pageSize) >= len(pages) {
		grown := append([]*page(nil), pages...)
		for int(index/pageSize) >= len(grown) {
			grown = append(grown, new(page))
		}
		t.pages.Store(&grown)
		pages = grown
	}
	var pins []*neigh.Adjacency
	ng := &Group{Kind: g.Kind}
	if g.Kind == fib.Forward {
		members := make([]*Member, len(g.NextHops))
		for i, nh := range g.NextHops {
			members[i] = t.member(now, nh)
			if a := members[i].Adj; a != nil {
				pins = append(pins, a)
			}
		}
		ng.spread(members, g.NextHops)
	}
	pages[index/pageSize][index%pageSize].Store(ng)
	t.unpin(now, index)
	if len(pins) > 0 {
		t.pins[index] = pins
	}
}

func (t *Groups) member(now time.Time, nh fib.NextHop) *Member {
	m := &Member{Out: nh.Interface, Glean: !nh.Gateway.IsValid()}
	switch {
	case nh.Interface.Card() != t.card:
		m.Card = nh.Interface.Card()
		if !m.Glean {
			m.Gate = nh.Gateway.As16()
		}
	case !m.Glean:
		m.Adj = t.neigh.Pin(now, neigh.KeyOf(nh.Interface, nh.Gateway))
	}
	return m
}

// spread fills the buckets: each member as many as its weight, in proportion.
func (g *Group) spread(members []*Member, hops []fib.NextHop) {
	if len(members) == 1 {
		g.one, g.adj = members[0], members[0].Adj
		return
	}
	total, common := 0, 0
	for _, nh := range hops {
		w := int(max(nh.Weight, 1))
		total += w
		for a := w; a != 0; common, a = a, common%a {
		}
	}
	n := total / common
	if n > maxBuckets {
		n = maxBuckets
	}
	given, seen := 0, 0 // cumulated rounding: no member is off by more than one bucket
	for i, nh := range hops {
		seen += int(max(nh.Weight, 1))
		for ; given < seen*n/total; given++ {
			g.buckets = append(g.buckets, members[i])
		}
	}
}

// Free removes a group.
func (t *Groups) Free(now time.Time, index uint32) {
	if pages := *t.pages.Load(); int(index/pageSize) < len(pages) {
		pages[index/pageSize][index%pageSize].Store(nil)
	}
	t.unpin(now, index)
}

func (t *Groups) unpin(now time.Time, index uint32) {
	for _, a := range t.pins[index] {
		t.neigh.Unpin(now, a)
	}
	delete(t.pins, index)
}

// gateway is the neighbour that a packet for dst goes to through another card.
func (m *Member) gateway(dst netip.Addr) [16]byte {
	if m.Glean {
		return dst.As16()
	}
	return m.Gate
}
