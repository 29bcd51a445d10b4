package churn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"godwit/cluster/wire"
	"godwit/cmd/lab/topology"
	"godwit/dataplane/xdp/fwdlab"
)

// Options of a measurement.
type Options struct {
	Bin, Trust string         // the router's binaries and the keys that signed them
	Prefixes   []netip.Prefix // the table, IPv4
	Flapping   int            // how many of them flap
	Changes    int            // a second
	D          time.Duration  // of each load
	Rate       int            // packets a second; 0: half of the most, which is measured first
	// Calm leaves the machine to others, too: nothing is pinned or urgent but what
	// the router makes so, and packets come in bursts. For tests at low rates.
	Calm bool
	// Express puts the router on the express path; otherwise its workers forward.
	Express  bool
	Progress func(string, ...any) // may not be nil
}

// Result is one measurement.
type Result struct {
	Maximum float64 // packets a second through the router, 0: not measured
	Still   Load    // without a change
	Churn   Load
}

// Load is what became of the packets of one load.
type Load struct {
	Sent         uint64
	Arrived      uint64 // where they may
	Misdelivered uint64 // anywhere else, or damaged
	Steady       uint64 // of those to prefixes that never change, did not arrive where they must
	Flapping     uint64 // of those to prefixes that flap
	Second       uint64 // arrived at the second next hop
	// Where packets were lost. Before: in the wire to the router, which did not take
	// them in time. Inside: taken and not sent. Behind: in the wire to the sink.
	Before, Inside, Behind int64
	Drops                  []wire.Drop // named by the router meanwhile, more than before

	Sending time.Duration // of packets
	Changes uint64        // sent by BGP
	Applied uint64        // counted by the router's RIB
	Lag     uint64        // the most that the RIB was behind what was sent, looked at once a second
	Took    time.Duration // from the first change until the line card had acknowledged the last one
}

// Rate is the packets sent a second.
func (l Load) Rate() float64 { return float64(l.Sent) / l.Sending.Seconds() }

// Reached is the changes a second from BGP into the line card's tables.
func (l Load) Reached() float64 {
	if l.Took == 0 {
		return 0
	}
	return float64(l.Applied) / l.Took.Seconds()
}

const (
	// offered is more than the router forwards; warm and probe are the times of finding how much that is.
	offered = 2_000_000
	warm    = 500 * time.Millisecond
	probe   = 2 * time.Second
	// limit bounds starting and loading, drainLimit what is still on its way at the end.
	limit      = 4 * time.Minute
	drainLimit = 30 * time.Second
	// settle: counters that do not move for so long have come to rest.
	settle = 300 * time.Millisecond
	// merged: changes that are not seen for so long have been made one with later ones of their prefix, under backlog.
	merged = 5 * time.Second
	seed   = 1
)

// bench is one measurement.
type bench struct {
	Options
	lab    *fwdlab.Lab
	router *router
	feeder *feeder
	plan   plan
}

// Run measures.
func Run(ctx context.Context, o Options) (res Result, err error) {
	err = with(ctx, o, func(b *bench) (err error) {
		res, err = b.measure(ctx)
		return err
	})
	return res, err
}

// with starts a router with the table on its line card, for f.
func with(ctx context.Context, o Options, f func(*bench) error) (err error) {
	p, err := newPlan(o.Prefixes, o.Flapping, seed)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "godwit-churn-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := fwdlab.New("gwt-churn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := errors.Join(feedLink(l, feedName()), flapLink(l)); err != nil {
		return fmt.Errorf("make the other links: %w", err)
	}
	b := &bench{Options: o, lab: l, plan: p}
	if b.router, err = startRouter(o, l, dir, feedName()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.router.close(), b.router.kept()) }()
	if err := b.fill(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.feeder.close()) }()
	if err = f(b); err != nil {
		return fmt.Errorf("%w; the router says: %s", err, b.router.said())
	}
	return nil
}

