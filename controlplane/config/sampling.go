package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Sampling says whom the line cards tell of sampled frames.
type Sampling struct {
	Agent      netip.Addr     `yaml:"agent,omitempty"`     // the router, for collectors; default: the first interface's address
	Header     int            `yaml:"header,omitempty"`    // bytes of a frame; default 128
	Counters   *time.Duration `yaml:"counters,omitempty"`  // between counter samples of sFlow; default 20s; 0s: none
	Templates  time.Duration  `yaml:"templates,omitempty"` // between templates of IPFIX; default 1m
	Collectors []Collector    `yaml:"collectors"`
}

// Collector takes samples.
type Collector struct {
	Name     string     `yaml:"name"`
	Protocol string     `yaml:"protocol"` // sflow, ipfix
	VRF      string     `yaml:"vrf,omitempty"`
	Address  netip.Addr `yaml:"address"`
	Port     uint16     `yaml:"port,omitempty"`   // default 6343 (sflow), 4739 (ipfix)
	Source   netip.Addr `yaml:"source,omitempty"` // an address of the router in the VRF; default: the first
}

// Mirror copies frames of interfaces to a device of the same card.
type Mirror struct {
	Name       string   `yaml:"name"`
	Interfaces []string `yaml:"interfaces"`
	Direction  string   `yaml:"direction,omitempty"` // in, out, both (default)
	Device     string   `yaml:"device"`              // of no interface
	ACL        string   `yaml:"acl,omitempty"`       // what it permits is copied; default: all
	Snap       int      `yaml:"snap,omitempty"`      // bytes kept of a frame; 0: all
}

// Defaults of sampling.
const (
	DefaultSampleHeader   = 128
	DefaultSampleCounters = 20 * time.Second
	DefaultTemplates      = time.Minute
	DefaultSFlowPort      = 6343
	DefaultIPFIXPort      = 4739
	maxSampleRate         = 1 << 24
	maxSampleHeader       = 256
	maxCollectors         = 8
)

func (s *Sampling) fillDefaults(c *Config) {
	if s == nil {
		return
	}
	setIfZero(&s.Header, DefaultSampleHeader)
	setIfZero(&s.Templates, DefaultTemplates)
	if s.Counters == nil {
		d := DefaultSampleCounters
		s.Counters = &d
	}
	if !s.Agent.IsValid() {
		s.Agent = c.firstAddress("", func(netip.Addr) bool { return true })
	}
	for i := range s.Collectors {
		k := &s.Collectors[i]
		setIfZero(&k.VRF, DefaultVRFName)
		switch k.Protocol {
		case "sflow":
			setIfZero(&k.Port, DefaultSFlowPort)
		case "ipfix":
			setIfZero(&k.Port, DefaultIPFIXPort)
		}
		if !k.Source.IsValid() {
			k.Source = c.firstAddress(k.VRF, func(a netip.Addr) bool { return a.Is4() == k.Address.Is4() })
		}
	}
}

