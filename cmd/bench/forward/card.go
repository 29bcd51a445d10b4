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

// Of the card under test.
const cardID fib.CardID = 1

const puntRoom = 512

var (
	inPort  = fib.MakePortID(cardID, 1)
	outPort = fib.MakePortID(cardID, 2)
)

// world is what a card is to know.
type world struct {
	routes []netip.Prefix // all by the lab's next hops
	// vrfs, if not 0, spreads the routes over so many VRFs: route i is in the one with
	// number 1 + i mod vrfs, whose interfaces have that tag.
	vrfs int
}

// vrf is a VRF of the world and its numbers.
type vrf struct {
	id              fib.VRF
	tag             uint16
	in, out         fib.InterfaceID
	onward, onward6 fib.GroupID // to the sink
	back            fib.GroupID // to the generator
}

func (w world) all() []vrf {
	list := make([]vrf, max(w.vrfs, 1))
	for i := range list {
		n := fib.GroupID(3 * i)
		list[i] = vrf{in: fib.MakeInterfaceID(cardID, uint16(1+2*i)), out: fib.MakeInterfaceID(cardID, uint16(2+2*i)),
			onward: n + 1, onward6: n + 2, back: n + 3}
		if w.vrfs > 0 {
			list[i].id, list[i].tag = fib.VRF(1+i), uint16(1+i)
		}
	}
	return list
}

func (v vrf) interfaces() []pipeline.Interface {
	return []pipeline.Interface{
		{ID: v.in, Name: fmt.Sprint("in", v.tag), Port: inPort, VLAN: v.tag, VRF: v.id, MTU: 1500, MAC: [6]byte(fwdlab.MACIn), Up: true,
			Addresses: []netip.Prefix{netip.PrefixFrom(fwdlab.RouterIn, 30)}},
		{ID: v.out, Name: fmt.Sprint("out", v.tag), Port: outPort, VLAN: v.tag, VRF: v.id, MTU: 1500, MAC: [6]byte(fwdlab.MACOut), Up: true,
			Addresses: []netip.Prefix{netip.PrefixFrom(fwdlab.RouterOut, 30), netip.PrefixFrom(fwdlab.OutNet6.Addr().Next(), 64)}},
	}
}

func (v vrf) neighbors() []pipeline.StaticNeighbor {
	return []pipeline.StaticNeighbor{
		{Interface: v.out, Address: fwdlab.NextHop, MAC: [6]byte(fwdlab.MACSink)},
		{Interface: v.out, Address: fwdlab.NextHop6, MAC: [6]byte(fwdlab.MACSink)},
		{Interface: v.in, Address: fwdlab.Source, MAC: [6]byte(fwdlab.MACGen)},
	}
}

// changes are the groups, and the routes of the lab's links.
func (v vrf) changes() []fib.Change {
	set := func(id fib.GroupID, hop fib.NextHop) fib.Change {
		return fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: fib.Forward, NextHops: []fib.NextHop{hop}}}
	}
	return []fib.Change{
		set(v.onward, fib.NextHop{Interface: v.out, Gateway: fwdlab.NextHop}), v.route(fwdlab.OutNet, v.onward),
		set(v.onward6, fib.NextHop{Interface: v.out, Gateway: fwdlab.NextHop6}), v.route(fwdlab.OutNet6, v.onward6),
		set(v.back, fib.NextHop{Interface: v.in, Gateway: fwdlab.Source}), v.route(fwdlab.InNet, v.back),
	}
}

func (v vrf) route(p netip.Prefix, id fib.GroupID) fib.Change {
	return fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: v.id, Prefix: p, Group: id}}
}

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

// newCard makes a card of the world that is not joined to the lab yet.
func newCard(w world) (*card, error) {
	c := &card{state: pipeline.NewState(cardID, pipeline.Options{})}
	c.tables = patricia.New(c.state)
	c.state.SetFIB(c.tables)
	slow := pipeline.NewSlowPath(c.state)
	now := time.Now()
	var interfaces []pipeline.Interface
	var neighbors []pipeline.StaticNeighbor
	for _, v := range w.all() {
		interfaces = append(interfaces, v.interfaces()...)
		neighbors = append(neighbors, v.neighbors()...)
	}
	if err := slow.SetInterfaces(now, interfaces); err != nil {
		return nil, errors.Join(err, c.close())
	}
	slow.SetStatic(now, neighbors)
	slow.Drain() // announcements nobody waits for
	if err := c.program(w); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if err := c.start(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// program fills the tables as a routing engine would: the routes, and the lab's links.
func (c *card) program(w world) error {
	const perBatch = 4096
	vrfs := w.all()
	b := fib.Batch{Epoch: 1}
	for _, v := range vrfs {
		b.Changes = append(b.Changes, v.changes()...)
	}
	for next := 0; ; {
		for ; next < len(w.routes) && len(b.Changes) < perBatch; next++ {
			v, p := vrfs[next%len(vrfs)], w.routes[next]
			to := v.onward
			if p.Addr().Is6() {
				to = v.onward6
			}
			b.Changes = append(b.Changes, v.route(p, to))
		}
		b.Seq++
		b.Sweep = next == len(w.routes)
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
