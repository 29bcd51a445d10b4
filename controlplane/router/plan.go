package router

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/kernel"
	"godwit/fib"
	"godwit/rib"
)

// vrfName is the VRF of an interface.
func vrfName(i *config.Interface) string {
	if i.VRF == "" {
		return config.DefaultVRFName
	}
	return i.VRF
}

// vrfsOf lists the VRFs of a configuration with their numbers; the default one
// is always there.
func vrfsOf(c *config.Config) map[string]fib.VRF {
	m := map[string]fib.VRF{config.DefaultVRFName: fib.DefaultVRF}
	for i := range c.VRFs {
		m[c.VRFs[i].Name] = c.VRFs[i].Number()
	}
	return m
}

// hostPlan is what the host stack needs between two configurations.
type hostPlan struct {
	addVRFs    []string
	setIfs     []hostIf
	removeIfs  []hostIf
	removeVRFs []string
}

// hostIf is the host's side of an interface and its VRF.
type hostIf struct {
	vrf string
	kernel.Interface
}

// planHost compares two configurations. macs are the addresses of the ports,
// as far as they are known.
func planHost(old, next *config.Config, macs map[fib.InterfaceID]net.HardwareAddr) hostPlan {
	var p hostPlan
	was, is := vrfsOf(old), vrfsOf(next)
	for name := range is {
		p.addVRFs = append(p.addVRFs, name) // those that exist are checked, and mended
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			p.removeVRFs = append(p.removeVRFs, name)
		}
	}
	for i := range next.Interfaces {
		p.setIfs = append(p.setIfs, hostSide(&next.Interfaces[i], macs))
	}
	for i := range old.Interfaces {
		o := &old.Interfaces[i]
		n := next.Interface(o.Name)
		_, vrfStays := is[vrfName(o)]
		if vrfStays && (n == nil || vrfName(n) != vrfName(o)) {
			p.removeIfs = append(p.removeIfs, hostSide(o, nil))
		}
	}
	slices.Sort(p.addVRFs)
	slices.Sort(p.removeVRFs)
	return p
}

func hostSide(i *config.Interface, macs map[fib.InterfaceID]net.HardwareAddr) hostIf {
	h := hostIf{vrf: vrfName(i), Interface: kernel.Interface{Name: i.Name, MTU: i.MTU, Up: !i.Shutdown}}
	h.Addresses = slices.Clone(i.Addresses)
	if mac := macs[i.Number()]; mac != nil {
		h.MAC = mac
		h.Addresses = withLinkLocal(h.Addresses, mac)
	}
	return h
}

// withLinkLocal adds the link-local address of a MAC address, unless the
// configuration has one.
func withLinkLocal(addrs []netip.Prefix, mac net.HardwareAddr) []netip.Prefix {
	for _, a := range addrs {
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			return addrs
		}
	}
	if ll := kernel.LinkLocal(mac); ll.IsValid() {
		addrs = append(slices.Clone(addrs), ll)
	}
	return addrs
}

// planCards makes the desired state of every card.
func planCards(c *config.Config, h hostPaths, macs map[fib.InterfaceID]net.HardwareAddr) map[fib.CardID]wire.CardConfig {
	cards := map[fib.CardID]wire.CardConfig{}
	ids := map[uint16][]fib.CardID{} // by node: the fabric joins the cards of one
	for _, k := range c.Cards {
		node := c.NodeOf(k.ID)
		ids[node] = append(ids[node], fib.CardID(k.ID))
	}
	var vrfs []wire.VRFConfig
	for name, id := range vrfsOf(c) {
		vrfs = append(vrfs, wire.VRFConfig{ID: id, Name: name, NetNS: h.netns(name), TUN: kernel.TUN, Hash: hashOf(c, name)})
	}
	slices.SortFunc(vrfs, func(a, b wire.VRFConfig) int { return int(a.ID) - int(b.ID) })
	for _, k := range c.Cards {
		w := wire.CardConfig{
			Card: fib.CardID(k.ID), Workers: max(k.Workers, 1), Cores: k.Cores, FabricDir: h.fabric, Cards: ids[c.NodeOf(k.ID)], CaptureMax: 1, VRFs: vrfs,
			Ports: []wire.PortConfig{}, Interfaces: []wire.InterfaceConfig{},
		}
		if c.Remote(&k) {
			withoutHost(&w)
		}
		for i := range c.Interfaces {
			if f := &c.Interfaces[i]; f.Card == k.ID {
				addInterface(&w, k, f, vrfsOf(c)[vrfName(f)], macs, c.System.Express != nil && *c.System.Express)
			}
		}
		planFeatures(c, k, &w)
		cards[w.Card] = w
	}
	planBFD(c, cards)
	return cards
}

