package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"godwit/cluster/bus"
)

// Member is one process's membership of the bus.
type Member struct {
	dir      string
	name     string
	number   uint16
	listener *net.UnixListener
	ctx      context.Context // ends with Close; not a call's context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	rejected atomic.Uint64

	tolerance time.Duration // of links

	mu        sync.Mutex
	closed    bool
	table     table
	gen       uint32                // of the connection to the name service
	service   *net.UnixConn         // nil while it is away
	waiters   map[uint32]chan error // replies awaited, by sequence
	seq       uint32
	version   *version // of the name service's table; nil: not known
	synced    uint64   // count at which our copy was in step
	inStep    bool     // it was, on this connection
	port      uint16
	ports     map[uint32]any // ref → *listener, *socket, *conn
	own       map[key]struct{}
	subs      map[*subscription]struct{}
	resources map[interface{ Close() error }]struct{} // broken by Close
	links     map[uint16]*link                        // by the peer's number; nil while it is opened
	pids      map[uint16]int                          // processes of members, as verified

	writeMu sync.Mutex // one record at a time to the name service
}

var _ bus.Bus = (*Member)(nil)

// Join makes the process a member of the bus in dir, under a name for people.
// The name service must be there; it may go away and come back later.
func Join(dir, name string, opts ...Option) (bus.Bus, error) {
	if len(name) > maxName {
		return nil, fmt.Errorf("join bus: name of %d bytes is longer than %d", len(name), maxName)
	}
	m := &Member{
		dir: dir, name: name, table: newTable(),
		waiters: make(map[uint32]chan error), ports: make(map[uint32]any), own: make(map[key]struct{}),
		subs: make(map[*subscription]struct{}), resources: make(map[interface{ Close() error }]struct{}),
		tolerance: DefaultTolerance, links: make(map[uint16]*link), pids: make(map[uint16]int),
	}
	for _, o := range opts {
		if err := o(m); err != nil {
			return nil, fmt.Errorf("join bus: %w", err)
		}
	}
	m.table.add(binding{key: key{0, bus.One(bus.TypeNodeState, 0)}, pid: os.Getpid(), local: true}) // this machine
	m.ctx, m.cancel = context.WithCancel(context.Background())
	// A number may be taken by a process that lives, or died unswept.
	var err error
	for range 16 {
		m.number = uint16(1 + rand.IntN(maxPorts))
		if m.listener, err = listen(members, memberPath(dir, m.number)); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			continue
		}
		if err = m.connect(); err == nil {
			m.wg.Go(m.accept)
			m.wg.Go(m.follow)
			return m, nil
		}
		m.listener.Close()
		_ = os.Remove(memberPath(dir, m.number))
		if !errors.Is(err, errTaken) {
			break
		}
	}
	m.cancel()
	return nil, fmt.Errorf("join bus: %w", err)
}

var errTaken = errors.New("member number in use")

// Rejected counts connections to this member that were dropped because of who
// or what came: foreign users, garbage.
func (m *Member) Rejected() uint64 { return m.rejected.Load() }

// Close leaves the bus: it unbinds everything and breaks all connections.
func (m *Member) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.cancel()
	if m.service != nil {
		m.service.Close()
	}
	var all []interface{ Close() error }
	for r := range m.resources {
		all = append(all, r)
	}
	for s := range m.subs {
		all = append(all, s)
	}
	m.mu.Unlock()
	_ = os.Remove(memberPath(m.dir, m.number))
	err := m.listener.Close()
	for _, r := range all {
		_ = r.Close()
	}
	m.wg.Wait()
	m.mu.Lock()
	m.version.close()
	m.version = nil
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("leave bus: %w", err)
	}
	return nil
}

// hold registers what Close shall close; false if it is too late.
func (m *Member) hold(r interface{ Close() error }) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.resources[r] = struct{}{}
	}
	return !m.closed
}

// spawn runs f on a goroutine that Close waits for.
func (m *Member) spawn(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		go f() // sends what waits, for no longer than linger
		return
	}
	m.wg.Go(f)
}

func (m *Member) release(r interface{ Close() error }) {
	m.mu.Lock()
	delete(m.resources, r)
	m.mu.Unlock()
}

// newRef reserves the reference of a socket.
func (m *Member) newRef(owner any) (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, bus.ErrClosed
	}
	if len(m.ports) >= maxPorts {
		return 0, fmt.Errorf("more than %d sockets", maxPorts)
	}
	for {
		m.port++
		ref := uint32(m.number)<<16 | uint32(m.port)
		if _, used := m.ports[ref]; !used && m.port != 0 {
			m.ports[ref] = owner
			return ref, nil
		}
	}
}

