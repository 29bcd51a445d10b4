package tipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// group is membership of a kernel's communication group. The kernel's news
// have the member's address; a subscription of our own knows its instance.
type group struct {
	k   *socket
	id  bus.Service
	sub *subscription

	mu      sync.Mutex
	known   sync.Cond
	members map[bus.Address]uint32
}

var _ bus.Group = (*group)(nil)

// Join enters the group.
func (m *Member) Join(id bus.Service, opts ...bus.Option) (bus.Group, error) {
	o := bus.Gather(bus.Options{}, opts)
	o.Kind, o.Droppable = bus.RDM, true
	k, err := m.newSocket(o)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", id, err)
	}
	g := &group{k: k, id: id, members: make(map[bus.Address]uint32)}
	g.known.L = &g.mu
	if id.Type < bus.MinType {
		err = bus.ErrReserved
	}
	if err == nil {
		g.sub, err = m.subscribe(bus.All(id.Type), bus.Options{})
	}
	if err == nil {
		req := unix.TIPCGroupReq{Type: id.Type, Instance: id.Instance, Scope: uint32(scope(o.Scope)), Flags: unix.TIPC_GROUP_MEMBER_EVTS}
		if o.Loopback {
			req.Flags |= unix.TIPC_GROUP_LOOPBACK
		}
		err = k.s.control(func(fd int) error { return setGroup(fd, &req) })
	}
	if err != nil {
		if g.sub != nil {
			g.sub.Close()
		}
		k.Close()
		return nil, fmt.Errorf("join group %s: %w", id, named(err))
	}
	m.wg.Go(g.follow)
	return g, nil
}

// setGroup joins; the request goes as the bytes of the structure.
func setGroup(fd int, r *unix.TIPCGroupReq) error {
	b := make([]byte, 0, 16)
	for _, v := range [...]uint32{r.Type, r.Instance, r.Scope, r.Flags} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return unix.SetsockoptString(fd, unix.SOL_TIPC, unix.TIPC_GROUP_JOIN, string(b))
}

// follow keeps the members' instances; one that has left stays known, since
// the news of it may come later.
func (g *group) follow() {
	for {
		e, err := g.sub.Next()
		if err != nil {
			g.mu.Lock()
			g.sub = nil
			g.known.Broadcast()
			g.mu.Unlock()
			return
		}
		if e.Up {
			g.mu.Lock()
			g.members[e.Addr] = e.Range.Lower
			g.known.Broadcast()
			g.mu.Unlock()
		}
	}
}

// instance waits for the topology, which tells of a member as the group does.
func (g *group) instance(a bus.Address) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	late := time.AfterFunc(time.Second, g.known.Broadcast)
	defer late.Stop()
	for begin := time.Now(); g.sub != nil && time.Since(begin) < time.Second; g.known.Wait() {
		if i, ok := g.members[a]; ok {
			return i
		}
	}
	return g.members[a]
}

func (g *group) send(b []byte, to unix.Sockaddr) error {
	err := bus.CheckLength(b)
	if err == nil {
		err = g.k.s.send(b, to)
	}
	if err != nil {
		return fmt.Errorf("send to group %s: %w", g.id, err)
	}
	return nil
}

// Unicast sends to one member.
func (g *group) Unicast(a bus.Address, b []byte) error { return g.send(b, toAddress(a)) }

// Anycast sends to one of the members with the instance.
func (g *group) Anycast(instance uint32, b []byte) error {
	return g.send(b, toService(bus.Service{Type: g.id.Type, Instance: instance}))
}

// Multicast sends to all members with the instance.
func (g *group) Multicast(instance uint32, b []byte) error {
	return g.send(b, toRange(bus.One(g.id.Type, instance), unix.TIPC_CLUSTER_SCOPE))
}

// Broadcast sends to all members.
func (g *group) Broadcast(b []byte) error { return g.send(b, nil) }

// Recv returns the next message or news.
func (g *group) Recv() (bus.GroupEvent, error) {
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	r, err := g.k.s.recv(g.k.buf, g.k.oob)
	if err != nil {
		return bus.GroupEvent{}, fmt.Errorf("receive in group %s: %w", g.id, err)
	}
	e := bus.GroupEvent{From: r.from}
	switch {
	case r.flags&unix.MSG_OOB == 0:
		e.Data = append(e.Data, g.k.buf[:r.n]...)
		return e, nil
	case r.flags&unix.MSG_EOR != 0:
		e.What = bus.Left
	default:
		e.What = bus.Joined
	}
	e.Instance = g.instance(r.from)
	if e.What == bus.Left {
		g.mu.Lock()
		delete(g.members, r.from)
		g.mu.Unlock()
	}
	return e, nil
}

// Addr returns the member's own address.
func (g *group) Addr() bus.Address { return g.k.Addr() }

// Close leaves the group.
func (g *group) Close() error {
	g.mu.Lock()
	sub := g.sub
	g.mu.Unlock()
	var err error
	if sub != nil {
		err = sub.Close()
	}
	return errors.Join(err, g.k.Close())
}
