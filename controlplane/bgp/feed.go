package bgp

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"time"

	"godwit/cluster/wire"
)

// feed is the Loc-RIB as the routing engine shall know it: the latest path set
// of each prefix, and which prefixes the routing engine has not been told yet.
// GoBGP's watch goroutine writes it, the event loop takes batches from it.
type feed struct {
	mu       sync.Mutex
	v4       table[uint64] // address << 8 | bits
	v6       table[key6]
	sets     setTable
	attached bool      // a routing engine listens
	need     int       // wake when so many prefixes wait; never: the maximum
	next6    bool      // the next batch begins with IPv6
	changed  time.Time // last change
	wake     func()    // called without the lock, once for each arm
	renaming bool      // a walk gives paths other names of communities
}

// key6 is an IPv6 prefix without pointers, so that the garbage collector does
// not look into the map.
type key6 struct {
	hi, lo uint64
	bits   uint8
}

// entry is the state of one prefix.
type entry struct {
	set   uint32 // in the set table, 0: none
	dirty bool   // waits in the table's queue
	told  bool   // the routing engine has it with paths
}

// table holds the entries of one family, and the queue of dirty ones.
type table[K comparable] struct {
	entries map[K]entry
	queue   []K
	head    int    // of the queue
	pushed  uint64 // since start
	taken   uint64
	live    int // entries with paths
	prefix  func(K) netip.Prefix
	fresh   map[K]struct{} // changed since the walk of renaming began
}

func newFeed(multipath int, wake func()) *feed {
	return &feed{
		v4:   table[uint64]{entries: map[uint64]entry{}, prefix: prefix4},
		v6:   table[key6]{entries: map[key6]entry{}, prefix: prefix6},
		sets: newSetTable(multipath),
		need: never,
		wake: wake,
	}
}

func prefix4(k uint64) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(k>>8))
	return netip.PrefixFrom(netip.AddrFrom4(a), int(k&0xff))
}

func prefix6(k key6) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], k.hi)
	binary.BigEndian.PutUint64(a[8:], k.lo)
	return netip.PrefixFrom(netip.AddrFrom16(a), int(k.bits))
}

func makeKey4(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

func makeKey6(p netip.Prefix) key6 {
	a := p.Addr().As16()
	return key6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(p.Bits())}
}

// change is one event that GoBGP reports: a new best path of a prefix (or
// another of its equal paths), or the loss of one.
type change struct {
	prefix   netip.Prefix // masked, not IPv4-mapped
	path     wire.RoutePath
	withdraw bool
	local    bool // originated here: the routing engine has it from elsewhere
}

// apply takes over a run of changes. With replace, each is the whole state
// of its prefix; otherwise it adds, changes or removes the path of one peer.
func (f *feed) apply(changes []change, replace bool) {
	if len(changes) == 0 {
		return
	}
	f.mu.Lock()
	f.changed = time.Now()
	for i := range changes {
		e := &changes[i]
		if e.prefix.Addr().Is4() {
			f.v4.apply(makeKey4(e.prefix), e, replace, f)
		} else {
			f.v6.apply(makeKey6(e.prefix), e, replace, f)
		}
	}
	f.unlockAndWake()
}

// never is a need that nothing satisfies.
const never = math.MaxInt

// arm asks to be woken, once, when so many prefixes wait; it tells whether they
// do already, and then does not arm.
func (f *feed) arm(need int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting() >= need {
		f.need = never
		return true
	}
	f.need = need
	return false
}

// unlockAndWake releases the lock and wakes the loop if there is work for it.
func (f *feed) unlockAndWake() {
	wake := f.attached && f.waiting() >= f.need
	if wake {
		f.need = never
	}
	f.mu.Unlock()
	if wake {
		f.wake()
	}
}

func (f *feed) waiting() int { return f.v4.waiting() + f.v6.waiting() }

func (t *table[K]) waiting() int { return len(t.queue) - t.head }

func (t *table[K]) apply(k K, ev *change, replace bool, f *feed) {
	e := t.entries[k]
	if f.renaming {
		t.fresh[k] = struct{}{}
	}
	var set uint32
	switch {
	case replace && (ev.withdraw || ev.local):
	case replace:
		set = f.sets.one(ev.path)
	case ev.local:
		return
	default:
		set = f.sets.change(e.set, ev.path, ev.withdraw)
	}
	t.put(k, e, set, f)
}