// feedName is the router's device towards the feeder.
func feedName() string { return fmt.Sprintf("f%d", os.Getpid()) }

func feedLink(l *fwdlab.Lab, feed string) error {
	peer := "p" + feed[1:]
	return errors.Join(l.Veth(fwdlab.Router, feed, fwdlab.Sink, peer, 1),
		l.IP(fwdlab.Sink, "addr", "add", feederIP.String()+"/24", "dev", peer))
}

// fill brings the table onto the line card.
func (b *bench) fill(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if b.feeder, err = b.router.connect(ctx, b.lab); err != nil {
		return err
	}
	start := time.Now()
	if err = b.feeder.announce(b.Prefixes, hops[0]); err == nil {
		var s state
		err = topology.Poll(ctx, 200*time.Millisecond, "the table on the line card", func() (bool, error) {
			s = state{}
			err := b.router.tables(ctx, &s)
			return err == nil && s.converged && s.routes >= len(b.Prefixes), nil
		})
		if err != nil {
			err = fmt.Errorf("%w: %+v; the router says: %s", err, s, b.router.said())
		}
	}
	if err != nil {
		return errors.Join(err, b.feeder.close())
	}
	b.Progress("%d routes on the line card after %.1f s; %d of them will flap", len(b.Prefixes), time.Since(start).Seconds(), len(b.plan.flapping))
	return nil
}

func (b *bench) measure(ctx context.Context) (res Result, err error) {
	if !b.Calm {
		if err := b.router.pin(ctx); err != nil {
			return res, err
		}
	}
	rate := b.Rate
	if rate == 0 {
		m, err := b.lab.Measure(b.traffic(offered), nil, warm, probe)
		if err != nil {
			return res, fmt.Errorf("measure the most: %w", err)
		}
		res.Maximum = m.PPS
		rate = int(m.PPS / 2)
		b.Progress("%.0f packets a second at most, of %.0f", m.PPS, m.Offered)
	}
	if res.Still, err = b.load(ctx, rate, 0); err != nil {
		return res, fmt.Errorf("measure without changes: %w", err)
	}
	b.Progress("still: %v", res.Still)
	if res.Churn, err = b.load(ctx, rate, b.Changes); err != nil {
		return res, fmt.Errorf("measure under churn: %w", err)
	}
	b.Progress("churn: %v", res.Churn)
	return res, nil
}

// load sends packets, and changes meanwhile, and counts where they went.
func (b *bench) load(ctx context.Context, rate, changes int) (l Load, err error) {
	before, err := b.atRest(ctx)
	if err != nil {
		return l, err
	}
	seen, took, err := send(ctx, b.lab, b.traffic(rate), func() error { return b.during(ctx, before.changes, changes, &l) })
	if err != nil {
		return l, err
	}
	l.Sending = took
	after, err := b.atRest(ctx)
	if err != nil {
		return l, err
	}
	l.count(seen, before, after)
	return l, nil
}

func (b *bench) traffic(rate int) fwdlab.Traffic {
	t := fwdlab.Traffic{Targets: b.plan.targets, Rate: rate, CheckOneOf: 1, Other: macOther, Calm: b.Calm}
	t.Share = rate < offered && !b.Calm
	return t
}

