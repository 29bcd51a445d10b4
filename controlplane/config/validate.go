package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"godwit/fib"
)

// validator checks what a single value cannot know: references, duplicates,
// and what fits together. Every fault is reported where it stands.
type validator struct {
	c *Config
	p *parser

	communities []string // that filters name
}

var (
	nameRE   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	deviceRE = regexp.MustCompile(`^[^\s/:]{1,15}$`)
)

// fail reports a fault at the nearest place that the file has for the path.
func (v *validator) fail(path, hint, format string, args ...any) {
	at := path
	n := v.p.at[at]
	for n == nil && at != "" {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
		n = v.p.at[at]
	}
	v.p.fail(n, path, hint, format, args...)
}

func (v *validator) validate() {
	v.checkName("system.hostname", v.c.System.Hostname, 63)
	v.checkManagement()
	v.checkForwarding("system.forwarding", v.c.System.Forwarding)
	v.checkCards()
	v.checkCluster()
	v.checkPrefixLists()
	v.checkVRFs()
	v.checkInterfaces()
	v.checkAddresses()
	for i := range v.c.VRFs {
		v.checkStatics(v.vrfPath(i), &v.c.VRFs[i])
		v.checkLeaks(v.vrfPath(i), &v.c.VRFs[i])
		v.checkLimit(v.vrfPath(i)+".limit", &v.c.VRFs[i].Limit)
		v.checkForwarding(v.vrfPath(i)+".forwarding", v.c.VRFs[i].Forwarding)
		if v.c.VRFs[i].BGP != nil {
			v.checkBGP(v.vrfPath(i)+".bgp", &v.c.VRFs[i])
		}
	}
	v.checkBFDs()
	v.checkACLs()
	v.checkGuards()
	v.checkSampling()
	v.checkMirrors()
}

// vrfPath is the path of the VRF in the file: the default VRF that was not
// listed stands before the others.
func (v *validator) vrfPath(i int) string {
	if _, listed := v.p.at[fmt.Sprintf("vrfs[%d]", len(v.c.VRFs)-1)]; !listed {
		i--
	}
	return fmt.Sprintf("vrfs[%d]", i)
}

func (v *validator) checkName(path, name string, most int) {
	if !nameRE.MatchString(name) || len(name) > most {
		v.fail(path, "letters, digits, and . _ - behind the first", "%q is not a name of 1 to %d characters", name, most)
	}
}

func (v *validator) oneOf(path, word string, words ...string) {
	if !slices.Contains(words, word) {
		v.fail(path, suggest(word, words), "unknown word %q", word)
	}
}

func (v *validator) checkForwarding(path string, f Forwarding) {
	if f.Hash != "" {
		v.oneOf(path+".hash", f.Hash, "5-tuple", "3-tuple")
	}
}

func (v *validator) inRange(path string, n, lo, hi int) {
	if n < lo || n > hi {
		v.fail(path, fmt.Sprintf("%d to %d", lo, hi), "%d is out of range", n)
	}
}

func (v *validator) checkCards() {
	seen := map[uint16]bool{}
	for i, c := range v.c.Cards {
		path := fmt.Sprintf("cards[%d]", i)
		v.inRange(path+".id", int(c.ID), 1, 1000)
		if seen[c.ID] {
			v.fail(path+".id", "every card has a number of its own", "card %d stands twice", c.ID)
		}
		seen[c.ID] = true
		v.inRange(path+".workers", c.Workers, 1, 64)
		for j, core := range c.Cores {
			v.inRange(fmt.Sprintf("%s.cores[%d]", path, j), core, 0, 1023)
		}
		devices := map[string]bool{}
		for j, p := range c.Ports {
			at := fmt.Sprintf("%s.ports[%d]", path, j)
			v.checkDevice(at+".device", p.Device)
			v.oneOf(at+".mode", p.Mode, "auto", "native", "generic", "afpacket")
			v.inRange(at+".queues", p.Queues, 0, 64)
			v.checkBusyPoll(at, p)
			if devices[p.Device] {
				v.fail(at+".device", "keep one of them", "device %q stands twice on card %d", p.Device, c.ID)
			}
			devices[p.Device] = true
		}
	}
}

func (v *validator) checkBusyPoll(at string, p Port) {
	if p.BusyPoll < 0 || p.BusyPoll > 10*time.Millisecond || p.BusyPoll%time.Microsecond != 0 {
		v.fail(at+".busy-poll", "whole microseconds, at most 10ms; 50us suits most", "%v is no time to poll for", p.BusyPoll)
	}
	if p.BusyBudget != 0 {
		v.inRange(at+".busy-poll-budget", p.BusyBudget, 8, 1024)
		if p.BusyPoll == 0 {
			v.fail(at+".busy-poll-budget", "give busy-poll, too", "there is no busy polling on %s", p.Device)
		}
	}
}

func (v *validator) checkDevice(path, device string) {
	if !deviceRE.MatchString(device) {
		v.fail(path, "the kernel's name of a device, for example eth1", "%q is not a device name", device)
	}
}

func (v *validator) checkVRFs() {
	names, ids := map[string]bool{}, map[fib.VRF]string{}
	for i := range v.c.VRFs {
		vrf, path := &v.c.VRFs[i], v.vrfPath(i)
		v.checkName(path+".name", vrf.Name, 32)
		if names[vrf.Name] {
			v.fail(path+".name", "keep one of them", "VRF %q stands twice", vrf.Name)
			continue
		}
		names[vrf.Name] = true
		v.inRange(path+".id", int(vrf.ID), 0, 65535)
		if vrf.Name == DefaultVRFName && vrf.ID != 0 {
			v.fail(path+".id", "leave it out", "the default VRF always has the number 0")
		}
		if other, taken := ids[vrf.Number()]; taken {
			v.fail(path, "give one of them an id", "VRF %q gets the number %d, as VRF %q does", vrf.Name, vrf.Number(), other)
		}
		ids[vrf.Number()] = vrf.Name
	}
}

