package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"godwit/cluster/bus"
)

// socket is a connectionless socket. It keeps one connection to each member
// that it sends to; what cannot be delivered comes back on the same.
type socket struct {
	member     *Member
	ref        uint32
	importance bus.Importance
	flags      byte
	in         *inbox
	group      *group // whose socket it is, or nil
	once       sync.Once

	mu     sync.Mutex
	out    map[uint16]*outgoing // by member number
	closed bool
}

// outgoing is the connection to one member; mu keeps datagrams in order and
// waits with a slow member, not with all.
type outgoing struct {
	mu sync.Mutex
	p  *pipe // written with the socket's mu, too
}

// incoming is a connection that datagrams come in by. Messages of one read wake
// their receiver once.
type incoming struct {
	p    *pipe
	from uint32
	last *inbox // has messages that its receiver has not been woken for
	held int    // how many
}

// maxHeld is how many messages come before their receiver is woken.
const maxHeld = 32

// put notes that an inbox has a message more.
func (i *incoming) put(b *inbox) {
	i.last = b
	if i.held++; i.held >= maxHeld {
		i.settle()
	}
}

// settle wakes the receiver of what was put in.
func (i *incoming) settle() {
	if i.last != nil {
		i.last.wake()
	}
	i.last, i.held = nil, 0
}

func (i *incoming) Close() error { i.p.close(0); return nil }

var _ bus.Socket = (*socket)(nil)

// Socket opens a connectionless socket.
func (m *Member) Socket(opts ...bus.Option) (bus.Socket, error) {
	s, err := m.newSocket(bus.Gather(bus.Options{Kind: bus.RDM}, opts))
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return s, nil
}

func (m *Member) newSocket(o bus.Options) (*socket, error) {
	s := &socket{member: m, importance: o.Importance, in: newInbox(), out: make(map[uint16]*outgoing)}
	if o.Droppable || o.Kind == bus.DGRAM {
		s.flags = flagDroppable
	}
	ref, err := m.newRef(s)
	if err != nil {
		return nil, err
	}
	s.ref = ref
	if !m.hold(s) {
		m.freeRef(ref)
		return nil, bus.ErrClosed
	}
	return s, nil
}

// Addr returns the socket's own address.
func (s *socket) Addr() bus.Address { return bus.Address{Ref: s.ref} }

// Bind publishes the socket under the range.
func (s *socket) Bind(r bus.Range, _ ...bus.Option) error { return s.member.bind(s.ref, r) }

// Send reaches one of the sockets bound to the service.
func (s *socket) Send(to bus.Service, b []byte) error {
	if err := bus.CheckLength(b); err != nil {
		return err
	}
	for ref := range s.member.candidates(to) {
		err := s.sendTo(ref, to, b)
		if err == nil {
			return nil
		}
		if !missing(err) {
			return fmt.Errorf("send to %s: %w", to, err)
		}
	}
	return fmt.Errorf("send to %s: %w", to, bus.ErrNoName)
}

// missing tells that a socket, or its process, is not there any more.
func missing(err error) bool { return absent(err) || errors.Is(err, bus.ErrPeerGone) }

// SendTo reaches the socket at the address.
func (s *socket) SendTo(a bus.Address, b []byte) error {
	if err := bus.CheckLength(b); err != nil {
		return err
	}
	if a.Node != 0 {
		return fmt.Errorf("send to %s: %w", a, bus.ErrNoNode)
	}
	err := s.sendTo(a.Ref, bus.Service{}, b)
	if err == nil || !missing(err) {
		return err
	}
	if s.flags&flagDroppable == 0 {
		s.in.returned(bus.Datagram{From: a, Data: slices.Clone(b), Code: bus.NoPort})
	}
	return nil
}

// Multicast reaches every socket bound to an instance in the range, each once.
func (s *socket) Multicast(r bus.Range, b []byte) error {
	if err := bus.CheckLength(b); err != nil {
		return err
	}
	sent := make(map[uint32]bool)
	var failed error
	for _, k := range s.member.matching(r) {
		if sent[k.ref] {
			continue
		}
		sent[k.ref] = true
		svc := bus.Service{Type: r.Type, Instance: max(k.rng.Lower, r.Lower)}
		if err := s.sendTo(k.ref, svc, b); err != nil && !missing(err) {
			failed = errors.Join(failed, err)
		}
	}
	switch {
	case failed != nil:
		return fmt.Errorf("multicast to %s: %w", r, failed)
	case len(sent) == 0:
		return fmt.Errorf("multicast to %s: %w", r, bus.ErrNoName)
	}
	return nil
}

// sendTo sends to the socket ref, over a new connection if the old one broke.
func (s *socket) sendTo(ref uint32, svc bus.Service, b []byte) error {
	number := uint16(ref >> 16)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return bus.ErrClosed
	}
	o := s.out[number]
	if o == nil {
		o = &outgoing{}
		s.out[number] = o
	}
	s.mu.Unlock()
	d := datagram{to: ref, svc: svc, importance: s.importance, flags: s.flags}
	var head [datagramHeader]byte
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.p != nil {
		err := o.p.send(s.member.spawn, frameDatagram, d.append(head[:0]), b)
		if err == nil || !errors.Is(err, bus.ErrPeerGone) {
			return err
		}
	}
	if err := s.open(o, ref); err != nil {
		s.mu.Lock()
		delete(s.out, number)
		s.mu.Unlock()
		return err
	}
	return o.p.send(s.member.spawn, frameDatagram, d.append(head[:0]), b)
}

