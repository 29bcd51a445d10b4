package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"godwit/dataplane/xdp/fwdlab"
)

// Series is the runs of one figure, in pairs.
type Series struct {
	Name   string
	Unit   string
	Better string    // more or less
	Ours   []float64 // the line card
	Linux  []float64 // the baseline: the kernel, if Baseline does not name another
	// Baseline is empty for Linux forwarding.
	Baseline string
}

func (s *Series) add(ours, linux float64) {
	s.Ours, s.Linux = append(s.Ours, ours), append(s.Linux, linux)
}

// Settings of the runs.
const (
	// offered saturates both; what a forwarder can't take, it drops.
	offered  = 2_000_000 // packets a second
	targets  = 1 << 20
	seed     = 1
	attempts = 5
	extraPs  = 2 // as a line card has
)

// Options of Run. Zero runs and times are replaced by those of published figures.
type Options struct {
	Runs     int            // pairs of each figure
	Warm, D  time.Duration  // before and during a measurement
	Prefixes []netip.Prefix // IPv4: the full table
	// Prefixes6 is the full table of IPv6.
	Prefixes6 []netip.Prefix
	// Only, if not empty, names the parts to run: one, full (express with it), families, vrfs.
	Only []string
	// Progress tells a person what goes on.
	Progress func(format string, args ...any)
	// Emit takes each figure.
	Emit func(Series) error
}

// Run measures and emits forward.one, forward.full, forward.express (against Linux, XDP with the
// kernel's tables, and XDP without a lookup), the CPU time of all a packet, forward.tcp, and forward.latency: delays of each at half of what it can forward of a full table;
// and of our paths alone IPv6 beside IPv4, and the table spread over 100 and 1,000 VRFs beside one.
func Run(o Options) error {
	if o.Runs == 0 {
		o.Runs = 5
	}
	if o.D == 0 {
		o.Warm, o.D = 300*time.Millisecond, 1500*time.Millisecond
	}
	l, err := fwdlab.New("gwt-bench")
	if err != nil {
		return err
	}
	b := &bench{Options: o, lab: l}
	return errors.Join(b.run(), l.Close())
}

// bench is one call of Run.
type bench struct {
	Options
	lab *fwdlab.Lab
	to  []netip.Addr
}

func (b *bench) run() error {
	b.to = fwdlab.Targets(b.Prefixes, targets, seed)
	if err := b.lab.KernelForwards(true); err != nil {
		return err
	}
	one := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"one", func() error { return b.table("forward.one", one) }},
		{"full", func() error { return b.table("forward.full", b.Prefixes) }},
		{"families", b.families},
		{"vrfs", b.vrfs},
	} {
		if len(b.Only) > 0 && !slices.Contains(b.Only, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
	}
	return nil
}

// table measures with the routes in both forwarders. The kernel keeps what it
// was given before: routes are only added.
func (b *bench) table(name string, routes []netip.Prefix) error {
	start := time.Now()
	if err := b.lab.LoadKernel(routes); err != nil {
		return err
	}
	kernel := time.Since(start)
	start = time.Now()
	c, err := newCard(world{routes: routes})
	if err != nil {
		return err
	}
	b.Progress("%s: %d routes, in the kernel after %.1f s, in ours after %.1f s",
		name, len(routes), kernel.Seconds(), time.Since(start).Seconds())
	err = b.pairs(name, c)
	if err == nil && name == "forward.full" {
		err = b.express(c)
	}
	if err == nil && name == "forward.full" {
		err = b.expressTCP(c)
	}
	return errors.Join(err, c.close())
}

