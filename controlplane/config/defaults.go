package config

import "time"

// Defaults of keys that a file may leave out.
const (
	DefaultMTU             = 1500
	DefaultBGPPort         = 179
	DefaultHoldTime        = 90 * time.Second
	DefaultGracefulRestart = 120 * time.Second
	DefaultStaticDistance  = 1
	DefaultHash            = "5-tuple"
	DefaultNetwork         = 4711
	DefaultLinkTolerance   = 1500 * time.Millisecond
)

func (c *Config) fillDefaults() {
	if c.System.Hostname == "" {
		c.System.Hostname = "godwit"
	}
	setIfZero(&c.System.Forwarding.Hash, DefaultHash)
	if k := c.System.Cluster; k != nil {
		setIfZero(&k.Role, RoleRouter)
		setIfZero(&k.Network, DefaultNetwork)
		setIfZero(&k.LinkTolerance, DefaultLinkTolerance)
	}
	if c.VRF(DefaultVRFName) == nil {
		c.VRFs = append([]VRF{{Name: DefaultVRFName}}, c.VRFs...)
	}
	for i := range c.Cards {
		c.Cards[i].fillDefaults()
	}
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		setIfZero(&f.VRF, DefaultVRFName)
		setIfZero(&f.MTU, DefaultMTU)
	}
	for i := range c.VRFs {
		c.VRFs[i].fillDefaults()
	}
	c.Sampling.fillDefaults(c)
	for i := range c.Mirrors {
		setIfZero(&c.Mirrors[i].Direction, "both")
	}
}

func (c *Card) fillDefaults() {
	setIfZero(&c.Workers, 1)
	for i := range c.Ports {
		setIfZero(&c.Ports[i].Mode, "auto")
	}
}

func (v *VRF) fillDefaults() {
	for i := range v.Static {
		setIfZero(&v.Static[i].Distance, max(v.Distances.Static, DefaultStaticDistance))
		for j := range v.Static[i].Via {
			setIfZero(&v.Static[i].Via[j].Weight, 1)
			v.Static[i].Via[j].BFD.fillDefaults()
		}
	}
	if v.Limit.Routes != 0 {
		setIfZero(&v.Limit.Action, "warn")
	}
	if v.BGP == nil {
		return
	}
	b := v.BGP
	setIfZero(&b.Port, DefaultBGPPort)
	setIfZero(&b.Multipath, 1)
	if b.GracefulRestart == nil {
		d := DefaultGracefulRestart
		b.GracefulRestart = &d
	}
	for i := range b.Neighbors {
		n := &b.Neighbors[i]
		n.BFD.fillDefaults()
		setIfZero(&n.HoldTime, DefaultHoldTime)
		setIfZero(&n.Port, DefaultBGPPort)
		if len(n.Families) == 0 {
			n.Families = []string{"ipv4"}
			if n.Address.Is6() {
				n.Families = []string{"ipv6"}
			}
		}
	}
}

func setIfZero[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
