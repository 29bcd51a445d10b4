package linecard

import (
	"errors"
	"fmt"
	"time"

	"godwit/cluster/wire"
	"godwit/dataplane/express"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp"
	"godwit/event"
	"godwit/fib"
	"godwit/fib/patricia"
)

// expressPath is the part of a card that forwards in the kernel. One goroutine
// waits for its grace periods; all else is the loop's.
type expressPath struct {
	x      *xdp.Express
	flat   *express.Tables
	grace  *express.Grace
	reader *patricia.Reader
	stop   chan struct{}
	done   chan struct{}
	base   map[uint32]xdp.Count // of groups: what earlier ones of their number had; not 0
}

// featuresEvery is how often devices are asked what they can: a veth depends on
// its peer.
const featuresEvery = time.Second

// maps is what devices are attached with; nil without an express path.
func (e *expressPath) maps() *xdp.Express {
	if e == nil {
		return nil
	}
	return e.x
}

// openExpress makes the express path when the first port wants it.
// It fails only when the loop has ended.
func (a *Agent) openExpress(t *event.Task, ports []wire.PortConfig) error {
	want := false
	for _, p := range ports {
		want = want || p.Express
	}
	if !want || a.express != nil || a.noExpress != "" {
		return nil
	}
	err := a.await(t, func() (err error) { // the verifier takes its time
		a.expressMaps, err = xdp.NewExpress()
		return err
	})
	if errors.Is(err, event.ErrStopped) {
		return err // Close closes it
	}
	x := a.expressMaps
	if err != nil {
		a.noExpress = err.Error()
		a.log.Warn("no express path", "error", err)
		return nil
	}
	e := &expressPath{x: x, grace: express.NewGrace(), stop: make(chan struct{}), done: make(chan struct{})}
	e.base = make(map[uint32]xdp.Count)
	e.flat = express.New(x.State, x, e.grace, a.opt.HashSeed)
	e.flat.OnGone(func(index uint32) {
		if n := x.Routed(index); n != (xdp.Count{}) {
			e.base[index] = n
		}
	})
	e.reader = a.tables.NewReader()
	e.reader.Online()
	a.express = e
	go func() {
		defer close(e.done)
		if err := e.grace.Run(e.stop, e.reader, x.Wait); err != nil {
			a.log.Error("express path has no grace periods any more", "error", err)
		}
	}()
	a.state.SetExpress(e.flat)
	a.tables.SetMirror(e.flat)
	a.log.Info("express path is open", "bytes", x.Bytes())
	return nil
}

// close ends the express path; its ports are closed, and the loop has ended.
func (e *expressPath) close(a *Agent) error {
	a.tables.SetMirror(nil)
	close(e.stop)
	<-e.done
	e.reader.Close()
	a.express, a.expressMaps = nil, nil
	return e.x.Close()
}

// routed is what went by a group since it was made.
func (e *expressPath) routed(index uint32) xdp.Count {
	if e == nil {
		return xdp.Count{}
	}
	n, base := e.x.Routed(index), e.base[index]
	return xdp.Count{Packets: n.Packets - base.Packets, Bytes: n.Bytes - base.Bytes}
}

func expressProgram(p *port) *xdp.ExpressPort {
	if d, ok := p.dev.(*xdpDevice); ok {
		return d.Express()
	}
	return nil
}

// keepsPort tells that a port need not be opened again for a new configuration.
func (a *Agent) keepsPort(p *port, c wire.PortConfig) bool {
	if p.cfg == c {
		return true
	}
	old := p.cfg
	old.Express = c.Express
	return old == c && (!c.Express || p.dev == nil || expressProgram(p) != nil)
}

func (e *expressPath) addPort(p *port) {
	if e == nil {
		return
	}
	if prog := expressProgram(p); prog != nil {
		e.flat.AddPort(p.cfg.ID, prog.Port)
	}
}

func (e *expressPath) removePort(a *Agent, p *port) {
	p.expressWord, p.expressReason, p.features = "", "", 0
	if e == nil {
		return
	}
	if slot, ok := a.state.PortSlot(p.cfg.ID); ok {
		if err := e.x.SetDevice(slot, 0); err != nil {
			a.log.Warn("end redirecting", "device", p.cfg.Device, "error", err)
		}
	}
	e.flat.RemovePort(p.cfg.ID)
}