// put gives an entry another set, to which the caller has a reference.
func (t *table[K]) put(k K, e entry, set uint32, f *feed) {
	if set == e.set {
		f.sets.release(set)
		return
	}
	if e.set == 0 {
		t.live++
	} else if set == 0 {
		t.live--
	}
	f.sets.release(e.set)
	e.set = set
	t.store(k, e, f.attached)
}

// store writes an entry back and queues it if the routing engine must hear of it.
func (t *table[K]) store(k K, e entry, attached bool) {
	if attached && !e.dirty {
		e.dirty = true
		t.queue = append(t.queue, k)
		t.pushed++
	}
	if e.set == 0 && !e.dirty {
		delete(t.entries, k)
		return
	}
	t.entries[k] = e
}

// clear withdraws everything: the BGP server was stopped.
func (f *feed) clear(multipath int) {
	f.mu.Lock()
	f.sets.multipath = multipath
	f.v4.clear(f)
	f.v6.clear(f)
	f.unlockAndWake()
}

func (t *table[K]) clear(f *feed) {
	for k, e := range t.entries {
		if e.set == 0 {
			continue
		}
		t.live--
		f.sets.release(e.set)
		e.set = 0
		t.store(k, e, f.attached)
	}
}

// attach begins the replay to a new routing engine: everything is to be told.
func (f *feed) attach() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached, f.need = true, never
	f.v4.replay()
	f.v6.replay()
}

// again has everything told once more, to the same routing engine.
func (f *feed) again() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attached {
		f.v4.again()
		f.v6.again()
	}
}

// detach forgets the routing engine: nothing is queued until the next attach.
func (f *feed) detach() {
	f.mu.Lock()
	f.attached, f.need = false, never
	f.v4.forget()
	f.v6.forget()
	f.mu.Unlock()
}

func (t *table[K]) replay() {
	t.forget()
	t.queue = make([]K, 0, len(t.entries))
	for k, e := range t.entries {
		t.store(k, e, true)
	}
}

func (t *table[K]) again() {
	for k, e := range t.entries {
		t.store(k, e, true)
	}
}

// forget empties the queue and drops entries without paths.
func (t *table[K]) forget() {
	t.taken += uint64(t.waiting())
	t.queue, t.head = nil, 0
	for k, e := range t.entries {
		if e.set == 0 {
			delete(t.entries, k)
			continue
		}
		if e.dirty || e.told {
			t.entries[k] = entry{set: e.set}
		}
	}
}

// mark is a position in the queues.
type mark struct{ v4, v6 uint64 }

// end is the position behind everything that waits.
func (f *feed) end() mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return mark{f.v4.pushed, f.v6.pushed}
}

// passed tells whether everything before the position was taken.
func (f *feed) passed(m mark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.v4.taken >= m.v4 && f.v6.taken >= m.v6
}

// full is how many waiting prefixes surely fill a batch.
const full = wire.RouteBatchSize / 5

// batch takes the next batch, nil if there is nothing to tell. With whole, it
// takes none that would not be full.
func (f *feed) batch(seq uint64, whole bool) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if whole && f.waiting() < full {
		return nil
	}
	var b wire.RouteBatchBuilder
	b.Begin(seq)
	f.next6 = !f.next6
	if f.next6 {
		f.v4.take(&b, f)
		f.v6.take(&b, f)
	} else {
		f.v6.take(&b, f)
		f.v4.take(&b, f)
	}
	if b.Len() == 0 {
		return nil
	}
	return b.Bytes()
}

// take moves dirty entries into the batch until it is full.
func (t *table[K]) take(b *wire.RouteBatchBuilder, f *feed) {
	for t.head < len(t.queue) {
		k := t.queue[t.head]
		e := t.entries[k]
		if (e.set != 0 || e.told) && !b.Add(t.prefix(k), f.sets.encoded(e.set)) {
			return
		}
		t.head++
		t.taken++
		if e.set == 0 {
			delete(t.entries, k)
			continue
		}
		t.entries[k] = entry{set: e.set, told: true}
	}
	t.queue, t.head = t.queue[:0], 0
	if cap(t.queue) > 1<<16 { // do not keep the memory of a full table's queue
		t.queue = nil
	}
}

// feedStats are the counts of a feed.
type feedStats struct {
	routes4, routes6 int
	waiting          int
	byPeer           map[netip.Addr]int // prefixes whose best path is the peer's
	changed          time.Time
}

func (f *feed) stats() feedStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return feedStats{f.v4.live, f.v6.live, f.waiting(), f.sets.byPeer(), f.changed}
}

func (f *feed) lastChange() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}
