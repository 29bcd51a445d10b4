package fibsync

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"godwit/cluster/wire"
	"godwit/fib"
	"godwit/fib/fibtest"
)

// card is a line card that behaves: a session's queue, and tables.
type card struct {
	t       *testing.T
	p       *Publisher
	id      fib.CardID
	queue   []sent
	now     time.Time // passes by itself while a multicast is waited for
	full    bool      // the session takes nothing
	tables  *fibtest.Twin
	sub     *Subscriber
	batches int
	sweeps  int
	refs    int     // batches that were named in the session
	air     *air    // multicasts; nil: none
	encoded []*byte // the bytes of each batch that has changes
}

// sent is a message of the session.
type sent struct {
	kind wire.Kind
	body []byte
}

func newCard(t *testing.T, p *Publisher, id fib.CardID) *card {
	c := &card{t: t, p: p, id: id, tables: fibtest.NewTwin()}
	c.sub = NewSubscriber(c.tables, 0, 0)
	p.Attach(id, c, 0)
	return c
}

func (c *card) SendShared(k wire.Kind, head, body []byte) error {
	if c.full {
		return errors.New("backlog")
	}
	if len(body) > 0 {
		c.encoded = append(c.encoded, unsafe.SliceData(body))
	}
	body = slices.Concat(head, body)
	if k != wire.FIBBatch && k != wire.FIBRef || len(body) > BatchBytes+2048 {
		c.t.Errorf("%v of %d bytes", k, len(body))
	}
	c.queue = append(c.queue, sent{k, body})
	return nil
}

func (c *card) Queued() (n int) {
	for _, b := range c.queue {
		n += len(b.body)
	}
	return n
}

// receive takes up to n messages of the session, and acknowledges what it applies.
func (c *card) receive(n int) {
	for ; n > 0 && len(c.queue) > 0; n-- {
		m := c.queue[0]
		c.queue = c.queue[1:]
		if m.kind == wire.FIBRef {
			c.refs++
			c.took(c.sub.Refer(c.now, m.body))
			continue
		}
		if b, err := wire.DecodeFIBBatch(m.body); err == nil && b.Sweep {
			c.sweeps++
		}
		c.took(c.sub.Receive(m.body))
	}
}

// took acknowledges, and goes on with what has waited.
func (c *card) took(ack wire.FIBAckBody, reply bool) {
	for reply {
		c.batches++
		if ack.Error != "" {
			c.t.Errorf("card %d refuses: %s", c.id, ack.Error)
		}
		c.p.Ack(c.id, ack)
		ack, reply = c.sub.Step()
	}
}

// late lets the deadline pass, and asks for what has not come.
func (c *card) late() {
	c.now = c.now.Add(CastDeadline)
	list, again := c.sub.Late(c.now)
	if !again.IsZero() && !again.After(c.now) {
		c.t.Errorf("late at %v, again %v", c.now, again)
	}
	for _, f := range list {
		c.p.Fetch(c.id, f)
	}
}

func (c *card) reconnect() {
	c.p.Detach(c.id)
	c.queue = nil
	s := c.p.Attach(c.id, c, c.sub.Epoch())
	if c.air != nil {
		s.CastVia(c.air)
	}
}

// drain lets everything happen until nothing does.
func drain(p *Publisher, cards ...*card) {
	for quiet := 0; quiet < 3; quiet++ {
		p.Pump()
		for _, c := range cards {
			if len(c.queue) > 0 || len(c.sub.waiting) > 0 || c.air != nil && len(c.air.waits) > 0 {
				quiet = 0
			}
			if c.air != nil {
				c.air.deliver()
				c.late()
			}
			c.receive(1 << 30)
		}
	}
}

func setGroup(id fib.GroupID, itf int) fib.Change {
	return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, NextHops: []fib.NextHop{{Interface: fib.InterfaceID(itf)}}}}
}

func setRoute(i int, g fib.GroupID) fib.Change {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	if g == 0 {
		return fib.Change{Op: fib.DeleteRoute, Route: fib.Route{Prefix: p}}
	}
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: g}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is a card's routes without the groups' numbers, which may differ.
func content(routes map[fibtest.Key]fib.Group) map[fibtest.Key]string {
	out := map[fibtest.Key]string{}
	for k, g := range routes {
		out[k] = fmt.Sprint(g.Kind, g.NextHops)
	}
	return out
}

