package tipc

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// socket is a connectionless socket.
type socket struct {
	m *Member
	s *sock

	mu  sync.Mutex
	buf []byte
	oob []byte
}

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
	if m.isClosed() {
		return nil, bus.ErrClosed
	}
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	k := &socket{m: m, s: s, buf: make([]byte, bus.MaxMessage), oob: make([]byte, oobSize)}
	if err := m.hold(k); err != nil {
		s.close()
		return nil, err
	}
	return k, nil
}

// Addr returns the socket's own address.
func (s *socket) Addr() bus.Address { return s.s.addr }

// Bind publishes the socket under the range.
func (s *socket) Bind(r bus.Range, opts ...bus.Option) error {
	return s.s.bind(r, bus.Gather(bus.Options{}, opts).Scope)
}

func (s *socket) send(b []byte, to unix.Sockaddr, what fmt.Stringer) error {
	err := bus.CheckLength(b)
	if err == nil {
		err = s.s.send(b, to)
	}
	if err != nil {
		return fmt.Errorf("send to %s: %w", what, err)
	}
	return nil
}

// Send reaches one of the sockets bound to the service.
func (s *socket) Send(to bus.Service, b []byte) error { return s.send(b, toService(to), to) }

// SendTo reaches the socket at the address.
func (s *socket) SendTo(a bus.Address, b []byte) error {
	err := s.send(b, toAddress(a), a)
	if errors.Is(err, bus.ErrNoName) {
		return fmt.Errorf("send to %s: %w", a, bus.ErrNoNode)
	}
	return err
}

// Multicast reaches every socket bound to an instance in the range, each once.
func (s *socket) Multicast(r bus.Range, b []byte) error {
	return s.send(b, toRange(r, unix.TIPC_CLUSTER_SCOPE), r)
}

// MulticastsOnce tells that the kernel sends a multicast once to a node, or once to all.
func (m *Member) MulticastsOnce() bool { return true }

// Recv returns the next datagram; its data is the caller's to keep.
func (s *socket) Recv() (bus.Datagram, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.s.recv(s.buf, s.oob)
	if err != nil {
		return bus.Datagram{}, fmt.Errorf("receive on socket %s: %w", s.s.addr, err)
	}
	d := bus.Datagram{From: r.from, To: r.info.to, Code: r.info.code}
	if d.Code != bus.OK {
		d.Data = append(d.Data, r.info.data...)
	} else {
		d.Data = append(d.Data, s.buf[:r.n]...)
	}
	return d, nil
}

// Close withdraws the socket's bindings; what it has not read goes back.
func (s *socket) Close() error {
	s.m.release(s)
	return s.s.close()
}
