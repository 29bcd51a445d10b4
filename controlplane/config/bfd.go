package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"godwit/fib"
)

// BFD asks for a BFD session with a neighbour, or with a static route's next
// hop. Alone, "true" takes the defaults.
type BFD struct {
	Enabled    *bool         `yaml:"enabled,omitempty" short:"true"` // default true
	Interval   time.Duration `yaml:"interval,omitempty"`             // between our packets; default 300ms
	Receive    time.Duration `yaml:"receive,omitempty"`              // between the neighbour's, at least; default: the interval
	Multiplier uint8         `yaml:"multiplier,omitempty"`           // packets that may be missing; default 3
	Echo       time.Duration `yaml:"echo,omitempty"`                 // between echo packets that are reflected, at least; default: none are; one hop only
	MinTTL     uint8         `yaml:"min-ttl,omitempty"`              // several hops only; default 1
	Passive    bool          `yaml:"passive,omitempty"`
	Shutdown   bool          `yaml:"shutdown,omitempty"`
	Auth       *BFDAuth      `yaml:"auth,omitempty"`
}

// BFDAuth is how a session's packets are authenticated.
type BFDAuth struct {
	Type  string `yaml:"type"` // simple, md5, meticulous-md5, sha1, meticulous-sha1
	KeyID uint8  `yaml:"key-id"`
	Key   string `yaml:"key"`
}

// Defaults of BFD.
const (
	DefaultBFDInterval   = 300 * time.Millisecond
	DefaultBFDMultiplier = 3
	minBFD, maxBFD       = 10 * time.Millisecond, time.Minute
)

// On tells that a session is wanted.
func (b *BFD) On() bool { return b != nil && (b.Enabled == nil || *b.Enabled) }

func (b *BFD) fillDefaults() {
	if !b.On() {
		return
	}
	setIfZero(&b.Interval, DefaultBFDInterval)
	setIfZero(&b.Receive, b.Interval)
	setIfZero(&b.Multiplier, DefaultBFDMultiplier)
}

// BFDKey names a session: two that ask for the same share it.
type BFDKey struct {
	VRF       fib.VRF
	Interface fib.InterfaceID // 0: several hops
	Peer      netip.Addr      // without a zone
	Local     netip.Addr      // several hops only
}

// OnLink is the interface of a VRF that an address is on: its zone, or the interface
// with its subnet; nil if it is further away.
func (c *Config) OnLink(vrf string, a netip.Addr) *Interface {
	if z := a.Zone(); z != "" {
		return c.Interface(z)
	}
	for i := range c.Interfaces {
		f := &c.Interfaces[i]
		if f.VRF == vrf && slices.ContainsFunc(f.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(a) }) {
			return f
		}
	}
	return nil
}

// BFDKey names the neighbour's session; ok is false if it has none.
func (n *BGPNeighbor) BFDKey(c *Config, vrf *VRF) (k BFDKey, ok bool) {
	if !n.BFD.On() {
		return k, false
	}
	k = BFDKey{VRF: vrf.Number(), Peer: n.Address.WithZone("")}
	if f := c.OnLink(vrf.Name, n.Address); f != nil && n.Multihop == 0 {
		k.Interface = f.Number()
	} else {
		k.Local = n.LocalAddress
	}
	return k, true
}

// BFDKey names the next hop's session; ok is false if it has none.
func (v *Via) BFDKey(c *Config, vrf *VRF) (k BFDKey, ok bool) {
	if !v.BFD.On() {
		return k, false
	}
	if v.VRF != "" {
		vrf = c.VRF(v.VRF)
	}
	f := c.Interface(v.Interface)
	if v.Interface == "" && vrf != nil {
		f = c.OnLink(vrf.Name, v.Address)
	}
	if f == nil || vrf == nil {
		return k, false
	}
	return BFDKey{VRF: vrf.Number(), Interface: f.Number(), Peer: v.Address.WithZone("")}, true
}

