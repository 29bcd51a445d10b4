package config

import (
	"fmt"
	"net/netip"
	"time"
)

// TUNName is the VRF's TUN device in its namespace.
const TUNName = "vrf0"

func (v *validator) checkStatics(path string, vrf *VRF) {
	type key struct {
		prefix   netip.Prefix
		distance uint8
	}
	seen := map[key]bool{}
	for i := range vrf.Static {
		s, at := &vrf.Static[i], fmt.Sprintf("%s.static[%d]", path, i)
		v.checkPrefix(at+".prefix", s.Prefix)
		k := key{s.Prefix, s.Distance}
		if seen[k] {
			v.fail(at+".prefix", "several next hops go into one via list; a backup has another distance", "static route %v with distance %d stands twice in VRF %q", s.Prefix, s.Distance, vrf.Name)
		}
		seen[k] = true
		ways := 0
		for _, on := range []bool{len(s.Via) > 0, s.Blackhole, s.Reject} {
			if on {
				ways++
			}
		}
		if ways != 1 {
			v.fail(at, "one of: via, blackhole: true, reject: true", "static route %v has %d ways to go", s.Prefix, ways)
		}
		if len(s.Via) > 64 {
			v.fail(at+".via", "at most 64", "%d next hops", len(s.Via))
		}
		backups := 0
		for j, via := range s.Via {
			v.checkVia(fmt.Sprintf("%s.via[%d]", at, j), vrf, s, via)
			if via.Backup {
				backups++
			}
		}
		if backups > 0 && backups == len(s.Via) {
			v.fail(at+".via", "leave backup: out of one of them", "static route %v has backups only", s.Prefix)
		}
		if len(s.Track) > maxTracks {
			v.fail(at+".track", fmt.Sprintf("at most %d", maxTracks), "%d tracked", len(s.Track))
		}
		for j, x := range s.Track {
			v.checkTrack(fmt.Sprintf("%s.track[%d]", at, j), vrf, x)
		}
	}
}

func (v *validator) checkPrefix(path string, p netip.Prefix) {
	switch {
	case !p.IsValid():
		v.fail(path, "for example 192.0.2.0/24", "a prefix is missing")
	case p.Addr().Is4In6():
		v.fail(path, "write it as IPv4", "%v is IPv4-mapped", p)
	case p != p.Masked():
		v.fail(path, fmt.Sprintf("did you mean %v?", p.Masked()), "%v has host bits set", p)
	case p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast():
		v.fail(path, "unicast that leaves the link", "%v cannot be routed", p)
	}
}

// inVRF finds the VRF that a next hop of another one is in, nil if there is none.
func (v *validator) inVRF(path string, vrf *VRF, name string) *VRF {
	if name == "" {
		return vrf
	}
	in := v.c.VRF(name)
	if in == nil {
		v.fail(path+".vrf", suggest(name, v.vrfNames()), "there is no VRF %q", name)
	}
	return in
}

func (v *validator) checkVia(path string, vrf *VRF, s *Static, via Via) {
	if vrf = v.inVRF(path, vrf, via.VRF); vrf == nil {
		return
	}
	if !via.Address.IsValid() && via.Interface == "" {
		v.fail(path, "an address, an interface, or both", "the next hop says nothing")
		return
	}
	if via.Interface != "" {
		f := v.c.Interface(via.Interface)
		if f == nil {
			v.fail(path+".interface", suggest(via.Interface, v.interfaceNames()), "there is no interface %q", via.Interface)
		} else if f.VRF != vrf.Name {
			v.fail(path+".interface", "an interface of the next hop's VRF; vrf: names another one", "interface %q is in VRF %q, not %q", via.Interface, f.VRF, vrf.Name)
		}
	}
	if !via.Address.IsValid() {
		return
	}
	switch a := via.Address; {
	case a.Is4() != s.Prefix.Addr().Is4():
		v.fail(path+".address", "", "next hop %v and prefix %v are of different families", a, s.Prefix)
	case a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "":
		v.fail(path+".address", "a plain unicast address; the zone goes into interface", "%v cannot be a next hop", a)
	case a.IsLinkLocalUnicast() && via.Interface == "":
		v.fail(path, "add the interface", "link-local next hop %v needs its interface", a)
	case v.isOwn(vrf.Name, a):
		v.fail(path+".address", "the neighbour's address", "%v is an address of this router in VRF %q", a, vrf.Name)
	}
}

