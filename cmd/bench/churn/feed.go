package churn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// BGP messages (RFC 4271 section 4).
const (
	headerLen  = 19
	maxMessage = 4096

	typeOpen         = 1
	typeUpdate       = 2
	typeNotification = 3
	typeKeepalive    = 4

	localAS   = 65001 // the session is internal: next hops are taken as they are
	holdTime  = 240   // seconds
	keepalive = 10 * time.Second
)

// feeder is a BGP speaker that sends and does not listen.
type feeder struct {
	conn net.Conn
	done chan struct{} // closed when the reader has ended
	stop chan struct{}
	wg   sync.WaitGroup

	mu  sync.Mutex // of writing
	err error      // why the session ended

	sent atomic.Uint64 // changes, by churn
}

// newFeeder opens the session on a connection; it owns the connection from then on.
func newFeeder(conn net.Conn, id netip.Addr) (*feeder, error) {
	f := &feeder{conn: conn, done: make(chan struct{}), stop: make(chan struct{})}
	if err := f.open(id); err != nil {
		return nil, errors.Join(fmt.Errorf("open BGP session: %w", err), conn.Close())
	}
	f.wg.Add(2)
	go f.read()
	go f.keep()
	return f, nil
}

func (f *feeder) open(id netip.Addr) error {
	if err := f.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := f.conn.Write(openMessage(id)); err != nil {
		return err
	}
	for _, want := range []byte{typeOpen, typeKeepalive} {
		kind, body, err := readMessage(f.conn)
		if err != nil {
			return err
		}
		if kind != want {
			return fmt.Errorf("message of type %d (% x), want %d", kind, body, want)
		}
		if kind == typeOpen {
			if _, err := f.conn.Write(message(nil, typeKeepalive, nil)); err != nil {
				return err
			}
		}
	}
	return f.conn.SetDeadline(time.Time{})
}

// read takes what the router says, and notes why it ends the session.
func (f *feeder) read() {
	defer f.wg.Done()
	defer close(f.done)
	for {
		kind, body, err := readMessage(f.conn)
		if err == nil && kind == typeNotification {
			err = fmt.Errorf("notification % x", body)
		}
		if err != nil {
			f.mu.Lock()
			f.err = fmt.Errorf("BGP session ended: %w", err)
			f.mu.Unlock()
			return
		}
	}
}

func (f *feeder) keep() {
	defer f.wg.Done()
	t := time.NewTicker(keepalive)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if f.write(message(nil, typeKeepalive, nil)) != nil {
				return // the reader knows why
			}
		case <-f.stop:
			return
		}
	}
}

// write sends whole messages.
func (f *feeder) write(b []byte) error {
	select {
	case <-f.done:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.err
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.conn.Write(b); err != nil {
		return fmt.Errorf("send to the router: %w", err)
	}
	return nil
}

func (f *feeder) close() error {
	close(f.stop)
	err := f.conn.Close()
	f.wg.Wait()
	return err
}

// perPath is how many prefixes share an AS path, as in real tables.
const perPath = 5

// announce sends prefixes with the next hop, and the end of the table.
func (f *feeder) announce(prefixes []netip.Prefix, hop netip.Addr) error {
	var b []byte
	for i := 0; i < len(prefixes); i += perPath {
		n := uint32(i / perPath)
		b = update(b, hop, []uint32{65010, 1000 + n%40_000, 100_000 + n/40_000}, prefixes[i:min(i+perPath, len(prefixes))])
		if len(b) > 1<<16 {
			if err := f.write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return f.write(message(b, typeUpdate, make([]byte, 4))) // end of table: RFC 4724 section 2
}

// tick is the time between bursts of changes, perUpdate the prefixes of a message.
const (
	tick      = 5 * time.Millisecond
	perUpdate = 10
)

// churn moves the prefixes, one after the other, round and round, to the second
// next hop and back, rate changes a second for the time.
func (f *feeder) churn(prefixes []netip.Prefix, hops [2]netip.Addr, rate int, d time.Duration) error {
	var b []byte
	return pace(len(prefixes), rate, d, func(moves []move, sent int) error {
		b = b[:0]
		for _, m := range moves {
			for at := m.from; at < m.to; at += perUpdate {
				b = update(b, hops[m.turn], []uint32{65010, uint32(1000 + at)}, prefixes[at:min(at+perUpdate, m.to)])
			}
		}
		if err := f.write(b); err != nil {
			return err
		}
		f.sent.Store(uint64(sent))
		return nil
	})
}

// move is of the prefixes from ≤ index < to, to the first or second next hop.
type move struct{ from, to, turn int }

// pace tells what to move when: every prefix of n to the second next hop, then
// back, and so on, rate changes a second for the time. It sleeps in the kernel:
// the Go scheduler may get little of the processors.
func pace(n, rate int, d time.Duration, send func(moves []move, sent int) error) error {
	at, turn, sent := 0, 1, 0
	for start := time.Now(); ; {
		gone := time.Since(start)
		due := int(min(gone, d).Seconds() * float64(rate))
		var moves []move
		for sent < due {
			m := move{at, min(at+due-sent, n), turn}
			moves = append(moves, m)
			sent += m.to - m.from
			if at = m.to; at == n {
				at, turn = 0, 1-turn
			}
		}
		if len(moves) > 0 {
			if err := send(moves, sent); err != nil {
				return err
			}
		}
		if gone >= d {
			return nil
		}
		ts := unix.NsecToTimespec(int64(tick))
		_ = unix.Nanosleep(&ts, nil)
	}
}

// message appends a message.
func message(b []byte, kind byte, body []byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+len(body)))
	return append(append(b, kind), body...)
}

// openMessage offers IPv4 unicast (RFC 4760) and long AS numbers (RFC 6793).
func openMessage(id netip.Addr) []byte {
	body := binary.BigEndian.AppendUint16([]byte{4}, localAS)
	body = binary.BigEndian.AppendUint16(body, holdTime)
	body = append(body, id.AsSlice()...)
	body = append(body, 14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4)
	return message(nil, typeOpen, binary.BigEndian.AppendUint32(body, localAS))
}

// update appends an announcement of IPv4 prefixes: at most some hundred.
func update(b []byte, hop netip.Addr, path []uint32, prefixes []netip.Prefix) []byte {
	attrs := []byte{0x40, 1, 1, 0, 0x40, 2, byte(2 + 4*len(path)), 2, byte(len(path))}
	for _, as := range path {
		attrs = binary.BigEndian.AppendUint32(attrs, as)
	}
	attrs = append(append(attrs, 0x40, 3, 4), hop.AsSlice()...)
	attrs = append(attrs, 0x40, 5, 4, 0, 0, 0, 100)
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs)))
	body = append(body, attrs...)
	for _, p := range prefixes {
		a := p.Addr().As4()
		body = append(append(body, byte(p.Bits())), a[:(p.Bits()+7)/8]...)
	}
	return message(b, typeUpdate, body)
}

// readMessage reads one message.
func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, fmt.Errorf("read BGP header: %w", err)
	}
	n := int(binary.BigEndian.Uint16(h[16:]))
	if n < headerLen || n > maxMessage {
		return 0, nil, fmt.Errorf("read BGP header: %d bytes: %w", n, os.ErrInvalid)
	}
	body = make([]byte, n-headerLen)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("read BGP message: %w", err)
	}
	return h[18], body, nil
}