func TestSnapshotAndIncrements(t *testing.T) {
	p := NewPublisher()
	changes := []fib.Change{setGroup(1, 1), setGroup(2, 2)}
	for i := range 80000 {
		changes = append(changes, setRoute(i, fib.GroupID(1+i%2)))
	}
	must(t, p.Changes(changes))
	a := newCard(t, p, 1)
	p.Pump()
	if n := len(a.queue); n != Window {
		t.Fatalf("%d batches sent, want a window of %d", n, Window)
	}
	drain(p, a)
	if st := p.Status()[0]; !st.Synced || st.Swept || st.Backlog != 0 || a.sweeps != 0 {
		t.Fatalf("before convergence: %+v", st)
	}
	p.Converged()
	drain(p, a)
	if st := p.Status()[0]; !st.Swept || a.sweeps != 1 {
		t.Fatalf("after convergence: %+v, %d sweeps", st, a.sweeps)
	}
	must(t, p.Changes([]fib.Change{setRoute(7, 0), setRoute(8, 2), setGroup(2, 9)}))
	before := a.batches
	drain(p, a)
	if a.batches != before+1 || a.sweeps != 1 || len(a.tables.Routes()) != 79999 {
		t.Errorf("%d batches, %d sweeps, %d routes", a.batches-before, a.sweeps, len(a.tables.Routes()))
	}
	if len(p.tombs) != 0 || p.Routes() != 79999 {
		t.Errorf("%d tombstones, %d routes retained", len(p.tombs), p.Routes())
	}
}

// Many changes of one route while the card is slow cost it one change.
func TestCoalescing(t *testing.T) {
	p := NewPublisher()
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setGroup(2, 2), setRoute(1, 1)}))
	a := newCard(t, p, 1)
	drain(p, a)
	a.full = true
	for i := range 10000 {
		must(t, p.Changes([]fib.Change{setRoute(1, fib.GroupID(1+i%2)), setRoute(2, 1), setRoute(2, 0)}))
		p.Pump()
	}
	if st := p.Status()[0]; st.Backlog > 3 || len(p.tombs) > 10001 {
		t.Errorf("backlog %d, %d tombstones", st.Backlog, len(p.tombs))
	}
	a.full = false
	before := a.batches
	drain(p, a)
	if a.batches-before > 2 || len(a.tables.Routes()) != 1 {
		t.Errorf("%d batches, routes %v", a.batches-before, a.tables.Routes())
	}
}

// A number that is used again means another group until the card has dropped
// the former one.
func TestGroupNumberReused(t *testing.T) {
	p := NewPublisher()
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setRoute(1, 1), setRoute(2, 1)}))
	a := newCard(t, p, 1)
	drain(p, a)
	must(t, p.Changes([]fib.Change{setGroup(2, 2), setRoute(1, 2), setRoute(2, 2), {Op: fib.DeleteGroup, Group: fib.Group{ID: 1}}, setGroup(1, 7), setRoute(1, 1)}))
	drain(p, a)
	got := content(a.tables.Routes())
	if len(got) != 2 || got[fibtest.Key{Prefix: setRoute(1, 0).Route.Prefix}] != "forward [{7 invalid IP 0 false}]" {
		t.Errorf("routes %v", got)
	}
	if len(p.dead) != 0 {
		t.Errorf("%d dead groups kept", len(p.dead))
	}
}

func TestBadChanges(t *testing.T) {
	p := NewPublisher()
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setRoute(1, 1)}))
	for want, c := range map[error]fib.Change{
		fib.ErrUnknownGroup: setRoute(2, 9),
		fib.ErrGroupInUse:   {Op: fib.DeleteGroup, Group: fib.Group{ID: 1}},
		fib.ErrBadRoute:     {Op: fib.DeleteRoute},
		fib.ErrBadGroup:     {Op: fib.SetGroup},
	} {
		if err := p.Changes([]fib.Change{c}); !errors.Is(err, want) {
			t.Errorf("%v: error %v, want %v", c, err, want)
		}
	}
	if p.Routes() != 1 {
		t.Errorf("%d routes", p.Routes())
	}
}

