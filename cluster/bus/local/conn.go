package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"godwit/cluster/bus"
)

// conn is a connection between two members.
type conn struct {
	member *Member
	ref    uint32
	peer   bus.Address
	c      *net.UnixConn
	once   sync.Once

	recvMu sync.Mutex
	buf    []byte
}

var _ bus.Conn = (*conn)(nil)

// newConn wraps a connection after its greeting. It owns c, also on error.
func (m *Member) newConn(c *net.UnixConn, ref, peer uint32) (*conn, error) {
	k := &conn{member: m, ref: ref, peer: bus.Address{Ref: peer}, c: c}
	if !m.hold(k) {
		c.Close()
		m.freeRef(ref)
		return nil, bus.ErrClosed
	}
	return k, nil
}

// Send queues one message.
func (c *conn) Send(b []byte) error {
	if err := checkLength(b); err != nil {
		return err
	}
	if _, err := c.c.Write(b); err != nil {
		return fmt.Errorf("send to %s: %w", c.peer, lost(err))
	}
	return nil
}

func checkLength(b []byte) error {
	switch {
	case len(b) == 0:
		return errEmpty
	case len(b) > bus.MaxMessage:
		return bus.ErrTooLong
	}
	return nil
}

var errEmpty = errors.New("empty message")

// Recv returns the next message.
func (c *conn) Recv() ([]byte, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if c.buf == nil {
		c.buf = make([]byte, bus.MaxMessage+1)
	}
	n, err := read(c.c, c.buf)
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", c.peer, lost(err))
	}
	if n > bus.MaxMessage {
		c.member.rejected.Add(1)
		c.Close()
		return nil, fmt.Errorf("receive from %s: %w: %w", c.peer, bus.ErrTooLong, bus.ErrPeerGone)
	}
	return c.buf[:n], nil
}

// Peer returns the address of the other end.
func (c *conn) Peer() bus.Address { return c.peer }

// Close ends the connection; what was sent still arrives.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		c.member.release(c)
		c.member.freeRef(c.ref)
		err = c.c.Close()
	})
	return err
}

// Dial connects to one process that has bound the service.
func (m *Member) Dial(ctx context.Context, s bus.Service) (bus.Conn, error) {
	if m.ctx.Err() != nil {
		return nil, fmt.Errorf("dial %s: %w", s, bus.ErrClosed)
	}
	for _, ref := range m.pick(s) {
		c, err := m.dialRef(ctx, ref, s)
		if err == nil {
			return c, nil
		}
		// Gone since: the name table will follow. Anything else is an error.
		if !absent(err) && !errors.Is(err, bus.ErrPeerGone) {
			return nil, fmt.Errorf("dial %s: %w", s, err)
		}
	}
	return nil, fmt.Errorf("dial %s: %w", s, bus.ErrNoName)
}

// dialRef connects to a listener and waits until its member accepts.
func (m *Member) dialRef(ctx context.Context, to uint32, s bus.Service) (*conn, error) {
	ref, err := m.newRef(nil)
	if err != nil {
		return nil, err
	}
	c, err := m.greet(ctx, greeting{kind: greetConnect, from: ref, to: to, svc: s})
	if err != nil {
		m.freeRef(ref)
		return nil, err
	}
	return m.newConn(c, ref, to)
}

