package tipc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// Member is one process's membership.
type Member struct {
	secret  []byte // of Admit
	refused func(bus.Address, error)
	wg      sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	resources map[closer]struct{}
}

type closer interface{ Close() error }

var _ bus.Bus = (*Member)(nil)

// Join opens the kernel's bus for this process. Options: Admit.
func Join(opts ...Option) (*Member, error) {
	s, err := open(bus.Options{Kind: bus.RDM})
	if err != nil {
		return nil, fmt.Errorf("join bus: %w", err)
	}
	m := &Member{resources: make(map[closer]struct{})}
	for _, f := range opts {
		f(m)
	}
	return m, s.close()
}

// Close unbinds everything and breaks all connections.
func (m *Member) Close() error {
	m.mu.Lock()
	m.closed = true
	var all []closer
	for r := range m.resources {
		all = append(all, r)
	}
	m.mu.Unlock()
	var errs []error
	for _, r := range all {
		errs = append(errs, r.Close())
	}
	m.wg.Wait()
	return errors.Join(errs...)
}

// hold registers what Close shall close; it closes it if it is too late.
func (m *Member) hold(r closer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return bus.ErrClosed
	}
	m.resources[r] = struct{}{}
	return nil
}

func (m *Member) release(r closer) {
	m.mu.Lock()
	delete(m.resources, r)
	m.mu.Unlock()
}

func (m *Member) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// conn is a connection of the kernel's.
type conn struct {
	m      *Member
	s      *sock
	peer   bus.Address
	stream bool

	mu   sync.Mutex
	gone *bus.GoneError

	recvMu sync.Mutex
	buf    []byte
	oob    []byte

	closing atomic.Bool // by Close
}

var _ bus.Conn = (*conn)(nil)

func (m *Member) newConn(s *sock, stream bool) (*conn, error) {
	c := &conn{m: m, s: s, stream: stream, oob: make([]byte, oobSize)}
	err := s.control(func(fd int) error {
		sa, err := unix.Getpeername(fd)
		c.peer = address(sa)
		return err
	})
	if err == nil {
		err = m.hold(c)
	}
	if err != nil {
		s.close()
		return nil, named(err)
	}
	return c, nil
}

// Send sends one message; of a Stream, any number of bytes.
func (c *conn) Send(b []byte) error {
	if c.stream {
		for len(b) > bus.MaxMessage {
			if err := c.send(b[:bus.MaxMessage]); err != nil {
				return err
			}
			b = b[bus.MaxMessage:]
		}
	}
	if err := bus.CheckLength(b); err != nil {
		return err
	}
	return c.send(b)
}

func (c *conn) send(b []byte) error {
	for len(b) > 0 { // a Stream may take a part
		n := 0
		err := c.s.write(func(fd int) (err error) {
			n, err = unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		})
		if err = named(err); err != nil {
			return fmt.Errorf("send to %s: %w", c.peer, c.reason(err))
		}
		if !c.stream {
			return nil
		}
		b = b[n:]
	}
	return nil
}

