package bustest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"godwit/cluster/bus"
)

// streamOfBytes: of Stream, borders do not count and nothing is too long.
func streamOfBytes(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l := must[bus.Listener](t)(a.Listen(bus.One(500, 7), bus.Of(bus.Stream)))
	c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 7}, bus.Of(bus.Stream)))
	data := make([]byte, 3*bus.MaxMessage+17)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	sent := make(chan error, 1)
	go func() {
		err := c.Send(data[:5])
		if err == nil {
			err = c.Send(data[5:])
		}
		sent <- err
	}()
	var peer bus.Conn
	in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
	var got []byte
	for len(got) < len(data) {
		got = append(got, recv(t, peer)...)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came as %d others", len(data), len(got))
	}
	ok(t, <-sent)
}

// connectWithData: what goes along with the connect is received first.
func connectWithData(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l := must[bus.Listener](t)(a.Listen(bus.One(500, 7)))
	svc := bus.Service{Type: 500, Instance: 7}
	c := must[bus.Conn](t)(b.Dial(timeout(t), svc, bus.Data([]byte("request"))))
	ok(t, c.Send([]byte("more")))
	var peer bus.Conn
	in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
	for _, want := range []string{"request", "more"} {
		if got := recv(t, peer); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	ok(t, peer.Send([]byte("reply")))
	if got := recv(t, c); string(got) != "reply" {
		t.Errorf("got %q", got)
	}
	_, err := b.Dial(timeout(t), svc, bus.Data(make([]byte, bus.MaxMessage+1)))
	want(t, err, bus.ErrTooLong)
}

// code is the reason in an error.
func code(t *testing.T, err error) bus.Code {
	t.Helper()
	var g *bus.GoneError
	if !errors.As(err, &g) {
		t.Fatalf("error %v gives no reason", err)
	}
	want(t, err, bus.ErrPeerGone)
	return g.Code
}

func closeHasAReason(t *testing.T, n Network) {
	a, b, _, _ := pair(t, n)
	ok(t, a.Close())
	in(t, "end of the connection", func() {
		_, err := b.Recv()
		if c := code(t, err); c != bus.Shutdown {
			t.Errorf("closed with %v", c)
		}
		_, err = b.Recv()
		if c := code(t, err); c != bus.Shutdown {
			t.Errorf("closed with %v, the second time", c)
		}
	})
}

func importanceOfConnections(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	for i := bus.Low; i <= bus.Critical; i++ {
		r := bus.One(500, uint32(i))
		l := must[bus.Listener](t)(a.Listen(r, bus.With(i)))
		c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: uint32(i)}, bus.With(i)))
		ok(t, c.Send([]byte{byte(i)}))
		var peer bus.Conn
		in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
		if got := recv(t, peer); len(got) != 1 || got[0] != byte(i) {
			t.Errorf("got %v at importance %d", got, i)
		}
	}
}

func sendToAddress(t *testing.T, n Network) {
	r := bound(t, n, "x", bus.One(500, 0))
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	ok(t, s.SendTo(r.Addr(), []byte("hello")))
	d := get(t, r)
	if d.From != s.Addr() || d.Code != bus.OK || d.To != (bus.Service{}) || string(d.Data) != "hello" {
		t.Errorf("datagram %+v from %v", d, s.Addr())
	}
	ok(t, r.SendTo(d.From, []byte("answer")))
	if d := get(t, s); d.From != r.Addr() || string(d.Data) != "answer" {
		t.Errorf("datagram %+v from %v", d, r.Addr())
	}
}

