package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/gaissmai/bart"
	kentik "github.com/kentik/patricia"
	"github.com/kentik/patricia/uint32_tree"
	"golang.org/x/sys/unix"

	"godwit/fib"
	"godwit/fib/patricia"
)

const (
	fibRuns    = 5
	fibLookups = 1 << 20 // distinct addresses a run
	fibBatch   = 1000    // changes a batch
	fibGroups  = 500
)

// benchFIB measures lookup, insert, delete, single updates and memory. The
// clock is the CPU time of the measuring thread: what other processes of the
// machine take does not count.
func benchFIB(r *report) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	v4, v6, err := fullTable()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		suffix   string
		prefixes []netip.Prefix
	}{{"4", v4}, {"6", v6}} {
		if err := fibLookup(r, f.suffix, f.prefixes); err != nil {
			return err
		}
	}
	if err := fibMemory(r, v4, v6); err != nil {
		return err
	}
	million := moreSpecifics(v4, 1_000_000)
	if err := fibLatency(r, million); err != nil {
		return err
	}
	if err := fibChurn(r, million); err != nil {
		return err
	}
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		if err := fibChange(r, million[:min(n, len(million))], patricia.Ordered, ""); err != nil {
			return err
		}
	}
	return fibChange(r, million, patricia.Kentik, ".kentik")
}

func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // the clock always exists on Linux
	}
	return time.Duration(t.Nano())
}

// rate is how many times a second n operations are done by f.
func rate(n int, f func()) float64 {
	runtime.LockOSThread() // whose clock it is
	defer runtime.UnlockOSThread()
	start := cpuTime()
	f()
	return float64(n) / (cpuTime() - start).Seconds()
}

// batches cuts changes of all prefixes into batches.
func batches(seq *uint64, op fib.Op, prefixes []netip.Prefix) (out []fib.Batch) {
	for part := range slices.Chunk(prefixes, fibBatch) {
		*seq++
		b := fib.Batch{Epoch: 1, Seq: *seq}
		for i, p := range part {
			c := fib.Change{Op: op, Route: fib.Route{Prefix: p}}
			if op == fib.SetRoute {
				c.Route.Group = fib.GroupID(1 + (int(*seq)*fibBatch+i)*7%fibGroups)
			}
			b.Changes = append(b.Changes, c)
		}
		out = append(out, b)
	}
	return out
}

// newFIB returns tables with groups and the last sequence number used.
func newFIB(trees patricia.Trees) (*patricia.Tables, uint64, error) {
	t := patricia.NewWith(nil, trees)
	b := fib.Batch{Epoch: 1, Seq: 1}
	for id := range fib.GroupID(fibGroups) {
		b.Changes = append(b.Changes, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id + 1, Kind: fib.Blackhole}})
	}
	return t, 1, t.Apply(b)
}

func applyAll(t *patricia.Tables, all []fib.Batch) error {
	for _, b := range all {
		if err := t.Apply(b); err != nil {
			return err
		}
	}
	return nil
}

func filled(prefixes ...netip.Prefix) (*patricia.Tables, error) {
	t, seq, err := newFIB(patricia.Ordered)
	if err != nil {
		return nil, err
	}
	return t, applyAll(t, batches(&seq, fib.SetRoute, prefixes))
}