// send sends packets while during runs and waits for the last ones.
func send(ctx context.Context, l *fwdlab.Lab, t fwdlab.Traffic, during func() error) (seen fwdlab.Seen, took time.Duration, err error) {
	start := time.Now()
	run, err := l.Start(t)
	if err != nil {
		return seen, 0, err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	if err := errors.Join(during(), run.Halt()); err != nil {
		return seen, 0, err
	}
	took = time.Since(start)
	seen, err = drain(ctx, run)
	return seen, took, err
}

// during changes routes, or waits as long.
func (b *bench) during(ctx context.Context, base uint64, changes int, l *Load) error {
	ctx, cancel := context.WithTimeout(ctx, b.D+limit)
	defer cancel()
	b.feeder.sent.Store(0)
	start := time.Now()
	churned := make(chan error, 1)
	go func() { churned <- b.feeder.churn(b.plan.flapping, hops, changes, b.D) }()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case err := <-churned:
			if l.Changes = b.feeder.sent.Load(); err != nil || changes == 0 {
				return err
			}
			since := time.Now()
			err = topology.Poll(ctx, 20*time.Millisecond, "the last change on the line card", func() (bool, error) {
				var s state
				err := b.router.tables(ctx, &s)
				if n := s.changes - base; n != l.Applied || !s.converged {
					l.Applied, since = n, time.Now()
					l.Took = since.Sub(start)
				}
				return err == nil && s.converged && (l.Applied >= l.Changes || time.Since(since) > merged), nil
			})
			return err
		case <-look.C:
			var s state
			sent := b.feeder.sent.Load()
			if err := b.router.tables(ctx, &s); err == nil && sent > s.changes-base {
				l.Lag = max(l.Lag, sent-(s.changes-base))
			}
		}
	}
}

// drain waits until nothing more arrives.
func drain(ctx context.Context, run *fwdlab.Running) (seen fwdlab.Seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	since := time.Now()
	err = topology.Poll(ctx, 20*time.Millisecond, "the last packets", func() (bool, error) {
		now, err := run.Seen()
		if now != seen {
			seen, since = now, time.Now()
		}
		return time.Since(since) >= settle, err
	})
	return seen, err
}

// atRest reads the router's counters when they do not move; line cards report them now and then.
func (b *bench) atRest(ctx context.Context) (s state, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	since := time.Now()
	err = topology.Poll(ctx, 100*time.Millisecond, "counters at rest", func() (bool, error) {
		now, err := b.router.state(ctx)
		if err != nil {
			return false, err
		}
		if now.received != s.received || now.forwarded != s.forwarded {
			since = time.Now()
		}
		s = now
		return time.Since(since) >= rest, nil
	})
	return s, err
}

// rest is longer than the time between a line card's reports.
const rest = 1500 * time.Millisecond

// count works out what was lost, and where.
func (l *Load) count(seen fwdlab.Seen, before, after state) {
	l.Sent, l.Arrived, l.Misdelivered, l.Second = seen.Sent, seen.Good, seen.Bad, seen.Other
	l.Steady = (seen.Sent+1)/2 - (seen.Good - seen.Odd) // targets go in turn, the first has index 0
	l.Flapping = seen.Sent/2 - seen.Odd
	received, forwarded := after.received-before.received, after.forwarded-before.forwarded
	l.Before = int64(seen.Sent - received)
	l.Inside = int64(received - forwarded)
	l.Behind = int64(forwarded - seen.Good - seen.Bad)
	l.Drops = more(before, after)
}

// more is the drops between two states.
func more(before, after state) (list []wire.Drop) {
	for k, d := range after.drops {
		if d.Count -= before.drops[k].Count; d.Count > 0 {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b wire.Drop) int { return strings.Compare(a.Node+a.Reason, b.Node+b.Reason) })
	return list
}

// String is for people.
func (l Load) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d packets, %.0f/s: %d lost to steady and %d to flapping prefixes, %d misdelivered; lost before the router %d, inside %d, behind %d; %d by the second next hop",
		l.Sent, l.Rate(), l.Steady, l.Flapping, l.Misdelivered, l.Before, l.Inside, l.Behind, l.Second)
	if l.Took > 0 {
		fmt.Fprintf(&b, "; %d changes, %.0f/s, at most %d behind", l.Applied, l.Reached(), l.Lag)
	}
	for _, d := range l.Drops {
		fmt.Fprintf(&b, "; %s/%s %d", d.Node, d.Reason, d.Count)
	}
	return b.String()
}
