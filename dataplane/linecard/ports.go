package linecard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/fib"
)

// port is a configured port; dev is nil while its device is missing.
type port struct {
	cfg     wire.PortConfig
	hold    *netdev.Hold
	dev     device
	shares  []share // by worker; nil: handed over
	link    netdev.Link
	problem string
	again   retry
	told    wire.PortStatus // last PortEvent, without counters
}

// up tells that the port forwards.
func (p *port) up() bool { return p.dev != nil && p.link.Carrier }

// setPorts opens, changes and closes ports.
func (a *Agent) setPorts(want []wire.PortConfig) {
	keep := make(map[fib.PortID]bool)
	for _, c := range want {
		keep[c.ID] = true
		if p := a.ports[c.ID]; p != nil && p.cfg != c {
			a.forgetPort(p)
		}
		if a.ports[c.ID] == nil {
			a.ports[c.ID] = &port{cfg: c}
		}
	}
	for id, p := range a.ports {
		if !keep[id] {
			a.forgetPort(p)
		}
	}
	for _, c := range want {
		if p := a.ports[c.ID]; p.dev == nil {
			a.tryPort(p)
		}
	}
}

func (a *Agent) forgetPort(p *port) {
	p.again.stop()
	if err := a.closePort(p); err != nil {
		a.log.Warn("close port", "device", p.cfg.Device, "error", err)
	}
	delete(a.ports, p.cfg.ID)
}

// tryPort opens a port, or says why not and tries again later.
func (a *Agent) tryPort(p *port) {
	p.again.stop()
	if a.ports[p.cfg.ID] != p || p.dev != nil || a.plane == nil {
		return
	}
	if err := a.openPort(p); err != nil {
		problem := err.Error()
		if errors.Is(err, unix.ENODEV) {
			problem = fmt.Sprintf("port %s: no such device", p.cfg.Device)
		}
		if problem != p.problem {
			a.log.Warn("port is down", "device", p.cfg.Device, "error", err)
		}
		p.problem = problem
		p.again.arm(a.timers, func() { a.tryPort(p) })
		return
	}
	p.problem = ""
	p.again.done()
	mode, reason, queues := p.dev.info()
	a.log.Info("port attached", "device", p.cfg.Device, "mode", mode, "reason", reason, "queues", queues)
	a.portChanged(p)
}

func (a *Agent) openPort(p *port) error {
	link, err := netdev.Get(p.cfg.Device)
	if err != nil {
		return err
	}
	p.link = link
	if p.hold, err = netdev.Take(p.cfg.Device, netdev.HoldOptions{}); err != nil {
		return err
	}
	if p.dev, err = attach(p.cfg.Device, p.cfg.ID, p.cfg.Mode, p.cfg.Queues, a.plane.ring); err != nil {
		return errors.Join(err, a.closePort(p))
	}
	if err := a.openShares(p); err != nil {
		return errors.Join(err, a.closePort(p))
	}
	// Take may have set it up; a change behind this is an event.
	if l, err := netdev.Get(p.cfg.Device); err == nil {
		p.link = l
	}
	return nil
}

// openShares gives each worker its queues, or the worker to hand frames to.
func (a *Agent) openShares(p *port) error {
	workers := a.plane.workers
	owner := -1
	for i := range workers {
		var s share
		var err error
		// A port is opened by its worker: the pool is its own.
		workers[i].Do(func() { s, err = p.dev.open(i, len(workers), a.plane.umems[i]) })
		if err != nil {
			return err
		}
		p.shares = append(p.shares, s)
		if s != nil && owner < 0 {
			owner = i
		}
	}
	if owner < 0 {
		return errNoShare
	}
	for i, s := range p.shares {
		if s == nil {
			workers[i].AddRemote(p.cfg.ID, workers[owner])
			continue
		}
		workers[i].AddPort(s)
	}
	return nil
}

// closePort takes the port from the workers and gives the device back.
func (a *Agent) closePort(p *port) error {
	var errs []error
	for i, s := range p.shares {
		w := a.plane.workers[i]
		w.RemovePort(p.cfg.ID, nil)
		if s != nil {
			w.Do(func() { errs = append(errs, s.Close()) })
		}
	}
	p.shares = nil
	if p.dev != nil {
		errs = append(errs, p.dev.close())
		p.dev = nil
	}
	if p.hold != nil {
		errs = append(errs, p.hold.Release())
		p.hold = nil
	}
	return errors.Join(errs...)
}

var _ graph.Port = share(nil)

// portFailed gives a port up that a worker, or the kernel, says is gone.
func (a *Agent) portFailed(id fib.PortID, cause error) {
	p := a.ports[id]
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
		a.Queues == b.Queues && a.MAC == b.MAC && a.Reason == b.Reason
}
