package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"godwit/cluster/bus"
)

// A frame is a header in network order, then its payload:
//
//	0  1  kind
//	1  3  length of the payload
const (
	frameHeader = 4
	maxFrame    = bus.MaxMessage + datagramHeader
)

// Kinds of frames.
const (
	frameData     = 1 // of a connection
	frameShutdown = 2 // the last of a connection closed in good order; no payload
	frameDatagram = 3
	frameReturned = 4 // a datagram that was not delivered, behind its code
	frameBeat     = 5 // of a link; no payload
)

const (
	// bundleBytes is how much may wait for the write under way, so that it
	// goes out in one piece; then Send waits.
	bundleBytes = 64 << 10
	// chatty is how many messages may follow each other without one coming
	// back before the pipe bundles: below, each is written by its sender, which
	// saves the hop to another goroutine (TIPC's Nagle mode has the same number).
	chatty = 4
	// linger is how long Close tries to send what waits.
	linger = time.Second
	// lastWord bounds Close itself, when nobody else is writing.
	lastWord = 100 * time.Millisecond
)

var errFrame = errors.New("malformed frame")

// pipe carries frames over a stream socket. Senders bundle: while a write is
// under way, what is sent meanwhile is gathered and goes with the next.
type pipe struct {
	c *net.UnixConn

	mu      sync.Mutex
	room    sync.Cond // buf was taken, or the pipe broke
	work    sync.Cond // for the writer
	buf     []byte
	spare   []byte
	writing bool // somebody writes, or is about to
	due     bool // the writer is to write
	running bool // the writer has been started
	closed  bool // by close: nothing more is taken, what waits is sent
	err     error
	oneway  atomic.Int32 // frames sent since one was received

	// Owned by the reader:
	in   []byte
	r, w int
}

func newPipe(c *net.UnixConn) *pipe {
	p := &pipe{c: c}
	p.room.L, p.work.L = &p.mu, &p.mu
	return p
}

// send queues a frame of head and body, and writes it unless a write is under
// way. run starts the writer's goroutine.
func (p *pipe) send(run func(func()), kind byte, head, body []byte) error {
	n := frameHeader + len(head) + len(body)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && !p.closed && len(p.buf) > 0 && len(p.buf)+n > bundleBytes {
		p.room.Wait()
	}
	if err := p.broken(); err != nil {
		return err
	}
	p.buf = append(p.buf, kind, byte((n-frameHeader)>>16), byte((n-frameHeader)>>8), byte(n-frameHeader))
	p.buf = append(append(p.buf, head...), body...)
	if p.writing {
		return nil
	}
	p.writing = true
	if p.oneway.Load() < chatty {
		p.oneway.Add(1)
		p.flush()
		if len(p.buf) == 0 || p.err != nil {
			p.writing = false
			if p.closed {
				p.c.Close()
			}
			return p.err
		}
	}
	p.due = true
	if p.running {
		p.work.Signal()
		return nil
	}
	p.running = true
	run(p.write)
	return nil
}

// broken is why nothing can be sent; nil while it can. mu is held.
func (p *pipe) broken() error {
	if p.closed {
		return bus.ErrClosed
	}
	return p.err
}

// flush writes what waits. mu is held, but not during the write.
func (p *pipe) flush() {
	out := p.buf
	p.buf = p.spare[:0]
	p.mu.Unlock()
	_, err := p.c.Write(out)
	p.mu.Lock()
	p.spare = out[:0]
	if err != nil && p.err == nil {
		if p.err = lost(err); errors.Is(p.err, bus.ErrPeerGone) {
			p.err = &bus.GoneError{Code: bus.NoPort}
		}
	}
	p.room.Broadcast()
}

// write is the writer: it writes as long as there is something, then waits.
func (p *pipe) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for !p.due && p.err == nil && !p.closed {
			p.work.Wait()
		}
		for len(p.buf) > 0 && p.err == nil {
			p.flush()
		}
		p.due, p.writing = false, false
		if p.closed {
			p.c.Close()
		}
		if p.err != nil || p.closed {
			return
		}
	}
}

