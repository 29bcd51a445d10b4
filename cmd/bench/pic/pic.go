// Package pic measures how long a router takes to repair its routes when the
// link to one of two upstreams goes down. Both upstreams announce the same
// table; probes to prefixes all over it are counted on the wire at the other
// upstream. The candidates are this router, and BIRD with the Linux kernel,
// in the same places of the same network, one after the other.
package pic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/bgp/bgptest"
	"godwit/controlplane/mgmt"
	"godwit/dataplane/netdev"
)

// Options of a measurement.
type Options struct {
	Bin, Trust string               // the router's binaries and the keys that signed them
	Progress   func(string, ...any) // may not be nil
}

// Result is one failure of one candidate. Times count from the moment in
// which the router's namespace said that the link is down.
type Result struct {
	Routes      int
	First, Last time.Duration // until a probe to the first and the last repaired prefix came out of the other link
	Detect      time.Duration // from the last probe that came through the dead link until then
	Load        time.Duration // until both tables were in force
}

// Ratio is that of the last prefix's outage to the first one's, both from the last
// probe that came through the dead link: what a customer sees.
func (r Result) Ratio() float64 { return float64(r.Detect+r.Last) / float64(r.Detect+r.First) }

const (
	// probes is how many prefixes are looked at, evenly over the table.
	probes = 32
	// period is that of the probes to each prefix: the resolution.
	period = 500 * time.Microsecond
	// tries is how many flows to a prefix are tried to find one through the first upstream.
	tries = 24
	// firstPort is the first source port of the flows.
	firstPort = 20000
	// limit bounds a whole measurement, repairLimit the repair.
	limit       = 4 * time.Minute
	repairLimit = 60 * time.Second
	flowLimit   = 20 * time.Second
)

const feeder = `log stderr all;
router id 10.255.%[1]d.2;
protocol device {}
protocol static feed {
 ipv4;
include "%[2]s";
}
protocol bgp peer {
 local 10.0.%[1]d.2 as 6500%[1]d; neighbor 10.0.%[1]d.1 as 65009;
 connect delay time 1; connect retry time 2; passive on;
 ipv4 { import none; export where source = RTS_STATIC; };
}
`

const kernelBIRD = `log stderr all;
router id 10.255.0.1;
protocol device { scan time 1; }
protocol kernel kernel4 { merge paths on; ipv4 { import none; export all; }; }
protocol bgp up1 {
 local 10.0.1.1 as 65009; neighbor 10.0.1.2 as 65001;
 connect delay time 1; connect retry time 2;
 ipv4 { import all; export none; };
}
protocol bgp up2 {
 local 10.0.2.1 as 65009; neighbor 10.0.2.2 as 65002;
 connect delay time 1; connect retry time 2;
 ipv4 { import all; export none; };
}
`

const router = `system: {hostname: pic}
cards:
  - id: 1
vrfs:
  - name: default
    bgp:
      as: 65009
      router-id: 10.255.0.1
      multipath: 2
      graceful-restart: 0s
      neighbors:
        - {address: 10.0.1.2, as: 65001, import: accept, export: reject}
        - {address: 10.0.2.2, as: 65002, import: accept, export: reject}
interfaces:
  - {name: u1, card: 1, device: u1, addresses: [10.0.1.1/24]}
  - {name: u2, card: 1, device: u2, addresses: [10.0.2.1/24]}
  - {name: c0, card: 1, device: c0, addresses: [10.0.0.1/24]}
`

const network = `name: pic
nodes:
  - {name: under}
  - {name: up1, devices: {eth0: [10.0.1.2/24]}}
  - {name: up2, devices: {eth0: [10.0.2.2/24]}}
  - {name: cust, devices: {eth0: [10.0.0.2/24]}, routes: [default via 10.0.0.1]}
links:
  - {a: "under:u1", b: "up1:eth0"}
  - {a: "under:u2", b: "up2:eth0"}
  - {a: "under:c0", b: "cust:eth0"}
`

// bench is one measurement: two upstreams, a customer and a candidate.
type bench struct {
	o      Options
	lab    *topology.Lab
	n      int
	under  *topology.Host
	bfd    bool
	probes []netip.Prefix
}