// reason puts the code of the connection's end into an error.
func (c *conn) reason(err error) error {
	if errors.Is(err, bus.ErrNoName) {
		err = bus.ErrPeerGone // the peer or its node went
	}
	if !errors.Is(err, bus.ErrPeerGone) {
		return err
	}
	if c.closing.Load() { // the kernel takes our own end for the peer's
		return bus.ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone == nil {
		return &bus.GoneError{Code: bus.NoPort}
	}
	return c.gone
}

func (c *conn) over(code bus.Code) error {
	c.mu.Lock()
	if c.gone == nil {
		c.gone = &bus.GoneError{Code: code}
	}
	c.mu.Unlock()
	return c.reason(bus.ErrPeerGone)
}

// Recv returns the next message.
func (c *conn) Recv() ([]byte, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if c.buf == nil {
		c.buf = make([]byte, bus.MaxMessage)
	}
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone != nil {
		return nil, fmt.Errorf("receive from %s: %w", c.peer, gone)
	}
	r, err := c.s.recv(c.buf, c.oob)
	switch {
	case err != nil && errors.Is(err, bus.ErrPeerGone):
		// The kernel tells the code with the message that ended it, if at all.
		err = c.over(c.ended(r.info.code))
	case err != nil:
	case r.n > 0 && r.info.code == bus.OK:
		return c.buf[:r.n], nil
	case r.info.code != bus.OK:
		err = c.over(r.info.code)
	default:
		err = c.over(bus.Shutdown)
	}
	return nil, fmt.Errorf("receive from %s: %w", c.peer, err)
}

// ended is why a connection was reset: the peer's node is gone, or its socket.
func (c *conn) ended(code bus.Code) bus.Code {
	if code != bus.OK {
		return code
	}
	if c.peer.Node != c.s.addr.Node && !c.m.nodeUp(c.peer.Node) {
		return bus.NoNode
	}
	return bus.NoPort
}

// Peer returns the address of the other end.
func (c *conn) Peer() bus.Address { return c.peer }

// Close ends the connection in good order; what was sent still arrives.
func (c *conn) Close() error {
	c.m.release(c)
	c.closing.Store(true)
	_ = c.s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) }) // it may have ended
	return c.s.close()
}

// Dial connects to one process that has bound the service.
func (m *Member) Dial(ctx context.Context, to bus.Service, opts ...bus.Option) (bus.Conn, error) {
	c, err := m.dial(ctx, to, bus.Gather(bus.Options{}, opts))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	return c, nil
}

func (m *Member) dial(ctx context.Context, to bus.Service, o bus.Options) (*conn, error) {
	switch {
	case m.isClosed():
		return nil, bus.ErrClosed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(o.Data) > bus.MaxMessage:
		return nil, bus.ErrTooLong
	}
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	if err = m.hold(sockCloser{s}); err != nil {
		s.close()
		return nil, err
	}
	defer m.release(sockCloser{s})
	stop := context.AfterFunc(ctx, func() { s.close() })
	err = s.control(func(fd int) error {
		if len(o.Data) > 0 && m.secret == nil { // implicit connect
			_, err := unix.SendmsgN(fd, o.Data, nil, toService(to), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		}
		return unix.Connect(fd, toService(to))
	})
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EAGAIN) || err == nil {
		err = s.connected(toService(to))
	}
	if err == nil && m.secret != nil {
		err = m.introduce(s, o.Data)
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		s.close()
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		return nil, named(err)
	}
	return m.newConn(s, o.Kind == bus.Stream)
}

// introduce shows and asks for the secret, then sends what goes along with the
// connect.
func (m *Member) introduce(s *sock, data []byte) error {
	var peer bus.Address
	err := s.control(func(fd int) error {
		sa, err := unix.Getpeername(fd)
		peer = address(sa)
		return err
	})
	if err == nil {
		err = m.challenge(s, peer)
	}
	if err == nil && len(data) > 0 {
		err = s.send(data, nil)
	}
	return err
}

// sockCloser lets Member.Close end a dial.
type sockCloser struct{ s *sock }

func (c sockCloser) Close() error { return c.s.close() }

// connected waits for the end of a connect.
func (s *sock) connected(to unix.Sockaddr) error {
	return s.write(func(fd int) error {
		if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
			if e != 0 {
				err = unix.Errno(e)
			}
			return err
		}
		if _, err := unix.Getpeername(fd); err == nil {
			return nil
		}
		switch err := unix.Connect(fd, to); {
		case err == nil, errors.Is(err, unix.EISCONN):
			return nil
		case errors.Is(err, unix.EALREADY), errors.Is(err, unix.EINPROGRESS):
			return unix.EAGAIN
		default:
			return err
		}
	})
}