// pairs alternates runs of the kernel and ours. Collections of garbage happen
// between runs: a forwarding worker makes none.
func (b *bench) pairs(name string, c *card) error {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + extraPs))
	full := name == "forward.full"
	pps := Series{Name: name, Unit: "pps", Better: "more"}
	cpu := Series{Name: name + ".cpu", Unit: "ns", Better: "less"}
	p50 := Series{Name: "forward.latency", Unit: "µs", Better: "less"}
	p99 := Series{Name: "forward.latency.p99", Unit: "µs", Better: "less"}
	tcp := Series{Name: "forward.tcp", Unit: "Mbit/s", Better: "more"}
	tcpCPU := Series{Name: "forward.tcp.cpu", Unit: "ms/Gbit", Better: "less"}
	for i := range b.Runs {
		var load, idle [2]fwdlab.Result
		for _, ours := range []bool{i%2 == 0, i%2 == 1} {
			runtime.GC()
			l, q, err := b.one(c, ours, full)
			if err != nil {
				return err
			}
			load[index(ours)], idle[index(ours)] = l, q
		}
		pps.add(load[1].PPS, load[0].PPS)
		cpu.add(float64(load[1].PerFrame), float64(load[0].PerFrame))
		b.Progress("%s run %d of %d: ours %.0f pps, %v; linux %.0f pps, %v; offered %.0f and %.0f pps", name, i+1, b.Runs,
			load[1].PPS, load[1].PerFrame, load[0].PPS, load[0].PerFrame, load[1].Offered, load[0].Offered)
		if !full {
			if err := b.transfer(c, "workers", &tcp, &tcpCPU); err != nil {
				return err
			}
		} else {
			p50.add(micros(idle[1], 0.5), micros(idle[0], 0.5))
			p99.add(micros(idle[1], 0.99), micros(idle[0], 0.99))
		}
	}
	figures := []Series{pps, cpu}
	if full {
		figures = append(figures, p50, p99)
	} else {
		figures = append(figures, tcp, tcpCPU)
	}
	for _, f := range figures {
		if err := b.Emit(f); err != nil {
			return err
		}
	}
	return nil
}

func index(ours bool) int {
	if ours {
		return 1
	}
	return 0
}

// micros is a quantile of delays.
func micros(r fwdlab.Result, q float64) float64 {
	return float64(fwdlab.Quantile(r.Delays, q)) / float64(time.Microsecond)
}

// one measures one forwarder under load and, if asked, its delays at half of that.
func (b *bench) one(c *card, ours, delays bool) (load, half fwdlab.Result, err error) {
	if ours {
		if err := c.join(b.lab); err != nil {
			return load, half, errors.Join(err, c.leave())
		}
	}
	t := fwdlab.Traffic{Targets: b.to, Rate: offered, CheckOneOf: 16}
	load, err = b.measure(c, ours, t, b.D)
	if err == nil && delays {
		t.Rate, t.Stamp = int(load.PPS/2), true
		half, err = b.measure(c, ours, t, b.D/2)
	}
	if ours {
		if err != nil {
			in, out := c.counters()
			err = fmt.Errorf("%w; ports in %+v, out %+v", err, in, out)
		}
		err = errors.Join(err, c.leave())
	}
	return load, half, err
}

// measure measures once more if the worker has moved to another thread
// meanwhile: CPU time is the thread's.
func (b *bench) measure(c *card, ours bool, t fwdlab.Traffic, d time.Duration) (res fwdlab.Result, err error) {
	if !ours {
		return b.lab.Measure(t, nil, b.Warm, d)
	}
	for range attempts {
		tid := c.thread()
		res, err = b.lab.Measure(t, []int{tid}, b.Warm, d)
		if c.thread() == tid {
			return res, err
		}
	}
	return res, errors.Join(errors.New("the worker moves from thread to thread"), err)
}

// transfer makes TCP transfers with frames of 1,514 bytes through the kernel and ours; way
// names the path of the card.
func (b *bench) transfer(c *card, way string, rate, cpu *Series) error {
	linux, err := b.lab.TCP(nil, b.D)
	if err != nil {
		return fmt.Errorf("transfer through linux: %w", err)
	}
	if err := c.join(b.lab); err != nil {
		return errors.Join(err, c.leave())
	}
	ours, err := b.lab.TCP([]int{c.thread()}, b.D)
	in, out := c.counters()
	if err = errors.Join(err, c.leave()); err != nil {
		return fmt.Errorf("transfer through ours: %w; ports in %+v, out %+v", err, in, out)
	}
	b.Progress("tcp: %s %.0f Mbit/s, %v CPU a Gbit, %d sent again; linux %.0f Mbit/s, %v, %d", way,
		ours.Mbps, ours.PerGbit, ours.Retransmits, linux.Mbps, linux.PerGbit, linux.Retransmits)
	rate.add(ours.Mbps, linux.Mbps)
	cpu.add(float64(ours.PerGbit)/1e6, float64(linux.PerGbit)/1e6)
	return nil
}

// expressTCP makes them through the express path.
func (b *bench) expressTCP(c *card) error {
	tcp := Series{Name: "forward.tcp.express", Unit: "Mbit/s", Better: "more"}
	cpu := Series{Name: "forward.tcp.express.cpu", Unit: "ms/Gbit", Better: "less"}
	for range b.Runs {
		if err := b.transfer(c, "express", &tcp, &cpu); err != nil {
			return err
		}
	}
	return errors.Join(b.Emit(tcp), b.Emit(cpu))
}