// A card that never acknowledges costs a window, is reported, and starts again
// when deleted routes pile up; afterwards it gets the right tables.
func TestSilentCard(t *testing.T) {
	p := NewPublisher()
	p.tombLimit = 10_000
	p.Converged()
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setRoute(0, 1)}))
	a := newCard(t, p, 1)
	drain(p, a)
	epoch := p.Status()[0].Epoch
	now := time.Unix(1000, 0)
	must(t, p.Changes([]fib.Change{setRoute(1, 1)}))
	p.Pump()
	if s := p.Expire(now); len(s) != 0 {
		t.Errorf("stalled at once: %v", s)
	}
	if s := p.Expire(now.Add(AckTimeout)); !slices.Equal(s, []fib.CardID{1}) {
		t.Errorf("stalled %v, want card 1", s)
	}
	for i := range 2*p.tombLimit + 10 {
		must(t, p.Changes([]fib.Change{setRoute(i+10, 1), setRoute(i+10, 0)}))
		if i%100 == 0 {
			p.Pump()
		}
	}
	if len(p.tombs) > p.tombLimit+1 || len(a.queue) > 2*Window {
		t.Errorf("%d tombstones, %d batches wait", len(p.tombs), len(a.queue))
	}
	if p.Status()[0].Epoch == epoch {
		t.Error("the stream has not started again")
	}
	drain(p, a)
	if n := len(a.tables.Routes()); n != 2 || !p.Status()[0].Swept {
		t.Errorf("%d routes, %+v", n, p.Status()[0])
	}
}

// A card that refuses is tried again in a new epoch, but not for ever.
func TestRefusal(t *testing.T) {
	p := NewPublisher()
	must(t, p.Changes([]fib.Change{setGroup(1, 1), setRoute(0, 1)}))
	a := newCard(t, p, 1)
	for range 10 {
		p.Pump()
		st := p.Status()[0]
		p.Ack(1, wire.FIBAckBody{Epoch: st.Epoch, Error: "no"})
	}
	if st := p.Status()[0]; st.Refused != "no" || len(a.queue) != maxRefusals {
		t.Errorf("%+v after %d batches", st, len(a.queue))
	}
	a.queue = nil
	a.reconnect()
	drain(p, a)
	if st := p.Status()[0]; !st.Synced || st.Refused != "" {
		t.Errorf("after a new session: %+v", st)
	}
	p.Ack(1, wire.FIBAckBody{Epoch: p.Status()[0].Epoch, Seq: 99})
	if st := p.Status()[0]; st.Synced || !strings.Contains(st.Refused, "out of sequence") {
		t.Errorf("after a false acknowledgement: %+v", st)
	}
}

func TestSubscriberRefuses(t *testing.T) {
	s := NewSubscriber(fibtest.NewTwin(), 0, 0)
	body := wire.AppendFIBBatch(nil, fib.Batch{Epoch: 1, Seq: 1, Changes: []fib.Change{setRoute(1, 5)}})
	if ack, reply := s.Receive(body); !reply || ack.Error == "" || ack.Epoch != 1 || ack.Seq != 0 {
		t.Errorf("unknown group: %+v %v", ack, reply)
	}
	if _, reply := s.Receive(body); reply {
		t.Error("says so twice")
	}
	good := wire.AppendFIBBatch(nil, fib.Batch{Epoch: 2, Seq: 1, Changes: []fib.Change{setGroup(5, 1), setRoute(1, 5)}})
	if ack, reply := s.Receive(good); !reply || ack != (wire.FIBAckBody{Epoch: 2, Seq: 1}) {
		t.Errorf("next epoch: %+v %v", ack, reply)
	}
	if _, reply := s.Receive(body); reply {
		t.Error("answers a batch of an old epoch")
	}
	if ack, reply := s.Receive(append(wire.AppendFIBHeader(nil, 3, 1, false), 99)); !reply || ack.Epoch != 3 || ack.Error == "" {
		t.Errorf("garbage that opens an epoch: %+v %v", ack, reply)
	}
	s = NewSubscriber(fibtest.NewTwin(), 2, 1)
	if ack, reply := s.Receive([]byte{9}); !reply || ack.Error == "" || ack.Seq != 1 {
		t.Errorf("garbage: %+v %v", ack, reply)
	}
}

// Random histories: cards are slow, blocked, lost and come back, with multicast or
// without, where any may be lost, late, twice or forged; whatever
// happens, no batch is refused, and after draining each card holds what the
// RIB said last.
func TestRandomHistories(t *testing.T) {
	for round := range 40 {
		r := fibtest.Rand(t)
		p := NewPublisher()
		cards := []*card{newCard(t, p, 1), newCard(t, p, 2), newCard(t, p, 3)}
		if round%2 == 1 {
			onAir(&air{r: r, bad: r.IntN(4)}, cards...)
		}
		rib := &rib{r: r, groups: map[fib.GroupID]string{}, routes: map[fibtest.Key]fib.GroupID{}}
		for range 400 {
			must(t, p.Changes(rib.changes()))
			if r.IntN(3) == 0 {
				p.Pump()
			}
			disturb(r, cards[r.IntN(len(cards))])
			if r.IntN(100) == 0 {
				p.Converged()
			}
		}
		p.Converged()
		for _, c := range cards {
			c.full = false
		}
		drain(p, cards...)
		settled(t, p, rib, cards)
	}
}