// freeRef gives the reference back and withdraws what is bound to it.
func (m *Member) freeRef(ref uint32) {
	m.mu.Lock()
	delete(m.ports, ref)
	var bound []key
	for k := range m.own {
		if k.ref == ref {
			bound = append(bound, k)
			delete(m.own, k)
		}
	}
	m.mu.Unlock()
	for i, k := range bound {
		if i < len(bound)-1 {
			m.tell(opUnbind, k)
		} else {
			_ = m.ask(opUnbind, k) // a name service that is away forgets us anyway
		}
	}
}

// bind publishes a binding; it is in force when bind returns, or as soon as
// the name service is back.
func (m *Member) bind(ref uint32, r bus.Range) error {
	if r.Lower > r.Upper {
		return fmt.Errorf("bind %s: lower is above upper", r)
	}
	if r.Type < bus.MinType {
		return fmt.Errorf("bind %s: %w", r, bus.ErrReserved)
	}
	k := key{ref, r}
	m.mu.Lock()
	m.own[k] = struct{}{}
	m.mu.Unlock()
	if err := m.ask(opBind, k); err != nil {
		m.mu.Lock()
		delete(m.own, k)
		m.mu.Unlock()
		return fmt.Errorf("bind %s: %w", r, err)
	}
	return nil
}

// pick resolves a service: the refs bound to it, whose turn it is first.
func (m *Member) pick(s bus.Service) []uint32 {
	m.mu.Lock()
	refs := m.table.pick(s)
	m.mu.Unlock()
	if len(refs) > 0 {
		return refs
	}
	m.sync() // our copy may be behind
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.pick(s)
}

// candidates yields the refs bound to a service, whose turn it is first; when
// none of those in our copy will do, those that were bound since.
func (m *Member) candidates(s bus.Service) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		tried := m.pick(s)
		for _, ref := range tried {
			if !yield(ref) {
				return
			}
		}
		if len(tried) == 0 {
			return // pick has just asked
		}
		m.sync()
		m.mu.Lock()
		fresh := m.table.pick(s)
		m.mu.Unlock()
		for _, ref := range fresh {
			if !slices.Contains(tried, ref) && !yield(ref) {
				return
			}
		}
	}
}

// sync brings our copy of the name table in step with the name service: it asks,
// unless nothing has changed since it last did.
func (m *Member) sync() {
	m.mu.Lock()
	conn, v, known := m.service, uint64(0), m.version != nil
	if known {
		v = m.version.count().Load()
	}
	fresh := known && m.inStep && m.synced == v
	m.mu.Unlock()
	if fresh || m.ask(opSync, key{}) != nil || !known {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.service == conn && conn != nil {
		m.synced, m.inStep = v, true
	}
}

// matching returns the bindings that overlap a range, as of now.
func (m *Member) matching(r bus.Range) []binding {
	m.sync()
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []binding
	for _, b := range m.table.overlapping(r) {
		list = append(list, *b)
	}
	return list
}

// ask sends a request to the name service and waits for its answer. While the
// name service is away there is none: the tables meet again when it is back.
func (m *Member) ask(o op, k key) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return bus.ErrClosed
	}
	conn := m.service
	if conn == nil {
		m.mu.Unlock()
		return nil
	}
	m.seq++
	if m.seq == 0 {
		m.seq++
	}
	r := record{op: o, seq: m.seq, ref: k.ref, rng: k.rng}
	reply := make(chan error, 1)
	m.waiters[r.seq] = reply
	m.mu.Unlock()
	m.write(conn, r)
	timeout := time.NewTimer(replyTime)
	defer timeout.Stop()
	select {
	case err := <-reply:
		return err
	case <-timeout.C:
		conn.Close() // it hangs: try the next one
		return nil
	}
}

// tell sends a request whose answer nobody waits for.
func (m *Member) tell(o op, k key) {
	m.mu.Lock()
	conn := m.service
	m.mu.Unlock()
	if conn != nil {
		m.write(conn, record{op: o, ref: k.ref, rng: k.rng})
	}
}

// write sends a record; a connection that does not take it is closed.
func (m *Member) write(conn *net.UnixConn, r record) {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	m.writeLocked(conn, r)
}

func (m *Member) writeLocked(conn *net.UnixConn, r record) {
	_ = conn.SetWriteDeadline(time.Now().Add(replyTime))
	if _, err := conn.Write(r.append(nil)); err != nil {
		conn.Close()
	}
}