// returned: what was sent to a socket that is not there comes back, data and all.
func returned(t *testing.T, n Network) {
	x := n.Join(t, "x")
	gone := must[bus.Socket](t)(x.Socket())
	ok(t, gone.Bind(bus.One(500, 0)))
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	ok(t, s.Send(bus.Service{Type: 500}, []byte("never read")))
	addr := gone.Addr()
	ok(t, s.Send(bus.Service{Type: 500}, []byte("nor this")))
	// Both are there when the receiver closes: the queue is in order.
	other := must[bus.Socket](t)(x.Socket())
	ok(t, s.SendTo(other.Addr(), []byte("mark")))
	get(t, other)
	ok(t, gone.Close())
	for _, text := range []string{"never read", "nor this"} {
		if d := get(t, s); d.Code != bus.NoPort || string(d.Data) != text {
			t.Errorf("came back: %+v, want %q", d, text)
		}
	}
	ok(t, s.SendTo(addr, []byte("too late")))
	if d := get(t, s); d.Code != bus.NoPort || string(d.Data) != "too late" {
		t.Errorf("came back: %+v", d)
	}
	want(t, s.SendTo(bus.Address{Ref: addr.Ref, Node: addr.Node + 77}, []byte("far")), bus.ErrNoNode)
}

func droppable(t *testing.T, n Network) {
	gone := bound(t, n, "x", bus.One(500, 0))
	addr := gone.Addr()
	ok(t, gone.Close())
	for _, o := range []bus.Option{bus.Droppable(), bus.Of(bus.DGRAM)} {
		s := must[bus.Socket](t)(n.Join(t, "client").Socket(o))
		_ = s.SendTo(addr, []byte("lost"))
		ok(t, s.SendTo(s.Addr(), []byte("mark")))
		if d := get(t, s); d.Code != bus.OK || string(d.Data) != "mark" {
			t.Errorf("datagram %+v", d)
		}
	}
}

// overload: who floods is refused; what is more important still passes, and
// the receiver's memory is bounded.
func overload(t *testing.T, n Network) {
	r := bound(t, n, "slow", bus.One(500, 0))
	flood := must[bus.Socket](t)(n.Join(t, "flood").Socket(bus.With(bus.Low)))
	svc := bus.Service{Type: 500}
	refused := make(chan bus.Datagram, 1)
	go func() {
		for {
			d, err := flood.Recv()
			if err != nil {
				return
			}
			select {
			case refused <- d:
			default:
			}
		}
	}()
	const size, most = 10_000, 20_000
	sent := 0
	var first bus.Datagram
	in(t, "the flood to be refused", func() {
		for sent < most {
			ok(t, flood.Send(svc, make([]byte, size)))
			sent++
			select {
			case first = <-refused:
				return
			default:
			}
		}
	})
	if first.Code != bus.Overload || (len(first.Data) != size && len(first.Data) != 1024) { // TIPC returns 1024 bytes at most
		t.Fatalf("came back behind %d: code %v, %d bytes", sent, first.Code, len(first.Data))
	}
	high := must[bus.Socket](t)(n.Join(t, "high").Socket(bus.With(bus.Critical)))
	ok(t, high.Send(svc, []byte("important")))
	for bytes := 0; ; {
		d := get(t, r)
		if string(d.Data) == "important" {
			break
		}
		if bytes += len(d.Data); bytes > 64<<20 {
			t.Fatal("the flood was not bounded")
		}
	}
}

// importanceLevels: each level has a limit of its own, above that of the level
// below. What is taken is received; everything else comes back, with its data.
func importanceLevels(t *testing.T, n Network) {
	const size, most = 60_000, 2000 // far above any limit
	r := bound(t, n, "slow", bus.One(500, 0))
	member := n.Join(t, "senders")
	taken := 0
	for i := bus.Low; i <= bus.Critical; i++ {
		s := must[bus.Socket](t)(member.Socket(bus.With(i)))
		sent := 0
		in(t, "a level to be refused", func() {
			back := make(chan bus.Datagram, most)
			go func() {
				for {
					d, err := s.Recv()
					if err != nil {
						close(back)
						return
					}
					back <- d
				}
			}()
			for refused := false; !refused && sent < most; sent++ {
				ok(t, s.Send(bus.Service{Type: 500}, bytes.Repeat([]byte{byte(i)}, size)))
				select {
				case d := <-back:
					refused = true
					if d.Code != bus.Overload || len(d.Data) < 1024 || d.Data[0] != byte(i) {
						t.Errorf("level %d: came back with %v, %d bytes", i, d.Code, len(d.Data))
					}
				default:
				}
			}
			ok(t, s.Close())
			for range back {
			}
		})
		if sent == most {
			t.Fatalf("level %d has no limit", i)
		}
	}
	// Of each level something was taken: its room is more than the level's below.
	end := must[bus.Socket](t)(member.Socket())
	levels := map[byte]int{}
	for len(levels) <= int(bus.Critical) {
		d := get(t, r)
		levels[d.Data[0]]++
		if taken += len(d.Data); taken > 128<<20 {
			t.Fatalf("the queue has no bound: %v", levels)
		}
	}
	ok(t, end.Close())
}