func (v *validator) checkInterfaces() {
	type device struct {
		node uint16
		name string
	}
	type place struct {
		device
		vlan uint16
	}
	names, ids := map[string]bool{}, map[fib.InterfaceID]string{}
	places, cardOf, portOf := map[place]string{}, map[device]uint16{}, map[fib.PortID]string{}
	for i := range v.c.Interfaces {
		f, path := &v.c.Interfaces[i], fmt.Sprintf("interfaces[%d]", i)
		v.checkInterface(path, f)
		if names[f.Name] {
			v.fail(path+".name", "keep one of them", "interface %q stands twice", f.Name)
			continue
		}
		names[f.Name] = true
		if other, taken := ids[f.Number()]; taken {
			v.fail(path+".name", "rename one of them", "interface %q gets the number of %q", f.Name, other)
		}
		ids[f.Number()] = f.Name
		dev := device{v.c.NodeOf(f.Card), f.Device}
		at := place{dev, f.VLAN}
		if other, taken := places[at]; taken {
			v.fail(path+".device", "give one of them a vlan", "device %q with VLAN %d is interface %q already", f.Device, f.VLAN, other)
		}
		places[at] = f.Name
		if card, used := cardOf[dev]; used && card != f.Card {
			v.fail(path+".card", "a device belongs to one card", "device %q is on card %d already", f.Device, card)
		}
		cardOf[dev] = f.Card
		port := PortID(f.Card, f.Device)
		if other, taken := portOf[port]; taken && other != f.Device {
			v.fail(path+".device", "rename one of the devices", "device %q gets the number of %q", f.Device, other)
		}
		portOf[port] = f.Device
	}
}

func (v *validator) checkInterface(path string, f *Interface) {
	v.checkName(path+".name", f.Name, 15)
	if f.Name == "lo" || f.Name == TUNName {
		v.fail(path+".name", "choose another", "%q is the name of a device that every VRF has", f.Name)
	}
	v.checkDevice(path+".device", f.Device)
	v.inRange(path+".vlan", int(f.VLAN), 0, 4094)
	least := 576
	if slices.ContainsFunc(f.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		least = 1280 // RFC 8200, section 5
	}
	v.inRange(path+".mtu", f.MTU, least, 9000)
	if !slices.ContainsFunc(v.c.Cards, func(c Card) bool { return c.ID == f.Card }) {
		v.fail(path+".card", "list it under cards", "there is no card %d", f.Card)
	}
	if v.c.VRF(f.VRF) == nil {
		v.fail(path+".vrf", suggest(f.VRF, v.vrfNames()), "there is no VRF %q", f.VRF)
	}
	if f.ProxyARP && !slices.ContainsFunc(f.Addresses, func(a netip.Prefix) bool { return a.Addr().Is4() }) {
		v.fail(path+".proxy-arp", "it is for IPv4: give the interface an IPv4 address", "proxy ARP without an IPv4 address")
	}
	for j, n := range f.Neighbors {
		at := fmt.Sprintf("%s.neighbors[%d]", path, j)
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			v.fail(at+".mac", "for example 02:00:00:00:00:01", "%q is not the MAC address of one station", n.MAC)
		}
		if !n.Address.IsLinkLocalUnicast() && !slices.ContainsFunc(f.Addresses, func(a netip.Prefix) bool { return a.Masked().Contains(n.Address) }) {
			v.fail(at+".address", "an address in one of the interface's prefixes", "%v is not on the link", n.Address)
		}
	}
}

func (v *validator) vrfNames() []string {
	var names []string
	for _, vrf := range v.c.VRFs {
		names = append(names, vrf.Name)
	}
	return names
}

// checkAddresses refuses addresses that are not a station's, and the same
// address twice in one VRF. In different VRFs it is legal.
func (v *validator) checkAddresses() {
	type key struct {
		vrf  string
		addr netip.Addr
	}
	seen := map[key]string{}
	for i, f := range v.c.Interfaces {
		for j, a := range f.Addresses {
			path := fmt.Sprintf("interfaces[%d].addresses[%d]", i, j)
			if msg, hint := badAddress(a); msg != "" {
				v.fail(path, hint, "%v %s", a, msg)
			}
			k := key{f.VRF, a.Addr()}
			if other, taken := seen[k]; taken && !a.Addr().IsLinkLocalUnicast() {
				v.fail(path, "an address stands once in a VRF", "%v is an address of interface %q in VRF %q already", a.Addr(), other, f.VRF)
			}
			seen[k] = f.Name
		}
	}
}

func badAddress(a netip.Prefix) (msg, hint string) {
	ip := a.Addr()
	switch {
	case !a.IsValid():
		return "is not an address with a prefix length", "for example 192.0.2.1/24"
	case ip.Is4In6():
		return "is an IPv4-mapped IPv6 address", "write " + ip.Unmap().String()
	case ip.IsMulticast() || ip.IsLoopback() || ip.IsUnspecified() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is not an address of a station", ""
	case a.Bits() == 0:
		return "leaves no station out", "prefix length 0"
	case ip.Is4() && a.Bits() < 31 && ip == a.Masked().Addr():
		return "is the network's address", "for example " + ip.Next().String()
	case ip.Is4() && a.Bits() < 31 && !a.Contains(ip.Next()):
		return "is the network's broadcast address", "for example " + ip.Prev().String()
	}
	return "", ""
}
