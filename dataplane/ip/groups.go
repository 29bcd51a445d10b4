package ip

import (
	"net/netip"
	"sync/atomic"
	"time"

	"godwit/dataplane/ethernet"
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
	// Backup members get packets only while no other member lives.
	Backup bool
}

// Group is a next-hop group as workers use it. Immutable: a member that dies or
// comes back makes a new one.
type Group struct {
	Kind    fib.Kind
	one     *Member          // the only one with packets; nil if there are several
	adj     *neigh.Adjacency // of the only member, if it has one
	members []*Member
	table   []uint8 // bucket to member; 256 or 1,024 of them
}

// pick chooses a member by the first bits of the flow hash.
func (g *Group) pick(hash uint32) *Member {
	return g.members[g.table[uint64(hash)*uint64(len(g.table))>>32]]
}

// One is the only member with packets, nil if there are several or the group does
// not forward.
func (g *Group) One() *Member { return g.one }

// Members are the members that Table refers to.
func (g *Group) Members() []*Member { return g.members }

// Table is the buckets, by member.
func (g *Group) Table() []uint8 { return g.table }

// Choose is the member of a Forward group that a flow goes to.
func (g *Group) Choose(hash uint32) *Member {
	if g.one != nil {
		return g.one
	}
	return g.pick(hash)
}

// Gateway is the member's neighbour; invalid if it is the destination itself.
func (m *Member) Gateway() netip.Addr {
	switch {
	case m.Glean:
		return netip.Addr{}
	case m.Adj != nil:
		return m.Adj.Addr()
	}
	return netip.AddrFrom16(m.Gate).Unmap()
}

const pageSize = 1024

type page [pageSize]atomic.Pointer[Group]

// Groups are the next-hop groups of a card by dense index. One goroutine
// writes; workers read without locks. An old group lives as long as a
// worker looks at it (the garbage collector sees to that).
//
// A member whose port is down or whose gateway does not answer gets no packets
// while another member is alive; the flows of the others stay where they are.
// The card does so by itself; the routing engine's new group comes later. Backups
// take over when no other member lives, and hand back when one does.
type Groups struct {
	pages    atomic.Pointer[[]*page]
	card     fib.CardID
	neigh    *neigh.Table
	ifaces   *ethernet.Table
	plans    map[uint32]*plan                         // by index; Forward groups
	byAdj    map[*neigh.Adjacency]map[uint32]struct{} // groups of several members by gateway
	byOut    map[fib.InterfaceID]map[uint32]struct{}  // ... by interface of this card
	switches uint64                                   // groups made anew because a member died or came back
	mirror   func(index uint32, g *Group)
}

// plan is a group as the routing engine wants it.
type plan struct {
	members     []*Member
	dead        []bool   // members as last published
	main, spare *buckets // primary members and backups; nil: none, or a single member
}

// NewGroups makes an empty table; gateways are pinned in t.
func NewGroups(card fib.CardID, t *neigh.Table) *Groups {
	none, _ := ethernet.NewTable(card, nil, ethernet.NewSlots())
	g := &Groups{card: card, neigh: t, ifaces: none, plans: make(map[uint32]*plan),
		byAdj: make(map[*neigh.Adjacency]map[uint32]struct{}), byOut: make(map[fib.InterfaceID]map[uint32]struct{})}
	g.pages.Store(&[]*page{})
	t.Watch(g.gatewayChanged)
	return g
}

// get finds a group; nil if there is none.
func (t *Groups) get(pages []*page, index uint32) *Group {
	if int(index/pageSize) >= len(pages) {
		return nil
	}
	return pages[index/pageSize][index%pageSize].Load()
}

// Get finds a group; nil if there is none.
func (t *Groups) Get(index uint32) *Group { return t.get(*t.pages.Load(), index) }

func (t *Groups) publish(index uint32, g *Group) {
	pages := *t.pages.Load()
	if int(index/pageSize) >= len(pages) {
		grown := append([]*page(nil), pages...)
		for int(index/pageSize) >= len(grown) {
			grown = append(grown, new(page))
		}
		t.pages.Store(&grown)
		pages = grown
	}
	pages[index/pageSize][index%pageSize].Store(g)
	if t.mirror != nil {
		t.mirror(index, g)
	}
}

// SetMirror names the function that is told each group, now and when it changes; nil: it is
// gone.
func (t *Groups) SetMirror(f func(index uint32, g *Group)) {
	t.mirror = f
	for i, p := range *t.pages.Load() {
		for k := range p {
			if g := p[k].Load(); g != nil {
				f(uint32(i*pageSize+k), g)
			}
		}
	}
}

// Set makes or replaces a group.
func (t *Groups) Set(now time.Time, index uint32, g fib.Group) {
	old := t.plans[index]
	if g.Kind != fib.Forward {
		t.publish(index, &Group{Kind: g.Kind})
		t.forget(now, index, old)
		return
	}
	p := &plan{members: make([]*Member, len(g.NextHops)), dead: make([]bool, len(g.NextHops))}
	for i, nh := range g.NextHops {
		p.members[i] = t.member(now, nh)
	}
	if len(p.members) > 1 {
		p.share(g.NextHops, old)
	}
	for i, m := range p.members {
		p.dead[i] = t.dead(m)
	}
	t.publish(index, p.group())
	t.forget(now, index, old)
	t.plans[index] = p
	t.watch(index, p)
}