// withoutHost is for a card on another node: the host stacks are on the routing
// engine's, and its run directory is its own.
func withoutHost(w *wire.CardConfig) {
	w.FabricDir = ""
	w.VRFs = slices.Clone(w.VRFs)
	for i := range w.VRFs {
		w.VRFs[i].NetNS, w.VRFs[i].TUN = "", ""
	}
}

// portConfig is a device with the settings that the configuration may have for it.
func portConfig(k config.Card, id fib.PortID, device string, express bool) wire.PortConfig {
	p := wire.PortConfig{ID: id, Device: device, Mode: "auto", Express: express}
	for _, s := range k.Ports {
		if s.Device == device {
			p.Queues, p.BusyPoll, p.BusyBudget = s.Queues, int(s.BusyPoll.Microseconds()), s.BusyBudget
			if s.Express != nil {
				p.Express = *s.Express
			}
			if s.Mode != "" {
				p.Mode = s.Mode
			}
		}
	}
	return p
}

func addInterface(w *wire.CardConfig, k config.Card, f *config.Interface, vrf fib.VRF, macs map[fib.InterfaceID]net.HardwareAddr, express bool) {
	port := config.PortID(f.Card, f.Device)
	if !slices.ContainsFunc(w.Ports, func(p wire.PortConfig) bool { return p.ID == port }) {
		w.Ports = append(w.Ports, portConfig(k, port, f.Device, express))
	}
	w.Interfaces = append(w.Interfaces, wire.InterfaceConfig{
		ID: f.Number(), Name: f.Name, Port: port, VLAN: f.VLAN, VRF: vrf, MTU: f.MTU,
		Addresses: withLinkLocal(f.Addresses, macs[f.Number()]), TAP: f.Name, Down: f.Shutdown, ProxyARP: f.ProxyARP,
		Sample: f.Sampling, Ingress: guardOf(f.ACLIn, f.SourceCheck, f.PolicerIn), Egress: guardOf(f.ACLOut, "", f.PolicerOut),
	})
	if w.FabricDir == "" { // on another node: see withoutHost
		w.Interfaces[len(w.Interfaces)-1].TAP = ""
	}
	for _, n := range f.Neighbors {
		w.Neighbors = append(w.Neighbors, wire.StaticNeighbor{Interface: f.Number(), Address: n.Address, MAC: n.MAC})
	}
}

// planSpeakers makes the desired state of every VRF's speaker.
func planSpeakers(c *config.Config) map[fib.VRF]speakerPlan {
	plans := map[fib.VRF]speakerPlan{}
	names := communities(c)
	for i := range c.VRFs {
		v := &c.VRFs[i]
		if v.BGP == nil {
			continue
		}
		b := v.BGP
		p := speakerPlan{name: v.Name, zones: map[netip.Addr]fib.InterfaceID{}, redistribute: redistRules(c, b)}
		p.cfg = wire.SpeakerConfig{
			VRF: v.Name, AS: b.AS, RouterID: b.RouterID, Port: b.Port, GracefulRestart: restartTime(b),
			Multipath: max(b.Multipath, 1), Neighbors: []wire.SpeakerPeer{}, Communities: names,
			AdvertiseFIB: b.Advertise == "fib",
		}
		for _, n := range b.Neighbors {
			w := wire.SpeakerPeer{
				Address: n.Address.WithZone(""), Interface: n.Address.Zone(), AS: n.AS, LocalAS: n.LocalAS,
				LocalAddress: n.LocalAddress, Description: n.Description, Password: n.Password, Passive: n.Passive,
				Multihop: n.Multihop, Port: n.Port, HoldTime: n.HoldTime, Families: n.Families,
				Import: n.Import, Export: n.Export, NextHopSelf: n.NextHopSelf, MaxPrefixes: n.MaxPrefixes, Shutdown: n.Shutdown,
			}
			p.cfg.Neighbors = append(p.cfg.Neighbors, w)
			if id := peerInterface(c, v.Name, n.Address); id != 0 {
				p.zones[w.Address] = id
			}
		}
		plans[v.Number()] = p
	}
	return plans
}

// peerInterface is the interface that a peer is on: its zone, or the interface
// with its subnet. 0: the peer is further away.
func peerInterface(c *config.Config, vrf string, a netip.Addr) fib.InterfaceID {
	if z := a.Zone(); z != "" {
		return config.InterfaceID(c, z)
	}
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		if vrfName(f) == vrf && slices.ContainsFunc(f.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(a) }) {
			return f.Number()
		}
	}
	return 0
}

func restartTime(b *config.BGP) time.Duration {
	if b.GracefulRestart == nil {
		return config.DefaultGracefulRestart
	}
	return *b.GracefulRestart
}

