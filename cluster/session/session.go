package session

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/wire"
	"godwit/event"
)

// Handler receives what happens on a session; its methods run on the loop.
type Handler interface {
	// Receive gets each message that is not a reply. A request has an ID: it
	// is answered by Reply or ReplyError, now or later.
	Receive(s *Session, m Message)
	// Closed is called once, last: bus.ErrClosed after Close, bus.ErrPeerGone
	// when the peer has gone.
	Closed(s *Session, err error)
}

// Session is one end of a connection.
type Session struct {
	h       *event.Handler
	conn    bus.Conn
	handler Handler
	ended   func()    // of Follow, after Closed
	began   time.Time // on the loop's clock

	kick   chan struct{} // work for the writer; capacity 1
	room   chan struct{} // room in the window; capacity 1
	closed chan struct{} // closed with err set

	mu        sync.Mutex
	err       error // why it ended; nil while it lives
	out       []Message
	queued    int // bytes in out, with headers, and in the writer's hands
	in        []Message
	inBytes   int
	scheduled bool        // deliver is posted
	linger    *time.Timer // closes the connection after Close
	pending   map[uint32]*request
	lastID    uint32
}

// request waits for its reply.
type request struct {
	kind  wire.Kind
	done  func(Message, error)
	timer *event.Timer
}

func newSession(h *event.Handler, c bus.Conn) *Session {
	return &Session{
		h: h, conn: c, began: h.Loop().Now(), pending: make(map[uint32]*request),
		kick: make(chan struct{}, 1), room: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// start runs the session with its handler; without one it closes.
func (s *Session) start(handler Handler) {
	if handler == nil {
		handler = ignore{}
		s.Close()
	}
	s.handler = handler
	s.h.Source("session", s.conn.Peer().String(), s.read)
	go s.write()
}

// ignore is the handler of a session that nobody wanted.
type ignore struct{}

func (ignore) Receive(*Session, Message) {}
func (ignore) Closed(*Session, error)    {}

// post queues an event that must not be lost, in a full queue as a timer: there
// are few of each kind for a session. It reports false if the loop has ended.
func post(h *event.Handler, f func()) bool {
	err := h.Post(f)
	if errors.Is(err, event.ErrFull) {
		h.After(0, f)
		return true
	}
	return err == nil
}

// Peer returns the bus address of the other end.
func (s *Session) Peer() bus.Address { return s.conn.Peer() }

// Queued returns how many bytes wait to be sent.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// Send queues a message without an answer. The body is the session's
// afterwards. ErrBacklog: too much waits already, nothing was queued.
func (s *Session) Send(k wire.Kind, body []byte) error {
	return s.send(Message{Kind: k, Body: body})
}

// SendShared is Send with a body in two parts, of which the second is shared
// with other sessions: nobody changes it.
func (s *Session) SendShared(k wire.Kind, head, body []byte) error {
	return s.send(Message{Kind: k, head: head, Body: body})
}

// SendJSON is Send with a body in JSON.
func (s *Session) SendJSON(k wire.Kind, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return fmt.Errorf("send %s: %w", k, err)
	}
	return s.Send(k, body)
}

func (s *Session) send(m Message) error {
	size := m.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return fmt.Errorf("send %s: %w", m.Kind, s.err)
	case size > headerLen+MaxBody:
		return fmt.Errorf("send %s of %d bytes: %w", m.Kind, size-headerLen, ErrTooLong)
	case s.queued > 0 && s.queued+size > MaxQueued:
		return fmt.Errorf("send %s: %w", m.Kind, ErrBacklog)
	}
	s.out = append(s.out, m)
	s.queued += size
	nudge(s.kick)
	return nil
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Request sends v in JSON and runs done on the loop, once: with the reply, the
// peer's error (*RemoteError), ErrTimeout, bus.ErrPeerGone when the session
// ends first, or why it could not be sent. A timeout of 0 waits as long as the
// session lives.
func (s *Session) Request(k wire.Kind, v any, timeout time.Duration, done func(Message, error)) {
	r := &request{kind: k, done: done}
	body, err := wire.Encode(v)
	var id uint32
	if err == nil {
		id, err = s.expect(r)
	}
	if err == nil {
		if err = s.send(Message{Kind: k, ID: id, Body: body}); err != nil && s.forget(id) == nil {
			return // the end of the session answers it
		}
	}
	if err != nil {
		post(s.h, func() { done(Message{}, fmt.Errorf("request %s: %w", k, err)) })
		return
	}
	if timeout <= 0 {
		return
	}
	t := s.h.After(timeout, func() {
		if s.forget(id) != nil {
			done(Message{}, fmt.Errorf("request %s: %w after %v", k, ErrTimeout, timeout))
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[id] == r {
		r.timer = t
	} else {
		t.Stop() // answered already
	}
}

// expect registers a request under a new ID.
func (s *Session) expect(r *request) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	for {
		s.lastID++
		if _, used := s.pending[s.lastID]; !used && s.lastID != 0 {
			s.pending[s.lastID] = r
			return s.lastID, nil
		}
	}
}

// forget takes a request off the list; nil if it is not on it any more.
func (s *Session) forget(id uint32) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.pending[id]
	delete(s.pending, id)
	return r
}

// Reply answers a request with v in JSON.
func (s *Session) Reply(to Message, k wire.Kind, v any) error {
	if to.ID == 0 || to.Reply {
		return fmt.Errorf("reply to %s: not a request", to.Kind)
	}
	body, err := wire.Encode(v)
	if err != nil {
		return fmt.Errorf("reply to %s: %w", to.Kind, err)
	}
	return s.send(Message{Kind: k, ID: to.ID, Reply: true, Body: body})
}

// ReplyError answers a request with an error.
func (s *Session) ReplyError(to Message, err error) error {
	return s.Reply(to, wire.Error, wire.ErrorBody{Error: err.Error()})
}

// Close ends the session. What is queued is still sent, for up to a second;
// nothing is received any more. Closed is called from the loop.
func (s *Session) Close() { s.end(bus.ErrClosed) }

// end notes why the session ends, the first time, and lets the loop know.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	if errors.Is(err, bus.ErrClosed) {
		s.in, s.inBytes = nil, 0
		s.linger = time.AfterFunc(linger, func() { s.conn.Close() })
	}
	close(s.closed)
	s.schedule()
}

