package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"

	"godwit/dataplane/xdp/fwdlab"
)

// candidate is a card under one kind of traffic.
type candidate struct {
	name string
	card *card
	to   []netip.Addr
	vrfs int
}

// spreadOver are the numbers of VRFs that the routes are spread over.
var spreadOver = []int{1, 100, 1000}

// families compares IPv6 with IPv4 on a card with both full tables, on both paths.
func (b *bench) families() (err error) {
	c, err := newCard(world{routes: append(append([]netip.Prefix(nil), b.Prefixes...), b.Prefixes6...)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	list := []candidate{{"ipv4", c, b.to, 0}, {"ipv6", c, fwdlab.Targets(b.Prefixes6, targets, seed), 0}}
	return b.bothPaths(list, "forward.full6", "forward.express6")
}

// vrfs compares cards whose routes are spread over 1, 100 and 1,000 VRFs, with as many
// interfaces on each port, on both paths.
func (b *bench) vrfs() (err error) {
	var list []candidate
	defer func() {
		for _, x := range list {
			err = errors.Join(err, x.card.close())
		}
	}()
	for _, n := range spreadOver {
		c, err := newCard(world{routes: b.Prefixes, vrfs: n})
		if err != nil {
			return err
		}
		of := make([][]netip.Prefix, n)
		for i, p := range b.Prefixes {
			of[i%n] = append(of[i%n], p)
		}
		to := fwdlab.TargetsIn(func(i int) []netip.Prefix { return of[i%n] }, targets, seed)
		list = append(list, candidate{fmt.Sprintf("%d vrfs", n), c, to, n})
	}
	return b.bothPaths(list, "forward.full.vrfs", "forward.express.vrfs")
}

// bothPaths measures candidates on the workers' path, then on the express path.
func (b *bench) bothPaths(list []candidate, workers, express string) error {
	if err := b.compare(list, workers, offered); err != nil {
		return fmt.Errorf("measure %s: %w", workers, err)
	}
	for _, x := range list {
		if x.card.express != nil {
			continue // the card of another candidate, too
		}
		if err := x.card.openExpress(); err != nil {
			return fmt.Errorf("open express path: %w", err)
		}
	}
	if err := b.compare(list, express, offeredExpress); err != nil {
		return fmt.Errorf("measure %s: %w", express, err)
	}
	return nil
}

// compare emits each candidate's packets a second beside those of the first one.
func (b *bench) compare(list []candidate, name string, rate int) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + extraPs))
	figures := make([]Series, len(list))
	for run := range b.Runs {
		got := make([]fwdlab.Result, len(list))
		for k := range list {
			i := (k + run) % len(list)
			runtime.GC()
			var err error
			if got[i], err = b.saturate(list[i], rate); err != nil {
				return fmt.Errorf("%s: %w", list[i].name, err)
			}
			b.Progress("%s run %d of %d: %s %.0f pps, %v; offered %.0f", name, run+1, b.Runs, list[i].name, got[i].PPS, got[i].PerFrame, got[i].Offered)
		}
		for i := range list {
			figures[i].add(got[i].PPS, got[0].PPS)
		}
	}
	for i, f := range figures[1:] {
		f.Name, f.Unit, f.Better, f.Baseline = name, "pps", "more", list[0].name
		if list[i+1].vrfs > 0 {
			f.Name = fmt.Sprintf("%s%d", name, list[i+1].vrfs)
		}
		if err := b.Emit(f); err != nil {
			return err
		}
	}
	return nil
}

// saturate measures one candidate with more than it can forward.
func (b *bench) saturate(x candidate, rate int) (res fwdlab.Result, err error) {
	if err := x.card.join(b.lab); err != nil {
		return res, errors.Join(err, x.card.leave())
	}
	res, err = b.measure(x.card, true, fwdlab.Traffic{Targets: x.to, VLANs: x.vrfs, Rate: rate, CheckOneOf: 16}, b.D)
	return res, errors.Join(err, x.card.leave())
}