// acceptQueue is how many accepted connections wait for Accept.
const acceptQueue = 64

// acceptPause is how long a listener waits behind an error.
const acceptPause = 10 * time.Millisecond

// listener accepts eagerly, so that a dialler does not wait for Accept.
type listener struct {
	m      *Member
	s      *sock
	stream bool
	queue  chan *conn
	asked  sync.WaitGroup // those that are asked for the secret

	mu     sync.Mutex
	asking []*conn // oldest first
}

// Listen binds the range and accepts connections to it.
func (m *Member) Listen(r bus.Range, opts ...bus.Option) (bus.Listener, error) {
	o := bus.Gather(bus.Options{}, opts)
	if m.isClosed() {
		return nil, fmt.Errorf("listen on %s: %w", r, bus.ErrClosed)
	}
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", r, err)
	}
	l := &listener{m: m, s: s, stream: o.Kind == bus.Stream, queue: make(chan *conn, acceptQueue)}
	if err = s.control(func(fd int) error { return unix.Listen(fd, acceptQueue) }); err == nil {
		if err = s.bind(r, o.Scope); err == nil {
			err = m.hold(l)
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("listen on %s: %w", r, err)
	}
	m.wg.Go(l.accept)
	return l, nil
}

func (l *listener) accept() {
	defer close(l.queue)
	defer l.asked.Wait()
	defer l.dismiss()
	for {
		var fd int
		err := l.s.read(func(lfd int) (err error) {
			fd, _, err = unix.Accept4(lfd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return err
		})
		if err != nil {
			select {
			case <-l.s.done:
				return
			case <-time.After(acceptPause): // out of descriptors, most likely
			}
			continue
		}
		s, err := adopt(fd)
		if err != nil {
			continue
		}
		c, err := l.m.newConn(s, l.stream)
		if err != nil {
			continue
		}
		if l.m.secret == nil {
			l.hand(c)
			continue
		}
		l.crowd(c)
		l.asked.Go(func() { l.admit(c) })
	}
}

func (l *listener) hand(c *conn) {
	select {
	case l.queue <- c:
	case <-l.s.done:
		c.Close()
	}
}

// crowd notes one more that is asked for the secret. Of too many the oldest is
// cut off: who knows the secret answers at once.
func (l *listener) crowd(c *conn) {
	l.mu.Lock()
	l.asking = append(l.asking, c)
	var oldest *conn
	if len(l.asking) > admitMost {
		oldest = l.asking[0]
		l.asking = slices.Delete(l.asking, 0, 1)
	}
	l.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
}

// admit hands a connection on that knows the secret. The listener's end breaks
// the exchange off.
func (l *listener) admit(c *conn) {
	err := l.m.answer(c.s, c.peer)
	l.mu.Lock()
	l.asking = slices.DeleteFunc(l.asking, func(other *conn) bool { return other == c })
	l.mu.Unlock()
	if err != nil {
		l.m.refuse(c, err)
		return
	}
	l.hand(c)
}

// dismiss cuts off all that are being asked.
func (l *listener) dismiss() {
	l.mu.Lock()
	list := slices.Clone(l.asking)
	l.mu.Unlock()
	for _, c := range list {
		c.Close()
	}
}

func (m *Member) refuse(c *conn, err error) {
	if m.refused != nil {
		m.refused(c.peer, err)
	}
	c.Close()
}

// Accept returns the next connection.
func (l *listener) Accept() (bus.Conn, error) {
	select {
	case <-l.s.done:
	default:
		select {
		case c, ok := <-l.queue:
			if ok {
				return c, nil
			}
		case <-l.s.done:
		}
	}
	return nil, fmt.Errorf("accept: %w", bus.ErrClosed)
}

// Close withdraws the binding and breaks connections not yet accepted.
func (l *listener) Close() error {
	l.m.release(l)
	err := l.s.close()
	for c := range l.queue {
		c.Close()
	}
	return err
}