// disturb lets something happen to a card.
func disturb(r *rand.Rand, c *card) {
	switch r.IntN(12) {
	case 0:
		c.full = !c.full
	case 1:
		c.reconnect()
	case 2: // a new process
		c.tables = fibtest.NewTwin()
		c.sub = NewSubscriber(c.tables, 0, 0)
		c.reconnect()
	case 3:
		c.late()
	default:
		if c.air != nil && r.IntN(2) == 0 {
			c.air.deliver()
		}
		c.receive(r.IntN(3))
	}
}

// settled tells that cards have what the RIB said, and the publisher keeps nothing else.
func settled(t *testing.T, p *Publisher, rib *rib, cards []*card) {
	t.Helper()
	for _, c := range cards {
		if got, want := content(c.tables.Routes()), rib.content(); !reflect.DeepEqual(got, want) {
			t.Fatalf("card %d has %v\nwant %v", c.id, got, want)
		}
		if got, want := p.Digest(0), c.tables.Digest(0); got != want {
			t.Fatalf("publisher's digest %v, card's %v", got, want)
		}
		if len(c.sub.waiting) > 0 || len(c.sub.held.list) > HeldBatches {
			t.Fatalf("card %d: %d batches wait, %d held", c.id, len(c.sub.waiting), len(c.sub.held.list))
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	if len(p.tombs) != 0 || len(p.dead) != 0 || p.table.count != len(rib.routes) {
		t.Fatalf("kept %d tombstones, %d groups, %d records for %d routes", len(p.tombs), len(p.dead), p.table.count, len(rib.routes))
	}
}

// rib makes valid changes and remembers their result.
type rib struct {
	r      *rand.Rand
	groups map[fib.GroupID]string
	routes map[fibtest.Key]fib.GroupID
}

func (b *rib) changes() (out []fib.Change) {
	for range b.r.IntN(20) {
		id := fib.GroupID(1 + b.r.IntN(8))
		rt := setRoute(b.r.IntN(60), id)
		k := fibtest.Key{Prefix: rt.Route.Prefix}
		switch n := b.r.IntN(10); {
		case n < 2 || b.groups[id] == "":
			c := setGroup(id, 1+b.r.IntN(1000))
			b.groups[id] = fmt.Sprint(c.Group.Kind, c.Group.NextHops)
			out = append(out, c)
		case n < 4:
			delete(b.routes, k)
			rt.Op = fib.DeleteRoute
			out = append(out, rt)
		case n < 5 && !b.used(id):
			delete(b.groups, id)
			out = append(out, fib.Change{Op: fib.DeleteGroup, Group: fib.Group{ID: id}})
		default:
			b.routes[k] = id
			out = append(out, rt)
		}
	}
	return out
}

func (b *rib) used(id fib.GroupID) bool {
	for _, g := range b.routes {
		if g == id {
			return true
		}
	}
	return false
}

func (b *rib) content() map[fibtest.Key]string {
	out := map[fibtest.Key]string{}
	for k, id := range b.routes {
		out[k] = b.groups[id]
	}
	return out
}

func TestTableAgainstMap(t *testing.T) {
	r := fibtest.Rand(t)
	s := &fibtest.Script{R: r, VRFs: 2}
	tb, want := newTable(), map[fibtest.Key]uint32{}
	var keys []fibtest.Key
	for i := range 20000 {
		k := fibtest.Key{VRF: fib.VRF(r.IntN(2)), Prefix: s.Prefix()}
		if len(keys) > 0 && r.IntN(2) == 0 {
			k = keys[r.IntN(len(keys))]
		}
		keys = append(keys, k)
		rec := makeRecord(k.VRF, k.Prefix)
		if rec.prefix() != k.Prefix {
			t.Fatalf("%v became %v", k.Prefix, rec.prefix())
		}
		n, _ := tb.find(&rec)
		if n != want[k] {
			t.Fatalf("step %d: %v is record %d, want %d", i, k, n, want[k])
		}
		switch {
		case n == 0:
			n = tb.add(&rec)
			tb.link(n)
			want[k] = n
		case r.IntN(2) == 0:
			tb.remove(n)
			delete(want, k)
		default:
			tb.unlink(n)
			tb.link(n)
		}
	}
	n, last := 0, uint64(0)
	for i := tb.head; i != 0; i = tb.at(i).next {
		if tb.at(i).version <= last {
			t.Fatal("list out of order")
		}
		last = tb.at(i).version
		n++
	}
	if n != len(want) || n != tb.count {
		t.Errorf("%d in the list, %d counted, want %d", n, tb.count, len(want))
	}
}
