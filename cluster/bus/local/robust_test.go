package local

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cluster/bus"
)

// raw connects to a socket of the bus without being a member.
func raw(t *testing.T, network, path string) *net.UnixConn {
	t.Helper()
	c, err := dial(context.Background(), network, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dropped fails unless the other end closes the connection.
func dropped(t *testing.T, c *net.UnixConn, what string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, bus.MaxMessage)
	for {
		_, err := read(c, buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: connection lives on", what)
		}
		if err != nil {
			return
		}
	}
}

func TestGarbageIsDroppedAndCounted(t *testing.T) {
	n := newNetwork(t)
	m := n.Join(t, "victim").(*Member)
	l, err := m.Listen(bus.One(500, 1))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	hello := record{op: opHello, member: 7, name: "fake"}
	forged := record{op: opBind, ref: uint32(m.number)<<16 | 1, rng: bus.One(500, 2)}
	toServer := map[string][][]byte{
		"noise": {noise(60)}, "big": {noise(60000)}, "byte": {{0}},
		"no hello": {records[2].append(nil)}, "two hellos": {hello.append(nil), hello.append(nil)},
		"forged": {hello.append(nil), forged.append(nil)},
	}
	for what, messages := range toServer {
		before := n.server.Stats().Rejected
		c := raw(t, nameService, serverPath(n.dir))
		for _, b := range messages {
			if _, err := c.Write(b); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		dropped(t, c, what)
		eventually(t, what+" is counted", func() bool { return n.server.Stats().Rejected == before+1 })
	}
	if s := n.server.Stats(); s.Names != 1 {
		t.Errorf("stats %+v", s)
	}
	// This process is the member 1, so that its greetings pass.
	own, err := listen(members, memberPath(n.dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	datagrams := greeting{kind: greetDatagrams, from: 1 << 16, to: uint32(m.number) << 16}
	stranger := greeting{kind: greetDatagrams, from: 2 << 16, to: uint32(m.number) << 16}
	unknown := greeting{kind: 9, from: 1 << 16}
	short := []byte{frameDatagram, 0, 0, 3, 1, 2, 3}
	wrong := append([]byte{frameDatagram, 0, 0, datagramHeader + 1}, make([]byte, datagramHeader+1)...)
	wrong[frameHeader+15] = 1
	toMember := map[string][][]byte{
		"noise": {noise(greetLen)}, "big": {noise(60000)}, "unknown kind": {unknown.append(nil)},
		"forged source":  {stranger.append(nil)},
		"short datagram": {datagrams.append(nil), short}, "datagram header": {datagrams.append(nil), wrong},
		"frame kind": {datagrams.append(nil), {99, 0, 0, 1, 1}}, "other frame": {datagrams.append(nil), {frameBeat, 0, 0, 0}},
	}
	for what, messages := range toMember {
		before := m.Rejected()
		c := raw(t, members, memberPath(n.dir, m.number))
		for _, b := range messages {
			if _, err := c.Write(b); err != nil && !errors.Is(lost(err), bus.ErrPeerGone) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		dropped(t, c, what)
		eventually(t, what+" is counted", func() bool { return m.Rejected() == before+1 })
	}
	// A message that is too long ends a connection.
	c := raw(t, members, memberPath(n.dir, m.number))
	g := greeting{kind: greetConnect, from: 1 << 16, to: uint32(m.number)<<16 | 1, svc: bus.Service{Type: 500, Instance: 1}}
	if _, err := c.Write(g.append(nil)); err != nil {
		t.Fatal(err)
	}
	victim, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const long = bus.MaxMessage + 1
	if _, err := c.Write([]byte{frameData, long >> 16, long >> 8 & 0xff, long & 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := victim.Recv(); !errors.Is(err, bus.ErrTooLong) || !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("received a message too long: %v", err)
	}
	// Everybody else is well.
	go func() {
		c, err := l.Accept()
		for err == nil {
			var b []byte
			if b, err = c.Recv(); err == nil {
				err = c.Send(b)
			}
		}
	}()
	echo(t, dialService(t, n.Join(t, "client")), "unharmed")
}

func TestNameServiceRestarts(t *testing.T) {
	n := newNetwork(t)
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l, err := a.Listen(bus.One(500, 1))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(bus.All(500))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := sub.Next(); err != nil || !e.Up {
		t.Fatalf("event %+v, %v", e, err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for {
					m, err := c.Recv()
					if err != nil || c.Send(m) != nil {
						return
					}
				}
			}()
		}
	}()
	old := dialService(t, b)
	echo(t, old, "before")
	for range 2 {
		if err := n.server.Close(); err != nil {
			t.Fatal(err)
		}
		echo(t, old, "connections outlive the name service")
		echo(t, dialService(t, b), "names still resolve")
		late, err := a.Listen(bus.One(501, 9)) // published later
		if err != nil {
			t.Fatal(err)
		}
		n.serve(t)
		eventually(t, "bindings are published again", func() bool { return n.server.Stats().Names == 2 })
		m := b.(*Member)
		eventually(t, "the copy to be of the new name service, all of it", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, x := range m.table.all {
				if x.gen != m.gen && !x.local {
					return false
				}
			}
			return true
		})
		m.sweep(m.gen) // as after resyncGrace
		if len(m.pick(bus.Service{Type: 500, Instance: 1})) != 1 {
			t.Error("swept what had been published again")
		}
		echo(t, old, "after")
		if err := late.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "and withdrawn", func() bool { return n.server.Stats().Names == 1 })
	}
	// No flap: the next event is the end of the service.
	l.Close()
	if e, err := sub.Next(); err != nil || e.Up || e.Range != bus.One(500, 1) {
		t.Errorf("event %+v, %v", e, err)
	}
}

func TestWhoDiedWithTheNameServiceIsSwept(t *testing.T) {
	n := newNetwork(t)
	a, b := n.Join(t, "a"), n.Join(t, "b")
	if _, err := a.Listen(bus.One(500, 1)); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(bus.All(500))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := sub.Next(); err != nil || !e.Up {
		t.Fatalf("event %+v, %v", e, err)
	}
	if err := n.server.Close(); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := b.Dial(context.Background(), bus.Service{Type: 500, Instance: 1}); !errors.Is(err, bus.ErrNoName) {
		t.Errorf("dialled a process that left: %v", err)
	}
	n.serve(t)
	e, err := sub.Next()
	if err != nil || e.Up || e.Range != bus.One(500, 1) {
		t.Errorf("event %+v, %v", e, err)
	}
}

func TestOneNameServiceEach(t *testing.T) {
	n := newNetwork(t)
	if s, err := NewServer(n.dir, quiet); err == nil {
		s.Close()
		t.Fatal("two name services in one directory")
	}
	n.Join(t, "a")
	fresh := filepath.Join(n.dir, "fresh")
	s, err := NewServer(fresh, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if fi, err := os.Stat(fresh); err != nil || fi.Mode().Perm() != 0o750 {
		t.Errorf("directory %v, %v", fi.Mode(), err)
	}
}

func TestStaleSocketsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(memberDir(dir), 0o750); err != nil {
		t.Fatal(err)
	}
	var stale []string
	for i, p := range []string{serverPath(dir), memberPath(dir, 7), filepath.Join(memberDir(dir), ".0008.99")} {
		network := []string{nameService, members, members}[i]
		l, err := net.ListenUnix(network, &net.UnixAddr{Name: p, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close() // like a process that was killed
		stale = append(stale, p)
	}
	live, err := listen(members, memberPath(dir, 9))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	s, err := NewServer(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range stale[1:] {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
	if _, err := os.Lstat(memberPath(dir, 9)); err != nil {
		t.Errorf("the socket of a live process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(serverPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Close left the socket: %v", err)
	}
}

func TestCloseLeavesNoFiles(t *testing.T) {
	n := newNetwork(t)
	for range 5 {
		n.Join(t, "m").Close()
	}
	entries, err := os.ReadDir(memberDir(n.dir))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(versionPath("")) {
		t.Errorf("left besides the name service's: %v, %v", entries, err)
	}
	if err := n.server.Close(); err != nil {
		t.Error(err)
	}
	if entries, err = os.ReadDir(memberDir(n.dir)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	s, err := NewServer(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := &network{dir: dir, server: s}
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l, err := a.Listen(bus.One(500, 1))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Send([]byte("far away"))
		}
	}()
	if m, err := dialService(t, b).Recv(); err != nil || string(m) != "far away" {
		t.Errorf("received %q, %v", m, err)
	}
}

func TestJoinErrors(t *testing.T) {
	if _, err := Join(filepath.Join(t.TempDir(), "nothing"), "a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("joined nothing: %v", err)
	}
	n := newNetwork(t)
	if _, err := Join(n.dir, strings.Repeat("x", maxName+1)); err == nil {
		t.Error("joined under a name too long")
	}
	n.server.Close()
	if _, err := Join(n.dir, "a"); err == nil {
		t.Error("joined without a name service")
	}
	if entries, _ := os.ReadDir(memberDir(n.dir)); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestMemberThatDoesNotReadIsCutOff(t *testing.T) {
	n := newNetwork(t)
	lazy := raw(t, nameService, serverPath(n.dir))
	hello := record{op: opHello, member: 7, name: "lazy"}
	if _, err := lazy.Write(hello.append(nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member is in", func() bool { return n.server.Stats().Members == 1 })
	n.server.mu.Lock()
	for range maxOutgoing + maxOutgoing/2 {
		n.server.publish(record{op: opDown, rng: bus.One(1, 1)})
	}
	n.server.mu.Unlock()
	eventually(t, "the member is out", func() bool { return n.server.Stats().Members == 0 })
	n.Join(t, "another")
}
