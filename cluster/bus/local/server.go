package local

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
	"godwit/cluster/wire"
)

// Server is the name service: it knows who has bound what and tells everyone.
type Server struct {
	dir      string
	log      *slog.Logger
	lock     *os.File // the directory, locked: one name service each
	listener *net.UnixListener
	wg       sync.WaitGroup
	done     chan struct{} // closed by Close

	mu       sync.Mutex
	table    table
	version  *version
	members  map[uint16]*client
	conns    map[*net.UnixConn]struct{} // also those that have not said hello
	rejected uint64
	closed   bool
}

// ServerStats counts what the name service sees.
type ServerStats struct {
	Members  int    `json:"members"`
	Names    int    `json:"names"`
	Rejected uint64 `json:"rejected"` // connections dropped: foreign users, garbage
}

// client is a member as the name service sees it.
type client struct {
	conn   *net.UnixConn
	number uint16
	pid    int
	name   string
	own    map[key]struct{}

	mu   sync.Mutex
	out  []record // waits for the writer
	more *sync.Cond
	gone bool
}

// paths of a bus directory.
func serverPath(dir string) string { return filepath.Join(dir, "bus.sock") }
func memberDir(dir string) string  { return filepath.Join(dir, "bus") }
func memberPath(dir string, number uint16) string {
	return filepath.Join(dir, "bus", fmt.Sprintf("%04x", number))
}

// NewServer starts the name service in dir, which is made (0750) if missing,
// and removes the sockets of dead processes.
func NewServer(dir string, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(memberDir(dir), 0o750); err != nil {
		return nil, fmt.Errorf("make bus directory: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open bus directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock bus directory %s, which another name service may use: %w", dir, err)
	}
	sweepStale(serverPath(dir))
	sweepMembers(dir)
	v, err := newVersion(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	l, err := listen(nameService, serverPath(dir))
	if err != nil {
		v.close()
		lock.Close()
		return nil, err
	}
	s := &Server{
		dir: dir, log: log, lock: lock, listener: l, done: make(chan struct{}),
		table: newTable(), version: v, members: make(map[uint16]*client), conns: make(map[*net.UnixConn]struct{}),
	}
	s.wg.Go(s.accept)
	return s, nil
}

// sweepMembers removes what dead members left.
func sweepMembers(dir string) {
	entries, _ := os.ReadDir(memberDir(dir))
	for _, e := range entries {
		if e.Type() == os.ModeSocket {
			sweepStale(filepath.Join(memberDir(dir), e.Name()))
		}
	}
}

// Close ends the name service. Connections between members live on.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	_ = os.Remove(versionPath(s.dir)) // members that have it mapped keep it
	err := errors.Join(os.Remove(serverPath(s.dir)), s.listener.Close())
	s.wg.Wait()
	s.version.close()
	s.lock.Close()
	if err != nil {
		return fmt.Errorf("close name service: %w", err)
	}
	return nil
}

// Names returns the name table in order of type, range and ref.
func (s *Server) Names() []wire.NameEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]wire.NameEntry, 0, len(s.table.all))
	for _, b := range s.table.all {
		list = append(list, wire.NameEntry{
			Type: b.rng.Type, Lower: b.rng.Lower, Upper: b.rng.Upper, Ref: b.ref, PID: b.pid, Name: b.name,
		})
	}
	slices.SortFunc(list, func(a, b wire.NameEntry) int {
		return slices.Compare([]uint32{a.Type, a.Lower, a.Upper, a.Ref}, []uint32{b.Type, b.Lower, b.Upper, b.Ref})
	})
	return list
}

// Stats returns the counters.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{Members: len(s.members), Names: len(s.table.all), Rejected: s.rejected}
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			s.log.Warn("bus: accept", "error", err)
			time.Sleep(retryMin)
			continue
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
		} else {
			s.conns[conn] = struct{}{}
			s.wg.Go(func() { s.serve(conn) })
		}
		s.mu.Unlock()
	}
}

// serve speaks with one member until it goes.
func (s *Server) serve(conn *net.UnixConn) {
	c, err := s.welcome(conn)
	if err == nil {
		err = s.follow(c)
		s.leave(c)
	}
	conn.Close()
	s.mu.Lock()
	delete(s.conns, conn)
	closed := s.closed
	rejected := !closed && !errors.Is(err, io.EOF) && !errors.Is(lost(err), bus.ErrPeerGone)
	if rejected {
		s.rejected++
	}
	s.mu.Unlock()
	if rejected {
		s.log.Warn("bus: connection dropped", "error", err)
	}
	if c != nil && !closed {
		s.bury(c.number)
	}
}

