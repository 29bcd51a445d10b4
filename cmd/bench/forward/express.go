package forward

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"godwit/dataplane/express"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/xdp"
	"godwit/dataplane/xdp/fwdlab"
	"godwit/fib/patricia"
)

// expressPath is a card's express path, as a line card has it.
type expressPath struct {
	x      *xdp.Express
	flat   *express.Tables
	grace  *express.Grace
	reader *patricia.Reader
	stop   chan struct{}
	done   chan error
}

// openExpress gives the card an express path; its devices join later.
func (c *card) openExpress() error {
	x, err := xdp.NewExpress()
	if err != nil {
		return err
	}
	e := &expressPath{x: x, grace: express.NewGrace(), reader: c.tables.NewReader(), stop: make(chan struct{}), done: make(chan error)}
	e.flat = express.New(x.State, x, e.grace, 0)
	e.reader.Online()
	go func() { e.done <- e.grace.Run(e.stop, e.reader, x.Wait) }()
	c.state.SetExpress(e.flat)
	c.tables.SetMirror(e.flat)
	c.express = e
	return nil
}

func (e *expressPath) close(c *card) error {
	c.tables.SetMirror(nil)
	close(e.stop)
	err := <-e.done
	e.reader.Close()
	return errors.Join(err, e.x.Close())
}

func (e *expressPath) maps() *xdp.Express {
	if e == nil {
		return nil
	}
	return e.x
}

// join lets a device's frames go the express way, in and out. It runs in the device's namespace.
func (e *expressPath) join(s *pipeline.State, d *xdp.Device) error {
	if e == nil {
		return nil
	}
	slot, ok := s.PortSlot(d.ID())
	if d.Express() == nil || !ok {
		return fmt.Errorf("device %s has no express program: %s", d.Name(), d.Reason())
	}
	e.flat.AddPort(d.ID(), d.Express().Port)
	e.flat.SetOn(d.ID(), true)
	return e.x.SetDevice(slot, d.Index())
}

func (e *expressPath) leave(d *xdp.Device) {
	if e != nil {
		e.flat.RemovePort(d.ID())
	}
}

// express measures the express path and, in turn with it, what it is compared with.
func (b *bench) express(c *card) error {
	if err := c.openExpress(); err != nil {
		return fmt.Errorf("open express path: %w", err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + extraPs))
	ways := []string{"express", "linux", "xdp_fib_lookup", "xdp_redirect"}
	pps, cpu := make([]Series, len(ways)), make([]Series, len(ways))
	for i, w := range ways {
		pps[i] = Series{Name: "forward.express", Unit: "pps", Better: "more", Baseline: w}
		cpu[i] = Series{Name: "forward.express.cpu", Unit: "ns", Better: "less", Baseline: w}
	}
	for run := range b.Runs {
		got := make([]fwdlab.Result, len(ways))
		for k := range ways {
			i := (k + run) % len(ways) // another order each time
			runtime.GC()
			var err error
			if got[i], err = b.way(c, ways[i]); err != nil {
				return fmt.Errorf("measure %s: %w", ways[i], err)
			}
			b.Progress("forward.express run %d of %d: %s %.0f pps, %v; offered %.0f", run+1, b.Runs, ways[i], got[i].PPS, got[i].PerFrame, got[i].Offered)
		}
		for i := range ways[1:] {
			pps[i+1].add(got[0].PPS, got[i+1].PPS)
			cpu[i+1].add(float64(got[0].PerFrame), float64(got[i+1].PerFrame))
		}
	}
	for i := range ways[1:] {
		if err := errors.Join(b.Emit(pps[i+1]), b.Emit(cpu[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// way measures one forwarder under load.
func (b *bench) way(c *card, way string) (res fwdlab.Result, err error) {
	t := fwdlab.Traffic{Targets: b.to, Rate: offeredExpress, CheckOneOf: 16}
	switch way {
	case "linux":
		return b.lab.Measure(t, nil, b.Warm, b.D)
	case "express":
		if err := c.join(b.lab); err != nil {
			return res, errors.Join(err, c.leave())
		}
		res, err = b.measure(c, true, t, b.D)
		return res, errors.Join(err, c.leave())
	}
	base := fwdlab.FIBLookup
	if way == "xdp_redirect" {
		base = fwdlab.Redirect
	}
	f, err := b.lab.Forward(base)
	if err != nil {
		return res, err
	}
	res, err = b.lab.Measure(t, nil, b.Warm, b.D)
	return res, errors.Join(err, f.Close())
}

// offeredExpress saturates XDP forwarders, too.
const offeredExpress = 4_000_000 // packets a second