// open connects o to the member of ref.
func (s *socket) open(o *outgoing, ref uint32) error {
	ctx, cancel := context.WithTimeout(s.member.ctx, replyTime)
	defer cancel()
	c, _, err := s.member.greet(ctx, greeting{kind: greetDatagrams, from: s.ref, to: ref})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return bus.ErrClosed
	}
	p := newPipe(c)
	o.p = p
	s.member.watch(uint16(ref >> 16))
	s.member.spawn(func() { s.takeBack(p) })
	return nil
}

// takeBack receives what comes back on a connection until it ends.
func (s *socket) takeBack(p *pipe) {
	for {
		kind, b, err := p.receive()
		if err != nil {
			_ = p.gone(bus.NoPort)
			p.abort(&bus.GoneError{Code: bus.NoPort})
			return
		}
		d, data, err := parseDatagram(b)
		if kind != frameReturned || err != nil || d.code == bus.OK {
			s.member.rejected.Add(1)
			p.abort(&bus.GoneError{Code: bus.NoPort})
			return
		}
		s.in.returned(bus.Datagram{From: bus.Address{Ref: d.to}, To: d.svc, Data: slices.Clone(data), Code: d.code})
	}
}

// way is the connection to a member, if there is one.
func (s *socket) way(peer uint16) *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.out[peer]; o != nil {
		return o.p
	}
	return nil
}

// Recv returns the next datagram; its data is the caller's to keep.
func (s *socket) Recv() (bus.Datagram, error) {
	it, ok := s.in.pop()
	if !ok {
		return bus.Datagram{}, fmt.Errorf("receive on socket %08x: %w", s.ref, bus.ErrClosed)
	}
	return it.Datagram, nil
}

// Close withdraws the socket's bindings; what it has not read goes back.
func (s *socket) Close() error {
	s.once.Do(func() {
		s.member.release(s)
		rest := s.in.close()
		s.mu.Lock()
		s.closed = true
		var open []*pipe
		for _, o := range s.out {
			if o.p != nil {
				open = append(open, o.p)
			}
		}
		s.mu.Unlock()
		for _, p := range open {
			p.close(0)
		}
		for i := range rest {
			s.member.giveBack(&rest[i], s.ref, bus.NoPort)
		}
		s.member.freeRef(s.ref)
	})
	return nil
}

// giveBack returns a datagram that the socket ref did not take.
func (m *Member) giveBack(it *item, ref uint32, code bus.Code) {
	if it.back == nil || it.flags&flagDroppable != 0 || it.Code != bus.OK {
		return
	}
	d := datagram{to: ref, svc: it.To, code: code}
	_ = it.back.send(m.spawn, frameReturned, d.append(nil), it.Data) // a sender that is gone needs none
}

// datagrams delivers what comes in from one sender until it closes. A group that it is
// opened for knows before the sender does: its member may leave behind its
// first message.
func (m *Member) datagrams(c *net.UnixConn, from, to uint32) {
	groups := make(map[*group]struct{})
	defer func() {
		for g := range groups {
			g.ended(from)
		}
	}()
	m.mu.Lock()
	s, ok := m.ports[to].(*socket)
	m.mu.Unlock()
	if ok && s.group != nil {
		groups[s.group] = struct{}{}
		s.group.opened(from)
	}
	if _, err := c.Write([]byte{answerAccepted, 0, 0, 0, 0}); err != nil {
		return
	}
	i := &incoming{p: newPipe(c), from: from}
	if !m.hold(i) {
		return
	}
	defer m.release(i)
	for {
		if !i.p.ready() {
			i.settle()
		}
		kind, b, err := i.p.receive()
		if err != nil && !errors.Is(err, errFrame) {
			break
		}
		d, data, derr := parseDatagram(b)
		if err != nil || derr != nil || kind != frameDatagram || d.code != bus.OK {
			m.rejected.Add(1)
			break
		}
		m.deliver(i, d, slices.Clone(data), groups)
	}
	i.settle()
	_ = i.p.gone(bus.NoPort)
}

// deliver puts a datagram into its socket's queue, or sends it back.
func (m *Member) deliver(i *incoming, d datagram, data []byte, groups map[*group]struct{}) {
	it := item{Datagram: bus.Datagram{From: bus.Address{Ref: i.from}, To: d.svc, Data: data}, back: i.p, flags: d.flags}
	m.mu.Lock()
	s, ok := m.ports[d.to].(*socket)
	m.mu.Unlock()
	if ok && s.in != i.last {
		i.settle() // before anything here waits
	}
	switch {
	case !ok || (s.group != nil) != (d.flags&flagGroup != 0):
		i.settle()
		m.giveBack(&it, d.to, bus.NoPort) // closed meanwhile
	case s.group != nil:
		groups[s.group] = struct{}{}
		s.group.arrived(i.from, d.svc.Instance)
		s.in.wait(it)
		i.put(s.in)
	case s.in.push(it, d.importance):
		i.put(s.in)
	default:
		i.settle()
		code := bus.Overload
		if s.in.isClosed() {
			code = bus.NoPort
		}
		m.giveBack(&it, d.to, code)
	}
}
