package linecard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/event"
	"godwit/fib"
)

// port is a configured port; dev is nil while its device is missing.
type port struct {
	cfg wire.PortConfig
	attached
	queued  bool         // tryPort waits for its turn
	opening bool         // its device is being opened
	failed  error        // while it was
	news    *netdev.Link // the last, while it was
	problem string
	again   retry
	told    wire.PortStatus // last PortEvent, without counters

	expressWord, expressReason string // as PortStatus has them
	features                   netdev.XDPFeatures
}

// up tells that the port forwards.
func (p *port) up() bool { return p.dev != nil && p.link.Carrier }

// setPorts opens, changes and closes ports.
func (a *Agent) setPorts(t *event.Task, want []wire.PortConfig) error {
	keep := make(map[fib.PortID]bool)
	for _, c := range want {
		keep[c.ID] = true
		if p := a.ports[c.ID]; p != nil && a.keepsPort(p, c) {
			p.cfg = c
		} else if p != nil {
			if err := a.forgetPort(t, p); err != nil {
				return err
			}
		}
		if a.ports[c.ID] == nil {
			a.ports[c.ID] = &port{cfg: c}
		}
	}
	for id, p := range a.ports {
		if !keep[id] {
			if err := a.forgetPort(t, p); err != nil {
				return err
			}
		}
	}
	if err := a.openExpress(t, want); err != nil {
		return err
	}
	for _, c := range want {
		if p := a.ports[c.ID]; p.dev == nil {
			if err := a.openPort(t, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetPort fails only when the loop has ended.
func (a *Agent) forgetPort(t *event.Task, p *port) error {
	p.again.stop()
	delete(a.ports, p.cfg.ID)
	return a.release(t, p)
}

// tryPort opens a port when its turn comes.
func (a *Agent) tryPort(p *port) {
	p.again.stop()
	if p.queued {
		return
	}
	p.queued = true
	a.change(func(t *event.Task) {
		p.queued = false
		_ = a.openPort(t, p) // only a loop that ended
	})
}

// openPort opens a port, or says why not and tries again later. It fails only
// when the loop has ended.
func (a *Agent) openPort(t *event.Task, p *port) error {
	p.again.stop()
	if a.ports[p.cfg.ID] != p || p.dev != nil || a.plane == nil {
		return nil
	}
	at := &attached{plane: a.plane, id: p.cfg.ID, express: a.express.maps(), estate: a.heritage.estate}
	p.opening, p.failed, p.news, a.changes.flight = true, nil, nil, at
	err := a.await(t, func() error { return at.open(p.cfg) })
	if errors.Is(err, event.ErrStopped) {
		return err // settle closes it
	}
	a.changes.flight, p.opening = nil, false
	if at.link.Name != "" {
		p.link = at.link
	}
	if err != nil {
		problem := err.Error()
		if errors.Is(err, unix.ENODEV) {
			problem = fmt.Sprintf("port %s: no such device", p.cfg.Device)
		}
		if problem != p.problem {
			a.log.Warn("port is down", "device", p.cfg.Device, "error", err)
		}
		p.problem = problem
		p.again.arm(a.timers, func() { a.tryPort(p) })
		return nil
	}
	p.attached, p.problem = *at, ""
	a.express.addPort(p)
	p.again.done()
	mode, reason, queues := p.dev.info()
	a.log.Info("port attached", "device", p.cfg.Device, "mode", mode, "reason", reason, "queues", queues)
	if p.failed != nil {
		a.portFailed(p.cfg.ID, p.failed)
		return nil
	}
	a.portChanged(p)
	if p.news != nil && p.news.Index == p.link.Index {
		a.linkChanged(p, *p.news)
	}
	return nil
}

// closePort takes the port from the workers and gives the device back.
func (a *Agent) closePort(p *port) error {
	a.express.removePort(a, p)
	at := p.attached
	p.attached = attached{link: p.link}
	return at.close()
}

var _ graph.Port = share(nil)

// portFailed gives a port up that a worker, or the kernel, says is gone.
func (a *Agent) portFailed(id fib.PortID, cause error) {
	p := a.ports[id]
	if p != nil && p.opening {
		p.failed = cause
	}
	if p == nil || p.dev == nil {
		return
	}
	a.log.Warn("port failed", "device", p.cfg.Device, "error", cause)
	if err := a.closePort(p); err != nil {
		a.log.Warn("close port", "device", p.cfg.Device, "error", err)
	}
	p.problem = fmt.Sprintf("port %s: %v", p.cfg.Device, cause)
	p.link.Carrier = false
	p.again.arm(a.timers, func() { a.tryPort(p) })
	a.portChanged(p)
}

// errRemoved is the failure of a port whose device went away.
var errRemoved = errors.New("device was removed")

// linksChanged handles what the kernel says of devices.
func (a *Agent) linksChanged(links []netdev.Link) {
	for _, l := range links {
		for _, p := range a.ports {
			if p.opening && p.cfg.Device == l.Name {
				p.news = &l
				continue
			}
			if p.dev != nil && p.link.Index == l.Index {
				a.linkChanged(p, l)
			} else if p.dev == nil && p.cfg.Device == l.Name && !l.Gone {
				a.tryPort(p)
			}
		}
	}
}

func (a *Agent) linkChanged(p *port, l netdev.Link) {
	if l.Gone || l.Name != p.cfg.Device {
		a.portFailed(p.cfg.ID, errRemoved)
		return
	}
	old := p.link
	p.link = l
	if l.MTU != old.MTU {
		for _, s := range p.shares {
			if s != nil {
				s.SetMTU(l.MTU)
			}
		}
	}
	if l.Carrier != old.Carrier || l.MTU != old.MTU || l.MAC.String() != old.MAC.String() {
		a.portChanged(p)
	}
}

func (a *Agent) linksLost(err error) { a.log.Error("watch links", "error", err) }

// portChanged tells interfaces, host stack and routing engine.
func (a *Agent) portChanged(p *port) {
	a.refreshInterfaces()
	a.tellPort(p)
}

// tellPort sends a PortEvent if there is news.
func (a *Agent) tellPort(p *port) {
	s := a.portStatus(p, nil)
	key := s
	key.Counters = wire.Counters{}
	if samePort(key, p.told) {
		return
	}
	p.told = key
	a.broadcast(wire.PortEvent, s)
}

func samePort(a, b wire.PortStatus) bool {
	if len(a.Interfaces) != len(b.Interfaces) {
		return false
	}
	for i := range a.Interfaces {
		x, y := a.Interfaces[i], b.Interfaces[i]
		x.Counters, y.Counters = wire.Counters{}, wire.Counters{}
		if x != y {
			return false
		}
	}
	return a.ID == b.ID && a.Device == b.Device && a.Up == b.Up && a.Mode == b.Mode &&
		a.Queues == b.Queues && a.MAC == b.MAC && a.Reason == b.Reason && a.Express == b.Express && a.ExpressReason == b.ExpressReason
}
