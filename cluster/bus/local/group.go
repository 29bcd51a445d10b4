package local

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"godwit/cluster/bus"
)

// group is membership of a communication group: a socket bound to the group's
// type, whose messages wait for room at the receiver, and the list of members.
type group struct {
	s    *socket
	id   bus.Service
	loop bool // receives what it sends itself
	sub  bus.Subscription

	mu      sync.Mutex
	members map[uint32]*fellow // by ref
	sorted  []member           // members that have not left, in order of ref; nil: to be made
	turn    map[uint32]int     // by instance
	early   map[uint32]bool    // connections from members that the topology has not told of
}

// member is one that messages go to.
type member struct{ ref, instance uint32 }

// fellow is a member as another one sees it.
type fellow struct {
	instance uint32
	open     bool // a connection from it delivers here
	leaving  bool // it has left, but the connection may hold messages
	listed   bool // in the topology
}

var _ bus.Group = (*group)(nil)

// Join enters the group.
func (m *Member) Join(id bus.Service, opts ...bus.Option) (bus.Group, error) {
	o := bus.Gather(bus.Options{}, opts)
	s, err := m.newSocket(bus.Options{Kind: bus.RDM, Importance: o.Importance, Droppable: true})
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", id, err)
	}
	s.flags |= flagGroup
	g := &group{s: s, id: id, loop: o.Loopback, members: make(map[uint32]*fellow), turn: make(map[uint32]int), early: make(map[uint32]bool)}
	s.group = g
	if g.sub, err = m.Subscribe(bus.All(id.Type)); err == nil {
		if err = s.Bind(bus.One(id.Type, id.Instance)); err != nil {
			g.sub.Close()
		}
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("join group %s: %w", id, err)
	}
	for sub := g.sub.(*subscription); ; { // those that are there
		e, ok := sub.pop()
		if !ok {
			break
		}
		g.changed(e)
	}
	m.spawn(g.follow)
	return g, nil
}

// follow keeps the list of members.
func (g *group) follow() {
	for {
		e, err := g.sub.Next()
		if err != nil {
			return
		}
		g.changed(e)
	}
}

// changed takes a topology event.
func (g *group) changed(e bus.Event) {
	ref := e.Addr.Ref
	if (ref == g.s.ref && !g.loop) || e.Range.Lower != e.Range.Upper {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.members[ref]
	switch {
	case e.Up && f == nil:
		g.join(ref, e.Range.Lower).listed = true
	case e.Up:
		f.listed = true
	case f != nil && f.open:
		f.leaving, g.sorted = true, nil
	case f != nil:
		g.leave(ref, f)
	}
}

// join adds a member. mu is held.
func (g *group) join(ref, instance uint32) *fellow {
	f := &fellow{instance: instance, open: g.early[ref]}
	delete(g.early, ref)
	g.members[ref], g.sorted = f, nil
	g.tell(bus.Joined, ref, instance)
	return f
}

func (g *group) leave(ref uint32, f *fellow) {
	delete(g.members, ref)
	g.sorted = nil
	g.tell(bus.Left, ref, f.instance)
}

func (g *group) tell(what bus.GroupNews, ref, instance uint32) {
	g.s.in.tell(item{news: what, Datagram: bus.Datagram{From: bus.Address{Ref: ref}, To: bus.Service{Type: g.id.Type, Instance: instance}}})
}

// opened is called before a connection from a member may be used.
func (g *group) opened(ref uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.members[ref]; f != nil {
		f.open = true
	} else {
		g.early[ref] = true
	}
}

// arrived is called before a message of a member is queued.
func (g *group) arrived(ref, instance uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.members[ref]
	if f == nil {
		f = g.join(ref, instance) // its message was faster than the topology
	}
	f.open = true
}

// ended is called when a connection from a member has delivered all it had.
func (g *group) ended(ref uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.early, ref)
	f := g.members[ref]
	if f == nil {
		return
	}
	f.open = false
	if f.leaving {
		g.leave(ref, f)
	}
}

// receivers returns the members, in order of ref; the list is not changed any
// more.
func (g *group) receivers() []member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sorted == nil {
		for _, ref := range slices.Sorted(maps.Keys(g.members)) {
			if f := g.members[ref]; !f.leaving {
				g.sorted = append(g.sorted, member{ref, f.instance})
			}
		}
	}
	return g.sorted
}

// having returns those members that have the instance.
func (g *group) having(instance uint32) (list []member) {
	for _, m := range g.receivers() {
		if m.instance == instance {
			list = append(list, m)
		}
	}
	return list
}

func (g *group) to(list []member, b []byte) error {
	if err := bus.CheckLength(b); err != nil {
		return err
	}
	reached := 0
	for _, m := range list {
		err := g.s.sendTo(m.ref, g.id, b)
		switch {
		case err == nil:
			reached++
		case !missing(err):
			return fmt.Errorf("send to group %s: %w", g.id, err)
		}
	}
	if reached == 0 {
		return fmt.Errorf("send to group %s: %w", g.id, bus.ErrNoName)
	}
	return nil
}

// Unicast sends to one member.
func (g *group) Unicast(a bus.Address, b []byte) error {
	g.mu.Lock()
	f := g.members[a.Ref]
	g.mu.Unlock()
	if f == nil || a.Node != 0 {
		return fmt.Errorf("send to member %s of group %s: %w", a, g.id, bus.ErrNoName)
	}
	return g.to([]member{{a.Ref, 0}}, b)
}

// Anycast sends to one of the members with the instance, in turn.
func (g *group) Anycast(instance uint32, b []byte) error {
	list := g.having(instance)
	for range list {
		g.mu.Lock()
		n := g.turn[instance] % len(list)
		g.turn[instance] = n + 1
		g.mu.Unlock()
		if err := g.to(list[n:n+1], b); !errors.Is(err, bus.ErrNoName) {
			return err
		}
	}
	return g.to(nil, b)
}

// Multicast sends to all members with the instance.
func (g *group) Multicast(instance uint32, b []byte) error {
	return g.to(g.having(instance), b)
}

// Broadcast sends to all members.
func (g *group) Broadcast(b []byte) error {
	return g.to(g.receivers(), b)
}

// Recv returns the next message or news.
func (g *group) Recv() (bus.GroupEvent, error) {
	it, ok := g.s.in.pop()
	if !ok {
		return bus.GroupEvent{}, fmt.Errorf("receive in group %s: %w", g.id, bus.ErrClosed)
	}
	return bus.GroupEvent{What: it.news, From: it.From, Instance: it.To.Instance, Data: it.Data}, nil
}

// Addr returns the member's own address.
func (g *group) Addr() bus.Address { return g.s.Addr() }

// Close leaves the group.
func (g *group) Close() error {
	err := g.sub.Close()
	return errors.Join(err, g.s.Close())
}
