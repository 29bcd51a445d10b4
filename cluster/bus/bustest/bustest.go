// Package bustest is the suite that every implementation of bus.Bus passes.
// It knows the interfaces only.
package bustest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"godwit/cluster/bus"
)

// patience bounds every wait: far above any machine's slowness.
const patience = 20 * time.Second

// Network is one bus to test; each test gets a new one.
type Network interface {
	// Join makes a member; the network closes it when the test ends.
	Join(t *testing.T, name string) bus.Bus
}

// Run runs the suite; network makes an empty bus.
func Run(t *testing.T, network func(t *testing.T) Network) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Network)
	}{
		{"DialNoName", dialNoName},
		{"DialOwnListener", dialOwnListener},
		{"DialRoundRobin", dialRoundRobin},
		{"DialCancelled", dialCancelled},
		{"MessagesKeepBorders", messagesKeepBorders},
		{"MessageLimits", messageLimits},
		{"SendWaitsForReader", sendWaitsForReader},
		{"DataBeforeClose", dataBeforeClose},
		{"PeerGone", peerGone},
		{"MemberGone", memberGone},
		{"ListenerClose", listenerClose},
		{"AddressesAreUnique", addressesAreUnique},
		{"Anycast", anycast},
		{"AnycastOrder", anycastOrder},
		{"Multicast", multicast},
		{"DatagramLimits", datagramLimits},
		{"DatagramReceiverRestarts", datagramReceiverRestarts},
		{"TopologyExistingThenChanges", topologyExistingThenChanges},
		{"TopologyRanges", topologyRanges},
		{"TopologyProcessGone", topologyProcessGone},
		{"TopologySlowReader", topologySlowReader},
		{"BadRange", badRange},
		{"CloseUnblocks", closeUnblocks},
		{"UseAfterClose", useAfterClose},
		{"Concurrency", concurrency},
		{"StreamOfBytes", streamOfBytes},
		{"ConnectWithData", connectWithData},
		{"CloseHasAReason", closeHasAReason},
		{"ImportanceOfConnections", importanceOfConnections},
		{"SendToAddress", sendToAddress},
		{"Returned", returned},
		{"Droppable", droppable},
		{"Overload", overload},
		{"ImportanceLevels", importanceLevels},
		{"ScopeOfANode", scopeOfANode},
		{"ReservedTypes", reservedTypes},
		{"ServiceFilter", serviceFilter},
		{"SubscriptionExpires", subscriptionExpires},
		{"NodeService", nodeService},
		{"GroupNews", groupNews},
		{"GroupModes", groupModes},
		{"GroupOrder", groupOrder},
		{"GroupFlowControl", groupFlowControl},
		{"GroupLoopback", groupLoopback},
		{"GroupLongest", groupLongest},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, network(t)) })
	}
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// in runs f and fails if it does not end.
func in(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("timed out: " + what)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("error %v, want %v", err, sentinel)
	}
}

// pair connects two members by way of service {500,7}.
func pair(t *testing.T, n Network) (a, b bus.Conn, memberA, memberB bus.Bus) {
	t.Helper()
	memberA, memberB = n.Join(t, "a"), n.Join(t, "b")
	l := must[bus.Listener](t)(memberA.Listen(bus.One(500, 7)))
	b = must[bus.Conn](t)(memberB.Dial(timeout(t), bus.Service{Type: 500, Instance: 7}))
	in(t, "accept", func() { a = must[bus.Conn](t)(l.Accept()) })
	return a, b, memberA, memberB
}

func recv(t *testing.T, c bus.Conn) []byte {
	t.Helper()
	var b []byte
	in(t, "receive", func() { b = must[[]byte](t)(c.Recv()) })
	return b
}

func dialNoName(t *testing.T, n Network) {
	b := n.Join(t, "a")
	for range 2 {
		_, err := b.Dial(timeout(t), bus.Service{Type: 500, Instance: 1})
		want(t, err, bus.ErrNoName)
		l := must[bus.Listener](t)(b.Listen(bus.Range{Type: 500, Lower: 2, Upper: 9}))
		_, err = b.Dial(timeout(t), bus.Service{Type: 500, Instance: 1})
		want(t, err, bus.ErrNoName)
		_, err = b.Dial(timeout(t), bus.Service{Type: 501, Instance: 5})
		want(t, err, bus.ErrNoName)
		c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 9}))
		ok(t, c.Close())
		ok(t, l.Close())
		_, err = b.Dial(timeout(t), bus.Service{Type: 500, Instance: 9})
		want(t, err, bus.ErrNoName)
	}
}

func dialOwnListener(t *testing.T, n Network) {
	b := n.Join(t, "a")
	l := must[bus.Listener](t)(b.Listen(bus.One(500, 0)))
	c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500}))
	ok(t, c.Send([]byte("to myself")))
	var peer bus.Conn
	in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
	if got := recv(t, peer); string(got) != "to myself" {
		t.Errorf("got %q", got)
	}
}