// bfdUse is where a session is asked for.
type bfdUse struct {
	path string
	bfd  *BFD
}

func (v *validator) checkBFDs() {
	seen := map[BFDKey]bfdUse{}
	for i := range v.c.VRFs {
		vrf, path := &v.c.VRFs[i], v.vrfPath(i)
		for j := range vrf.Static {
			for k := range vrf.Static[j].Via {
				via, at := &vrf.Static[j].Via[k], fmt.Sprintf("%s.static[%d].via[%d].bfd", path, j, k)
				if !via.BFD.On() {
					continue
				}
				key, ok := via.BFDKey(v.c, vrf)
				if !ok || !via.Address.IsValid() {
					v.fail(at, "the address of a neighbor on a link", "BFD needs a next hop on a link")
					continue
				}
				v.checkBFD(seen, key, bfdUse{at, via.BFD})
			}
		}
		if vrf.BGP == nil {
			continue
		}
		for j := range vrf.BGP.Neighbors {
			n, at := &vrf.BGP.Neighbors[j], fmt.Sprintf("%s.bgp.neighbors[%d].bfd", path, j)
			key, ok := n.BFDKey(v.c, vrf)
			switch {
			case !ok:
			case key.Interface == 0 && !key.Local.IsValid():
				v.fail(at, "add local-address", "BFD with neighbor %v, which is not on a link, needs our address", n.Address)
			default:
				v.checkBFD(seen, key, bfdUse{at, n.BFD})
			}
		}
	}
}

func (v *validator) checkBFD(seen map[BFDKey]bfdUse, k BFDKey, use bfdUse) {
	b, path := use.bfd, use.path
	for _, x := range []struct {
		key string
		d   time.Duration
	}{{"interval", b.Interval}, {"receive", b.Receive}, {"echo", b.Echo}} {
		if x.d != 0 && (x.d < minBFD || x.d > maxBFD) {
			v.fail(path+"."+x.key, fmt.Sprintf("%v to %v", minBFD, maxBFD), "%v is out of range", x.d)
		}
	}
	if k.Interface == 0 && b.Echo != 0 {
		v.fail(path+".echo", "leave it out", "echo packets do not go over several hops (RFC 5883, section 3)")
	}
	if k.Interface != 0 && b.MinTTL != 0 {
		v.fail(path+".min-ttl", "leave it out", "on one hop the TTL is always 255 (RFC 5881, section 5)")
	}
	if b.Auth != nil {
		v.checkBFDAuth(path+".auth", b.Auth)
	}
	if other, taken := seen[k]; taken && !sameBFD(other.bfd, b) {
		v.fail(path, "give both the same settings", "the session with %v is asked for with other settings at %s", k.Peer, other.path)
	}
	seen[k] = use
}

func (v *validator) checkBFDAuth(path string, a *BFDAuth) {
	most := map[string]int{"simple": 16, "md5": 16, "meticulous-md5": 16, "sha1": 20, "meticulous-sha1": 20}
	v.oneOf(path+".type", a.Type, "simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1")
	if n := most[a.Type]; n != 0 && (a.Key == "" || len(a.Key) > n) {
		v.fail(path+".key", fmt.Sprintf("1 to %d characters", n), "the key has %d characters", len(a.Key))
	}
}

// sameBFD compares what two ask for.
func sameBFD(a, b *BFD) bool {
	x, y := *a, *b
	x.Enabled, y.Enabled = nil, nil
	if (x.Auth == nil) != (y.Auth == nil) || x.Auth != nil && *x.Auth != *y.Auth {
		return false
	}
	x.Auth, y.Auth = nil, nil
	return x == y
}

// redacted is a copy without the key.
func (b *BFD) redacted() *BFD {
	if b == nil || b.Auth == nil || b.Auth.Key == "" {
		return b
	}
	out, auth := *b, *b.Auth
	auth.Key = "********"
	out.Auth = &auth
	return &out
}