// Table is the feed of a measurement.
type Table struct {
	Routes   int
	file     string
	prefixes []netip.Prefix
}

// NewTable writes a feed of n IPv4 prefixes (negative: the full table) into a folder.
func NewTable(dir string, n int) (Table, error) {
	v4, _, err := bgptest.Prefixes(n, 0)
	if err != nil {
		return Table{}, err
	}
	t := Table{Routes: len(v4), file: filepath.Join(dir, fmt.Sprintf("table-%d.conf", len(v4))), prefixes: v4}
	f, err := os.Create(t.file)
	if err != nil {
		return Table{}, fmt.Errorf("write table: %w", err)
	}
	err = bgptest.Table{Seed: 1}.Write(f, v4)
	return t, errors.Join(err, f.Close())
}

// sample takes prefixes evenly over the table, each with a target of its own.
func (t Table) sample() []netip.Prefix {
	var list []netip.Prefix
	used := map[netip.Addr]bool{}
	for i := range probes {
		for at := i * (len(t.prefixes) - 1) / (probes - 1); at >= 0; at-- { // a more-specific may share its address
			if a := target(t.prefixes[at]); !used[a] {
				used[a] = true
				list = append(list, t.prefixes[at])
				break
			}
		}
	}
	return list
}

// target is an address in a prefix.
func target(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	if p.Bits() < 32 {
		a[3] |= 1
	}
	return netip.AddrFrom4(a)
}

func build(ctx context.Context, o Options, t Table, godwit string, bfd bool) (*bench, error) {
	top, err := topology.Parse("pic", []byte(network))
	if err != nil {
		return nil, err
	}
	for i := range top.Nodes {
		switch n := &top.Nodes[i]; n.Name {
		case "up1":
			n.Bird = fmt.Sprintf(feeder, 1, t.file)
		case "up2":
			n.Bird = fmt.Sprintf(feeder, 2, t.file)
		case "under":
			n.Godwit = godwit
			if godwit == "" {
				n.Devices = map[string][]string{"u1": {"10.0.1.1/24"}, "u2": {"10.0.2.1/24"}, "c0": {"10.0.0.1/24"}}
				n.Bird = kernelBIRD
			}
		}
		if n := &top.Nodes[i]; bfd && n.Bird != "" {
			n.Bird = withBFD(n.Bird)
		}
	}
	lab, err := topology.Build(ctx, top, topology.Options{Bin: o.Bin, Trust: o.Trust, Prefix: fmt.Sprintf("gwt-pic-%d", os.Getpid()), Log: io.Discard})
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, lab: lab, n: t.Routes, under: lab.Node("under"), bfd: bfd, probes: t.sample()}
	for _, up := range []string{"up1", "up2"} {
		if err := lab.StartPeers(ctx, up); err != nil {
			return nil, errors.Join(err, lab.Close())
		}
		err := topology.Poll(ctx, 50*time.Millisecond, "the table of "+up, func() (bool, error) {
			out, err := lab.Node(up).Birdc(ctx, "show", "route", "count")
			return err == nil && strings.Contains(out, fmt.Sprintf("%d of %d routes", b.n, b.n)), nil
		})
		if err != nil {
			return nil, errors.Join(err, lab.Close())
		}
	}
	if bfd {
		if err := b.urgentBFD("up1", "up2"); err != nil {
			return nil, errors.Join(err, lab.Close())
		}
	}
	return b, nil
}

// Kernel is the baseline: BIRD writing multipath routes into the kernel.
func Kernel(ctx context.Context, o Options, t Table) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := build(ctx, o, t, "", false)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	load, err := b.loadKernel(ctx)
	if err != nil {
		return Result{}, err
	}
	r, err = b.measure(ctx)
	r.Load = load
	return r, err
}