// fibLookup compares lookups of announced addresses in ours, bart's fastest
// table with values, kentik/patricia, and DPDK's tables in bulks of 64, alternating.
func fibLookup(r *report, suffix string, prefixes []netip.Prefix) error {
	r.progress("lookup%s: fill %d prefixes", suffix, len(prefixes))
	t, err := filled(prefixes...)
	if err != nil {
		return err
	}
	defer t.Close()
	var other bart.Fast[uint32]
	tree := newTree()
	for i, p := range prefixes {
		other.Insert(p, uint32(i))
		tree.set(p, uint32(i))
	}
	a := announced(prefixes, fibLookups)
	d, err := newDPDK(prefixes, &a)
	if err != nil {
		r.progress("lookup%s: DPDK is left out: %v", suffix, err)
	} else {
		defer d.close()
	}
	var single, batch, barts, trees, scalars, vectors []float64
	var sink uint32
	for run := range fibRuns {
		r.progress("lookup%s: run %d of %d", suffix, run+1, fibRuns)
		single = append(single, rate(fibLookups, func() { sink += lookupSingle(t, &a) }))
		batch = append(batch, rate(fibLookups, func() { sink += lookupBatch(t, &a) }))
		some := a.addrs[:fibLookups/8]
		barts = append(barts, rate(len(some), func() {
			for _, ip := range some {
				v, _ := other.Lookup(ip)
				sink += v
			}
		}))
		trees = append(trees, rate(len(some)/4, func() {
			for _, ip := range some[:len(some)/4] {
				sink += tree.find(ip)
			}
		}))
		if d == nil {
			continue
		}
		scalar, vector, err := d.round()
		if err != nil {
			return err
		}
		scalars, vectors = append(scalars, scalar), append(vectors, vector)
	}
	runtime.KeepAlive(sink)
	ns := func(rates []float64) (out []float64) {
		for _, v := range rates {
			out = append(out, 1e9/v)
		}
		return out
	}
	name := "fib.lookup" + suffix
	for _, f := range []struct {
		name string
		v    []float64
		base string
		b    []float64
	}{
		{name, single, "patricia", trees}, {name + ".batch", batch, "patricia", trees},
		{name + ".bart", single, "bart", barts}, {name + ".batch.bart", batch, "bart", barts},
		{name + ".batch.rte_fib", batch, "rte_fib scalar", scalars}, {name + ".batch.rte_fib_vector", batch, "rte_fib AVX-512", vectors},
	} {
		if len(f.b) == 0 || f.b[0] == 0 {
			continue
		}
		if err := r.against(f.name, "ns", "less", ns(f.v), f.base, ns(f.b)); err != nil {
			return err
		}
		if err := r.against(f.name+".rate", "lookups/s", "more", f.v, f.base, f.b); err != nil {
			return err
		}
	}
	return nil
}

func lookupSingle(t *patricia.Tables, a *addresses) (sum uint32) {
	for _, x := range a.v4 {
		sum += t.Lookup4(0, x)
	}
	for _, x := range a.v6 {
		sum += t.Lookup6(0, x[0], x[1])
	}
	return sum
}

func lookupBatch(t *patricia.Tables, a *addresses) uint32 {
	var groups [64]uint32
	for part := range slices.Chunk(a.v4, len(groups)) {
		t.LookupBatch4(0, part, groups[:])
	}
	for part := range slices.Chunk(a.v6, len(groups)) {
		t.LookupBatch6(0, part, groups[:])
	}
	return groups[0]
}

// fibMemory is the compiled form of the whole table.
func fibMemory(r *report, v4, v6 []netip.Prefix) error {
	t, err := filled(append(slices.Clone(v4), v6...)...)
	if err != nil {
		return err
	}
	defer t.Close()
	return r.figure("fib.memory", "bytes", "less", []float64{float64(t.Stats().VRFs[0].Bytes)})
}