// scopeOfANode: a binding within the node serves the processes of the node.
func scopeOfANode(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500)))
	l := must[bus.Listener](t)(a.Listen(bus.One(500, 1), bus.Within(bus.Node)))
	if e := next(t, sub); !e.Up || e.Range != bus.One(500, 1) {
		t.Errorf("event %+v", e)
	}
	c := must[bus.Conn](t)(b.Dial(timeout(t), bus.Service{Type: 500, Instance: 1}))
	ok(t, c.Send([]byte("near")))
	var peer bus.Conn
	in(t, "accept", func() { peer = must[bus.Conn](t)(l.Accept()) })
	if got := recv(t, peer); string(got) != "near" {
		t.Errorf("got %q", got)
	}
	s := must[bus.Socket](t)(a.Socket())
	ok(t, s.Bind(bus.One(500, 2), bus.Within(bus.Node)))
	ok(t, must[bus.Socket](t)(b.Socket()).Send(bus.Service{Type: 500, Instance: 2}, []byte("near")))
	get(t, s)
}

func reservedTypes(t *testing.T, n Network) {
	b := n.Join(t, "a")
	s := must[bus.Socket](t)(b.Socket())
	for _, typ := range []uint32{bus.TypeNodeState, bus.TypeTopology, bus.TypeLinkState, bus.MinType - 1} {
		want(t, s.Bind(bus.One(typ, 1)), bus.ErrReserved)
		_, err := b.Listen(bus.One(typ, 1))
		want(t, err, bus.ErrReserved)
	}
	ok(t, s.Bind(bus.One(bus.MinType, 1)))
}

// serviceFilter: one event for the first binding of a range, one for the last.
func serviceFilter(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500), bus.Filtered(bus.Services)))
	see := func(up bool, instance uint32) {
		t.Helper()
		if e := next(t, sub); e.Up != up || e.Range != bus.One(500, instance) {
			t.Errorf("event %+v, want up %v of %d", e, up, instance)
		}
	}
	var sockets []bus.Socket
	for range 3 {
		s := must[bus.Socket](t)(a.Socket())
		ok(t, s.Bind(bus.One(500, 1)))
		sockets = append(sockets, s)
	}
	see(true, 1)
	for _, s := range sockets {
		ok(t, s.Close())
	}
	see(false, 1)
	ok(t, must[bus.Socket](t)(a.Socket()).Bind(bus.One(500, 2)))
	see(true, 2)
}

func subscriptionExpires(t *testing.T, n Network) {
	b := n.Join(t, "a")
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500), bus.Expires(50*time.Millisecond)))
	in(t, "the subscription to expire", func() {
		_, err := sub.Next()
		want(t, err, bus.ErrTimeout)
		_, err = sub.Next()
		want(t, err, bus.ErrClosed)
	})
	ok(t, sub.Close())
}

func nodeService(t *testing.T, n Network) {
	b := n.Join(t, "a")
	s := must[bus.Socket](t)(b.Socket())
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(bus.TypeNodeState)))
	if e := next(t, sub); !e.Up || e.Range != bus.One(bus.TypeNodeState, s.Addr().Node) {
		t.Errorf("event %+v on node %d", e, s.Addr().Node)
	}
}
