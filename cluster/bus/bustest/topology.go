package bustest

import (
	"testing"

	"godwit/cluster/bus"
)

func next(t *testing.T, s bus.Subscription) bus.Event {
	t.Helper()
	var e bus.Event
	in(t, "a topology event", func() { e = must[bus.Event](t)(s.Next()) })
	return e
}

// expect reads one event and compares all but the address.
func expect(t *testing.T, s bus.Subscription, up bool, r bus.Range, name string) bus.Event {
	t.Helper()
	e := next(t, s)
	if e.Up != up || e.Range != r || (e.Name != name && e.Name != "") {
		t.Fatalf("event %+v, want up %v, %v of %s", e, up, r, name)
	}
	return e
}

func topologyExistingThenChanges(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	l := must[bus.Listener](t)(a.Listen(bus.One(500, 1)))
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500)))
	first := expect(t, sub, true, bus.One(500, 1), "a")
	s := must[bus.Socket](t)(b.Socket())
	ok(t, s.Bind(bus.One(500, 2)))
	own := expect(t, sub, true, bus.One(500, 2), "b")
	if own.Addr == first.Addr {
		t.Errorf("two sockets at %v", own.Addr)
	}
	ok(t, l.Close())
	if e := expect(t, sub, false, bus.One(500, 1), "a"); e.Addr != first.Addr {
		t.Errorf("came as %v, went as %v", first.Addr, e.Addr)
	}
	ok(t, s.Close())
	expect(t, sub, false, bus.One(500, 2), "b")
}

func topologyRanges(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	sub := must[bus.Subscription](t)(b.Subscribe(bus.Range{Type: 500, Lower: 10, Upper: 20}))
	for _, r := range []bus.Range{
		{Type: 500, Lower: 0, Upper: 9}, {Type: 500, Lower: 21, Upper: 30}, {Type: 501, Lower: 10, Upper: 20}, // outside
		{Type: 500, Lower: 0, Upper: 10}, {Type: 500, Lower: 20, Upper: 99}, {Type: 500, Lower: 12, Upper: 13}, bus.All(500),
	} {
		must[bus.Listener](t)(a.Listen(r))
	}
	expect(t, sub, true, bus.Range{Type: 500, Lower: 0, Upper: 10}, "a")
	expect(t, sub, true, bus.Range{Type: 500, Lower: 20, Upper: 99}, "a")
	expect(t, sub, true, bus.Range{Type: 500, Lower: 12, Upper: 13}, "a")
	expect(t, sub, true, bus.All(500), "a")
}

func topologyProcessGone(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	for i := range uint32(10) {
		must[bus.Listener](t)(a.Listen(bus.One(500, i)))
	}
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500)))
	up := map[bus.Address]bus.Range{}
	for range 10 {
		e := next(t, sub)
		up[e.Addr] = e.Range
	}
	ok(t, a.Close())
	for range 10 {
		e := next(t, sub)
		if e.Up || up[e.Addr] != e.Range || (e.Name != "a" && e.Name != "") {
			t.Errorf("event %+v", e)
		}
		delete(up, e.Addr)
	}
	if len(up) != 0 {
		t.Errorf("not withdrawn: %v", up)
	}
}

// topologySlowReader: who reads late sees what is, in order, not all that was.
func topologySlowReader(t *testing.T, n Network) {
	a, b := n.Join(t, "a"), n.Join(t, "b")
	sub := must[bus.Subscription](t)(b.Subscribe(bus.All(500)))
	lasting := must[bus.Listener](t)(a.Listen(bus.One(500, 1)))
	for range 300 {
		l := must[bus.Listener](t)(a.Listen(bus.One(500, 2)))
		ok(t, l.Close())
	}
	must[bus.Listener](t)(a.Listen(bus.One(500, 3)))
	state := map[bus.Address]bus.Range{}
	for {
		e := next(t, sub)
		if _, known := state[e.Addr]; known == e.Up {
			t.Fatalf("event %+v does not follow from %v", e, state)
		}
		if e.Up {
			state[e.Addr] = e.Range
		} else {
			delete(state, e.Addr)
		}
		if e.Range.Lower == 3 {
			break
		}
	}
	if len(state) != 2 {
		t.Errorf("left over: %v", state)
	}
	ok(t, lasting.Close())
	expect(t, sub, false, bus.One(500, 1), "a")
	ok(t, sub.Close())
	_, err := sub.Next()
	want(t, err, bus.ErrClosed)
}