// greet opens a connection to the member of the socket g.to and waits for its
// answer.
func (m *Member) greet(ctx context.Context, g greeting) (*net.UnixConn, error) {
	c, err := dial(ctx, memberPath(m.dir, uint16(g.to>>16)))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	leave := context.AfterFunc(m.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer leave()
	answer := make([]byte, 2)
	n := 0
	if _, err = c.Write(g.append(nil)); err == nil {
		n, err = read(c, answer)
	}
	if err == nil && (n != 1 || answer[0] != greetAccepted) {
		err = fmt.Errorf("answer of %d bytes: %w", n, errRecord)
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	} else if !leave() {
		err = bus.ErrClosed
	}
	if err != nil {
		c.Close()
		return nil, lost(err)
	}
	return c, nil
}

// listener accepts connections to a range.
type listener struct {
	member *Member
	ref    uint32
	rng    bus.Range
	slots  chan struct{} // one each connection in queue
	queue  chan *conn
	done   chan struct{}
	once   sync.Once
}

// Listen binds the range and accepts connections to it.
func (m *Member) Listen(r bus.Range) (bus.Listener, error) {
	l := &listener{
		member: m, rng: r, slots: make(chan struct{}, acceptQueue),
		queue: make(chan *conn, acceptQueue), done: make(chan struct{}),
	}
	ref, err := m.newRef(l)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", r, err)
	}
	l.ref = ref
	if !m.hold(l) {
		m.freeRef(ref)
		return nil, fmt.Errorf("listen on %s: %w", r, bus.ErrClosed)
	}
	if err := m.bind(ref, r); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Accept returns the next connection.
func (l *listener) Accept() (bus.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.queue:
			<-l.slots
			return c, nil
		case <-l.done:
		}
	}
	return nil, fmt.Errorf("accept on %s: %w", l.rng, bus.ErrClosed)
}

// Close withdraws the binding and breaks connections not yet accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.member.release(l)
		close(l.done)
		l.member.freeRef(l.ref)
		l.drain()
	})
	return nil
}

func (l *listener) drain() {
	for {
		select {
		case c := <-l.queue:
			c.Close()
		default:
			return
		}
	}
}

// accept takes connections of other members.
func (m *Member) accept() {
	for {
		c, err := m.listener.AcceptUnix()
		if err == nil {
			if !m.hold(c) {
				c.Close()
				return
			}
			m.wg.Go(func() { m.greeted(c) })
			continue
		}
		if m.ctx.Err() != nil {
			return
		}
		select { // out of descriptors, most likely
		case <-time.After(retryMin):
		case <-m.ctx.Done():
			return
		}
	}
}

// greeted reads what a new connection wants and serves it.
func (m *Member) greeted(c *net.UnixConn) {
	defer m.release(c)
	g, err := receiveGreeting(c)
	if err != nil {
		if !errors.Is(err, io.EOF) && m.ctx.Err() == nil {
			m.rejected.Add(1)
		}
		c.Close()
		return
	}
	if g.kind == greetDatagrams {
		m.datagrams(c, g.from)
		c.Close()
		return
	}
	m.mu.Lock()
	l, ok := m.ports[g.to].(*listener)
	m.mu.Unlock()
	if !ok || !l.rng.Contains(g.svc) {
		c.Close() // withdrawn meanwhile: the dialler looks further
		return
	}
	l.enqueue(c, g.from)
}

// receiveGreeting admits the peer and reads its greeting.
func receiveGreeting(c *net.UnixConn) (greeting, error) {
	if _, err := admit(c); err != nil {
		return greeting{}, err
	}
	_ = c.SetReadDeadline(time.Now().Add(replyTime))
	buf := make([]byte, 2*greetLen)
	n, err := read(c, buf)
	if err != nil {
		return greeting{}, err
	}
	_ = c.SetReadDeadline(time.Time{})
	return parseGreeting(buf[:n])
}

// enqueue hands a connection to Accept; the dialler waits for room.
func (l *listener) enqueue(c *net.UnixConn, from uint32) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		c.Close()
		return
	}
	ref, err := l.member.newRef(nil)
	if err != nil {
		c.Close()
		<-l.slots
		return
	}
	k, err := l.member.newConn(c, ref, from)
	if err != nil {
		return // the member has closed
	}
	// The answer goes first: once queued, the connection is Accept's.
	if _, err := c.Write([]byte{greetAccepted}); err != nil {
		k.Close()
		<-l.slots
		return
	}
	l.queue <- k // has room
	select {
	case <-l.done: // Close may have drained before
		l.drain()
	default:
	}
}
