package churn

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"godwit/cluster/wire"
	"godwit/cmd/lab/topology"
	"godwit/dataplane/xdp/fwdlab"
)

// Modules that Restarts kills, in this order: without the speaker's session the feeder's
// routes are stale, so it is the last.
var Modules = []string{Nobody, "linecard-1", "router", "bgp-default"}

// Nobody is killed at first: what is lost then is the lab's own loss.
const Nobody = "nobody"

// Restart is what was lost when a module's process was killed.
type Restart struct {
	Module string
	Rate   float64 // packets a second
	Sent   uint64  // from the kill until the module was back for a while
	Lost   uint64
	Lab    uint64        // of these, those that found a full ring of the lab's veths (256 slots), before the router or behind it
	Back   time.Duration // until the module's next process did all that the former did
	// Drops are those that the router names, more than before; a new line card counts anew.
	Drops []wire.Drop
}

// Outage is the time in which so many packets are sent as the router has lost.
func (r Restart) Outage() time.Duration {
	return time.Duration(float64(r.Inside()) / r.Rate * float64(time.Second))
}

// Inside is what the router has lost: what the lab's veths had no room for is not it.
func (r Restart) Inside() uint64 { return r.Lost - min(r.Lost, r.Lab) }

// String is for people.
func (r Restart) String() string {
	text := fmt.Sprintf("%s killed at %.0f packets/s: %d of %d lost, %v worth, %d of them in the lab; back after %v", r.Module, r.Rate, r.Lost, r.Sent,
		r.Outage().Round(time.Microsecond), r.Lab, r.Back.Round(time.Millisecond))
	for _, d := range r.Drops {
		text += fmt.Sprintf("; %s/%s %d", d.Node, d.Reason, d.Count)
	}
	return text
}

const (
	// expressWarm is longer than a card needs to notice that a device takes redirected frames.
	expressWarm = 3 * time.Second
	// around is how long traffic flows before a kill and behind the return.
	around = time.Second
	// backLimit bounds a return.
	backLimit = 2 * time.Minute
)

// Restarts kills the modules one after the other under load; o.Rate as ever.
func Restarts(ctx context.Context, o Options) (maximum float64, list []Restart, err error) {
	err = with(ctx, o, func(b *bench) error {
		rate := o.Rate
		if rate == 0 {
			m, err := b.lab.Measure(b.traffic(offeredMost), nil, expressWarm, probe)
			if err != nil {
				return fmt.Errorf("measure the most: %w", err)
			}
			maximum, rate = m.PPS, int(m.PPS/2)
			b.Progress("%.0f packets a second at most, of %.0f", m.PPS, m.Offered)
		}
		for _, module := range Modules {
			r, err := b.kill(ctx, module, rate)
			if err != nil {
				return fmt.Errorf("kill %s: %w", module, err)
			}
			b.Progress("%v", r)
			list = append(list, r)
		}
		return nil
	})
	return maximum, list, err
}

// offeredMost saturates the express path, too.
const offeredMost = 4_000_000

// kill measures one module's restart.
func (b *bench) kill(ctx context.Context, module string, rate int) (r Restart, err error) {
	ctx, cancel := context.WithTimeout(ctx, backLimit)
	defer cancel()
	run, err := b.lab.Start(b.traffic(rate))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	if err := b.ready(ctx); err != nil {
		return r, err
	}
	pause(ctx, around)
	before, err := b.router.state(ctx)
	if err != nil {
		return r, err
	}
	full, err := b.lab.Overflows()
	if err != nil {
		return r, err
	}
	sent, lost, err := missing(ctx, run)
	if err != nil {
		return r, err
	}
	start := time.Now()
	if err := b.restart(ctx, module); err != nil {
		return r, err
	}
	r = Restart{Module: module, Back: time.Since(start)}
	pause(ctx, around)
	took := time.Since(start)
	if err := run.Halt(); err != nil {
		return r, err
	}
	seen, err := drain(ctx, run)
	if err != nil {
		return r, err
	}
	after, err := b.router.state(ctx)
	if err != nil {
		return r, err
	}
	now, err := b.lab.Overflows()
	if err != nil {
		return r, err
	}
	r.Lab = now - full
	if module == "linecard-1" {
		before = state{}
	}
	r.Drops = more(before, after)
	r.Sent = seen.Sent - sent
	r.Rate = float64(r.Sent) / took.Seconds()
	if all := seen.Sent - seen.Good; all > lost {
		r.Lost = all - lost
	}
	return r, nil
}

// restart kills a module and waits until its next process does all that the former did.
func (b *bench) restart(ctx context.Context, module string) error {
	if module == Nobody {
		pause(ctx, 2*around)
		return nil
	}
	old, err := b.pid(ctx, module)
	if err != nil {
		return err
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		return err
	}
	err = topology.Poll(ctx, 10*time.Millisecond, module+" is back", func() (bool, error) {
		now, err := b.pid(ctx, module)
		return err == nil && now != old, nil
	})
	return errors.Join(err, b.ready(ctx))
}

// missing tells how many were sent, and of these how many had not arrived in time: the fewest of some
// looks, since some are on their way at each.
func missing(ctx context.Context, run *fwdlab.Running) (sent, lost uint64, err error) {
	for i := range 20 {
		seen, err := run.Seen()
		if err != nil {
			return 0, 0, err
		}
		sent = seen.Sent
		if n := seen.Sent - min(seen.Sent, seen.Good); i == 0 || n < lost {
			lost = n
		}
		pause(ctx, 5*time.Millisecond)
	}
	return sent, lost, nil
}

// ready waits until the line card has all routes and its ports are as they shall be.
func (b *bench) ready(ctx context.Context) error {
	return topology.Poll(ctx, 10*time.Millisecond, "the router is whole", func() (bool, error) {
		ifs, err := b.router.client.Interfaces(ctx, "")
		if err != nil {
			return false, nil // its routing engine is not there
		}
		for _, i := range ifs.Interfaces {
			on := i.Express == "on" || i.Name != "out" && i.Express == "receive"
			// Only one reason is left when a former process's program is replaced: the generator's end takes nothing.
			if i.State != "up" || b.Express && (!on || i.Name == "out" && i.ExpressReason != "") {
				return false, nil
			}
		}
		var s state
		err = b.router.tables(ctx, &s)
		return err == nil && len(ifs.Interfaces) == 3 && s.converged && s.routes >= len(b.Prefixes), nil
	})
}

func (b *bench) pid(ctx context.Context, module string) (int, error) {
	list, err := b.router.client.Modules(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range list.Modules {
		if m.Name == module && m.State == "running" && m.PID != 0 {
			return m.PID, nil
		}
	}
	return 0, fmt.Errorf("module %s does not run", module)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
