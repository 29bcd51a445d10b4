package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/dataplane/worker"
	"godwit/dataplane/xdp"
	"godwit/dataplane/xdp/fwdlab"
	"godwit/fib"
	"godwit/fib/patricia"
)

// Numbers of the card under test.
const (
	cardID   fib.CardID  = 1
	onward   fib.GroupID = 1 // to the sink
	back     fib.GroupID = 2 // to the generator
	puntRoom             = 512
)

var (
	inPort  = fib.MakePortID(cardID, 1)
	outPort = fib.MakePortID(cardID, 2)
	inIf    = fib.MakeInterfaceID(cardID, 1)
	outIf   = fib.MakeInterfaceID(cardID, 2)
)

// card is the forwarding half of a line card: one worker, two ports, one VRF.
type card struct {
	state  *pipeline.State
	tables *patricia.Tables
	reader *patricia.Reader
	umem   *xdp.Umem
	worker *worker.Worker

	devices []*xdp.Device
	ports   []*xdp.Port
	express *expressPath // nil: AF_XDP alone
}

// newCard makes a card with the routes, all by the lab's next hop, that is not
// joined to the lab yet.
func newCard(routes []netip.Prefix) (*card, error) {
	c := &card{state: pipeline.NewState(cardID, pipeline.Options{})}
	c.tables = patricia.New(c.state)
	c.state.SetFIB(c.tables)
	slow := pipeline.NewSlowPath(c.state)
	now := time.Now()
	if err := slow.SetInterfaces(now, []pipeline.Interface{
		{ID: inIf, Name: "in", Port: inPort, MTU: 1500, MAC: [6]byte(fwdlab.MACIn), Up: true,
			Addresses: []netip.Prefix{netip.PrefixFrom(fwdlab.RouterIn, 30)}},
		{ID: outIf, Name: "out", Port: outPort, MTU: 1500, MAC: [6]byte(fwdlab.MACOut), Up: true,
			Addresses: []netip.Prefix{netip.PrefixFrom(fwdlab.RouterOut, 30)}},
	}); err != nil {
		return nil, errors.Join(err, c.close())
	}
	slow.SetStatic(now, []pipeline.StaticNeighbor{
		{Interface: outIf, Address: fwdlab.NextHop, MAC: [6]byte(fwdlab.MACSink)},
		{Interface: inIf, Address: fwdlab.Source, MAC: [6]byte(fwdlab.MACGen)},
	})
	slow.Drain() // announcements nobody waits for
	if err := c.program(routes); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if err := c.start(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// program fills the tables as a routing engine would: the routes, and the lab's links.
func (c *card) program(routes []netip.Prefix) error {
	const perBatch = 4096
	set := func(id fib.GroupID, hop fib.NextHop) fib.Change {
		return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: fib.Forward, NextHops: []fib.NextHop{hop}}}
	}
	route := func(p netip.Prefix, id fib.GroupID) fib.Change {
		return fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: id}}
	}
	b := fib.Batch{Epoch: 1, Changes: []fib.Change{
		set(onward, fib.NextHop{Interface: outIf, Gateway: fwdlab.NextHop}), route(fwdlab.OutNet, onward),
		set(back, fib.NextHop{Interface: inIf, Gateway: fwdlab.Source}), route(fwdlab.InNet, back),
	}}
	for {
		n := min(perBatch, len(routes))
		for _, p := range routes[:n] {
			b.Changes = append(b.Changes, route(p, onward))
		}
		routes = routes[n:]
		b.Seq++
		b.Sweep = len(routes) == 0
		if err := c.tables.Apply(b); err != nil {
			return fmt.Errorf("program routes: %w", err)
		}
		if b.Sweep {
			return nil
		}
		b.Changes = b.Changes[:0]
	}
}

func (c *card) start() (err error) {
	if c.umem, err = xdp.NewUmem(xdp.DefaultFrames, xdp.DefaultChunk); err != nil {
		return err
	}
	c.reader = c.tables.NewReader()
	start := time.Now()
	c.worker, err = worker.New(worker.Config{
		Pool: c.umem.Pool(), Reader: c.reader,
		Punts:    worker.NewQueue[punt.Meta](puntRoom, c.umem.Pool().Room(), func() {}),
		Now:      func() int64 { return int64(time.Since(start)) },
		Pipeline: func(p *graph.Pool, s pipeline.Sink) worker.Pipeline { return pipeline.New(c.state, p, s) },
		Gone:     func(fib.PortID, error) {},
	})
	if err != nil {
		return err
	}
	c.worker.Start()
	return c.worker.SetUrgent(true) // as a line card does
}

// thread is the worker's thread, for the time being.
func (c *card) thread() (tid int) {
	c.worker.Do(func() { tid = unix.Gettid() })
	return tid
}

// join takes the lab's devices. The worker stands still meanwhile: its thread
// is not in the devices' namespace.
func (c *card) join(l *fwdlab.Lab) (err error) {
	c.worker.Do(func() { err = l.Do(fwdlab.Router, func() error { return c.open(l) }) })
	for _, p := range c.ports {
		c.worker.AddPort(p)
	}
	return err
}

func (c *card) open(l *fwdlab.Lab) error {
	for i, name := range []string{l.In, l.Out} {
		d, err := xdp.Attach(name, xdp.Options{ID: []fib.PortID{inPort, outPort}[i], Mode: xdp.Native, Express: c.express.maps()})
		if err != nil {
			return err
		}
		c.devices = append(c.devices, d)
		if err := c.express.join(c.state, d); err != nil {
			return err
		}
		p, err := d.Open(c.umem, 0)
		if err != nil {
			return err
		}
		c.ports = append(c.ports, p)
	}
	return nil
}

// leave gives the devices back. All buffers must have come home.
func (c *card) leave() error {
	var errs []error
	for _, p := range c.ports {
		c.worker.RemovePort(p.ID(), nil)
		c.worker.Do(func() { errs = append(errs, p.Close()) })
	}
	for _, d := range c.devices {
		c.express.leave(d)
		errs = append(errs, d.Close())
	}
	c.ports, c.devices = nil, nil
	c.worker.Do(func() {
		if p := c.umem.Pool(); p.Free() != p.Size() {
			errs = append(errs, fmt.Errorf("%d of %d buffers are lost", p.Size()-p.Free(), p.Size()))
		}
	})
	return errors.Join(errs...)
}

// counters are the ports', in and out.
func (c *card) counters() (in, out netdev.Counters) {
	return c.ports[0].Counters(), c.ports[1].Counters()
}

func (c *card) close() error {
	var errs []error
	if c.worker != nil {
		errs = append(errs, c.leave(), c.worker.Stop())
	}
	if c.express != nil {
		errs = append(errs, c.express.close(c))
	}
	if c.reader != nil {
		c.reader.Close()
	}
	if c.umem != nil {
		errs = append(errs, c.umem.Close())
	}
	return errors.Join(append(errs, c.tables.Close())...)
}