// fibChange measures inserts and deletes in bulk, each against patricia's tree
// alone, and single updates of a table of that size.
func fibChange(r *report, prefixes []netip.Prefix, trees patricia.Trees, suffix string) error {
	size := fmt.Sprintf(".%dk%s", len(prefixes)/1000, suffix)
	runs := 3
	var ins, del, treeIns, treeDel, p50, p99, p999 []float64
	for run := range runs {
		r.progress("insert and delete %d: run %d of %d", len(prefixes), run+1, runs)
		t, seq, err := newFIB(trees)
		if err != nil {
			return err
		}
		sets, shuffled := batches(&seq, fib.SetRoute, prefixes), slices.Clone(prefixes)
		rand.New(rand.NewPCG(3, uint64(run))).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		runtime.GC()
		ins = append(ins, rate(len(prefixes), func() { err = applyAll(t, sets) }))
		if err != nil {
			return err
		}
		times, err := singleUpdates(t, &seq, shuffled)
		if err != nil {
			return err
		}
		p50, p99, p999 = append(p50, quantile(times, 0.5)), append(p99, quantile(times, 0.99)), append(p999, quantile(times, 0.999))
		dels := batches(&seq, fib.DeleteRoute, shuffled)
		del = append(del, rate(len(prefixes), func() { err = applyAll(t, dels) }))
		if err != nil {
			return err
		}
		if err := t.Close(); err != nil {
			return err
		}
		tree := newTree()
		treeIns = append(treeIns, rate(len(prefixes), func() {
			for i, p := range prefixes {
				tree.set(p, uint32(i))
			}
		}))
		treeDel = append(treeDel, rate(len(prefixes), func() {
			for _, p := range shuffled {
				tree.remove(p)
			}
		}))
	}
	if err := r.against("fib.insert"+size, "routes/s", "more", ins, "patricia", treeIns); err != nil {
		return err
	}
	if err := r.against("fib.delete"+size, "routes/s", "more", del, "patricia", treeDel); err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		v    []float64
	}{{"fib.update_p50", p50}, {"fib.update_p99", p99}, {"fib.update_p999", p999}} {
		if err := r.figure(q.name+size, "us", "less", q.v); err != nil {
			return err
		}
	}
	return nil
}

// singleUpdates deletes and sets again single routes; the times are in µs.
func singleUpdates(t *patricia.Tables, seq *uint64, prefixes []netip.Prefix) ([]float64, error) {
	runtime.LockOSThread() // whose clock it is
	defer runtime.UnlockOSThread()
	var times []float64
	for _, p := range prefixes[:min(10_000, len(prefixes))] {
		for _, op := range []fib.Op{fib.DeleteRoute, fib.SetRoute} {
			b := batches(seq, op, []netip.Prefix{p})[0]
			start := cpuTime()
			err := t.Apply(b)
			times = append(times, float64((cpuTime()-start).Nanoseconds())/1000)
			if err != nil {
				return nil, err
			}
		}
	}
	return times, nil
}

// tree is kentik/patricia alone: the baseline.
type tree struct {
	v4 *uint32_tree.TreeV4
	v6 *uint32_tree.TreeV6
}

func newTree() *tree { return &tree{uint32_tree.NewTreeV4(), uint32_tree.NewTreeV6()} }

func key4(a netip.Addr, n int) kentik.IPv4Address {
	b := a.As4()
	return kentik.NewIPv4Address(binary.BigEndian.Uint32(b[:]), uint(n))
}

func key6(a netip.Addr, n int) kentik.IPv6Address {
	b := a.As16()
	return kentik.NewIPv6Address(b[:], uint(n))
}

func (t *tree) set(p netip.Prefix, v uint32) {
	if p.Addr().Is4() {
		t.v4.Set(key4(p.Addr(), p.Bits()), v)
	} else {
		t.v6.Set(key6(p.Addr(), p.Bits()), v)
	}
}

func (t *tree) remove(p netip.Prefix) {
	all := func(uint32, uint32) bool { return true }
	if p.Addr().Is4() {
		t.v4.Delete(key4(p.Addr(), p.Bits()), all, 0)
	} else {
		t.v6.Delete(key6(p.Addr(), p.Bits()), all, 0)
	}
}

func (t *tree) find(a netip.Addr) (v uint32) {
	if a.Is4() {
		_, v = t.v4.FindDeepestTag(key4(a, 32))
	} else {
		_, v = t.v6.FindDeepestTag(key6(a, 128))
	}
	return v
}