// speakerPlan is the desired state of a speaker, and what its routes need.
type speakerPlan struct {
	name         string
	cfg          wire.SpeakerConfig
	redistribute []redistRule
	zones        map[netip.Addr]fib.InterfaceID // interfaces that peers are on
}

// planModules lists the modules that shall run.
func planModules(c *config.Config, h hostPaths) wire.SetModulesBody {
	body := wire.SetModulesBody{Modules: []wire.ModuleSpec{}}
	for _, k := range c.Cards {
		if c.Remote(&k) {
			continue // the supervisor of its node runs it
		}
		id := strconv.Itoa(int(k.ID))
		body.Modules = append(body.Modules, wire.ModuleSpec{Name: "linecard-" + id, Role: "linecard", Args: []string{"--card", id}})
	}
	for i := range c.VRFs {
		if v := &c.VRFs[i]; v.BGP != nil {
			body.Modules = append(body.Modules, wire.ModuleSpec{
				Name: "bgp-" + v.Name, Role: "bgp", NetNS: h.netns(v.Name),
				Args: []string{"--vrf-id", strconv.Itoa(int(v.Number())), "--vrf", v.Name},
			})
		}
	}
	return body
}

// staticKey names a static route.
type staticKey struct {
	vrf      fib.VRF
	prefix   netip.Prefix
	distance uint8
}

// usableVia tells whether a static route's next hop may be used now.
type usableVia func(*config.VRF, *config.Via) bool

func staticsOf(c *config.Config, usable usableVia) map[staticKey]rib.StaticRoute {
	m := map[staticKey]rib.StaticRoute{}
	for i := range c.VRFs {
		v := &c.VRFs[i]
		for j := range v.Static {
			if k, r, ok := staticOf(c, v, &v.Static[j], usable); ok {
				m[k] = r
			}
		}
	}
	return m
}

// staticOf makes a static route; ok is false if none of its next hops may be used.
func staticOf(c *config.Config, v *config.VRF, s *config.Static, usable usableVia) (k staticKey, r rib.StaticRoute, ok bool) {
	r = rib.StaticRoute{Prefix: s.Prefix, Distance: max(s.Distance, rib.DistanceStatic), Tag: s.Tag}
	switch {
	case s.Blackhole:
		r.Kind = fib.Blackhole
	case s.Reject:
		r.Kind = fib.Reject
	}
	for i := range s.Via {
		if via := &s.Via[i]; usable == nil || usable(v, via) {
			r.Vias = append(r.Vias, viaOf(c, via.Address, via.Interface, via.VRF, via.Weight))
			r.Vias[len(r.Vias)-1].Backup = via.Backup
		}
	}
	if !slices.ContainsFunc(r.Vias, func(via rib.Via) bool { return !via.Backup }) {
		for i := range r.Vias { // what is left is no backup of anything
			r.Vias[i].Backup = false
		}
	}
	for _, x := range s.Track {
		r.Tracks = append(r.Tracks, viaOf(c, x.Address, x.Interface, x.VRF, 0))
	}
	return staticKey{v.Number(), s.Prefix, r.Distance}, r, len(s.Via) == 0 || len(r.Vias) > 0
}

// planRIB makes the RIB's updates between two configurations. up tells which
// interfaces have a running port, usable which next hops of a configuration's
// static routes may be used (nil: all). The removals come last, when nothing uses the
// VRFs any more.
func planRIB(old, next *config.Config, up func(*config.Interface) bool, usable func(*config.Config) usableVia) (list, removals []rib.Update) {
	was, is := vrfNumbers(old), vrfNumbers(next)
	for id := range is {
		list = append(list, rib.AddVRF{VRF: id})
	}
	for i := range next.VRFs {
		v := &next.VRFs[i]
		list = append(list, rib.SetVRF{VRF: v.Number(), Options: vrfOptions(v)}) // changes nothing if it is the same
	}
	list = append(list, planLeaks(old, next, was)...)
	for i := range old.Interfaces {
		id := old.Interfaces[i].Number()
		if n := next.Interface(old.Interfaces[i].Name); n == nil || n.Number() != id {
			list = append(list, rib.RemoveInterface{ID: id})
		}
	}
	for i := range next.Interfaces {
		list = append(list, setInterface(next, &next.Interfaces[i], up(&next.Interfaces[i])))
	}
	if usable == nil {
		usable = func(*config.Config) usableVia { return nil }
	}
	before, after := staticsOf(old, usable(old)), staticsOf(next, usable(next))
	for k := range before {
		if _, ok := after[k]; !ok && is[k.vrf] {
			list = append(list, rib.DeleteStatic{VRF: k.vrf, Prefix: k.prefix, Distance: k.distance})
		}
	}
	for k, r := range after {
		if o, ok := before[k]; !ok || !was[k.vrf] || !reflect.DeepEqual(o, r) {
			list = append(list, rib.SetStatic{VRF: k.vrf, Route: r})
		}
	}
	for id := range was {
		if !is[id] {
			removals = append(removals, rib.RemoveVRF{VRF: id})
		}
	}
	return list, removals
}

