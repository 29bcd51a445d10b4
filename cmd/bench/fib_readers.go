package main

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"godwit/fib"
	"godwit/fib/patricia"
)

// fibChurn measures two readers at full speed without and with a writer that
// makes single updates as fast as it can, and those updates.
func fibChurn(r *report, prefixes []netip.Prefix) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	t, seq, err := newFIB(patricia.Ordered)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := applyAll(t, batches(&seq, fib.SetRoute, prefixes)); err != nil {
		return err
	}
	a := announced(prefixes, fibLookups)
	shuffled := append([]netip.Prefix(nil), prefixes...)
	rand.New(rand.NewPCG(4, 4)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	runtime.GC()
	c := churn{t: t, addrs: a.v4}
	var wg sync.WaitGroup
	for id := range c.readers {
		wg.Go(func() { c.read(id) })
	}
	var quiet, busy, p999 []float64
	for run := range fibRuns {
		r.progress("churn: run %d of %d", run+1, fibRuns)
		before, during := 0.0, 0.0
		for c.take(); before == 0; before = c.take() {
			time.Sleep(400 * time.Millisecond)
		}
		var times []float64
		for during == 0 && err == nil {
			times, err = singleUpdates(t, &seq, shuffled[run*10_000:])
			during = c.take()
		}
		if err != nil {
			break
		}
		quiet, busy, p999 = append(quiet, before), append(busy, during), append(p999, quantile(times, 0.999))
	}
	c.stop.Store(true)
	wg.Wait()
	if err != nil {
		return err
	}
	if err := r.against("fib.readers_under_churn", "lookups/s", "more", busy, "no_churn", quiet); err != nil {
		return err
	}
	return r.figure("fib.update_p999.under_readers", "us", "less", p999)
}

type churn struct {
	t       *patricia.Tables
	addrs   []uint32
	stop    atomic.Bool
	readers [2]struct {
		mu      sync.Mutex
		lookups int
		spent   time.Duration
	}
}

// read looks up batches of 64 as a forwarding worker does.
func (c *churn) read(id int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := c.t.NewReader()
	defer r.Close()
	me := &c.readers[id]
	var groups [64]uint32
	const bunch = 1 << 12
	for from := id * bunch; !c.stop.Load(); from = (from + bunch) % (len(c.addrs) - bunch) {
		start := cpuTime()
		r.Online()
		for i := from; i < from+bunch; i += len(groups) {
			c.t.LookupBatch4(0, c.addrs[i:i+len(groups)], groups[:])
			r.Quiescent()
		}
		r.Offline()
		spent := cpuTime() - start
		me.mu.Lock()
		me.lookups += bunch
		me.spent += spent
		me.mu.Unlock()
	}
}

// take is the readers' lookups a second of CPU time since the last call, 0 if there were none.
func (c *churn) take() float64 {
	lookups, spent := 0, time.Duration(0)
	for i := range c.readers {
		me := &c.readers[i]
		me.mu.Lock()
		lookups, spent = lookups+me.lookups, spent+me.spent
		me.lookups, me.spent = 0, 0
		me.mu.Unlock()
	}
	if lookups == 0 {
		return 0
	}
	return float64(lookups) / spent.Seconds()
}

// fibLatency compares the slowest thousandth of single lookups in a large table
// with that in a small one. A sample includes reading the clock twice.
func fibLatency(r *report, prefixes []netip.Prefix) error {
	var tables [2]*patricia.Tables
	var addrs [2]addresses
	for i, n := range []int{10_000, len(prefixes)} {
		t, err := filled(prefixes[:n]...)
		if err != nil {
			return err
		}
		defer t.Close()
		tables[i], addrs[i] = t, announced(prefixes[:n], 1<<19)
	}
	var p999 [2][]float64
	var sink uint32
	for range fibRuns {
		for i, t := range tables {
			times := make([]float64, 0, len(addrs[i].v4))
			for _, x := range addrs[i].v4 {
				start := time.Now()
				sink += t.Lookup4(0, x)
				times = append(times, float64(time.Since(start)))
			}
			p999[i] = append(p999[i], quantile(times, 0.999))
		}
	}
	runtime.KeepAlive(sink)
	return r.against("fib.lookup4_p999.1000k", "ns", "less", p999[1], "10k", p999[0])
}
