package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"godwit/cluster/bus"
)

// conn is a connection between two members.
type conn struct {
	member *Member
	ref    uint32
	peer   bus.Address
	p      *pipe
	stream bool
	once   sync.Once

	recvMu sync.Mutex
	first  []byte // came with the connect
}

var _ bus.Conn = (*conn)(nil)

// newConn wraps a connection after its greeting. It owns c, also on error.
func (m *Member) newConn(c *net.UnixConn, ref uint32, g *greeting, peer uint32) (*conn, error) {
	k := &conn{member: m, ref: ref, peer: bus.Address{Ref: peer}, p: newPipe(c), stream: g.stream}
	if !m.hold(k) {
		c.Close()
		m.freeRef(ref)
		return nil, bus.ErrClosed
	}
	return k, nil
}

// Send queues one message.
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
	if err := c.p.send(c.member.spawn, frameData, nil, b); err != nil {
		return fmt.Errorf("send to %s: %w", c.peer, err)
	}
	return nil
}

// Recv returns the next message.
func (c *conn) Recv() ([]byte, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if b := c.first; b != nil {
		c.first = nil
		return b, nil
	}
	kind, b, err := c.p.receive()
	switch {
	case err == nil && kind == frameData:
		return b, nil
	case err == nil && kind == frameShutdown:
		err = c.p.gone(bus.Shutdown)
	case err == nil || errors.Is(err, errFrame):
		if err == nil {
			err = errFrame
		}
		if c.p.reason() == nil {
			c.member.rejected.Add(1)
		}
		c.p.abort(&bus.GoneError{Code: bus.NoPort})
		err = fmt.Errorf("%w: %w", err, bus.ErrPeerGone)
	case errors.Is(lost(err), bus.ErrPeerGone):
		err = c.p.gone(bus.NoPort)
	default: // closed or aborted here
		if r := c.p.reason(); r != nil {
			err = r
		}
	}
	return nil, fmt.Errorf("receive from %s: %w", c.peer, err)
}

// Peer returns the address of the other end.
func (c *conn) Peer() bus.Address { return c.peer }

// Close ends the connection; what was sent still arrives.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.p.close(frameShutdown)
		c.member.release(c)
		c.member.freeRef(c.ref)
	})
	return nil
}