// watch notes on what the life of a group's members depends.
func (t *Groups) watch(index uint32, p *plan) {
	if len(p.members) < 2 {
		return
	}
	for _, m := range p.members {
		if m.Adj != nil {
			note(t.byAdj, m.Adj, index)
		}
		if m.Card == 0 {
			note(t.byOut, m.Out, index)
		}
	}
}

func note[K comparable](m map[K]map[uint32]struct{}, k K, index uint32) {
	if m[k] == nil {
		m[k] = make(map[uint32]struct{})
	}
	m[k][index] = struct{}{}
}

func drop[K comparable](m map[K]map[uint32]struct{}, k K, index uint32) {
	if delete(m[k], index); len(m[k]) == 0 {
		delete(m, k)
	}
}

// forget undoes what Set noted for a group; p may be nil.
func (t *Groups) forget(now time.Time, index uint32, p *plan) {
	if p == nil {
		return
	}
	delete(t.plans, index)
	for _, m := range p.members {
		drop(t.byOut, m.Out, index)
		if m.Adj != nil {
			drop(t.byAdj, m.Adj, index)
			t.neigh.Unpin(now, m.Adj)
		}
	}
}

func (t *Groups) member(now time.Time, nh fib.NextHop) *Member {
	m := &Member{Out: nh.Interface, Glean: !nh.Gateway.IsValid(), Backup: nh.Backup}
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

// dead tells that nothing can be sent to a member now. Of another card's members the
// routing engine knows.
func (t *Groups) dead(m *Member) bool {
	if m.Card != 0 {
		return false
	}
	in := t.ifaces.Out(m.Out)
	return in == nil || !in.Up || m.Adj != nil && m.Adj.Dead()
}

// SetInterfaces follows the interfaces: groups leave those that went down. It is
// the first to be told, before the neighbours are.
func (t *Groups) SetInterfaces(ifaces *ethernet.Table) {
	old := t.ifaces
	t.ifaces = ifaces
	up := func(e *ethernet.Entry) bool { return e != nil && e.Up }
	for id, groups := range t.byOut {
		if up(old.Out(id)) != up(ifaces.Out(id)) {
			t.review(groups)
		}
	}
}

func (t *Groups) gatewayChanged(a *neigh.Adjacency) { t.review(t.byAdj[a]) }

// review publishes those groups anew whose members died or came back.
func (t *Groups) review(groups map[uint32]struct{}) {
	for index := range groups {
		p := t.plans[index]
		changed := false
		for i, m := range p.members {
			if d := t.dead(m); d != p.dead[i] {
				p.dead[i], changed = d, true
			}
		}
		if changed {
			t.publish(index, p.group())
			t.switches++
		}
	}
}

// Switches counts groups that were changed here because a member died or came back.
func (t *Groups) Switches() uint64 { return t.switches }

// Members lists the members of a group as planned, and which are dead now.
func (t *Groups) Members(index uint32) (members []*Member, dead []bool) {
	p := t.plans[index]
	if p == nil {
		return nil, nil
	}
	return p.members, p.dead
}

// share makes the bucket tables of a group of several members; old is the plan that
// it replaces, or nil.
func (p *plan) share(hops []fib.NextHop, old *plan) {
	ids := make([]uint64, len(hops))
	var weights [2][]int // of primary members and of backups
	weights[0], weights[1] = make([]int, len(hops)), make([]int, len(hops))
	var number [2]int
	for i, nh := range hops {
		class := 0
		if nh.Backup {
			class = 1
		}
		ids[i], weights[class][i] = memberID(nh), int(max(nh.Weight, 1))
		number[class]++
	}
	if old == nil {
		old = &plan{}
	}
	if number[0] > 0 {
		p.main = newBuckets(weights[0], ids, old.main)
	}
	if number[1] > 0 {
		p.spare = newBuckets(weights[1], ids, old.spare)
	}
}

// group makes what workers use of a plan: the living primary members, else the living
// backups, else all of the first of these classes (then packets say so: they are queued, or
// their senders told).
func (p *plan) group() *Group {
	g := &Group{Kind: fib.Forward, members: p.members}
	if len(p.members) == 1 {
		g.one, g.adj = p.members[0], p.members[0].Adj
		return g
	}
	first := p.main
	if first == nil {
		first = p.spare
	}
	b, living := first, first.living(p.dead)
	if living == 0 && p.spare != nil && p.spare != b {
		if living = p.spare.living(p.dead); living > 0 {
			b = p.spare
		}
	}
	if living == 0 {
		g.table = b.home
	} else {
		b.follow(p.dead)
		g.table = append([]uint8(nil), b.now...)
	}
	if m := p.members[g.table[0]]; living == 1 || b.alone() {
		g.one, g.adj, g.table = m, m.Adj, nil
	}
	return g
}

// Free removes a group.
func (t *Groups) Free(now time.Time, index uint32) {
	if pages := *t.pages.Load(); int(index/pageSize) < len(pages) {
		pages[index/pageSize][index%pageSize].Store(nil)
		if t.mirror != nil {
			t.mirror(index, nil)
		}
	}
	t.forget(now, index, t.plans[index])
}

// gateway is the neighbour that a packet for dst goes to through another card.
func (m *Member) gateway(dst netip.Addr) [16]byte {
	if m.Glean {
		return dst.As16()
	}
	return m.Gate
}