func vrfNumbers(c *config.Config) map[fib.VRF]bool {
	m := map[fib.VRF]bool{}
	for _, id := range vrfsOf(c) {
		m[id] = true
	}
	return m
}

func setInterface(c *config.Config, f *config.Interface, up bool) rib.Update {
	return rib.SetInterface{Interface: rib.Interface{
		ID: f.Number(), Name: f.Name, VRF: config.VRFID(c, vrfName(f)), Up: up && !f.Shutdown, Addresses: f.Addresses,
	}}
}

// hostPaths tells where things are.
type hostPaths struct {
	instance string
	fabric   string
}

func newHostPaths(instance, runDir string) hostPaths {
	return hostPaths{instance, filepath.Join(runDir, "fabric")}
}

func (h hostPaths) netns(vrf string) string { return "/run/netns/" + h.instance + "-" + vrf }

// describe lists what differs between two configurations, for people.
func describe(old, next *config.Config) []string {
	lines := []string{}
	was0, is0 := old.System, next.System
	if !reflect.DeepEqual(was0.Cluster, is0.Cluster) {
		lines = append(lines, "system cluster: changed (in force when the supervisor starts again)")
	}
	if was0.Cluster, is0.Cluster = nil, nil; !reflect.DeepEqual(was0, is0) {
		lines = append(lines, "system: changed")
	}
	lines = compare(lines, "card", old.Cards, next.Cards, func(k config.Card) string { return fmt.Sprint(k.ID) })
	lines = compare(lines, "prefix-list", old.PrefixLists, next.PrefixLists, func(l config.PrefixList) string { return l.Name })
	lines = compare(lines, "acl", old.ACLs, next.ACLs, func(l config.ACL) string { return l.Name })
	lines = compare(lines, "mirror", old.Mirrors, next.Mirrors, func(m config.Mirror) string { return m.Name })
	if !reflect.DeepEqual(old.Sampling, next.Sampling) {
		lines = append(lines, "sampling: changed")
	}
	lines = compare(lines, "interface", old.Interfaces, next.Interfaces, func(f config.Interface) string { return f.Name })
	was, is := map[string]config.VRF{}, map[string]config.VRF{}
	for _, v := range old.VRFs {
		was[v.Name] = v
	}
	for _, v := range next.VRFs {
		is[v.Name] = v
		o, ok := was[v.Name]
		if !ok {
			lines = append(lines, "vrf "+v.Name+": added")
		}
		if ok && o.ID != v.ID {
			lines = append(lines, "vrf "+v.Name+": changed")
		}
		if ok && !reflect.DeepEqual(vrfPolicy(&o), vrfPolicy(&v)) {
			lines = append(lines, "vrf "+v.Name+" routing: changed")
		}
		lines = compare(lines, "vrf "+v.Name+" static", o.Static, v.Static, func(s config.Static) string {
			return fmt.Sprintf("%v distance %d", s.Prefix, max(s.Distance, 1))
		})
		lines = describeBGP(lines, v.Name, o.BGP, v.BGP)
	}
	for _, v := range old.VRFs {
		if _, ok := is[v.Name]; !ok {
			lines = append(lines, "vrf "+v.Name+": removed")
		}
	}
	return lines
}

func describeBGP(lines []string, vrf string, old, next *config.BGP) []string {
	switch {
	case old == nil && next == nil:
		return lines
	case old == nil:
		return append(lines, "vrf "+vrf+" bgp: added")
	case next == nil:
		return append(lines, "vrf "+vrf+" bgp: removed")
	}
	o, n := *old, *next
	o.Neighbors, n.Neighbors = nil, nil
	if !reflect.DeepEqual(o, n) {
		lines = append(lines, "vrf "+vrf+" bgp: changed")
	}
	return compare(lines, "vrf "+vrf+" bgp neighbor", old.Neighbors, next.Neighbors,
		func(n config.BGPNeighbor) string { return n.Address.String() })
}

// compare lists what was added, removed and changed between two lists.
func compare[T any](lines []string, what string, old, next []T, name func(T) string) []string {
	was := map[string]T{}
	for _, o := range old {
		was[name(o)] = o
	}
	for _, n := range next {
		o, ok := was[name(n)]
		switch {
		case !ok:
			lines = append(lines, what+" "+name(n)+": added")
		case !reflect.DeepEqual(o, n):
			lines = append(lines, what+" "+name(n)+": changed")
		}
		delete(was, name(n))
	}
	for _, o := range old {
		if _, gone := was[name(o)]; gone {
			lines = append(lines, what+" "+name(o)+": removed")
		}
	}
	return lines
}