// bury removes the socket of a member that has gone. The kernel closes the
// sockets of a dying process one after the other, so it may still be there; or
// the member lives, and is about to join again.
func (s *Server) bury(number uint16) {
	for wait := retryMin; wait < replyTime; wait *= 2 {
		s.mu.Lock()
		back := s.members[number] != nil
		s.mu.Unlock()
		if back || sweepStale(memberPath(s.dir, number)) {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.done:
			return
		}
	}
}

// welcome admits a member and queues the whole table for it.
func (s *Server) welcome(conn *net.UnixConn) (*client, error) {
	pid, err := admit(conn, serverPath(s.dir))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(replyTime))
	hello, err := readRecord(conn, make([]byte, recordBuffer))
	if err != nil {
		return nil, err
	}
	if hello.op != opHello {
		return nil, fmt.Errorf("op %d instead of hello: %w", hello.op, errRecord)
	}
	_ = conn.SetReadDeadline(time.Time{})
	c := &client{conn: conn, number: hello.member, pid: pid, name: hello.name, own: make(map[key]struct{})}
	c.more = sync.NewCond(&c.mu)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[c.number] != nil {
		r := record{op: opDone, code: codeTaken}
		_, _ = conn.Write(r.append(nil))
		return nil, io.EOF // its own fault, or it was faster than our notice of its old connection
	}
	s.members[c.number] = c
	for _, b := range s.table.all {
		c.send(upRecord(b))
	}
	c.send(record{op: opDone})
	s.wg.Go(c.write)
	return c, nil
}

func upRecord(b *binding) record {
	return record{op: opUp, ref: b.ref, rng: b.rng, pid: uint32(b.pid), name: b.name}
}

// recordBuffer is longer than any record, so that a longer one is noticed.
const recordBuffer = 256

func readRecord(conn *net.UnixConn, buf []byte) (record, error) {
	n, err := read(conn, buf)
	if err != nil {
		return record{}, err
	}
	return parseRecord(buf[:n])
}

// follow executes the member's requests.
func (s *Server) follow(c *client) error {
	buf := make([]byte, recordBuffer)
	for {
		r, err := readRecord(c.conn, buf)
		if err != nil {
			return err
		}
		if r.op != opBind && r.op != opUnbind && r.op != opSync {
			return fmt.Errorf("op %d from member %04x: %w", r.op, c.number, errRecord)
		}
		if r.op != opSync && uint16(r.ref>>16) != c.number {
			return fmt.Errorf("ref %08x from member %04x: %w", r.ref, c.number, errRecord)
		}
		s.execute(c, r)
	}
}

func (s *Server) execute(c *client, r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := record{op: opDone, seq: r.seq}
	k := key{r.ref, r.rng}
	switch r.op {
	case opBind:
		if len(s.table.all) >= maxBindings {
			done.code = codeFull
			break
		}
		if len(c.own) >= maxOwn {
			done.code = codeQuota
			break
		}
		b := binding{key: k, pid: c.pid, name: c.name}
		if s.table.add(b) {
			c.own[k] = struct{}{}
			s.publish(upRecord(&b))
		}
	case opUnbind:
		delete(c.own, k)
		s.withdraw(k)
	}
	c.send(done)
}

// withdraw removes a binding and tells everyone.
func (s *Server) withdraw(k key) {
	if s.table.remove(k) != nil {
		s.publish(record{op: opDown, ref: k.ref, rng: k.rng})
	}
}

func (s *Server) publish(r record) {
	s.version.count().Add(1)
	for _, c := range s.members {
		c.send(r)
	}
}

// leave withdraws what a member had bound.
func (s *Server) leave(c *client) {
	s.mu.Lock()
	delete(s.members, c.number)
	for k := range c.own {
		s.withdraw(k)
	}
	s.mu.Unlock()
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.more.Signal()
}

// send queues a record; a member that does not read is cut off.
func (c *client) send(r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	if len(c.out) >= maxOutgoing {
		c.gone, c.out = true, nil
		c.conn.Close()
		return
	}
	c.out = append(c.out, r)
	c.more.Signal()
}

// write sends what is queued.
func (c *client) write() {
	var buf []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.gone {
			c.more.Wait()
		}
		out := c.out
		c.out = nil
		gone := c.gone
		c.mu.Unlock()
		if gone {
			return
		}
		for i := range out {
			buf = out[i].append(buf[:0])
			if _, err := c.conn.Write(buf); err != nil {
				c.conn.Close() // the reader notices and ends it
				break
			}
		}
	}
}