func dialRoundRobin(t *testing.T, n Network) {
	var mu sync.Mutex
	count := map[string]int{}
	for _, name := range []string{"x", "y", "z"} {
		l := must[bus.Listener](t)(n.Join(t, name).Listen(bus.Range{Type: 500, Lower: 0, Upper: 5}))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				count[name]++
				mu.Unlock()
				_ = c.Send([]byte(name))
			}
		}()
	}
	b := n.Join(t, "client")
	for range 12 {
		c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 3}))
		recv(t, c)
	}
	mu.Lock()
	defer mu.Unlock()
	if count["x"] != 4 || count["y"] != 4 || count["z"] != 4 {
		t.Errorf("12 connections went to %v", count)
	}
}

func dialCancelled(t *testing.T, n Network) {
	b := n.Join(t, "a")
	must[bus.Listener](t)(b.Listen(bus.One(500, 0)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Dial(ctx, bus.Service{Type: 500}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func messagesKeepBorders(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	sizes := []int{1, 2, 63, 64, 1500, 4095, 4096, 32 << 10, 65535, 65536, bus.MaxMessage}
	go func() {
		for _, size := range sizes {
			for _, c := range []bus.Conn{a, b} {
				if err := c.Send(bytes.Repeat([]byte{byte(size)}, size)); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for _, size := range sizes {
		for _, c := range []bus.Conn{a, b} {
			if got := recv(t, c); !bytes.Equal(got, bytes.Repeat([]byte{byte(size)}, size)) {
				t.Fatalf("message of %d bytes came as %d", size, len(got))
			}
		}
	}
}

func messageLimits(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	want(t, a.Send(make([]byte, bus.MaxMessage+1)), bus.ErrTooLong)
	if a.Send(nil) == nil {
		t.Error("an empty message was sent")
	}
	ok(t, a.Send([]byte("still fine")))
	if got := recv(t, b); string(got) != "still fine" {
		t.Errorf("got %q", got)
	}
}

func sendWaitsForReader(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	const messages, size = 500, 64000 // 32 MB: more than any buffer between
	sent := make(chan struct{})
	var mu sync.Mutex
	count := 0
	go func() {
		defer close(sent)
		msg := make([]byte, size)
		for i := range messages {
			binary.BigEndian.PutUint32(msg, uint32(i))
			if err := a.Send(msg); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
		}
	}()
	for i := range messages {
		got := recv(t, b)
		if len(got) != size || binary.BigEndian.Uint32(got) != uint32(i) {
			t.Fatalf("message %d: %d bytes, number %d", i, len(got), binary.BigEndian.Uint32(got))
		}
		mu.Lock()
		if count > i+messages/2 {
			t.Fatalf("%d messages were taken when %d had been read", count, i)
		}
		mu.Unlock()
	}
	in(t, "the sender", func() { <-sent })
}

func dataBeforeClose(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	ok(t, b.Send([]byte("never read")))
	for i := range 3 {
		ok(t, a.Send([]byte{byte(i)}))
	}
	ok(t, a.Close())
	for i := range 3 {
		if got := recv(t, b); len(got) != 1 || got[0] != byte(i) {
			t.Fatalf("message %d: %v", i, got)
		}
	}
	in(t, "end of the connection", func() {
		_, err := b.Recv()
		want(t, err, bus.ErrPeerGone)
	})
}

func peerGone(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	recvErr := make(chan error, 1)
	go func() { _, err := b.Recv(); recvErr <- err }()
	ok(t, a.Close())
	in(t, "notice", func() { want(t, <-recvErr, bus.ErrPeerGone) })
	in(t, "send", func() {
		for b.Send([]byte("x")) == nil {
		}
	})
	want(t, b.Send([]byte("x")), bus.ErrPeerGone)
	want(t, a.Send([]byte("x")), bus.ErrClosed)
	_, err := a.Recv()
	want(t, err, bus.ErrClosed)
	ok(t, a.Close())
}

func memberGone(t *testing.T, n Network) {
	_, b, memberA, memberB := pair(t, n)
	ok(t, memberA.Close())
	in(t, "notice", func() {
		_, err := b.Recv()
		want(t, err, bus.ErrPeerGone)
	})
	in(t, "the name to go", func() {
		for {
			_, err := memberB.Dial(timeout(t), bus.Service{Type: 500, Instance: 7})
			if errors.Is(err, bus.ErrNoName) {
				return
			}
			if err == nil {
				t.Error("dialled a member that has left")
				return
			}
		}
	})
}

func listenerClose(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l := must[bus.Listener](t)(a.Listen(bus.One(500, 7)))
	first := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 7}))
	var peer bus.Conn
	in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
	waiting := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 7}))
	ok(t, l.Close())
	in(t, "the connection not accepted to break", func() {
		_, err := waiting.Recv()
		want(t, err, bus.ErrPeerGone)
	})
	_, err := l.Accept()
	want(t, err, bus.ErrClosed)
	ok(t, peer.Send([]byte("accepted ones live on")))
	recv(t, first)
}

func addressesAreUnique(t *testing.T, n Network) {
	a, b, memberA, _ := pair(t, n)
	seen := map[bus.Address]bool{a.Peer(): true}
	if seen[b.Peer()] {
		t.Errorf("both ends are %v", b.Peer())
	}
	seen[b.Peer()] = true
	sub := must[bus.Subscription](t)(memberA.Subscribe(bus.All(600)))
	for i := range uint32(20) {
		s := must[bus.Socket](t)(memberA.Socket())
		ok(t, s.Bind(bus.One(600, i)))
		e := next(t, sub)
		if e.Range.Lower != i || seen[e.Addr] {
			t.Errorf("socket %d has the address of another: %+v", i, e)
		}
		seen[e.Addr] = true
	}
}

func badRange(t *testing.T, n Network) {
	b := n.Join(t, "a")
	if _, err := b.Listen(bus.Range{Type: 500, Lower: 2, Upper: 1}); err == nil {
		t.Error("listened on an empty range")
	}
	s := must[bus.Socket](t)(b.Socket())
	if s.Bind(bus.Range{Type: 500, Lower: 2, Upper: 1}) == nil {
		t.Error("bound an empty range")
	}
	ok(t, s.Bind(bus.Range{Type: 500, Lower: 2, Upper: ^uint32(0)}))
}

func closeUnblocks(t *testing.T, n Network) {
	a, b, memberA, memberB := pair(t, n)
	l := must[bus.Listener](t)(memberA.Listen(bus.One(501, 0)))
	s := must[bus.Socket](t)(memberA.Socket())
	sub := must[bus.Subscription](t)(memberA.Subscribe(bus.All(777)))
	var wg sync.WaitGroup
	for what, f := range map[string]func() error{
		"Accept":      func() error { _, err := l.Accept(); return err },
		"Conn.Recv":   func() error { _, err := a.Recv(); return err },
		"Socket.Recv": func() error { _, err := s.Recv(); return err },
		"Next":        func() error { _, err := sub.Next(); return err },
		"Conn.Send": func() error {
			for {
				if err := a.Send(make([]byte, 60000)); err != nil {
					return err
				}
			}
		},
	} {
		wg.Go(func() {
			if err := f(); !errors.Is(err, bus.ErrClosed) {
				t.Errorf("%s ended with %v", what, err)
			}
		})
	}
	ok(t, memberA.Close())
	in(t, "all calls to return", wg.Wait)
	_ = b
	ok(t, memberB.Close())
}

func useAfterClose(t *testing.T, n Network) {
	b := n.Join(t, "a")
	s := must[bus.Socket](t)(b.Socket())
	ok(t, b.Close())
	ok(t, b.Close())
	_, err := b.Dial(timeout(t), bus.Service{Type: 500})
	want(t, err, bus.ErrClosed)
	_, err = b.Listen(bus.One(500, 0))
	want(t, err, bus.ErrClosed)
	_, err = b.Socket()
	want(t, err, bus.ErrClosed)
	_, err = b.Subscribe(bus.All(500))
	want(t, err, bus.ErrClosed)
	want(t, s.Bind(bus.One(500, 0)), bus.ErrClosed)
	if s.Send(bus.Service{Type: 500}, []byte("x")) == nil {
		t.Error("sent on a closed bus")
	}
}

func concurrency(t *testing.T, n Network) {
	const members, rounds = 4, 25
	var wg sync.WaitGroup
	for i := range uint32(members) {
		b := n.Join(t, fmt.Sprintf("m%d", i))
		l := must[bus.Listener](t)(b.Listen(bus.One(500, i)))
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
							c.Close()
							return
						}
					}
				}()
			}
		}()
		wg.Go(func() {
			for r := range uint32(rounds) {
				c, err := b.Dial(timeout(t), bus.Service{Type: 500, Instance: r % members})
				if errors.Is(err, bus.ErrNoName) {
					continue // not there yet
				}
				if err != nil {
					t.Error(err)
					return
				}
				msg := []byte(fmt.Sprint(i, r))
				if err := c.Send(msg); err != nil {
					t.Error(err)
				}
				if got, err := c.Recv(); err != nil || !bytes.Equal(got, msg) {
					t.Errorf("echo of %q is %q, %v", msg, got, err)
				}
				c.Close()
			}
		})
	}
	in(t, "all echoes", wg.Wait)
}
