package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"godwit/controlplane/community"
)

// maxTracks bounds what one static route tracks.
const maxTracks = 16

func (v *validator) checkPrefixLists() {
	seen := map[string]bool{}
	for i, l := range v.c.PrefixLists {
		path := fmt.Sprintf("prefix-lists[%d]", i)
		v.checkName(path+".name", l.Name, 63)
		if seen[l.Name] {
			v.fail(path+".name", "keep one of them", "prefix list %q stands twice", l.Name)
		}
		seen[l.Name] = true
		for j, r := range l.Rules {
			v.checkPrefixRule(fmt.Sprintf("%s.rules[%d]", path, j), r)
		}
	}
}

func (v *validator) checkPrefixRule(path string, r PrefixRule) {
	p := r.Prefix
	switch {
	case !p.IsValid():
		v.fail(path+".prefix", "for example 192.0.2.0/24", "a prefix is missing")
		return
	case p.Addr().Is4In6():
		v.fail(path+".prefix", "write it as IPv4", "%v is IPv4-mapped", p)
		return
	case p != p.Masked():
		v.fail(path+".prefix", fmt.Sprintf("did you mean %v?", p.Masked()), "%v has host bits set", p)
	}
	least, most := r.lengths()
	if least < p.Bits() || least > most || most > p.Addr().BitLen() {
		v.fail(path, fmt.Sprintf("%d <= ge <= le <= %d", p.Bits(), p.Addr().BitLen()), "lengths %d to %d do not fit %v", least, most, p)
	}
}

// lengths are the prefix lengths that a rule fits.
func (r PrefixRule) lengths() (least, most int) {
	switch {
	case r.GE == 0 && r.LE == 0:
		return r.Prefix.Bits(), r.Prefix.Bits()
	case r.LE == 0:
		return int(r.GE), r.Prefix.Addr().BitLen()
	case r.GE == 0:
		return r.Prefix.Bits(), int(r.LE)
	}
	return int(r.GE), int(r.LE)
}

// Lengths are the prefix lengths that a rule of a valid configuration fits.
func (r PrefixRule) Lengths() (least, most uint8) {
	a, b := r.lengths()
	return uint8(a), uint8(b)
}

// PrefixList finds a prefix list by name, nil if there is none.
func (c *Config) PrefixList(name string) *PrefixList {
	for i := range c.PrefixLists {
		if c.PrefixLists[i].Name == name {
			return &c.PrefixLists[i]
		}
	}
	return nil
}

func (v *validator) checkListName(path, name string) {
	if name == "" || v.c.PrefixList(name) != nil {
		return
	}
	var names []string
	for _, l := range v.c.PrefixLists {
		names = append(names, l.Name)
	}
	v.fail(path+".prefix-list", suggest(name, names), "there is no prefix list %q", name)
}

func (v *validator) checkLeaks(path string, vrf *VRF) {
	for i, l := range vrf.Import {
		v.checkLeak(fmt.Sprintf("%s.import[%d]", path, i), l)
	}
	for i, l := range vrf.Export {
		at := fmt.Sprintf("%s.export[%d]", path, i)
		v.checkLeak(at, l)
		if l.Distance != 0 {
			v.fail(at+".distance", "set it where the routes are imported", "an export has no distance")
		}
	}
}

func (v *validator) checkLeak(path string, l Leak) {
	if !validTarget(l.Target) {
		v.fail(path+".target", "for example 65000:1 or 192.0.2.1:1", "%q is not a route target", l.Target)
	}
	v.checkListName(path, l.PrefixList)
	for i, p := range l.Protocols {
		v.oneOf(fmt.Sprintf("%s.protocols[%d]", path, i), p, "local", "connected", "static", "bgp")
	}
	for i, name := range l.Communities {
		if err := community.Check(name); err != nil {
			v.fail(fmt.Sprintf("%s.communities[%d]", path, i), "65000:100, 65000:1:2, rt:65000:100, soo:192.0.2.1:100 or no-export; * is any number", "%q is not a community", name)
			return
		}
	}
	v.communities = append(v.communities, l.Communities...)
	if _, err := community.NewFilter(v.communities); err != nil && len(l.Communities) > 0 {
		v.fail(path+".communities", fmt.Sprintf("at most %d different ones, of %d bytes in all", community.Max, community.MaxText), "the filters name too many communities")
	}
}

// validTarget checks the form of a route target (RFC 4360, section 4): an AS
// number or an IPv4 address, a colon, and a number.
func validTarget(s string) bool {
	left, right, ok := strings.Cut(s, ":")
	if !ok {
		return false
	}
	bits := 16
	if as, err := strconv.ParseUint(left, 10, 32); err == nil {
		if as < 1<<16 {
			bits = 32
		}
	} else if a, err := netip.ParseAddr(left); err != nil || !a.Is4() {
		return false
	}
	_, err := strconv.ParseUint(right, 10, bits)
	return err == nil
}

func (v *validator) checkLimit(path string, l *RouteLimit) {
	if l.Routes == 0 {
		if l.Warn != 0 || l.Action != "" {
			v.fail(path, "routes: N", "a limit without a number of routes")
		}
		return
	}
	v.inRange(path+".routes", int(l.Routes), 1, 100_000_000)
	v.inRange(path+".warn", int(l.Warn), 0, 100)
	v.oneOf(path+".action", l.Action, "warn", "refuse")
}

func (v *validator) checkTrack(path string, vrf *VRF, x Track) {
	if vrf = v.inVRF(path, vrf, x.VRF); vrf == nil {
		return
	}
	if !x.Address.IsValid() && x.Interface == "" {
		v.fail(path, "an address or an interface", "nothing is tracked")
		return
	}
	if x.Address.IsValid() && x.Interface != "" {
		v.fail(path, "two entries, one for each", "an address and an interface are tracked in one entry")
		return
	}
	if x.Interface != "" {
		if f := v.c.Interface(x.Interface); f == nil || f.VRF != vrf.Name {
			v.fail(path+".interface", suggest(x.Interface, v.interfaceNames()), "there is no interface %q in VRF %q", x.Interface, vrf.Name)
		}
		return
	}
	switch a := x.Address; {
	case a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.Is4In6() || a.IsLinkLocalUnicast():
		v.fail(path+".address", "an address that routes lead to", "%v cannot be tracked", a)
	case v.isOwn(vrf.Name, a):
		v.fail(path+".address", "an address beyond the router", "%v is an address of this router in VRF %q", a, vrf.Name)
	}
}