// KernelSilence is Kernel with BFD, and a neighbour that falls silent.
func KernelSilence(ctx context.Context, o Options, t Table) (r Silence, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := build(ctx, o, t, "", true)
	if err != nil {
		return Silence{}, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	load, err := b.loadKernel(ctx)
	if err != nil {
		return Silence{}, err
	}
	r, err = b.silence(ctx, nil)
	r.Load = load
	return r, err
}

// loadKernel waits until both tables are in the kernel.
func (b *bench) loadKernel(ctx context.Context) (time.Duration, error) {
	if _, err := b.under.Exec(ctx, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1"); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := b.lab.StartPeers(ctx, "under"); err != nil {
		return 0, err
	}
	if b.bfd {
		if err := b.urgentBFD("under"); err != nil {
			return 0, err
		}
	}
	err := topology.Poll(ctx, 200*time.Millisecond, "all routes in the kernel", func() (bool, error) {
		out, err := b.under.Birdc(ctx, "show", "route", "count")
		if err != nil || !strings.Contains(out, fmt.Sprintf("%d of %d routes for %d networks", 2*b.n, 2*b.n, b.n)) {
			return false, nil
		}
		for _, p := range b.probes {
			out, err := b.under.Exec(ctx, "ip", "route", "show", "exact", p.String())
			if err != nil || strings.Count(out, "nexthop") != 2 {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// Godwit is the candidate.
func Godwit(ctx context.Context, o Options, t Table) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = withGodwit(ctx, o, t, false, func(b *bench, _ *mgmt.Client, load time.Duration) (err error) {
		r, err = b.measure(ctx)
		r.Load = load
		return err
	})
	return r, err
}

// GodwitSilence is Godwit with BFD, and a neighbour that falls silent, after the
// sessions were watched for at least so long beyond the time of loading.
func GodwitSilence(ctx context.Context, o Options, t Table, watch time.Duration) (r Silence, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit+watch)
	defer cancel()
	err = withGodwit(ctx, o, t, true, func(b *bench, c *mgmt.Client, load time.Duration) error {
		start := time.Now()
		flaps, late, err := b.watch(ctx, c, watch)
		if err != nil {
			return err
		}
		watched := load + time.Since(start)
		r, err = b.silence(ctx, b.logged)
		r.Load, r.Watched, r.Flaps, r.Late = load, watched, flaps, late
		return err
	})
	return r, err
}

// withGodwit calls f once both tables are on the line card.
func withGodwit(ctx context.Context, o Options, t Table, bfd bool, f func(*bench, *mgmt.Client, time.Duration) error) (err error) {
	dir, err := os.MkdirTemp("", "godwit-pic-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	conf, text := filepath.Join(dir, "router.yaml"), router
	if bfd {
		text = routerWithBFD()
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	b, err := build(ctx, o, t, conf, bfd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	start := time.Now()
	if err := b.lab.StartGodwit(ctx, "under"); err != nil {
		return err
	}
	c := mgmt.NewClient(filepath.Join(b.under.RunDir(), "mgmt.sock"))
	defer c.Close()
	if err := b.converged(ctx, c, 2); err != nil {
		return fmt.Errorf("%w; the router says: %s", err, lastLines(b.under.Proc("godwitd").Output(), 20))
	}
	return f(b, c, time.Since(start))
}

// converged waits until the line card has all routes, by so many next hops.
func (b *bench) converged(ctx context.Context, c *mgmt.Client, hops int) error {
	return topology.Poll(ctx, 200*time.Millisecond, "all routes on the line card", func() (bool, error) {
		s, err := c.FIBSummary(ctx)
		if err != nil || len(s.Cards) != 1 || !s.Cards[0].Converged || s.Routes4 < b.n {
			return false, nil // not listening yet, or not there yet
		}
		for _, p := range b.probes {
			have := 0
			for x, err := range c.FIB(ctx, mgmt.FIBQuery{Card: 1, Address: target(p)}) {
				if err != nil {
					return false, err
				}
				have = len(x.NextHops)
			}
			if have != hops {
				return false, nil
			}
		}
		return true, nil
	})
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// measure finds flows through the first upstream, cuts its link under them, and
// waits until each comes out at the other.
func (b *bench) measure(ctx context.Context) (Result, error) {
	var sinks [2]*sink
	for i, up := range []string{"up1", "up2"} {
		s, err := newSink(b.lab.Node(up).NetNS)
		if err != nil {
			return Result{}, err
		}
		defer s.close()
		sinks[i] = s
	}
	src, flows, err := b.choose(ctx, sinks)
	if err != nil {
		return Result{}, err
	}
	defer src.close()
	sinks[0].reset()
	sinks[1].reset()
	src.start(period)
	if err := b.flowing(ctx, sinks[0], len(flows)); err != nil {
		return Result{}, err
	}
	if n := len(sinks[1].arrivals()); n != 0 {
		return Result{}, fmt.Errorf("%d flows went both ways before the failure", n)
	}
	down, err := b.cut()
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	err = topology.Poll(ctx, 5*time.Millisecond, "the repair", func() (bool, error) {
		return len(sinks[1].arrivals()) == len(flows), nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("%w: %d of %d prefixes", err, len(sinks[1].arrivals()), len(flows))
	}
	if src.halt(); src.err != nil {
		return Result{}, src.err
	}
	var all []time.Duration
	for _, at := range sinks[1].arrivals() {
		all = append(all, at.Sub(down))
	}
	sinks[0].mu.Lock()
	defer sinks[0].mu.Unlock()
	return Result{Routes: b.n, First: slices.Min(all), Last: slices.Max(all), Detect: down.Sub(sinks[0].last)}, nil
}

// flowing waits until all flows arrive at the first upstream.
func (b *bench) flowing(ctx context.Context, s *sink, flows int) error {
	ctx, cancel := context.WithTimeout(ctx, flowLimit)
	defer cancel()
	have, total := 0, 0
	err := topology.Poll(ctx, 10*time.Millisecond, "the probes", func() (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		have, total = len(s.first), s.total
		return have == flows && total > 50*flows, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %d of %d flows, %d packets", err, have, flows, total)
	}
	return nil
}

// arrivals are the times of the first probe to each address.
func (s *sink) arrivals() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []time.Time
	for _, at := range s.first {
		list = append(list, at)
	}
	return list
}

// choose finds a flow to each probed prefix that goes through the first upstream,
// and keeps their sockets: the kernel may hash a flow by its socket.
func (b *bench) choose(ctx context.Context, sinks [2]*sink) (*source, []flow, error) {
	var all, chosen []flow
	for _, p := range b.probes {
		for i := range tries {
			all = append(all, flow{target(p), uint16(firstPort + i)})
		}
	}
	src, err := newSource(b.lab.Node("cust").NetNS, all)
	if err != nil {
		return nil, nil, err
	}
	var keep []int
	err = topology.Poll(ctx, 200*time.Millisecond, "probes at both upstreams", func() (bool, error) {
		src.round()
		sinks[0].mu.Lock()
		defer sinks[0].mu.Unlock()
		sinks[1].mu.Lock()
		defer sinks[1].mu.Unlock()
		chosen, keep = chosen[:0], keep[:0]
		done := map[netip.Addr]bool{}
		for i, f := range all {
			if !done[f.to] && sinks[0].seen[f] > 0 && sinks[1].seen[f] == 0 {
				done[f.to] = true
				chosen, keep = append(chosen, f), append(keep, i)
			}
		}
		return len(chosen) == len(b.probes), nil
	})
	if err != nil {
		src.close()
		return nil, nil, err
	}
	src.only(keep)
	return src, chosen, nil
}

// cut sets the upstream's end of the link down and tells when the router's end
// was said to have lost its carrier.
func (b *bench) cut() (time.Time, error) {
	var w *netdev.Watcher
	index := 0
	err := inSpace(b.under.NetNS, func() (err error) {
		if w, err = netdev.NewWatcher(); err != nil {
			return err
		}
		l, err := netdev.Get("u1")
		index = l.Index
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	defer w.Close()
	type answer struct {
		at  time.Time
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		for {
			links, err := w.Next()
			now := time.Now()
			if err != nil {
				ch <- answer{now, err}
				return
			}
			for _, l := range links {
				if l.Index == index && !l.Carrier {
					ch <- answer{now, nil}
					return
				}
			}
		}
	}()
	if err := setLink(b.lab.Node("up1").NetNS, "eth0", false); err != nil {
		return time.Time{}, err
	}
	select {
	case a := <-ch:
		return a.at, a.err
	case <-time.After(5 * time.Second):
		return time.Time{}, errors.New("the link did not go down")
	}
}