func (v *validator) interfaceNames() []string {
	var names []string
	for _, f := range v.c.Interfaces {
		names = append(names, f.Name)
	}
	return names
}

func (v *validator) isOwn(vrf string, a netip.Addr) bool {
	for _, f := range v.c.Interfaces {
		for _, own := range f.Addresses {
			if f.VRF == vrf && own.Addr() == a {
				return true
			}
		}
	}
	return false
}

func (v *validator) checkBGP(path string, vrf *VRF) {
	b := vrf.BGP
	if b.AS == 0 {
		v.fail(path+".as", "1 to 4294967295", "the AS number is missing")
	}
	if !b.RouterID.Is4() || b.RouterID.IsUnspecified() {
		v.fail(path+".router-id", "an IPv4 address, for example 192.0.2.1", "the router ID is missing or not IPv4")
	}
	v.inRange(path+".multipath", b.Multipath, 1, 64)
	if d := *b.GracefulRestart; d < 0 || d > 4095*time.Second || d%time.Second != 0 {
		v.fail(path+".graceful-restart", "0s to 4095s in whole seconds", "%v is out of range", d)
	}
	if b.Advertise != "" {
		v.oneOf(path+".advertise", b.Advertise, "best", "fib")
	}
	if b.Advertise == "fib" && b.Multipath > 1 {
		v.fail(path+".advertise", "multipath: 1", "advertise: fib works with one path for a prefix only")
	}
	for i, r := range b.Redistribute {
		at := fmt.Sprintf("%s.redistribute[%d]", path, i)
		v.oneOf(at+".from", r.From, "connected", "static", "leaked")
		v.checkListName(at, r.PrefixList)
	}
	seen := map[netip.Addr]bool{}
	for i := range b.Neighbors {
		n, at := &b.Neighbors[i], fmt.Sprintf("%s.neighbors[%d]", path, i)
		if seen[n.Address] {
			v.fail(at+".address", "keep one of them", "neighbor %v stands twice in VRF %q", n.Address, vrf.Name)
		}
		seen[n.Address] = true
		v.checkNeighbor(at, vrf, n)
		v.checkPeerNode(at, vrf, n.Address)
	}
}

func (v *validator) checkNeighbor(path string, vrf *VRF, n *BGPNeighbor) {
	a := n.Address
	switch {
	case !a.IsValid():
		v.fail(path+".address", "for example 192.0.2.2", "the address is missing")
	case a.IsMulticast() || a.IsUnspecified() || a.Is4In6():
		v.fail(path+".address", "a unicast address", "%v cannot be a neighbor", a)
	case v.isOwn(vrf.Name, a):
		v.fail(path+".address", "the peer's address", "%v is an address of this router in VRF %q", a, vrf.Name)
	case a.Is6() && a.IsLinkLocalUnicast():
		if f := v.c.Interface(a.Zone()); f == nil || f.VRF != vrf.Name {
			v.fail(path+".address", "for example fe80::2%uplink", "link-local neighbor %v needs the name of an interface of VRF %q as its zone", a, vrf.Name)
		}
	}
	if n.AS == 0 {
		v.fail(path+".as", "1 to 4294967295", "the neighbor's AS number is missing")
	}
	if n.HoldTime < 3*time.Second || n.HoldTime > 65535*time.Second { // RFC 4271, section 4.2
		v.fail(path+".hold-time", "3s to 65535s", "%v is out of range", n.HoldTime)
	}
	if len(n.Password) > 80 { // TCP_MD5SIG_MAXKEYLEN
		v.fail(path+".password", "at most 80 characters", "the password is too long")
	}
	for i, f := range n.Families {
		v.oneOf(fmt.Sprintf("%s.families[%d]", path, i), f, "ipv4", "ipv6")
	}
	v.oneOf(path+".import", n.Import, "accept", "reject")
	v.oneOf(path+".export", n.Export, "accept", "local", "reject")
	if n.LocalAddress.IsValid() && !v.isOwn(vrf.Name, n.LocalAddress) {
		v.fail(path+".local-address", "an address of an interface in the VRF", "%v is not an address of this router in VRF %q", n.LocalAddress, vrf.Name)
	}
}
