package bustest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"godwit/cluster/bus"
)

func enter(t *testing.T, n Network, name string, instance uint32, opts ...bus.Option) bus.Group {
	t.Helper()
	return must[bus.Group](t)(n.Join(t, name).Join(bus.Service{Type: 700, Instance: instance}, opts...))
}

func heard(t *testing.T, g bus.Group) bus.GroupEvent {
	t.Helper()
	var e bus.GroupEvent
	in(t, "news in a group", func() { e = must[bus.GroupEvent](t)(g.Recv()) })
	return e
}

// meet waits until g knows of the members, in any order.
func meet(t *testing.T, g bus.Group, others ...bus.Group) {
	t.Helper()
	missing := map[bus.Address]bool{}
	for _, o := range others {
		missing[o.Addr()] = true
	}
	for len(missing) > 0 {
		e := heard(t, g)
		if e.What != bus.Joined || !missing[e.From] {
			t.Fatalf("news %+v, waiting for %v", e, missing)
		}
		delete(missing, e.From)
	}
}

func text(t *testing.T, g bus.Group, from bus.Group, want string) {
	t.Helper()
	if e := heard(t, g); e.What != bus.Message || e.From != from.Addr() || string(e.Data) != want {
		t.Fatalf("heard %+v (%q), want %q from %v", e, e.Data, want, from.Addr())
	}
}

func groupNews(t *testing.T, n Network) {
	a := enter(t, n, "a", 1)
	b := enter(t, n, "b", 2)
	e := heard(t, a)
	if e.What != bus.Joined || e.From != b.Addr() || e.Instance != 2 {
		t.Errorf("news %+v of %v", e, b.Addr())
	}
	meet(t, b, a)
	ok(t, b.Broadcast([]byte("last words")))
	ok(t, b.Close())
	text(t, a, b, "last words")
	if e := heard(t, a); e.What != bus.Left || e.From != b.Addr() || e.Instance != 2 {
		t.Errorf("news %+v of %v", e, b.Addr())
	}
	c := n.Join(t, "c")
	cg := must[bus.Group](t)(c.Join(bus.Service{Type: 700, Instance: 3}))
	meet(t, a, cg)
	ok(t, c.Close()) // like a process that ends
	if e := heard(t, a); e.What != bus.Left || e.From != cg.Addr() {
		t.Errorf("news %+v of %v", e, cg.Addr())
	}
	want(t, a.Broadcast([]byte("nobody")), bus.ErrNoName)
	want(t, a.Unicast(cg.Addr(), []byte("nobody")), bus.ErrNoName)
	want(t, a.Anycast(3, []byte("nobody")), bus.ErrNoName)
	_, err := cg.Recv()
	want(t, err, bus.ErrClosed)
}

func groupModes(t *testing.T, n Network) {
	s := enter(t, n, "s", 0)
	x, y, z := enter(t, n, "x", 1), enter(t, n, "y", 1), enter(t, n, "z", 2)
	meet(t, s, x, y, z)
	meet(t, x, s, y, z)
	meet(t, y, s, x, z)
	meet(t, z, s, x, y)
	ok(t, s.Broadcast([]byte("all")))
	ok(t, s.Multicast(1, []byte("ones")))
	ok(t, s.Unicast(z.Addr(), []byte("you")))
	for range 2 {
		ok(t, s.Anycast(1, []byte("any")))
	}
	ok(t, s.Broadcast([]byte("end")))
	for _, g := range []bus.Group{x, y, z} {
		text(t, g, s, "all")
	}
	for _, g := range []bus.Group{x, y} {
		text(t, g, s, "ones")
	}
	text(t, z, s, "you")
	text(t, z, s, "end")
	any := 0
	for _, g := range []bus.Group{x, y} {
		for {
			e := heard(t, g)
			if string(e.Data) == "end" {
				break
			}
			if string(e.Data) != "any" {
				t.Fatalf("heard %q", e.Data)
			}
			any++
		}
	}
	if any != 2 {
		t.Errorf("2 anycasts were heard %d times", any)
	}
	want(t, s.Multicast(9, []byte("nobody")), bus.ErrNoName)
	want(t, s.Broadcast(make([]byte, bus.MaxMessage+1)), bus.ErrTooLong)
}

// groupOrder: modes do not overtake each other.
func groupOrder(t *testing.T, n Network) {
	s, r, o := enter(t, n, "s", 0), enter(t, n, "r", 1), enter(t, n, "o", 2)
	meet(t, s, r, o)
	meet(t, r, s, o)
	const count = 2000
	go func() { // the other one reads, too
		for {
			if _, err := o.Recv(); err != nil {
				return
			}
		}
	}()
	go func() {
		for i := range uint32(count) {
			b := binary.BigEndian.AppendUint32(nil, i)
			err := []func() error{
				func() error { return s.Broadcast(b) },
				func() error { return s.Unicast(r.Addr(), b) },
				func() error { return s.Multicast(1, b) },
				func() error { return s.Anycast(1, b) },
			}[i*i%7%4]()
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range uint32(count) {
		e := heard(t, r)
		if e.What != bus.Message || binary.BigEndian.Uint32(e.Data) != i {
			t.Fatalf("message %d is %+v", i, e)
		}
	}
}

// groupFlowControl: senders wait for members that do not read; nothing is lost.
func groupFlowControl(t *testing.T, n Network) {
	s, slow := enter(t, n, "s", 0), enter(t, n, "slow", 1)
	meet(t, s, slow)
	meet(t, slow, s)
	const count, size = 4000, 10_000 // 40 MB: more than any queue between
	sent := make(chan int, count)
	go func() {
		for i := range count {
			b := slices.Repeat([]byte{byte(i)}, size)
			if err := s.Broadcast(b); err != nil {
				t.Error(err)
				return
			}
			sent <- i
		}
	}()
	for i := range count {
		e := heard(t, slow)
		if len(e.Data) != size || e.Data[0] != byte(i) {
			t.Fatalf("message %d: %d bytes", i, len(e.Data))
		}
		if ahead := len(sent) - i; ahead > count*3/4 {
			t.Fatalf("the sender is %d messages ahead", ahead)
		}
	}
}

func groupLoopback(t *testing.T, n Network) {
	g := enter(t, n, "alone", 1, bus.Loopback())
	meet(t, g, g)
	ok(t, g.Broadcast([]byte("echo")))
	text(t, g, g, "echo")
}

// groupLongest: the longest message, to all.
func groupLongest(t *testing.T, n Network) {
	s, r := enter(t, n, "s", 0), enter(t, n, "r", 1)
	meet(t, s, r)
	meet(t, r, s)
	b := bytes.Repeat([]byte{9}, bus.MaxMessage)
	for _, send := range []func() error{
		func() error { return s.Broadcast(b) },
		func() error { return s.Unicast(r.Addr(), b) },
	} {
		ok(t, send()) // the next may wait until this one is read: a window may hold just one
		if e := heard(t, r); e.What != bus.Message || !bytes.Equal(e.Data, b) {
			t.Errorf("message of %d bytes", len(e.Data))
		}
	}
}
