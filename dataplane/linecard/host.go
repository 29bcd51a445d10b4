package linecard

import (
	"bytes"
	"errors"
	"fmt"

	"godwit/cluster/wire"
	"godwit/dataplane/fabric"
	"godwit/dataplane/header"
	"godwit/dataplane/hostif"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// iface is a configured interface and its TAP; tap is nil while it is missing.
type iface struct {
	cfg     wire.InterfaceConfig
	netns   string
	tap     *hostif.Device
	carrier bool // as told to the host stack
	problem string
	again   retry
}

func (i *iface) close() error {
	i.again.stop()
	if i.tap == nil {
		return nil
	}
	err := i.tap.Close()
	i.tap = nil
	return err
}

// vrf is a configured VRF and our queue of its TUN; tun is nil while it is missing.
type vrf struct {
	cfg     wire.VRFConfig
	tun     *hostif.Device
	problem string
	again   retry
}

func (v *vrf) close() error {
	v.again.stop()
	if v.tun == nil {
		return nil
	}
	err := v.tun.Close()
	v.tun = nil
	return err
}

// setVRFs opens and closes TUN queues. It fails only when breathe does.
func (a *Agent) setVRFs(breathe func() error, want []wire.VRFConfig) error {
	keep := make(map[fib.VRF]bool)
	hash := make(map[fib.VRF]fib.HashFields)
	for _, c := range want {
		hash[c.ID] = c.Hash
	}
	a.state.SetHash(hash)
	for _, c := range want {
		keep[c.ID] = true
		c.Hash = 0 // the packets', not the TUN's
		if v := a.vrfs[c.ID]; v != nil && v.cfg != c {
			a.warn("close TUN", v.cfg.Name, v.close())
			delete(a.vrfs, c.ID)
		}
		if a.vrfs[c.ID] == nil {
			v := &vrf{cfg: c}
			a.vrfs[c.ID] = v
			a.tryTUN(v)
		}
		if err := breathe(); err != nil {
			return err
		}
	}
	for id, v := range a.vrfs {
		if !keep[id] {
			delete(a.vrfs, id)
			a.warn("close TUN", v.cfg.Name, v.close())
			if err := breathe(); err != nil {
				return err
			}
		}
	}
	return nil
}

// setInterfaces opens and closes TAPs. It fails only when breathe does.
func (a *Agent) setInterfaces(breathe func() error, want []wire.InterfaceConfig) error {
	keep := make(map[fib.InterfaceID]bool)
	for _, c := range want {
		keep[c.ID] = true
		netns := ""
		if v := a.vrfs[c.VRF]; v != nil {
			netns = v.cfg.NetNS
		}
		i := a.ifaces[c.ID]
		if i != nil && (i.cfg.TAP != c.TAP || i.netns != netns) {
			a.warn("close TAP", i.cfg.Name, i.close())
			i = nil
		}
		if i == nil {
			i = &iface{netns: netns}
			a.ifaces[c.ID] = i
		}
		i.cfg = c
		if i.tap == nil {
			a.tryTAP(i)
		}
		if err := breathe(); err != nil {
			return err
		}
	}
	for id, i := range a.ifaces {
		if !keep[id] {
			delete(a.ifaces, id)
			a.warn("close TAP", i.cfg.Name, i.close())
			if err := breathe(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Agent) warn(what, name string, err error) {
	if err != nil {
		a.log.Warn(what, "name", name, "error", err)
	}
}

// tryTAP attaches to the interface's TAP, or says why not and tries later.
func (a *Agent) tryTAP(i *iface) {
	i.again.stop()
	id := i.cfg.ID
	if a.ifaces[id] != i || i.tap != nil || i.cfg.TAP == "" {
		return
	}
	receive := func(frame []byte) {
		if neigh.Question(frame) { // before its answer can come
			own := bytes.Clone(frame)
			_ = a.punts.Post(func() { a.slow.HostFrame(a.opt.Loop.Now(), id, own) }) // a full loop forgets it
		}
		if w := a.entry.Load(); w != nil {
			w.Inject(id, frame, true)
		}
	}
	lost := func(err error) {
		_ = a.links.Post(func() { a.tapLost(i, err) })
	}
	tap, err := hostif.Open(hostif.TAP, i.netns, i.cfg.TAP, receive, lost)
	if err != nil {
		i.problem = a.missing(i.problem, err)
		i.again.arm(a.timers, func() { a.tryTAP(i) })
		return
	}
	i.tap, i.problem = tap, ""
	i.again.done()
	i.carrier = a.interfaceUp(i)
	a.warn("set carrier", i.cfg.TAP, tap.SetCarrier(i.carrier))
}

// missing logs a new problem once.
func (a *Agent) missing(old string, err error) string {
	if err.Error() != old && !errors.Is(err, hostif.ErrMissing) {
		a.log.Warn("host interface is missing", "error", err)
	}
	return err.Error()
}

func (a *Agent) tapLost(i *iface, err error) {
	if i.tap == nil || a.ifaces[i.cfg.ID] != i {
		return
	}
	a.warn("close TAP", i.cfg.Name, i.close())
	i.problem = err.Error()
	i.again.arm(a.timers, func() { a.tryTAP(i) })
}

// tryTUN attaches a queue of the VRF's TUN, or says why not and tries later.
func (a *Agent) tryTUN(v *vrf) {
	v.again.stop()
	id := v.cfg.ID
	if a.vrfs[id] != v || v.tun != nil || v.cfg.TUN == "" {
		return
	}
	receive := func(packet []byte) { a.fromTUN(id, packet) }
	lost := func(err error) {
		_ = a.links.Post(func() { a.tunLost(v, err) })
	}
	tun, err := hostif.Open(hostif.TUN, v.cfg.NetNS, v.cfg.TUN, receive, lost)
	if err != nil {
		v.problem = a.missing(v.problem, err)
		v.again.arm(a.timers, func() { a.tryTUN(v) })
		return
	}
	v.tun, v.problem = tun, ""
	v.again.done()
}

// hugeMTU is what the host stack is told, and given as fragments, when it sends
// a packet that no buffer holds.
const hugeMTU = 1500

// fromTUN runs on the TUN's reader: it hands a packet to worker 0, in fragments
// if it is larger than a buffer. It waits while the worker is busy.
func (a *Agent) fromTUN(id fib.VRF, packet []byte) {
	w := a.entry.Load()
	switch {
	case w == nil:
		return
	case len(packet) <= w.MaxFrame():
		w.Host(id, 0, packet, true)
		return
	}
	if h := header.IPv4(packet); h.IsValid() && !h.DF() {
		for _, f := range ip.Fragment(h, hugeMTU) {
			w.Host(id, 0, f, true)
		}
		return
	}
	// The slow path tells the host stack. A full loop drops: it will ask again.
	own := bytes.Clone(packet)
	_ = a.punts.Post(func() {
		a.slow.Punted(a.opt.Loop.Now(), punt.Meta{Reason: punt.TooBig, MTU: hugeMTU, VRF: id, Host: true}, own)
		a.effects()
	})
}

func (a *Agent) tunLost(v *vrf, err error) {
	if v.tun == nil || a.vrfs[v.cfg.ID] != v {
		return
	}
	a.warn("close TUN", v.cfg.Name, v.close())
	v.problem = err.Error()
	v.again.arm(a.timers, func() { a.tryTUN(v) })
}

// interfaceUp tells that an interface forwards.
func (a *Agent) interfaceUp(i *iface) bool {
	p := a.ports[i.cfg.Port]
	return p != nil && p.up() && !i.cfg.Down
}

// refreshInterfaces brings slow path, workers and carriers up to date with
// configuration and ports. An interface whose port has never been seen has no
// MAC address, and does not exist yet.
func (a *Agent) refreshInterfaces() {
	var list []pipeline.Interface
	a.ifaceProblems = nil
	for _, c := range a.cfg.Interfaces { // in the order of the configuration
		i := a.ifaces[c.ID]
		p := a.ports[c.Port]
		if i == nil || p == nil || len(p.link.MAC) != 6 {
			continue
		}
		list = append(list, pipeline.Interface{
			ID: c.ID, Name: c.Name, Port: c.Port, VLAN: c.VLAN, VRF: c.VRF, MTU: c.MTU,
			MAC: [6]byte(p.link.MAC), Addresses: c.Addresses, Up: a.interfaceUp(i), ProxyARP: c.ProxyARP, Sample: a.sampleRate(&c),
			Ingress: a.policyOf(c.ID, false), Egress: a.policyOf(c.ID, true),
		})
		if c.MTU > p.link.MTU {
			a.ifaceProblems = append(a.ifaceProblems,
				fmt.Sprintf("interface %s: MTU %d is above %d of device %s", c.Name, c.MTU, p.link.MTU, p.link.Name))
		}
		if len(a.cfg.Cards) > 1 && c.MTU > fabric.MaxPacket {
			a.ifaceProblems = append(a.ifaceProblems,
				fmt.Sprintf("interface %s: MTU %d is above %d, the longest packet between cards", c.Name, c.MTU, fabric.MaxPacket))
		}
	}
	if err := a.slow.SetInterfaces(a.opt.Loop.Now(), list); err != nil {
		a.ifaceProblems = append(a.ifaceProblems, err.Error())
		a.log.Error("set interfaces", "error", err)
	}
	a.refreshNeighbors()
	a.applyExpress()
	a.effects()
	a.refreshBFD(list)
	for _, i := range a.ifaces { // last: the kernel may take its time
		a.refreshCarrier(i)
	}
}

func (a *Agent) refreshCarrier(i *iface) {
	up := a.interfaceUp(i)
	if i.tap == nil || i.carrier == up {
		return
	}
	i.carrier = up
	a.warn("set carrier", i.cfg.TAP, i.tap.SetCarrier(up))
}
