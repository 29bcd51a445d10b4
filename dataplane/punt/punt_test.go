package punt

import (
	"strings"
	"sync"
	"testing"

	"godwit/dataplane/graph"
)

func TestPolicer(t *testing.T) {
	var rates [NumClasses]Rate
	rates[ARP] = Rate{PerSecond: 1000, Burst: 5}
	p := NewPolicers(rates)
	count := func(c Class, from, step int64, n int) (ok int) {
		for i := range int64(n) {
			if p.Allow(from+i*step, c) {
				ok++
			}
		}
		return ok
	}
	if n := count(ARP, 0, 0, 100); n != 5 {
		t.Errorf("%d at once, want a burst of 5", n)
	}
	if n := count(ARP, 1e9, 1e5, 10000); n < 1000 || n > 1006 {
		t.Errorf("%d in a second, want 1,000 and the burst", n)
	}
	if n := count(ND, 0, 0, 10000); n != Default[ND].Burst {
		t.Errorf("%d of another class, want its burst of %d", n, Default[ND].Burst)
	}
	for c, s := range p.Stats() {
		if s.Class != Class(c) || c == int(ARP) && (s.Passed+s.Policed != 10100) {
			t.Errorf("stats %+v", s)
		}
	}
}

// TestPolicerShared: several workers together get the rate, not each.
func TestPolicerShared(t *testing.T) {
	var rates [NumClasses]Rate
	rates[ND] = Rate{PerSecond: 1, Burst: 100}
	p := NewPolicers(rates)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10000 {
				p.Allow(5, ND)
			}
		})
	}
	all.Wait()
	if s := p.Stats()[ND]; s.Passed != 100 || s.Policed != 39900 {
		t.Errorf("stats %+v", s)
	}
}

type box struct {
	pool *graph.Pool
	got  []Meta
}

func (b *box) Punt(p *graph.Packet, m Meta) {
	b.got = append(b.got, m)
	b.pool.Put(p)
}

func TestGate(t *testing.T) {
	pool, err := graph.NewPool(make([]byte, 8*2048), 2048)
	if err != nil {
		t.Fatal(err)
	}
	var rates [NumClasses]Rate
	for c := range rates {
		rates[c] = Rate{PerSecond: 1, Burst: 1}
	}
	counts := graph.NewCounts()
	counts.Resize(3)
	b := &box{pool: pool}
	g := NewGate(NewPolicers(rates), b, counts, pool)
	send := func(f func(*graph.Packet)) {
		p := pool.Get()
		p.In, p.InSlot, p.VRF, p.L3, p.Flags = 7, 2, 9, 18, graph.FromHost
		f(p)
	}
	for c := range NumClasses {
		send(func(p *graph.Packet) { g.Punt(p, Meta{Class: c}) })
		send(func(p *graph.Packet) { g.Punt(p, Meta{Class: c}) })
	}
	send(func(p *graph.Packet) { g.Report(p, Meta{Reason: TTLExpired, Class: ARP}) }) // the class is set
	if len(b.got) != int(NumClasses) || pool.Free() != pool.Size() {
		t.Fatalf("%d punted, %d buffers free", len(b.got), pool.Free())
	}
	for _, m := range b.got {
		if m.In != 7 || m.VRF != 9 || m.L3 != 18 || !m.Host {
			t.Errorf("meta %+v", m)
		}
	}
	for c, d := range g.Drops().Append(nil) {
		if d.Count != 1 || d.Reason != "policed-"+Class(c).String() || d.Help == "" {
			t.Errorf("class %v: %+v", Class(c), d)
		}
	}
	counts.Publish()
	if n := counts.Read(2); n.Punts != uint64(NumClasses) || n.Drops != uint64(NumClasses) {
		t.Errorf("counters %+v", n)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for c := range NumClasses {
		seen[c.String()] = true
	}
	for r := range NumReasons {
		seen["r/"+r.String()] = true
	}
	if len(seen) != int(NumClasses)+int(NumReasons) || seen[""] {
		t.Errorf("names %v", seen)
	}
	if !strings.HasPrefix(NumClasses.String(), "class(") || !strings.HasPrefix(NumReasons.String(), "reason(") {
		t.Error("unknown values")
	}
}
