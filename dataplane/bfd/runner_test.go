package bfd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"godwit/dataplane/punt"
)

// pair is two runners on threads of their own, joined back to back.
type pair struct {
	t     *testing.T
	r     [2]*Runner
	mu    sync.Mutex
	cut   bool
	state [2]Status
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t}
	start := time.Now()
	now := func() int64 { return int64(time.Since(start)) }
	for i := range p.r {
		r, err := NewRunner(New(rand.New(rand.NewPCG(uint64(i), 1))), now, func(list []Effect) { p.effects(i, list) },
			func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		p.r[i] = r
	}
	for _, r := range p.r {
		r.Start()
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	addr := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for i, r := range p.r {
		cfg := Config{VRF: 1, Interface: 1, Peer: addr[1-i], Local: addr[i], MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 30}
		if err := r.Do(func(c *Core, now int64) { c.Set(now, []Config{cfg}) }); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// effects runs on the thread of runner i.
func (p *pair) effects(i int, list []Effect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range list {
		switch {
		case e.Kind != Send:
			p.state[i] = e.Status
		case !p.cut:
			frame := append(make([]byte, 14), e.Data...)
			p.r[1-i].Queue.Push(punt.Meta{VRF: 1, In: 1, L3: 14}, frame)
		}
	}
}

func (p *pair) until(what string, f func(a, b Status) bool) {
	p.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		p.mu.Lock()
		a, b := p.state[0], p.state[1]
		p.mu.Unlock()
		if f(a, b) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: %+v %+v", what, a, b)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
}

func TestRunners(t *testing.T) {
	p := newPair(t)
	up := func(a, b Status) bool { return a.State == Up && b.State == Up }
	p.until("come up", up)
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.until("notice the cut", func(a, b Status) bool { return a.State == Down && a.Failed && b.State == Down })
	p.mu.Lock()
	p.cut = false
	p.mu.Unlock()
	p.until("come back", up)
	if err := p.r[0].Do(func(c *Core, now int64) { c.LinkDown(now, 1) }); err != nil {
		t.Fatal(err)
	}
	p.until("follow the link", func(a, b Status) bool { return a.Flaps >= 2 && b.Flaps >= 2 })
	if most, _ := p.r[0].Lateness(); most <= 0 {
		t.Errorf("lateness %d", most)
	}
}

func TestRunnerStops(t *testing.T) {
	p := newPair(t)
	if err := p.r[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.r[0].Do(func(*Core, int64) {}); !errors.Is(err, ErrStopped) {
		t.Errorf("Do: %v", err)
	}
	if p.r[0].Queue.Push(punt.Meta{}, []byte{1}) {
		t.Error("a closed runner takes packets")
	}
	buf := make([]byte, 1<<20)
	if n := bytes.Count(buf[:runtime.Stack(buf, true)], []byte("bfd.(*Runner).run(")); n > 1 {
		t.Errorf("%d threads, want 1: %s", n, "one runner is closed")
	}
}

// TestNoAllocation: what comes in and goes out by the thousand leaves no garbage.
func TestNoAllocation(t *testing.T) {
	w := &talk{rng: rand.New(rand.NewPCG(1, 1))}
	addr := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for i := range w.core {
		w.core[i] = New(rand.New(rand.NewPCG(1, uint64(i))))
		w.core[i].Set(0, []Config{{VRF: 1, Interface: 1, Peer: addr[1-i], Local: addr[i], MinTx: 50e6, MinRx: 50e6, Multiplier: 3}})
	}
	w.run(5e9)
	a, b := w.core[0], w.core[1]
	if n := testing.AllocsPerRun(100, func() {
		w.now = max(w.now, min(a.Next(), b.Next()))
		for _, c := range w.core {
			c.Advance(w.now)
		}
		for i, c := range w.core {
			for _, e := range c.Drain() {
				w.core[1-i].Receive(w.now, 1, 1, e.Data)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations a packet", n)
	}
	if s := a.Sessions(w.now)[0]; s.State != Up {
		t.Errorf("%+v", s)
	}
}
