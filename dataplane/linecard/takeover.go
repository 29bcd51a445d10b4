package linecard

import (
	"time"

	"godwit/cluster/fdstore"
	"godwit/cluster/wire"
	"godwit/dataplane/express"
	"godwit/dataplane/neigh"
	"godwit/dataplane/xdp"
	"godwit/event"
	"godwit/fib"
)

// heritage is what an earlier process of the card left: its express programs, which forward by
// its tables until ours are complete.
//
//	New            links are taken from the supervisor; packets go on as before
//	ports open     AF_XDP sockets take the frames that are not plain transit
//	interfaces up  its neighbours are ours, to be probed
//	routes are in  and no gateway is asked for: each port's program is replaced in one step
type heritage struct {
	estate    *xdp.Estate
	neighbors []express.Neighbor // whose interface is not up yet
	complete  time.Time          // when the routes were; zero: they are not
	queued    bool               // the replacement waits for its turn
}

// gatewaysWait is how long complete routes wait for gateways that do not answer.
const gatewaysWait = 3 * time.Second

// openHeritage takes what the supervisor has kept; s may be nil.
func (a *Agent) openHeritage(s *fdstore.Client) {
	if s == nil {
		a.heritage.estate = xdp.NewEstate(nil, nil, a.log)
		return
	}
	kept, err := s.List()
	if err != nil {
		a.log.Warn("what an earlier process left can't be had", "error", err)
	}
	a.heritage.estate = xdp.NewEstate(s, kept, a.log)
	if n := len(kept); n > 0 {
		a.log.Info("an earlier process has left its express path", "ports", n)
	}
}

// inherits tells that a port's program is an earlier process's.
func (p *port) inherits() bool {
	d, ok := p.dev.(*xdpDevice)
	return ok && d.Inherited()
}

// heirs are the ports whose program is to be replaced.
func (a *Agent) heirs() (list []*port) {
	for _, p := range a.ports {
		if p.inherits() {
			list = append(list, p)
		}
	}
	return list
}

// retainPorts ends the programs of ports that are not configured for the express path any more.
func (a *Agent) retainPorts(cfg *wire.CardConfig) {
	if cfg.Hold {
		return
	}
	var ids []fib.PortID
	for _, p := range cfg.Ports {
		if p.Express {
			ids = append(ids, p.ID)
		}
	}
	a.heritage.estate.Retain(ids)
}

// inherit takes the neighbours whose interface is up.
func (a *Agent) inherit() {
	h := &a.heritage
	h.neighbors = append(h.neighbors, h.estate.Neighbors()...)
	if len(h.neighbors) == 0 {
		return
	}
	now, later := a.opt.Loop.Now(), h.neighbors[:0]
	for _, n := range h.neighbors {
		if !a.slow.Inherit(now, neigh.Key{Interface: n.Interface, Hi: n.Hi, Lo: n.Lo}, n.MAC) {
			later = append(later, n)
		}
	}
	h.neighbors = later
}

// tickHeritage replaces the programs of an earlier process when everything is there.
func (a *Agent) tickHeritage() {
	h := &a.heritage
	a.inherit()
	if h.complete.IsZero() && (a.fibs.Swept() || a.cfg.Complete) {
		h.complete = a.opt.Loop.Now()
	}
	if h.queued || h.complete.IsZero() || a.changes.running || len(a.heirs()) == 0 {
		return
	}
	if n := a.slow.Pending(); n > 0 && a.opt.Loop.Now().Sub(h.complete) < gatewaysWait {
		return
	}
	h.queued = true
	a.change(func(t *event.Task) {
		h.queued = false
		a.takeOver(t)
	})
}

// takeOver replaces the programs of an earlier process by ours.
func (a *Agent) takeOver(t *event.Task) {
	a.applyExpress()
	begin := time.Now()
	heirs := a.heirs()
	for _, p := range heirs {
		if !p.inherits() {
			continue // it failed meanwhile
		}
		if err := p.dev.(*xdpDevice).TakeOver(); err != nil {
			a.portFailed(p.cfg.ID, err)
		}
		if t.Yield() != nil {
			return
		}
	}
	a.heritage.neighbors = nil
	a.log.Info("express path is taken over", "ports", len(heirs), "took", time.Since(begin))
	a.applyExpress()
	for _, p := range heirs {
		a.tellPort(p)
	}
}

// mendPorts looks whether the devices still have their programs.
func (a *Agent) mendPorts() {
	for _, p := range a.ports {
		d, ok := p.dev.(*xdpDevice)
		if !ok {
			continue
		}
		mended, err := d.Mend()
		switch {
		case mended:
			a.log.Error("alarm: somebody has detached a port's XDP program; it is attached again", "device", p.cfg.Device, "error", err)
		case err != nil:
			a.log.Error("alarm: a port's XDP program", "device", p.cfg.Device, "error", err)
			a.portFailed(p.cfg.ID, err)
		}
	}
}
