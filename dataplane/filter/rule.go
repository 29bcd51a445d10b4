package filter

import (
	"fmt"
	"net/netip"
)

// MaxRules is the most rules of a list.
const MaxRules = 4096

// Range is a range of ports, both ends inside.
type Range struct{ First, Last uint16 }

// Fragments says which fragments a rule fits.
type Fragments uint8

// The choices.
const (
	AnyFragment   Fragments = iota
	OnlyFragments           // those behind the first: they have no ports
	NoFragments             // whole packets and first fragments
)

// Rule fits packets. What is zero, or nil, fits all. A rule that asks for ports, flags or an ICMP type does not fit
// a packet that does not have them, or not here: another protocol, or a fragment behind the first.
type Rule struct {
	Deny, Log            bool
	Family               uint8 // 4, 6
	Source, Destination  netip.Prefix
	Protocol             *uint8
	SrcPorts, DstPorts   []Range
	FlagsSet, FlagsClear uint8 // of TCP
	DSCP, ICMPType       *uint8
	Fragments            Fragments
	VLAN                 uint16
}

func (r *Rule) family() uint8 {
	switch {
	case r.Family != 0:
		return r.Family
	case r.Source.IsValid():
		return family(r.Source)
	case r.Destination.IsValid():
		return family(r.Destination)
	}
	return 0
}

func family(p netip.Prefix) uint8 {
	if p.Addr().Is4() {
		return 4
	}
	return 6
}

// check refuses rules that fit nothing, or that make no sense.
func (r *Rule) check() error {
	f := r.family()
	for _, p := range []netip.Prefix{r.Source, r.Destination} {
		if p.IsValid() && (family(p) != f || p.Addr().Is4In6() || p != p.Masked()) {
			return fmt.Errorf("prefix %v in a rule of family %d", p, f)
		}
	}
	for _, list := range [][]Range{r.SrcPorts, r.DstPorts} {
		for _, x := range list {
			if x.First > x.Last {
				return fmt.Errorf("ports %d to %d", x.First, x.Last)
			}
		}
	}
	switch {
	case f != 0 && f != 4 && f != 6:
		return fmt.Errorf("family %d", f)
	case r.DSCP != nil && *r.DSCP > 63:
		return fmt.Errorf("DSCP %d", *r.DSCP)
	case r.VLAN > 4094:
		return fmt.Errorf("VLAN %d", r.VLAN)
	case r.FlagsSet&r.FlagsClear != 0:
		return fmt.Errorf("TCP flags %#x set and clear", r.FlagsSet&r.FlagsClear)
	}
	return nil
}

// needsPorts tells that a packet without ports does not fit.
func (r *Rule) needsPorts() bool { return len(r.SrcPorts)+len(r.DstPorts) > 0 }