// Dial connects to one process that has bound the service.
func (m *Member) Dial(ctx context.Context, s bus.Service, opts ...bus.Option) (bus.Conn, error) {
	o := bus.Gather(bus.Options{}, opts)
	if m.ctx.Err() != nil {
		return nil, fmt.Errorf("dial %s: %w", s, bus.ErrClosed)
	}
	if len(o.Data) > bus.MaxMessage {
		return nil, fmt.Errorf("dial %s: %w", s, bus.ErrTooLong)
	}
	for ref := range m.candidates(s) {
		c, err := m.dialRef(ctx, ref, s, o)
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
func (m *Member) dialRef(ctx context.Context, to uint32, s bus.Service, o bus.Options) (*conn, error) {
	ref, err := m.newRef(nil)
	if err != nil {
		return nil, err
	}
	g := greeting{kind: greetConnect, stream: o.Kind == bus.Stream, from: ref, to: to, svc: s, data: o.Data}
	c, _, err := m.greet(ctx, g)
	if err != nil {
		m.freeRef(ref)
		return nil, err
	}
	k, err := m.newConn(c, ref, &g, to)
	if err == nil {
		m.watch(uint16(to >> 16))
	}
	return k, err
}

// greet opens a connection to the member of the socket g.to and waits for its
// answer.
func (m *Member) greet(ctx context.Context, g greeting) (_ *net.UnixConn, tolerance uint32, _ error) {
	c, err := dial(ctx, members, memberPath(m.dir, uint16(g.to>>16)))
	if err != nil {
		return nil, 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	leave := context.AfterFunc(m.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer leave()
	var answer [answerLen]byte
	if _, err = c.Write(g.append(nil)); err == nil {
		_, err = io.ReadFull(c, answer[:])
	}
	if err == nil && answer[0] != answerAccepted {
		err = fmt.Errorf("answer %x: %w", answer, errRecord)
	}
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	} else if !leave() {
		err = bus.ErrClosed
	}
	if err != nil {
		c.Close()
		return nil, 0, lost(err)
	}
	return c, binary.BigEndian.Uint32(answer[1:]), nil
}

// listener accepts connections to a range.
type listener struct {
	member *Member
	ref    uint32
	rng    bus.Range
	stream bool
	slots  chan struct{} // one each connection in queue
	queue  chan *conn
	done   chan struct{}
	once   sync.Once
}

// Listen binds the range and accepts connections to it.
func (m *Member) Listen(r bus.Range, opts ...bus.Option) (bus.Listener, error) {
	o := bus.Gather(bus.Options{}, opts)
	l := &listener{
		member: m, rng: r, stream: o.Kind == bus.Stream, slots: make(chan struct{}, acceptQueue),
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
	g, err := m.receiveGreeting(c)
	if err != nil {
		if !errors.Is(err, io.EOF) && m.ctx.Err() == nil {
			m.rejected.Add(1)
		}
		c.Close()
		return
	}
	switch g.kind {
	case greetDatagrams:
		m.datagrams(c, g.from, g.to)
		c.Close()
		return
	case greetLink:
		m.linked(c, g)
		return
	}
	m.mu.Lock()
	l, ok := m.ports[g.to].(*listener)
	m.mu.Unlock()
	if !ok || !l.rng.Contains(g.svc) || l.stream != g.stream {
		c.Close() // withdrawn meanwhile: the dialler looks further
		return
	}
	l.enqueue(c, &g)
}

// receiveGreeting admits the peer and reads its greeting.
func (m *Member) receiveGreeting(c *net.UnixConn) (greeting, error) {
	pid, err := admit(c, memberPath(m.dir, m.number))
	if err != nil {
		return greeting{}, err
	}
	_ = c.SetReadDeadline(time.Now().Add(replyTime))
	buf := make([]byte, greetLen)
	if n, err := io.ReadFull(c, buf); err != nil {
		if n > 0 {
			err = fmt.Errorf("greeting of %d bytes: %w", n, errRecord)
		}
		return greeting{}, err
	}
	g, follows, err := parseGreeting(buf)
	if err == nil && follows > 0 {
		g.data = make([]byte, follows)
		if _, err = io.ReadFull(c, g.data); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		err = m.verify(uint16(g.from>>16), pid)
	}
	if err != nil {
		return greeting{}, err
	}
	_ = c.SetReadDeadline(time.Time{})
	return g, nil
}

// errForged is the refusal of a process that calls itself another.
var errForged = errors.New("forged source")

// verify checks that the process is the member that it says it is: whoever
// listens on that member's socket.
func (m *Member) verify(number uint16, pid int) error {
	if number == m.number && pid == os.Getpid() {
		return nil
	}
	m.mu.Lock()
	known, ok := m.pids[number]
	m.mu.Unlock()
	if ok && known == pid {
		return nil
	}
	owner, err := listenerOf(memberPath(m.dir, number))
	if err != nil || owner != pid {
		return fmt.Errorf("pid %d as member %04x: %w", pid, number, errForged)
	}
	m.mu.Lock()
	if len(m.pids) >= maxPeers {
		clear(m.pids)
	}
	m.pids[number] = pid
	m.mu.Unlock()
	return nil
}

// enqueue hands a connection to Accept; the dialler waits for room.
func (l *listener) enqueue(c *net.UnixConn, g *greeting) {
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
	k, err := l.member.newConn(c, ref, g, g.from)
	if err != nil {
		return // the member has closed
	}
	if len(g.data) > 0 {
		k.first = g.data
	}
	// The answer goes first: once queued, the connection is Accept's.
	if _, err := c.Write([]byte{answerAccepted, 0, 0, 0, 0}); err != nil {
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
