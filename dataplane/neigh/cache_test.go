package neigh

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/fib"
)

// TestCacheAgainstMap inserts and removes at random beside a map.
func TestCacheAgainstMap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := NewCache()
	twin := make(map[Key]*Adjacency)
	key := func() Key { return Key4(fib.InterfaceID(rnd.IntN(3)), uint32(rnd.IntN(3000))) }
	for range 200000 {
		k := key()
		switch a := twin[k]; {
		case a == nil && rnd.IntN(2) == 0:
			a = &Adjacency{Key: k}
			c.insert(a, len(twin))
			twin[k] = a
		case a != nil && rnd.IntN(2) == 0:
			c.remove(a)
			delete(twin, k)
		}
		if k = key(); c.Find(k) != twin[k] {
			t.Fatalf("key %+v: %p, want %p", k, c.Find(k), twin[k])
		}
	}
	for k, a := range twin {
		if c.Find(k) != a {
			t.Errorf("%+v is lost", k)
		}
	}
	if n := len(c.table.Load().slots); n > 32768 {
		t.Errorf("%d slots for %d neighbours", n, len(twin))
	}
	if c.Find(Key{}) != nil {
		t.Error("a grave was found")
	}
	if n := testing.AllocsPerRun(100, func() { c.Find(key()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCacheReaders reads while one writes: what stays is always found after the writer stops, and
// what is found is what was asked for.
func TestCacheReaders(t *testing.T) {
	c := NewCache()
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := uint32(0); !stop.Load(); i++ {
				k := Key4(1, i%2000)
				if a := c.Find(k); a != nil && a.Key != k {
					t.Errorf("asked for %+v, got %+v", k, a.Key)
				}
			}
		})
	}
	live := make(map[uint32]*Adjacency)
	for i := range 50000 {
		n := uint32(i * 7919 % 2000)
		if a := live[n]; a != nil {
			c.remove(a)
			delete(live, n)
			continue
		}
		live[n] = &Adjacency{Key: Key4(1, n)}
		c.insert(live[n], len(live))
	}
	stop.Store(true)
	readers.Wait()
	for n, a := range live {
		if c.Find(Key4(1, n)) != a {
			t.Fatalf("%d is lost", n)
		}
	}
}

func TestKey(t *testing.T) {
	for _, s := range []string{"10.1.2.3", "2001:db8::1", "fe80::1"} {
		a := netip.MustParseAddr(s)
		if k := KeyOf(7, a); k.Addr() != a || Key16(7, a.As16()) != k {
			t.Errorf("%s became %v", s, k.Addr())
		}
	}
	if Key4(7, 0x0a010203) != KeyOf(7, netip.MustParseAddr("10.1.2.3")) {
		t.Error("Key4 differs from KeyOf")
	}
}

// TestAccounts: whatever happens, the accounts agree with the entries.
func TestAccounts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	list := make([]ethernet.Interface, 2)
	for i := range list {
		list[i] = ethernet.Interface{ID: fib.MakeInterfaceID(1, uint16(i+1)), Port: fib.MakePortID(1, uint16(i+1)), MTU: 1500, Up: true,
			MAC: [6]byte{2, 0, 0, 0, 0, byte(i + 1)}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("fe80::1/64")}}
	}
	slots := ethernet.NewSlots()
	up, err := ethernet.NewTable(1, list, slots)
	if err != nil {
		t.Fatal(err)
	}
	down := append([]ethernet.Interface(nil), list...)
	down[1].Up = false
	half, _ := ethernet.NewTable(1, down, slots)
	tab := New(Limits{Entries: 100, PerInterface: 80, Incomplete: 20, Queue: 3, QueueTotal: 30})
	tab.SetInterfaces(time.Unix(0, 0), up)
	var pinned []*Adjacency
	now := time.Unix(1, 0)
	for range 30000 {
		now = now.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
		a := netip.AddrFrom4([4]byte{10, 0, 1, byte(rnd.IntN(250))})
		if rnd.IntN(3) == 0 {
			a = netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(rnd.IntN(250) + 2)})
		}
		k := KeyOf(list[rnd.IntN(2)].ID, a)
		switch rnd.IntN(12) {
		case 0:
			pinned = append(pinned, tab.Pin(now, k))
		case 1:
			if len(pinned) > 0 {
				tab.Unpin(now, pinned[0])
				pinned = pinned[1:]
			}
		case 2, 3, 4, 5, 6:
			tab.Resolve(now, k, Packet{Data: []byte{0x45, 1, 2, 3}})
		case 7, 8:
			if e := tab.entries[k]; e != nil {
				tab.learn(now, e, [6]byte{2, 1, 1, 1, 1, byte(rnd.IntN(3))}, rnd.IntN(2) == 0)
			}
		case 9:
			if rnd.IntN(20) == 0 {
				tab.SetInterfaces(now, []*ethernet.Table{up, half}[rnd.IntN(2)])
			}
		case 10:
			if rnd.IntN(20) == 0 {
				tab.SetStatic(now, []Static{{k.Interface, a, [6]byte{2, 2, 2, 2, 2, 2}}})
			}
		case 11:
			tab.Tick(now)
			if rnd.IntN(50) == 0 {
				tab.Clear(now, func(Entry) bool { return rnd.IntN(2) == 0 })
			}
		}
		tab.Drain()
		check(t, tab)
		if t.Failed() {
			return
		}
	}
	for _, a := range pinned {
		tab.Unpin(now, a)
	}
	tab.SetStatic(now, nil)
	for range 400 {
		now = now.Add(10 * time.Second)
		tab.Tick(now)
	}
	if tab.Len() != 0 || tab.queued != 0 || len(tab.timers) != 0 {
		t.Errorf("%d neighbours, %d packets, %d timers are left: %+v", tab.Len(), tab.queued, len(tab.timers), tab.List())
	}
}

func check(t *testing.T, tab *Table) {
	learned, queued := 0, 0
	incomplete := map[fib.InterfaceID]int{}
	count := map[fib.InterfaceID]int{}
	for k, e := range tab.entries {
		count[k.Interface]++
		queued += len(e.queue)
		if e.pins == 0 {
			learned++
			if e.state == Incomplete {
				incomplete[k.Interface]++
			}
		}
		if tab.cache.Find(k) != &e.adj {
			t.Errorf("%+v is not in the cache", k)
		}
		if len(e.queue) > 0 && e.state != Incomplete {
			t.Errorf("%v with a queue", e.state)
		}
		if e.state == Incomplete && e.heap < 0 || e.state == Probe && e.heap < 0 || e.state == Reachable && e.heap < 0 || e.state == Stale && e.heap < 0 {
			t.Errorf("%v without a timer", e.state)
		}
		if usable := e.adj.rewrite.Load() != nil; usable && (e.state == Incomplete || e.state == FailedState) {
			t.Errorf("%v with a rewrite", e.state)
		}
	}
	if learned != tab.learned || queued != tab.queued || queued > tab.limits.QueueTotal {
		t.Errorf("%d learned, %d queued; accounts %d, %d", learned, queued, tab.learned, tab.queued)
	}
	for id, l := range tab.links {
		if l.entries != count[id] || l.incomplete != incomplete[id] {
			t.Errorf("link %#x: %d entries, %d incomplete; accounts %d, %d", uint32(id), count[id], incomplete[id], l.entries, l.incomplete)
		}
	}
}