// abort breaks the pipe with err; a reader and senders get it.
func (p *pipe) abort(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.room.Broadcast()
	p.work.Signal()
	p.mu.Unlock()
	p.c.Close()
}

// close sends what waits and the last frame, if last is not 0, then closes the
// socket; what the peer does not take in time is dropped. A writer that is
// at work finishes after close has returned.
func (p *pipe) close(last byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.room.Broadcast()
	if p.err != nil {
		p.work.Signal()
		p.c.Close()
		return
	}
	if last != 0 {
		p.buf = append(p.buf, last, 0, 0, 0)
	}
	_ = p.c.SetReadDeadline(time.Unix(1, 0))
	_ = p.c.SetWriteDeadline(time.Now().Add(linger))
	if p.writing {
		return // the writer sends it; a sender that writes hands over to it
	}
	if len(p.buf) > 0 {
		_ = p.c.SetWriteDeadline(time.Now().Add(lastWord))
		p.writing = true
		p.flush()
		p.writing = false
	}
	p.work.Broadcast()
	p.c.Close()
}

// reason is why the pipe broke.
func (p *pipe) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken()
}

// gone notes that the peer has ended the pipe.
func (p *pipe) gone(c bus.Code) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return bus.ErrClosed
	}
	if g := new(bus.GoneError); !errors.As(p.err, &g) || c == bus.Shutdown {
		p.err = &bus.GoneError{Code: c}
	}
	p.room.Broadcast()
	p.work.Signal()
	return p.err
}

// ready tells whether receive has a whole frame and need not wait.
func (p *pipe) ready() bool {
	if p.w-p.r < frameHeader {
		return false
	}
	n := int(binary.BigEndian.Uint32(p.in[p.r:]) & 0xffffff)
	return p.w-p.r >= frameHeader+n
}

// receive returns the next frame; its payload is valid until the next call.
func (p *pipe) receive() (kind byte, payload []byte, err error) {
	for {
		if p.w-p.r >= frameHeader {
			head := binary.BigEndian.Uint32(p.in[p.r:])
			kind, n := byte(head>>24), int(head&0xffffff)
			if err := checkFrame(kind, n); err != nil {
				return 0, nil, err
			}
			if p.w-p.r >= frameHeader+n {
				payload = p.in[p.r+frameHeader : p.r+frameHeader+n : p.r+frameHeader+n]
				p.r += frameHeader + n
				if p.oneway.Load() != 0 {
					p.oneway.Store(0)
				}
				return kind, payload, nil
			}
			p.reserve(frameHeader + n)
		} else {
			p.reserve(frameHeader)
		}
		n, err := read(p.c, p.in[p.w:])
		if err != nil {
			return 0, nil, err
		}
		p.w += n
	}
}

const (
	firstBuffer = 4 << 10
	readBuffer  = bundleBytes + maxFrame
)

// reserve makes room for n bytes from r on. A buffer that a read filled grows.
func (p *pipe) reserve(n int) {
	full := p.w == len(p.in)
	if p.r > 0 {
		p.w = copy(p.in, p.in[p.r:p.w])
		p.r = 0
	}
	switch {
	case len(p.in) == 0:
		p.in = make([]byte, max(n, firstBuffer))
	case len(p.in) < n || full && len(p.in) < readBuffer:
		p.in = append(make([]byte, 0, readBuffer), p.in[:p.w]...)[:readBuffer]
	}
}

// checkFrame refuses kinds and lengths that no member sends.
func checkFrame(kind byte, n int) error {
	ok := false
	switch kind {
	case frameData:
		ok = 1 <= n && n <= bus.MaxMessage
		if n > bus.MaxMessage {
			return fmt.Errorf("message of %d bytes: %w: %w", n, errFrame, bus.ErrTooLong)
		}
	case frameShutdown, frameBeat:
		ok = n == 0
	case frameDatagram:
		ok = datagramHeader < n && n <= maxFrame
	case frameReturned:
		ok = datagramHeader < n && n <= maxFrame
	}
	if !ok {
		return fmt.Errorf("kind %d with %d bytes: %w", kind, n, errFrame)
	}
	return nil
}