// connect joins the name service, reads its whole table and publishes ours.
func (m *Member) connect() error {
	ctx, cancel := context.WithTimeout(m.ctx, replyTime)
	defer cancel()
	conn, err := dial(ctx, nameService, serverPath(m.dir))
	if err != nil {
		return err
	}
	defer context.AfterFunc(m.ctx, func() { conn.Close() })()
	m.write(conn, record{op: opHello, member: m.number, name: m.name})
	m.mu.Lock()
	m.gen++
	gen := m.gen
	m.mu.Unlock()
	_ = conn.SetReadDeadline(time.Now().Add(replyTime))
	buf := make([]byte, recordBuffer)
	for {
		r, err := readRecord(conn, buf)
		if err == nil && r.op == opDone && r.code == codeTaken {
			err = errTaken
		}
		if err != nil {
			conn.Close()
			return fmt.Errorf("read name table: %w", err)
		}
		if r.op == opDone {
			break
		}
		m.apply(r)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if err := m.republish(conn); err != nil {
		return err
	}
	if gen > 1 {
		time.AfterFunc(resyncGrace, func() { m.sweep(gen) })
	}
	return nil
}

// republish makes conn the connection to the name service and publishes our
// bindings. It holds writeMu, so that an unbind comes behind its bind.
func (m *Member) republish(conn *net.UnixConn) error {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		conn.Close()
		return bus.ErrClosed
	}
	m.service = conn
	m.version.close()
	m.version, m.inStep = openVersion(m.dir), false
	own := slices.Collect(maps.Keys(m.own))
	m.mu.Unlock()
	for _, k := range own {
		m.writeLocked(conn, record{op: opBind, ref: k.ref, rng: k.rng}) // sequence 0: nobody waits
	}
	return nil
}

// follow keeps the copy of the name table until Close.
func (m *Member) follow() {
	buf := make([]byte, recordBuffer)
	for m.ctx.Err() == nil {
		m.mu.Lock()
		conn := m.service
		m.mu.Unlock()
		if conn == nil {
			m.reconnect()
			continue
		}
		r, err := readRecord(conn, buf)
		if err != nil {
			m.disconnected(conn)
			continue
		}
		m.apply(r)
	}
	m.disconnected(nil)
}

// reconnect tries until the name service is there again, or Close.
func (m *Member) reconnect() {
	for wait := retryMin; m.connect() != nil; wait = min(2*wait, retryMax) {
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-m.ctx.Done():
			return
		}
	}
}

// disconnected releases whoever waits for an answer.
func (m *Member) disconnected(conn *net.UnixConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	m.service, m.inStep = nil, false
	for seq, w := range m.waiters {
		w <- nil
		delete(m.waiters, seq)
	}
}

// apply brings a record of the name service into our copy.
func (m *Member) apply(r record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.op {
	case opDone:
		if w := m.waiters[r.seq]; w != nil {
			delete(m.waiters, r.seq)
			w <- codeError(r.code)
		}
	case opUp:
		b := binding{key: key{r.ref, r.rng}, pid: int(r.pid), name: r.name, gen: m.gen}
		if r.rng.Type >= bus.MinType && m.table.add(b) {
			m.notify(b.event(true))
		}
	case opDown:
		if b := m.table.remove(key{r.ref, r.rng}); b != nil {
			m.notify(b.event(false))
		}
	}
}

func codeError(code byte) error {
	switch code {
	case codeOK:
		return nil
	case codeFull:
		return fmt.Errorf("%w: the name table has %d", bus.ErrFull, maxBindings)
	case codeQuota:
		return fmt.Errorf("%w: a member may have %d", bus.ErrFull, maxOwn)
	}
	return fmt.Errorf("refused with code %d", code)
}

// sweep reports gone what no one published since the name service came back.
func (m *Member) sweep(gen uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.gen != gen || m.service == nil {
		return
	}
	for k, b := range m.table.all {
		if b.gen != gen && !b.local {
			m.table.remove(k)
			m.notify(b.event(false))
		}
	}
}

// notify queues an event for the subscriptions it concerns. mu is held.
func (m *Member) notify(e bus.Event) {
	for s := range m.subs {
		if s.rng.Overlaps(e.Range) {
			s.tell(e)
		}
	}
}

// Subscribe reports the bindings that overlap the range, then changes.
func (m *Member) Subscribe(r bus.Range, opts ...bus.Option) (bus.Subscription, error) {
	s := newSubscription(m, r, bus.Gather(bus.Options{}, opts))
	m.sync()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("subscribe to %s: %w", r, bus.ErrClosed)
	}
	existing := m.table.overlapping(r)
	slices.SortStableFunc(existing, func(a, b *binding) int { return int(int64(a.rng.Lower) - int64(b.rng.Lower)) })
	for _, b := range existing {
		s.tell(b.event(true))
	}
	m.subs[s] = struct{}{}
	return s, nil
}
