package fwdlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"godwit/dataplane/netdev/netlab"
)

// Cores of the lab.
const (
	HostCore   = 0 // generator and sink
	RouterCore = 1
)

// Addresses of the lab. The router's are in the kernel only while it forwards.
var (
	InNet     = netip.MustParsePrefix("192.0.2.0/30") // router .1, generator .2
	OutNet    = netip.MustParsePrefix("192.0.2.4/30") // router .5, sink .6
	RouterIn  = netip.MustParseAddr("192.0.2.1")
	Source    = netip.MustParseAddr("192.0.2.2")
	RouterOut = netip.MustParseAddr("192.0.2.5")
	NextHop   = netip.MustParseAddr("192.0.2.6")
	// IPv6: the router does not have to know the source's link.
	Source6  = netip.MustParseAddr("2001:db8:1::2")
	NextHop6 = netip.MustParseAddr("2001:db8:2::6")
	OutNet6  = netip.MustParsePrefix("2001:db8:2::/64")
	MACIn    = net.HardwareAddr{2, 0x67, 0, 0, 0, 1} // the router's, towards the generator
	MACOut   = net.HardwareAddr{2, 0x67, 0, 0, 0, 2} // the router's, towards the sink
	MACGen   = net.HardwareAddr{2, 0x67, 0, 0, 0, 3}
	MACSink  = net.HardwareAddr{2, 0x67, 0, 0, 0, 4}
)

// Lab is the three namespaces and what runs in them.
type Lab struct {
	*netlab.Lab
	// In and Out are the router's devices, in namespace Router. The names are
	// unlike those of any other lab on the machine, so that threads are found by them.
	In, Out   string
	gen, sink string
}

// Names of the namespaces.
const (
	Gen    = "gen"
	Router = "rtr"
	Sink   = "sink"
)

// New makes the lab: devices up, threaded NAPI, addresses, nothing forwarding.
func New(prefix string) (*Lab, error) {
	nl, err := netlab.New(prefix, Gen, Router, Sink)
	if err != nil {
		return nil, fmt.Errorf("make lab: %w", err)
	}
	id := strconv.Itoa(os.Getpid())
	l := &Lab{Lab: nl, In: "i" + id, Out: "o" + id, gen: "g" + id, sink: "s" + id}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab: %w", err), nl.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := l.Veth(Gen, l.gen, Router, l.In, 1); err != nil {
		return err
	}
	if err := l.Veth(Router, l.Out, Sink, l.sink, 1); err != nil {
		return err
	}
	for _, d := range []struct {
		ns, dev string
		mac     net.HardwareAddr
	}{{Gen, l.gen, MACGen}, {Router, l.In, MACIn}, {Router, l.Out, MACOut}, {Sink, l.sink, MACSink}} {
		if err := l.IP(d.ns, "link", "set", d.dev, "address", d.mac.String()); err != nil {
			return err
		}
		// GRO gives a veth its NAPI, which takes the generator's frames.
		if err := l.Exec(d.ns, "ethtool", "-K", d.dev, "gro", "on"); err != nil {
			return err
		}
		if err := l.Exec(d.ns, "sh", "-c", "echo 1 > /sys/class/net/"+d.dev+"/threaded"); err != nil {
			return err
		}
	}
	return nil
}

// KernelForwards gives the router's kernel addresses, neighbours and forwarding, or takes them away.
func (l *Lab) KernelForwards(on bool) error {
	if !on {
		return errors.Join(l.IP(Router, "addr", "flush", "dev", l.In), l.IP(Router, "addr", "flush", "dev", l.Out))
	}
	for _, s := range [][2]string{
		{"net/ipv4/ip_forward", "1"}, {"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/" + l.In + "/rp_filter", "0"}, {"net/ipv4/conf/" + l.Out + "/rp_filter", "0"},
	} {
		if err := l.Sysctl(Router, s[0], s[1]); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		dev  string
		addr netip.Addr
		peer netip.Addr
		mac  net.HardwareAddr
	}{{l.In, RouterIn, Source, MACGen}, {l.Out, RouterOut, NextHop, MACSink}} {
		if err := l.IP(Router, "addr", "replace", d.addr.String()+"/30", "dev", d.dev); err != nil {
			return err
		}
		if err := l.IP(Router, "neigh", "replace", d.peer.String(), "lladdr", d.mac.String(),
			"dev", d.dev, "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}
