package local

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"godwit/cluster/bus"
)

func joinWith(t *testing.T, n *network, name string, o ...Option) *Member {
	t.Helper()
	b, err := Join(n.dir, name, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.(*Member)
}

func TestToleranceHasBounds(t *testing.T) {
	n := newNetwork(t)
	for _, d := range []time.Duration{0, bus.MinTolerance - 1, bus.MaxTolerance + 1} {
		if b, err := Join(n.dir, "x", Tolerance(d)); err == nil {
			b.Close()
			t.Errorf("joined with a tolerance of %v", d)
		}
	}
	for _, c := range []struct {
		a, b uint32
		want time.Duration
	}{{100, 700, 700 * time.Millisecond}, {1, 2, bus.MinTolerance}, {1 << 31, 5, bus.MaxTolerance}} {
		if got := tolerance(c.a, c.b); got != c.want {
			t.Errorf("%d and %d agree on %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// TestHangingProcessIsCutOff: a stopped process keeps its sockets open; the
// link's silence ends the connections, with the reason.
func TestHangingProcessIsCutOff(t *testing.T) {
	const tolerance = time.Second // of the child: the longer one counts
	t.Setenv("GODWIT_BUS_TOLERANCE", tolerance.String())
	n := newNetwork(t)
	b := joinWith(t, n, "parent", Tolerance(bus.MinTolerance))
	cmd := child(t, n.dir, nil)
	links, err := b.Subscribe(bus.All(bus.TypeLinkState))
	if err != nil {
		t.Fatal(err)
	}
	c := dialService(t, b)
	echo(t, c, "hello")
	up, err := links.Next()
	if err != nil || !up.Up || up.Range.Lower != c.Peer().Ref>>16 {
		t.Fatalf("event %+v, %v of %v", up, err, c.Peer())
	}
	list, err := b.Links()
	if err != nil || len(list) != 1 || list[0].Name != "child" || !list[0].Up || list[0].Tolerance != tolerance {
		t.Errorf("links %+v, %v", list, err)
	}
	begin := time.Now()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_, err = c.Recv()
	var gone *bus.GoneError
	if !errors.As(err, &gone) || gone.Code != bus.NoNode {
		t.Errorf("connection to a process that hangs: %v", err)
	}
	if d := time.Since(begin); d < tolerance*3/4 || d > tolerance+patience/2 {
		t.Errorf("ended after %v, tolerance %v", d, tolerance)
	}
	if down, err := links.Next(); err != nil || down.Up || down.Range != up.Range {
		t.Errorf("event %+v, %v", down, err)
	}
	if err := c.Send([]byte("x")); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("sent to a process that hangs: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	echo(t, dialService(t, b), "awake again")
}

// TestDeathHasAReason: a process that dies did not close in good order.
func TestDeathHasAReason(t *testing.T) {
	n := newNetwork(t)
	b := n.Join(t, "parent")
	cmd := child(t, n.dir, nil)
	c := dialService(t, b)
	echo(t, c, "hello")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Recv()
	var gone *bus.GoneError
	if !errors.As(err, &gone) || gone.Code != bus.NoPort {
		t.Errorf("connection to a process that died: %v", err)
	}
}

// TestNameStorm: members that bind 100,000 names; one of them gets an error at
// its limit. Others still bind and talk, memory is bounded, and when the storm
// is over nothing of it is left.
func TestNameStorm(t *testing.T) {
	const storm = 100_000
	n := newNetwork(t)
	other := n.Join(t, "other")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	bound := make(chan int, 2)
	var members []*Member
	for _, most := range []int{storm, storm - maxOwn} {
		m := joinWith(t, n, "storm")
		members = append(members, m)
		s, err := m.Socket()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			var next, count atomic.Uint32
			var wg sync.WaitGroup
			for range 16 { // so that they do not wait for each answer
				wg.Go(func() {
					for i := next.Add(1); i <= uint32(most); i = next.Add(1) {
						err := s.Bind(bus.One(501, i))
						if err != nil {
							if !errors.Is(err, bus.ErrFull) {
								t.Error(err)
							}
							return
						}
						count.Add(1)
					}
				})
			}
			wg.Wait()
			bound <- int(count.Load())
		}()
	}
	if a, b := <-bound, <-bound; max(a, b) != maxOwn || a+b != storm {
		t.Errorf("%d and %d names were bound", a, b)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Four copies of the table here: the name service's and three members'.
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 500<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	l, err := other.Listen(bus.One(500, 1))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Send([]byte("unharmed"))
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := other.Dial(ctx, bus.Service{Type: 500, Instance: 1})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := c.Recv(); err != nil || string(b) != "unharmed" {
		t.Errorf("received %q, %v", b, err)
	}
	for _, m := range members {
		m.Close()
	}
	eventually(t, "the storm's names are withdrawn", func() bool { return n.server.Stats().Names == 1 })
	m := other.(*Member)
	eventually(t, "the other's copy follows", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.table.byType[501] == nil
	})
}

// TestBundlesKeepOrder: many senders on one connection, all sizes, read as sent.
func TestBundlesKeepOrder(t *testing.T) {
	n := newNetwork(t)
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l, err := a.Listen(bus.One(500, 1))
	if err != nil {
		t.Fatal(err)
	}
	c := dialService(t, b)
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const count = 50_000
	sent := make(chan error, 1)
	go func() {
		for i := range count {
			msg := make([]byte, 1+i*7919%3000)
			msg[0] = byte(i)
			if err := c.Send(msg); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.Close()
	}()
	for i := range count {
		m, err := peer.Recv()
		if err != nil || len(m) != 1+i*7919%3000 || m[0] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(m), err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	_, err = peer.Recv()
	var gone *bus.GoneError
	if !errors.As(err, &gone) || gone.Code != bus.Shutdown {
		t.Errorf("end: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(byte(frameData), 5)
	f.Add(byte(frameShutdown), 0)
	f.Fuzz(func(t *testing.T, kind byte, n int) {
		if err := checkFrame(kind, n); err == nil && (n < 0 || n > maxFrame) {
			t.Errorf("kind %d with %d bytes passes", kind, n)
		}
	})
}