// schedule posts deliver unless it is on its way. mu is held.
func (s *Session) schedule() {
	if !s.scheduled {
		s.scheduled = true
		post(s.h, s.deliver)
	}
}

// read receives until the connection breaks, a window ahead of the loop.
func (s *Session) read(src *event.Source) {
	var u unpacker
	received := func(m Message) { src.Count(); s.received(m) }
	for {
		b, err := s.conn.Recv()
		if err == nil {
			err = u.unpack(b, received)
		}
		if err != nil {
			s.end(reason(err))
			s.conn.Close()
			return
		}
		if !s.admit() {
			return
		}
	}
}

// reason tells apart what Closed reports.
func reason(err error) error {
	if errors.Is(err, bus.ErrClosed) || errors.Is(err, bus.ErrPeerGone) || errors.Is(err, ErrFrame) || errors.Is(err, ErrTooLong) {
		return err
	}
	return fmt.Errorf("%w: %w", bus.ErrPeerGone, err)
}

// received queues a message for the loop.
func (s *Session) received(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.in = append(s.in, m)
	s.inBytes += len(m.Body)
	s.schedule()
}

// admit waits for room in the window; false if the loop has ended.
func (s *Session) admit() bool {
	for {
		s.mu.Lock()
		full := len(s.in) >= windowMessages || s.inBytes >= windowBytes
		s.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-s.room:
		case <-s.closed: // what comes is dropped
			return true
		case <-s.h.Loop().Done():
			s.conn.Close()
			return false
		}
	}
}

// deliver hands received messages to the handler, for one budget of time.
func (s *Session) deliver() {
	until := time.Now().Add(deliverBudget)
	for {
		s.mu.Lock()
		if len(s.in) == 0 {
			s.in = nil
			s.scheduled = false
			over := s.err != nil // nothing is scheduled any more: only once
			s.mu.Unlock()
			nudge(s.room)
			if over {
				s.finish()
			}
			return
		}
		if time.Now().After(until) {
			post(s.h, s.deliver)
			s.mu.Unlock()
			nudge(s.room)
			return
		}
		m := s.in[0]
		s.in[0] = Message{}
		s.in = s.in[1:]
		s.inBytes -= len(m.Body)
		s.mu.Unlock()
		s.dispatch(m)
	}
}

// dispatch hands a reply to its request and anything else to the handler.
func (s *Session) dispatch(m Message) {
	if !m.Reply {
		s.handler.Receive(s, m)
		return
	}
	r := s.forget(m.ID)
	if r == nil {
		return // too late
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	if m.Kind != wire.Error {
		r.done(m, nil)
		return
	}
	var body wire.ErrorBody
	err := wire.DecodeKind(m.Kind, m.Body, &body)
	if err == nil {
		err = &RemoteError{Text: body.Error}
	}
	r.done(Message{}, err)
}

// finish fails what waits and tells the handler that the session has ended.
func (s *Session) finish() {
	s.mu.Lock()
	err, pending := s.err, s.pending
	s.pending = make(map[uint32]*request)
	s.mu.Unlock()
	for _, r := range pending {
		if r.timer != nil {
			r.timer.Stop()
		}
		r.done(Message{}, fmt.Errorf("request %s: %w", r.kind, bus.ErrPeerGone))
	}
	s.handler.Closed(s, err)
	if s.ended != nil {
		s.ended()
	}
}

// write sends what is queued, several messages in one bus message where they
// fit, until the session ends.
func (s *Session) write() {
	p := packer{send: s.conn.Send}
	for live := true; live; {
		select {
		case <-s.kick:
			err := s.drain(&p)
			if errors.Is(err, bus.ErrPeerGone) {
				return // the reader takes what has come, and ends the session
			}
			live = err == nil
		case <-s.h.Loop().Done():
			live = false
		case <-s.closed:
			_ = s.drain(&p) // as far as it goes
			live = false
		}
	}
	s.conn.Close() // the reader ends, too
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.linger != nil {
		s.linger.Stop()
	}
}

// drain sends all that is queued.
func (s *Session) drain(p *packer) error {
	for {
		s.mu.Lock()
		out := s.out
		s.out = nil
		s.mu.Unlock()
		if len(out) == 0 {
			return nil
		}
		size := 0
		var err error
		for i := range out {
			if err = p.add(&out[i]); err != nil {
				break
			}
			size += out[i].size()
			out[i].Body = nil
			if size > windowBytes { // tell senders early
				s.sent(size)
				size = 0
			}
		}
		if err == nil {
			err = p.flush()
		}
		s.sent(size)
		if err != nil {
			return err
		}
	}
}

func (s *Session) sent(size int) {
	s.mu.Lock()
	s.queued -= size
	s.mu.Unlock()
}
