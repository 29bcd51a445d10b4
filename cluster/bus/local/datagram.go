package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"godwit/cluster/bus"
)

// socket is a connectionless socket. It keeps one connection to each member
// that it sends to.
type socket struct {
	member *Member
	ref    uint32
	queue  chan bus.Datagram
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex
	out    map[uint16]*outgoing // by member number
	closed bool
}

// outgoing is the connection to one member; mu keeps datagrams in order and
// waits with a slow member, not with all.
type outgoing struct {
	mu  sync.Mutex
	c   *net.UnixConn
	buf []byte
}

var _ bus.Socket = (*socket)(nil)

// Socket opens a connectionless socket.
func (m *Member) Socket() (bus.Socket, error) {
	s := &socket{
		member: m, queue: make(chan bus.Datagram, datagramQueue),
		done: make(chan struct{}), out: make(map[uint16]*outgoing),
	}
	ref, err := m.newRef(s)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	s.ref = ref
	if !m.hold(s) {
		m.freeRef(ref)
		return nil, fmt.Errorf("open socket: %w", bus.ErrClosed)
	}
	return s, nil
}

// Bind publishes the socket under the range.
func (s *socket) Bind(r bus.Range) error { return s.member.bind(s.ref, r) }

// Send reaches one of the sockets bound to the service.
func (s *socket) Send(to bus.Service, b []byte) error {
	if err := checkLength(b); err != nil {
		return err
	}
	for _, ref := range s.member.pick(to) {
		err := s.sendTo(ref, to, b)
		if err == nil {
			return nil
		}
		if !absent(err) && !errors.Is(err, bus.ErrPeerGone) {
			return fmt.Errorf("send to %s: %w", to, err)
		}
	}
	return fmt.Errorf("send to %s: %w", to, bus.ErrNoName)
}

// Multicast reaches every socket bound to an instance in the range, each once.
func (s *socket) Multicast(r bus.Range, b []byte) error {
	if err := checkLength(b); err != nil {
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
		err := s.sendTo(k.ref, svc, b)
		if err != nil && !absent(err) && !errors.Is(err, bus.ErrPeerGone) {
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
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = appendDatagram(o.buf[:0], ref, svc, b)
	if o.c != nil {
		_, err := o.c.Write(o.buf)
		if err == nil {
			return nil
		}
		s.drop(o)
		if err = lost(err); !errors.Is(err, bus.ErrPeerGone) {
			return err
		}
	}
	if err := s.open(o, ref); err != nil {
		s.mu.Lock()
		delete(s.out, number)
		s.mu.Unlock()
		return err
	}
	_, err := o.c.Write(o.buf)
	return lost(err)
}

// open connects o to the member of ref.
func (s *socket) open(o *outgoing, ref uint32) error {
	ctx, cancel := context.WithTimeout(s.member.ctx, replyTime)
	defer cancel()
	c, err := s.member.greet(ctx, greeting{kind: greetDatagrams, from: s.ref, to: ref})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return bus.ErrClosed
	}
	o.c = c
	return nil
}

// drop closes a broken connection. o.mu is held.
func (s *socket) drop(o *outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.c.Close()
	o.c = nil
}

// Recv returns the next datagram; its data is the caller's to keep.
func (s *socket) Recv() (bus.Datagram, error) {
	select {
	case <-s.done:
	default:
		select {
		case d := <-s.queue:
			return d, nil
		case <-s.done:
		}
	}
	return bus.Datagram{}, fmt.Errorf("receive on socket %08x: %w", s.ref, bus.ErrClosed)
}

// Close withdraws the socket's bindings.
func (s *socket) Close() error {
	s.once.Do(func() {
		s.member.release(s)
		close(s.done)
		s.mu.Lock()
		s.closed = true
		for _, o := range s.out {
			if o.c != nil {
				o.c.Close()
			}
		}
		s.mu.Unlock()
		s.member.freeRef(s.ref)
	})
	return nil
}

// datagrams delivers what comes in from one sender until it closes.
func (m *Member) datagrams(c *net.UnixConn, from uint32) {
	if _, err := c.Write([]byte{greetAccepted}); err != nil {
		return
	}
	buf := make([]byte, bus.MaxMessage+datagramHeader+1)
	for {
		n, err := read(c, buf)
		if err != nil {
			return
		}
		to, svc, data, err := parseDatagram(buf[:n])
		if err != nil {
			m.rejected.Add(1)
			return
		}
		m.mu.Lock()
		s, ok := m.ports[to].(*socket)
		m.mu.Unlock()
		if !ok {
			continue // closed meanwhile
		}
		d := bus.Datagram{From: bus.Address{Ref: from}, To: svc, Data: append([]byte(nil), data...)}
		select {
		case s.queue <- d:
		case <-s.done:
		}
	}
}
