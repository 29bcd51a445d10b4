// Package neigh resolves neighbours: ARP (RFC 826, 5227) and neighbour
// discovery (RFC 4861), per interface and so per VRF.
//
// Table is the slow side: a pure state machine, used by one goroutine (the
// line card's event loop), with time passed in and frames given back as data.
// Cache and Adjacency are what workers read, without locks.
//
//	          ask                answer
//	(none) ────────▶ incomplete ────────▶ reachable ◀──────────┐
//	                  │ 3 × 1 s             │ 30 s              │ answer
//	                  ▼                     ▼         used      │
//	                failed                stale ─────────────▶ probe
//	                  │ 1 s                 │ 10 min unused     │ 3 × 1 s
//	                  ▼                     ▼                   ▼
//	                (none)                (none)            incomplete
//
// Memory is bounded whatever arrives: see Limits.
package neigh

import (
	"fmt"
	"net/netip"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/fib"
)

// State is a neighbour's state (RFC 4861, 7.3.2; ARP entries have the same).
type State uint8

// The states.
const (
	Incomplete State = iota // asked, no answer yet
	Reachable               // answered lately
	Stale                   // known, not confirmed lately; used as it is
	Probe                   // asked again by unicast; used as it is
	FailedState
	Permanent // configured
)

var stateNames = [...]string{"incomplete", "reachable", "stale", "probe", "failed", "permanent"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Timing of the state machine (RFC 4861, 10).
const (
	retransmit  = time.Second
	maxProbes   = 3
	reachable   = 30 * time.Second // mean; each neighbour has its own between 0.5 and 1.5 times it
	staleCheck  = 15 * time.Second // how often a stale neighbour is looked at for use
	staleLife   = 10 * time.Minute
	failedLife  = time.Second
	gatewayLife = 3 * time.Second  // a failed gateway is asked again so much later
	defendPause = 10 * time.Second // RFC 5227, 2.4: DEFEND_INTERVAL
)

// Limits bound the memory of a Table.
type Limits struct {
	Entries      int // neighbours altogether, but configured ones and gateways in use
	PerInterface int // so that one link can't take all
	Incomplete   int // unanswered ones on an interface; beyond it the oldest is given up: an address scan hits dead addresses, a real neighbour answers in time
	Queue        int // packets that wait for one neighbour
	QueueTotal   int // packets that wait altogether
}

// DefaultLimits is some 50 MB with all entries in use.
var DefaultLimits = Limits{Entries: 131072, PerInterface: 65536, Incomplete: 512, Queue: 3, QueueTotal: 1024}

// Packet is an IP packet that waits for a neighbour.
type Packet struct {
	Data []byte // from the IP header; the table's own
	In   fib.InterfaceID
	VRF  fib.VRF
	Host bool // made by the router's own host stack
}

// OutputKind says what an Output is.
type OutputKind uint8

// The kinds of outputs.
const (
	Transmit    OutputKind = iota // Frame goes out of Interface, untagged
	Unreachable                   // Packet could not be sent: its sender is to be told
	Notice                        // Text for the operator
)

// Output is an effect of the table.
type Output struct {
	Kind      OutputKind
	Interface fib.InterfaceID
	Frame     []byte
	Packet    Packet
	Text      string
}

// Entry is a neighbour as it is shown.
type Entry struct {
	Interface fib.InterfaceID
	VRF       fib.VRF
	Address   netip.Addr
	MAC       header.MAC // zero if not known
	State     State
	Since     time.Time
}

// Static is a configured neighbour.
type Static struct {
	Interface fib.InterfaceID
	Address   netip.Addr
	MAC       header.MAC
}

type entry struct {
	adj    Adjacency
	state  State
	mac    header.MAC
	since  time.Time // in this state
	used   time.Time // last seen in use
	due    time.Time // next timer
	heap   int       // index in the timer heap, -1: none
	probes int
	pins   int    // groups that use it
	asked  uint64 // sequence number of its place among the incomplete ones
	queue  []Packet
}

// link is what the table keeps of one interface.
type link struct {
	entries    int
	incomplete int     // but gateways in use
	order      []place // these by age, oldest first; may hold outdated places
	defended   time.Time
}

type place struct {
	e     *entry
	asked uint64
}

// Table holds the neighbours of a card.
type Table struct {
	limits  Limits
	cache   *Cache
	ifaces  *ethernet.Table
	entries map[Key]*entry
	links   map[fib.InterfaceID]*link
	timers  timerHeap
	static  map[Key]header.MAC
	learned int // entries that count against Limits.Entries
	queued  int
	asked   uint64
	drops   *graph.Drops
	watch   func(*Adjacency)
	mirror  Mirror
	// elsewhere tells that packets from the interface would leave through another one.
	elsewhere func(in *ethernet.Entry, to netip.Addr) bool
	questions map[Key]time.Time // of the host stack
	conflicts map[Key]Conflict  // at most one for each own address
	cuts      map[Key]struct{}  // neighbours whose path has failed
	out       []Output
}

// New makes a table without neighbours.
func New(l Limits) *Table {
	none, _ := ethernet.NewTable(0, nil, ethernet.NewSlots())
	return &Table{
		limits: l, cache: NewCache(), ifaces: none, entries: make(map[Key]*entry),
		links: make(map[fib.InterfaceID]*link), static: make(map[Key]header.MAC),
		questions: make(map[Key]time.Time), conflicts: make(map[Key]Conflict), cuts: make(map[Key]struct{}),
		drops: graph.NewDrops("neighbor", dropReasons),
	}
}

// Watch names the function that is told when the gateway of a group dies or comes back.
func (t *Table) Watch(f func(*Adjacency)) { t.watch = f }

// Mirror follows what sending to each neighbour takes.
type Mirror interface {
	Neighbor(a *Adjacency, rw *Rewrite) // nil: not resolved
	Forget(a *Adjacency)
}

// SetMirror starts a mirror: it is told all resolved neighbours, and each change later.
func (t *Table) SetMirror(m Mirror) {
	t.mirror = m
	for _, e := range t.entries {
		if rw := e.adj.rewrite.Load(); rw != nil {
			m.Neighbor(&e.adj, rw)
		}
	}
}

// publish shows a neighbour to the workers, and to the mirror.
func (t *Table) publish(e *entry, rw *Rewrite) {
	if rw == nil && e.adj.rewrite.Load() == nil {
		return
	}
	e.adj.rewrite.Store(rw)
	if t.mirror != nil {
		t.mirror.Neighbor(&e.adj, rw)
	}
}

// Elsewhere names the function that tells for proxy ARP whether an address is reached
// through another interface.
func (t *Table) Elsewhere(f func(in *ethernet.Entry, to netip.Addr) bool) { t.elsewhere = f }

// die notes whether a neighbour is dead.
func (t *Table) die(e *entry, dead bool) {
	if e.adj.dead == dead {
		return
	}
	was := e.adj.Dead()
	e.adj.dead = dead
	t.lived(e, was)
}

// SetPath tells that the path to a neighbour has failed, or works again, whether
// the neighbour is known or not: it is dead for groups, but packets that have no other
// way still go there.
func (t *Table) SetPath(k Key, failed bool) {
	if failed {
		t.cuts[k] = struct{}{}
	} else {
		delete(t.cuts, k)
	}
	if e := t.entries[k]; e != nil && e.adj.cut != failed {
		was := e.adj.Dead()
		e.adj.cut = failed
		t.lived(e, was)
	}
}

// lived tells of a neighbour that was dead before, or was not, if that has changed.
func (t *Table) lived(e *entry, was bool) {
	if e.adj.Dead() == was {
		return
	}
	if e.pins > 0 && t.watch != nil {
		t.watch(&e.adj)
	}
}

// Cache is the workers' view.
func (t *Table) Cache() *Cache { return t.cache }

// Drops are the table's drop counters.
func (t *Table) Drops() *graph.Drops { return t.drops }

// Len tells how many neighbours there are.
func (t *Table) Len() int { return len(t.entries) }

// Drain returns what came out since the last Drain; valid until the next call
// of any method.
func (t *Table) Drain() []Output {
	out := t.out
	t.out = t.out[len(t.out):]
	if cap(t.out) == 0 {
		t.out = nil
	}
	return out
}

func (t *Table) link(id fib.InterfaceID) *link {
	l := t.links[id]
	if l == nil {
		l = &link{}
		t.links[id] = l
	}
	return l
}

// find returns the neighbour, made anew if it is not there; nil if a limit forbids it.
func (t *Table) find(now time.Time, k Key, force bool) *entry {
	if e := t.entries[k]; e != nil {
		return e
	}
	l := t.link(k.Interface)
	if !force && (t.learned >= t.limits.Entries || l.entries >= t.limits.PerInterface) && !t.evict(k.Interface, l.entries >= t.limits.PerInterface) {
		t.drops.Add(dropTableFull)
		return nil
	}
	e := &entry{since: now, used: now, heap: -1, state: FailedState}
	e.adj.Key = k
	_, e.adj.cut = t.cuts[k]
	t.entries[k] = e
	t.learned++
	l.entries++
	t.cache.insert(&e.adj, len(t.entries))
	return e
}

// evict removes some neighbour that nothing needs, of the interface if same is set.
func (t *Table) evict(id fib.InterfaceID, same bool) bool {
	tries := 64
	for k, e := range t.entries { // the order is random
		if tries--; tries < 0 {
			return false
		}
		if e.pins == 0 && e.state != Permanent && !e.adj.inUse() && (!same || k.Interface == id) {
			t.remove(e)
			return true
		}
	}
	return false
}

func (t *Table) remove(e *entry) {
	t.leave(e)
	e.state = FailedState // its place in the line is void
	t.publish(e, nil)
	t.unqueue(e)
	t.stop(e)
	t.cache.remove(&e.adj)
	if t.mirror != nil {
		t.mirror.Forget(&e.adj)
	}
	delete(t.entries, e.adj.Key)
	t.learned-- // it is not pinned
	t.link(e.adj.Interface).entries--
}

// unqueue forgets what waits.
func (t *Table) unqueue(e *entry) {
	t.queued -= len(e.queue)
	e.queue = nil
}

// leave takes the entry out of its state's accounts.
func (t *Table) leave(e *entry) {
	if e.state == Incomplete && e.pins == 0 {
		t.link(e.adj.Interface).incomplete--
	}
}

// line puts an incomplete entry that no group uses at the end of its
// interface's line.
func (t *Table) line(e *entry) {
	l := t.link(e.adj.Interface)
	l.incomplete++
	t.asked++
	e.asked = t.asked
	l.order = append(l.order, place{e, e.asked})
}

func (t *Table) enter(e *entry, s State, now time.Time) {
	t.leave(e)
	e.state, e.since, e.probes = s, now, 0
	switch s {
	case Incomplete:
		t.publish(e, nil)
		e.adj.mode.Store(uint32(Ask))
		if e.pins == 0 {
			t.line(e)
		}
	case Reachable:
		t.start(e, now.Add(reachable/2+time.Duration(e.adj.hash()%uint64(reachable))))
	case Stale:
		t.start(e, now.Add(staleCheck))
	case FailedState:
		t.publish(e, nil)
		e.adj.mode.Store(uint32(Failed))
		t.start(e, now.Add(failedLife))
	case Permanent:
		t.stop(e)
	}
}

// giveUp forgets the oldest incomplete neighbours of an interface above the limit.
func (t *Table) giveUp(l *link) {
	for l.incomplete >= t.limits.Incomplete && t.oldest(l, nil) {
	}
	if len(l.order) > 4*t.limits.Incomplete {
		t.compact(l)
	}
}

// oldest forgets the oldest incomplete neighbour of an interface, but keep; false if there is none.
func (t *Table) oldest(l *link, keep *entry) bool {
	for len(l.order) > 0 {
		p := l.order[0]
		if p.current() && p.e == keep {
			return false
		}
		l.order = l.order[1:]
		if p.current() {
			t.drops.Add(dropGivenUp)
			t.remove(p.e)
			return true
		}
	}
	return false
}

// current tells that the entry waits since it took this place.
func (p place) current() bool {
	return p.e.state == Incomplete && p.e.asked == p.asked && p.e.pins == 0
}

// compact drops outdated places.
func (t *Table) compact(l *link) {
	var keep []place
	for _, p := range l.order {
		if p.current() {
			keep = append(keep, p)
		}
	}
	l.order = keep
}

// Pin gives a group the adjacency of its gateway, which stays until Unpin.
func (t *Table) Pin(now time.Time, k Key) *Adjacency {
	e := t.find(now, k, true)
	if e.pins == 0 {
		t.learned--
		t.leave(e)
	}
	e.pins++
	t.gateway(now, e)
	return &e.adj
}

// gateway asks for a gateway that is not resolved, before a packet needs it.
func (t *Table) gateway(now time.Time, e *entry) {
	if e.state != FailedState || e.heap >= 0 {
		return
	}
	in := t.ifaces.Out(e.adj.Interface)
	if in == nil || !in.Up {
		e.adj.mode.Store(uint32(Down))
		t.die(e, true)
		return
	}
	t.enter(e, Incomplete, now)
	t.ask(now, e)
}

// Unpin undoes one Pin.
func (t *Table) Unpin(now time.Time, a *Adjacency) {
	e := t.entries[a.Key]
	if e == nil || &e.adj != a {
		return
	}
	if e.pins--; e.pins == 0 {
		t.learned++
		if e.state == Incomplete {
			t.line(e)
		}
		if e.heap < 0 && e.state != Permanent {
			t.start(e, now.Add(failedLife))
		}
	}
}