// tickExpress looks after what changes without an event.
func (a *Agent) tickExpress() {
	if now := a.opt.Loop.Now(); now.Sub(a.looked) >= featuresEvery {
		a.looked = now
		a.mendPorts()
		a.lookAtFeatures()
	}
	if a.express != nil {
		a.express.flat.Retry()
	}
}

func (a *Agent) lookAtFeatures() {
	if a.express == nil {
		return
	}
	for _, p := range a.ports {
		if p.dev != nil {
			p.features, _ = netdev.Features(p.link.Index) // an old kernel does not tell: none
		}
	}
	a.applyExpress()
	for _, p := range a.ports {
		a.tellPort(p)
	}
}

// applyExpress switches the express way of each port on or off.
func (a *Agent) applyExpress() {
	for _, p := range a.ports {
		if p.dev == nil {
			continue
		}
		in, out, why := a.mayExpress(p)
		p.expressWord, p.expressReason = expressWord(in, out), why
		if a.express == nil {
			continue
		}
		a.express.flat.SetOn(p.cfg.ID, in)
		slot, ok := a.state.PortSlot(p.cfg.ID)
		if !ok {
			continue
		}
		index := 0
		if out {
			index = p.link.Index
		}
		a.express.flat.SetMTU(slot, p.link.MTU)
		if err := a.express.x.SetDevice(slot, index); err != nil {
			p.expressWord, p.expressReason = expressWord(in, false), err.Error()
		}
	}
}

func expressWord(in, out bool) string {
	switch {
	case in && out:
		return "on"
	case in:
		return "receive"
	case out:
		return "transmit"
	}
	return "off"
}

// mayExpress tells which way frames of a port may go the express way, and why not both.
func (a *Agent) mayExpress(p *port) (in, out bool, why string) {
	switch {
	case !p.cfg.Express:
		return false, false, "configured"
	case a.express == nil:
		return false, false, a.noExpress
	case a.capturing(p.cfg.ID):
		return false, false, "a capture is running"
	}
	if p.features == 0 {
		p.features, _ = netdev.Features(p.link.Index)
	}
	in, out = expressProgram(p) != nil, p.features&netdev.XDPTransmit != 0
	if mirrorIn, mirrorOut := a.mirroring(p.cfg.ID); mirrorIn || mirrorOut {
		in, out, why = in && !mirrorIn, out && !mirrorOut, "mirrored"
	}
	if guardIn, guardOut := a.guarding(p.cfg.ID); guardIn || guardOut {
		in, out, why = in && !guardIn, out && !guardOut, "access list, source check or policer"
	}
	if why != "" {
		return in, out, why
	}
	switch {
	case !in:
		mode, _, _ := p.dev.info()
		why = fmt.Sprintf("mode %s: programs redirect in native mode only", mode)
	case p.inherits():
		why = "a former process's program forwards until routes and neighbours are complete"
	case !out:
		why = "the driver takes no redirected frames (a veth does while its peer has GRO or an XDP program)"
	}
	return in, out, why
}

// capturing tells that an interface of the port is captured: its frames go through the
// workers meanwhile.
func (a *Agent) capturing(id fib.PortID) bool {
	for i := range a.captures {
		if f := a.ifaces[i]; f != nil && f.cfg.Port == id {
			return true
		}
	}
	return false
}

// expressTraffic is what went the express way through an interface.
func (a *Agent) expressTraffic(id fib.InterfaceID) wire.Counters {
	if a.express == nil {
		return wire.Counters{}
	}
	slot := a.state.InterfaceSlot(id)
	if slot == 0 {
		return wire.Counters{}
	}
	n := a.express.x.Traffic(slot)
	return wire.Counters{RxPackets: n.RxPackets, RxBytes: n.RxBytes, TxPackets: n.TxPackets, TxBytes: n.TxBytes, Drops: n.Drops, Express: n.RxPackets}
}

func addTraffic(a, b wire.Counters) wire.Counters {
	a.RxPackets += b.RxPackets
	a.RxBytes += b.RxBytes
	a.TxPackets += b.TxPackets
	a.TxBytes += b.TxBytes
	a.Drops += b.Drops
	a.Express += b.Express
	return a
}

func (a *Agent) expressDrops() []graph.DropCount {
	if a.express == nil {
		return nil
	}
	ip4, ip6 := a.express.x.Blackholed()
	return []graph.DropCount{{Node: "ip4-forward", Reason: "blackhole", Count: ip4}, {Node: "ip6-forward", Reason: "blackhole", Count: ip6}}
}
