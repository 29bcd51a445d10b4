package linecard

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"

	"godwit/cluster/wire"
	"godwit/dataplane/pipeline"
	"godwit/event"
)

// setCard applies the difference between the desired state and what there is.
// It returns what could not be done (yet). Others run in between.
func (a *Agent) setCard(t *event.Task, cfg wire.CardConfig) ([]string, error) {
	if err := a.check(&cfg); err != nil {
		return nil, err
	}
	if a.plane != nil && reflect.DeepEqual(cfg, a.cfg) {
		return a.problems(), nil
	}
	if s := a.shapeOf(&cfg); a.plane == nil || !a.plane.serves(s) {
		if err := a.remake(t, s); err != nil {
			return nil, err
		}
	}
	a.cfg = cfg
	a.setGuards() // before a port is open
	a.setUrgency()
	a.setCores()
	a.tryFabric()
	if err := a.setPorts(t, cfg.Ports); err != nil {
		return nil, err
	}
	a.retainPorts(&cfg)
	breathe := breather(t)
	if err := a.setVRFs(breathe, cfg.VRFs); err != nil {
		return nil, err
	}
	if err := a.setInterfaces(breathe, cfg.Interfaces); err != nil {
		return nil, err
	}
	a.setMirrors()
	a.setSampling()
	a.refreshInterfaces() // and the BFD sessions on them
	a.inherit()
	for _, p := range a.ports {
		a.tellPort(p)
	}
	return a.problems(), nil
}

// remake makes the plane anew: other workers, or larger buffers. Ports are
// closed and opened again.
func (a *Agent) remake(t *event.Task, s shape) error {
	if a.plane != nil {
		a.log.Info("workers are made anew", "workers", s.workers, "chunk", s.chunk)
	}
	for _, p := range a.ports {
		if err := a.release(t, p); err != nil {
			return err
		}
	}
	if err := a.closePlane(); err != nil {
		a.log.Warn("stop workers", "error", err)
	}
	return a.makePlane(t, s)
}

// check refuses what is not for this card; the routing engine has validated
// the rest.
func (a *Agent) check(cfg *wire.CardConfig) error {
	var errs []error
	if cfg.Card != a.opt.Card {
		errs = append(errs, fmt.Errorf("configuration is for card %d, this is card %d", cfg.Card, a.opt.Card))
	}
	if cfg.Workers < 0 || cfg.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("%d workers: want 1 to %d", cfg.Workers, maxWorkers))
	}
	for i := range cfg.Mirrors {
		errs = append(errs, a.checkMirror(&cfg.Mirrors[i], cfg))
	}
	for i := range cfg.BFD {
		errs = append(errs, checkBFD(&cfg.BFD[i], a.opt.Card))
	}
	errs = append(errs, checkSampling(cfg.Sampling), a.checkGuards(cfg))
	for _, p := range cfg.Ports {
		if p.ID.Card() != a.opt.Card || p.Device == "" {
			errs = append(errs, fmt.Errorf("port %#x (%q) is not of card %d", uint32(p.ID), p.Device, a.opt.Card))
		}
	}
	for _, i := range cfg.Interfaces {
		if i.ID.Card() != a.opt.Card || i.Port.Card() != a.opt.Card {
			errs = append(errs, fmt.Errorf("interface %s (%#x on %#x) is not of card %d", i.Name, uint32(i.ID), uint32(i.Port), a.opt.Card))
		}
		if i.MTU > mtuMax {
			errs = append(errs, fmt.Errorf("interface %s: MTU %d is above %d", i.Name, i.MTU, mtuMax))
		}
	}
	return errors.Join(errs...)
}

// problems lists what is missing now.
func (a *Agent) problems() []string {
	list := slices.Concat(a.coreProblems, a.fabricProblems, a.ifaceProblems, a.neighProblems)
	add := func(p string) {
		if p != "" {
			list = append(list, p)
		}
	}
	for _, c := range a.cfg.Ports {
		if p := a.ports[c.ID]; p != nil {
			add(p.problem)
		}
	}
	for _, c := range a.cfg.VRFs {
		if v := a.vrfs[c.ID]; v != nil {
			add(v.problem)
		}
	}
	for _, c := range a.cfg.Interfaces {
		if i := a.ifaces[c.ID]; i != nil {
			add(i.problem)
		}
	}
	return list
}

// refreshNeighbors gives the configured neighbours to the slow path.
func (a *Agent) refreshNeighbors() {
	var list []pipeline.StaticNeighbor
	a.neighProblems = nil
	for _, n := range a.cfg.Neighbors {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 {
			a.neighProblems = append(a.neighProblems, fmt.Sprintf("neighbour %v: bad MAC address %q", n.Address, n.MAC))
			continue
		}
		list = append(list, pipeline.StaticNeighbor{Interface: n.Interface, Address: n.Address, MAC: [6]byte(mac)})
	}
	a.slow.SetStatic(a.opt.Loop.Now(), list)
}