// firstAddress is the first address of an interface of the VRF (empty: of any) that is no link-local one, and fits.
func (c *Config) firstAddress(vrf string, fits func(netip.Addr) bool) netip.Addr {
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		for _, p := range f.Addresses {
			if a := p.Addr(); (vrf == "" || f.VRF == vrf) && !a.IsLinkLocalUnicast() && fits(a) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// ownAddress tells that an interface of the VRF has the address.
func (c *Config) ownAddress(vrf string, a netip.Addr) bool {
	return slices.ContainsFunc(c.Interfaces, func(f Interface) bool {
		return f.VRF == vrf && slices.ContainsFunc(f.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

func (v *validator) checkSampling() {
	s := v.c.Sampling
	for i := range v.c.Interfaces {
		f, path := &v.c.Interfaces[i], fmt.Sprintf("interfaces[%d].sampling", i)
		v.inRange(path, int(f.Sampling), 0, maxSampleRate)
		if f.Sampling != 0 && (s == nil || len(s.Collectors) == 0) {
			v.fail(path, "list collectors under sampling", "nobody would be told of the samples of interface %q", f.Name)
		}
	}
	if s == nil {
		return
	}
	v.inRange("sampling.header", s.Header, 14, maxSampleHeader)
	if c := *s.Counters; c != 0 && (c < time.Second || c > time.Hour) {
		v.fail("sampling.counters", "1s to 1h, or 0s: none", "%v is out of range", c)
	}
	if s.Templates < time.Second || s.Templates > time.Hour {
		v.fail("sampling.templates", "1s to 1h", "%v is out of range", s.Templates)
	}
	if !s.Agent.IsValid() && len(s.Collectors) > 0 {
		v.fail("sampling.agent", "an address of the router", "no interface has an address")
	}
	if len(s.Collectors) > maxCollectors {
		v.fail("sampling.collectors", fmt.Sprintf("at most %d", maxCollectors), "%d collectors", len(s.Collectors))
	}
	seen := map[string]bool{}
	for i := range s.Collectors {
		v.checkCollector(fmt.Sprintf("sampling.collectors[%d]", i), &s.Collectors[i])
		if name := s.Collectors[i].Name; seen[name] {
			v.fail(fmt.Sprintf("sampling.collectors[%d].name", i), "keep one of them", "collector %q stands twice", name)
		}
		seen[s.Collectors[i].Name] = true
	}
}

func (v *validator) checkCollector(path string, k *Collector) {
	v.checkName(path+".name", k.Name, 32)
	v.oneOf(path+".protocol", k.Protocol, "sflow", "ipfix")
	switch {
	case v.c.VRF(k.VRF) == nil:
		v.fail(path+".vrf", suggest(k.VRF, v.vrfNames()), "there is no VRF %q", k.VRF)
	case !k.Address.IsValid() || k.Address.Zone() != "" || k.Address.Is4In6() || k.Address.IsMulticast() || k.Address.IsUnspecified() || k.Address.IsLoopback() || k.Address.IsLinkLocalUnicast():
		v.fail(path+".address", "a unicast address that the VRF has a route to", "%v is not the address of a collector", k.Address)
	case v.c.ownAddress(k.VRF, k.Address):
		v.fail(path+".address", "samples leave the router", "%v is the router's own address", k.Address)
	case !k.Source.IsValid():
		v.fail(path+".source", "give an interface of the VRF an address of the collector's family", "no address in VRF %q to send from", k.VRF)
	case !v.c.ownAddress(k.VRF, k.Source) || k.Source.Is4() != k.Address.Is4():
		v.fail(path+".source", "an address of an interface of the VRF, of the collector's family", "%v can't be the source", k.Source)
	}
}

func (v *validator) checkMirrors() {
	names := map[string]bool{}
	for i := range v.c.Mirrors {
		m, path := &v.c.Mirrors[i], fmt.Sprintf("mirrors[%d]", i)
		v.checkName(path+".name", m.Name, 32)
		if names[m.Name] {
			v.fail(path+".name", "keep one of them", "mirror %q stands twice", m.Name)
		}
		names[m.Name] = true
		v.oneOf(path+".direction", m.Direction, "in", "out", "both")
		v.checkDevice(path+".device", m.Device)
		v.checkUse(path+".acl", m.ACL)
		if m.Snap != 0 {
			v.inRange(path+".snap", m.Snap, 14, 65535)
		}
		v.checkMirrored(path, m)
	}
}

// checkMirrored checks what is mirrored: interfaces of one card, on which the device is free.
func (v *validator) checkMirrored(path string, m *Mirror) {
	if len(m.Interfaces) == 0 {
		v.fail(path+".interfaces", "list the interfaces to mirror", "mirror %q mirrors nothing", m.Name)
	}
	card := uint16(0)
	for j, name := range m.Interfaces {
		at := fmt.Sprintf("%s.interfaces[%d]", path, j)
		f := v.c.Interface(name)
		switch {
		case f == nil:
			var names []string
			for _, x := range v.c.Interfaces {
				names = append(names, x.Name)
			}
			v.fail(at, suggest(name, names), "there is no interface %q", name)
			continue
		case card != 0 && card != f.Card:
			v.fail(at, "make a mirror for each card", "interface %q is on line card %d, others of the mirror on %d", name, f.Card, card)
		}
		card = f.Card
	}
	for _, f := range v.c.Interfaces {
		if f.Device == m.Device && v.c.NodeOf(f.Card) == v.c.NodeOf(card) {
			v.fail(path+".device", "a device that carries nothing else", "device %q has interface %q", m.Device, f.Name)
			return
		}
		if PortID(card, m.Device) == PortID(f.Card, f.Device) {
			v.fail(path+".device", "rename one of the devices", "device %q gets the number of %q", m.Device, f.Device)
			return
		}
	}
	for _, o := range v.c.Mirrors {
		if c := v.c.mirrorCard(&o); o.Device != m.Device && PortID(card, m.Device) == PortID(c, o.Device) {
			v.fail(path+".device", "rename one of the devices", "device %q gets the number of %q", m.Device, o.Device)
		} else if o.Device == m.Device && c != card && v.c.NodeOf(c) == v.c.NodeOf(card) {
			v.fail(path+".device", "a device belongs to one card", "device %q takes the copies of line cards %d and %d", m.Device, card, c)
		}
	}
}

// mirrorCard is the card of a mirror's interfaces, 0 if there are none.
func (c *Config) mirrorCard(m *Mirror) uint16 {
	for _, name := range m.Interfaces {
		if f := c.Interface(name); f != nil {
			return f.Card
		}
	}
	return 0
}

// MirrorsOf lists the mirrors of a card.
func (c *Config) MirrorsOf(card uint16) (list []*Mirror) {
	for i := range c.Mirrors {
		if c.mirrorCard(&c.Mirrors[i]) == card {
			list = append(list, &c.Mirrors[i])
		}
	}
	return list
}
