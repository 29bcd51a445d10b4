package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"godwit/cluster/bus"
)

const (
	// DefaultTolerance is long, because the end of a process is noticed at once
	// by its closed sockets; the heartbeat is for one that hangs.
	DefaultTolerance = 5 * time.Second
	// beats is how many heartbeats are sent in the time of the tolerance.
	beats = 4
)

// link supervises the way to another member: both ends send heartbeats over a
// connection of their own. A link that is silent for its tolerance ends all
// connections with that member.
type link struct {
	peer      uint16
	c         *net.UnixConn
	tolerance time.Duration
	heard     atomic.Int64 // Unix time in ns
}

// Option changes how a process joins the bus.
type Option func(*Member) error

// Tolerance sets how long a link may be silent, from 50 ms to 30 s. Of two
// members the longer one counts.
func Tolerance(d time.Duration) Option {
	return func(m *Member) error {
		if d < bus.MinTolerance || d > bus.MaxTolerance {
			return fmt.Errorf("tolerance of %v is not between %v and %v", d, bus.MinTolerance, bus.MaxTolerance)
		}
		m.tolerance = d
		return nil
	}
}

// watch makes sure that there is a link to a member that we are connected to.
func (m *Member) watch(peer uint16) {
	if peer == m.number {
		return
	}
	m.mu.Lock()
	_, have := m.links[peer]
	if !have {
		m.links[peer] = nil // on its way
	}
	m.mu.Unlock()
	if !have {
		m.spawn(func() { m.openLink(peer) })
	}
}

func (m *Member) openLink(peer uint16) {
	ctx, cancel := context.WithTimeout(m.ctx, m.tolerance)
	defer cancel()
	ref := uint32(peer) << 16
	own := uint32(m.tolerance / time.Millisecond)
	c, theirs, err := m.greet(ctx, greeting{
		kind: greetLink, from: uint32(m.number) << 16, to: ref, svc: bus.Service{Type: bus.TypeLinkState, Instance: own},
	})
	if err != nil {
		m.mu.Lock()
		delete(m.links, peer)
		m.mu.Unlock()
		if errors.Is(err, context.DeadlineExceeded) {
			m.abort(peer) // it accepts nothing within the tolerance: it hangs
		}
		return
	}
	m.supervise(c, peer, tolerance(own, theirs))
}

// linked serves the link that another member opened.
func (m *Member) linked(c *net.UnixConn, g greeting) {
	var answer [answerLen]byte
	answer[0] = answerAccepted
	own := uint32(m.tolerance / time.Millisecond)
	binary.BigEndian.PutUint32(answer[1:], own)
	if _, err := c.Write(answer[:]); err != nil {
		c.Close()
		return
	}
	m.supervise(c, uint16(g.from>>16), tolerance(own, g.svc.Instance))
}

// tolerance is what two members agree on, within bounds.
func tolerance(a, b uint32) time.Duration {
	d := time.Duration(max(a, b)) * time.Millisecond
	return min(max(d, bus.MinTolerance), bus.MaxTolerance)
}

// supervise keeps a link until the peer closes it or is silent for too long.
func (m *Member) supervise(c *net.UnixConn, peer uint16, tol time.Duration) {
	l := &link{peer: peer, c: c, tolerance: tol}
	l.heard.Store(time.Now().UnixNano())
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		c.Close()
		return
	}
	m.resources[c] = struct{}{}
	m.links[peer] = l
	k := key{uint32(peer) << 16, bus.One(bus.TypeLinkState, uint32(peer))}
	b := binding{key: k, pid: os.Getpid(), name: m.name, local: true}
	if m.table.add(b) {
		m.notify(b.event(true))
	}
	m.mu.Unlock()
	done := make(chan struct{})
	m.spawn(func() { l.beat(done) })
	silent := l.listen()
	close(done)
	c.Close()
	m.mu.Lock()
	delete(m.resources, c)
	if m.links[peer] == l {
		delete(m.links, peer)
		if b := m.table.remove(k); b != nil {
			m.notify(b.event(false))
		}
	}
	m.mu.Unlock()
	if silent {
		m.abort(peer)
	}
}

// beat sends heartbeats until done.
func (l *link) beat(done chan struct{}) {
	tick := time.NewTicker(l.tolerance / beats)
	defer tick.Stop()
	frame := []byte{frameBeat, 0, 0, 0}
	for {
		_ = l.c.SetWriteDeadline(time.Now().Add(l.tolerance / beats))
		if _, err := l.c.Write(frame); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // the listener notices
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// listen takes heartbeats; it reports whether the link ended by silence.
func (l *link) listen() bool {
	buf := make([]byte, 64*frameHeader)
	last := time.Now()
	grace := false
	for {
		limit := last.Add(l.tolerance)
		if grace {
			limit = time.Now().Add(l.tolerance / (2 * beats))
		}
		_ = l.c.SetReadDeadline(limit)
		n, err := l.c.Read(buf)
		switch {
		case err == nil && validBeats(buf[:n]):
			last, grace = time.Now(), false
			l.heard.Store(last.UnixNano())
		case errors.Is(err, os.ErrDeadlineExceeded) && !grace:
			// Perhaps it was we who slept: look once more what has come.
			grace = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			return true
		default: // closed, or garbage
			return false
		}
	}
}

// validBeats tells whether all bytes belong to heartbeats; reads may split them.
func validBeats(b []byte) bool {
	for _, x := range b {
		if x != frameBeat && x != 0 {
			return false
		}
	}
	return true
}

// abort ends all connections with a member that is not heard any more.
func (m *Member) abort(peer uint16) {
	m.mu.Lock()
	var broken []*pipe
	for r := range m.resources {
		switch r := r.(type) {
		case *conn:
			if uint16(r.peer.Ref>>16) == peer {
				broken = append(broken, r.p)
			}
		case *socket:
			if p := r.way(peer); p != nil {
				broken = append(broken, p)
			}
		case *incoming:
			if uint16(r.from>>16) == peer {
				broken = append(broken, r.p)
			}
		}
	}
	m.mu.Unlock()
	for _, p := range broken {
		p.abort(&bus.GoneError{Code: bus.NoNode})
	}
}

// Links returns the supervised links to other members.
func (m *Member) Links() ([]bus.Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make(map[uint16]string)
	for _, b := range m.table.all {
		if !b.local && b.name != "" {
			names[uint16(b.ref>>16)] = b.name
		}
	}
	var list []bus.Link
	for peer, l := range m.links {
		if l != nil {
			silent := time.Since(time.Unix(0, l.heard.Load()))
			list = append(list, bus.Link{Name: names[peer], Peer: uint32(peer), Up: true, Active: true, Tolerance: l.tolerance, Silent: silent})
		}
	}
	return list, nil
}

// Nodes returns the one node of the bus.
func (m *Member) Nodes() []uint32 { return []uint32{0} }

var _ bus.Inspector = (*Member)(nil)
