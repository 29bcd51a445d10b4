package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ACL is an ordered list of rules for packets; the first that fits decides, and
// if none does the answer is no.
type ACL struct {
	Name        string    `yaml:"name"`
	Description string    `yaml:"description,omitempty"`
	Rules       []ACLRule `yaml:"rules"`
}

// ACLRule fits packets; what is left out fits all.
type ACLRule struct {
	Action      string       `yaml:"action"`           // permit, deny
	Family      string       `yaml:"family,omitempty"` // ipv4, ipv6
	Source      netip.Prefix `yaml:"source,omitempty"`
	Destination netip.Prefix `yaml:"destination,omitempty"`
	Protocol    string       `yaml:"protocol,omitempty"`     // tcp, udp, ..., a number
	SourcePorts []string     `yaml:"source-ports,omitempty"` // 53, 1024-65535
	Ports       []string     `yaml:"ports,omitempty"`        // of the destination
	Flags       []string     `yaml:"flags,omitempty"`        // of TCP: syn, !ack
	DSCP        *uint8       `yaml:"dscp,omitempty"`
	ICMPType    *uint8       `yaml:"icmp-type,omitempty"`
	Fragments   string       `yaml:"fragments,omitempty"` // only (behind the first), none
	VLAN        uint16       `yaml:"vlan,omitempty"`      // mirrors only
	Log         bool         `yaml:"log,omitempty"`
}

// String is the rule as people read it.
func (r *ACLRule) String() string {
	parts := []string{r.Action}
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, strings.TrimSpace(key+" "+value))
		}
	}
	add("", r.Family)
	add("", r.Protocol)
	if r.Source.IsValid() {
		add("from", r.Source.String())
	}
	add("port", strings.Join(r.SourcePorts, ","))
	if r.Destination.IsValid() {
		add("to", r.Destination.String())
	}
	add("to port", strings.Join(r.Ports, ","))
	add("flags", strings.Join(r.Flags, ","))
	if r.DSCP != nil {
		add("dscp", fmt.Sprint(*r.DSCP))
	}
	if r.ICMPType != nil {
		add("type", fmt.Sprint(*r.ICMPType))
	}
	add("fragments", r.Fragments)
	if r.VLAN != 0 {
		add("vlan", fmt.Sprint(r.VLAN))
	}
	if r.Log {
		add("", "log")
	}
	return strings.Join(parts, " ")
}

// PortRange is a range of ports, both ends inside.
type PortRange struct{ First, Last uint16 }

// ParsePorts reads "80" or "1024-65535".
func ParsePorts(s string) (PortRange, error) {
	a, b, two := strings.Cut(s, "-")
	first, err := strconv.ParseUint(a, 10, 16)
	last := first
	if err == nil && two {
		last, err = strconv.ParseUint(b, 10, 16)
	}
	if err != nil || last < first {
		return PortRange{}, fmt.Errorf("%q is no port, and no range of ports", s)
	}
	return PortRange{uint16(first), uint16(last)}, nil
}

var protocolNumbers = map[string]uint8{"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ospf": 89, "pim": 103, "vrrp": 112, "sctp": 132}

// Protocols are the names of protocols that a rule may have.
func Protocols() []string {
	var names []string
	for n := range protocolNumbers {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// ParseProtocol reads a name or a number.
func ParseProtocol(s string) (uint8, error) {
	if n, ok := protocolNumbers[s]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is no protocol", s)
	}
	return uint8(n), nil
}

var tcpFlags = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"} // from the lowest bit

// ParseFlags reads names of TCP flags: those that are set, and with a ! in front those that are not.
func ParseFlags(list []string) (set, clear uint8, err error) {
	for _, s := range list {
		name, no := strings.CutPrefix(s, "!")
		i := slices.Index(tcpFlags, name)
		if i < 0 {
			return 0, 0, fmt.Errorf("%q is no TCP flag", s)
		}
		if no {
			clear |= 1 << i
		} else {
			set |= 1 << i
		}
	}
	if set&clear != 0 {
		return 0, 0, fmt.Errorf("a flag that is set and clear")
	}
	return set, clear, nil
}

// maxACLRules is the most rules of an ACL.
const maxACLRules = 4096

// ACL finds one by name, nil if there is none.
func (c *Config) ACL(name string) *ACL {
	for i := range c.ACLs {
		if c.ACLs[i].Name == name {
			return &c.ACLs[i]
		}
	}
	return nil
}

func (v *validator) checkACLs() {
	seen := map[string]bool{}
	for i := range v.c.ACLs {
		l, path := &v.c.ACLs[i], fmt.Sprintf("acls[%d]", i)
		v.checkName(path+".name", l.Name, 32)
		if seen[l.Name] {
			v.fail(path+".name", "keep one of them", "ACL %q stands twice", l.Name)
		}
		seen[l.Name] = true
		if len(l.Rules) == 0 || len(l.Rules) > maxACLRules {
			v.fail(path+".rules", fmt.Sprintf("1 to %d; without a rule everything would be denied", maxACLRules), "ACL %q has %d rules", l.Name, len(l.Rules))
			continue
		}
		for j := range l.Rules {
			v.checkACLRule(fmt.Sprintf("%s.rules[%d]", path, j), &l.Rules[j])
		}
	}
}

func (v *validator) checkACLRule(path string, r *ACLRule) {
	v.oneOf(path+".action", r.Action, "permit", "deny")
	if r.Family != "" {
		v.oneOf(path+".family", r.Family, "ipv4", "ipv6")
	}
	family := r.Family
	for _, x := range []struct {
		key string
		p   netip.Prefix
	}{{"source", r.Source}, {"destination", r.Destination}} {
		if !x.p.IsValid() {
			continue
		}
		is := map[bool]string{true: "ipv4", false: "ipv6"}[x.p.Addr().Is4()]
		switch {
		case x.p != x.p.Masked() || x.p.Addr().Is4In6():
			v.fail(path+"."+x.key, fmt.Sprintf("did you mean %v?", x.p.Masked()), "%v is not a prefix: it has bits behind its length", x.p)
		case family != "" && family != is:
			v.fail(path+"."+x.key, "make two rules", "%v is %s, the rule is for %s", x.p, is, family)
		}
		family = is
	}
	proto := -1
	if r.Protocol != "" {
		n, err := ParseProtocol(r.Protocol)
		if err != nil {
			v.fail(path+".protocol", suggest(r.Protocol, Protocols())+", or a number", "%v", err)
			return
		}
		proto = int(n)
	}
	v.checkACLTransport(path, r, proto)
	if r.DSCP != nil {
		v.inRange(path+".dscp", int(*r.DSCP), 0, 63)
	}
	if r.Fragments != "" {
		v.oneOf(path+".fragments", r.Fragments, "only", "none")
	}
	v.inRange(path+".vlan", int(r.VLAN), 0, 4094)
}

// checkACLTransport checks what needs a protocol.
func (v *validator) checkACLTransport(path string, r *ACLRule, proto int) {
	for _, x := range []struct {
		key  string
		list []string
	}{{"source-ports", r.SourcePorts}, {"ports", r.Ports}} {
		for i, s := range x.list {
			if _, err := ParsePorts(s); err != nil {
				v.fail(fmt.Sprintf("%s.%s[%d]", path, x.key, i), "for example 443 or 1024-65535", "%v", err)
			}
		}
		if len(x.list) > 0 && proto != 6 && proto != 17 && proto != 132 {
			v.fail(path+"."+x.key, "protocol: tcp, udp or sctp", "ports without a protocol that has them")
		}
	}
	if _, _, err := ParseFlags(r.Flags); err != nil {
		v.fail(path+".flags", "of "+strings.Join(tcpFlags, ", ")+", with a ! in front: not set", "%v", err)
	}
	if len(r.Flags) > 0 && proto != 6 {
		v.fail(path+".flags", "protocol: tcp", "TCP flags of another protocol")
	}
	if r.ICMPType != nil && proto != 1 && proto != 58 {
		v.fail(path+".icmp-type", "protocol: icmp or icmpv6", "an ICMP type of another protocol")
	}
	if r.Fragments == "only" && (len(r.SourcePorts)+len(r.Ports)+len(r.Flags) > 0 || r.ICMPType != nil) {
		v.fail(path+".fragments", "leave ports, flags and types out", "fragments behind the first have no ports")
	}
}

// checkUse checks a reference to an ACL.
func (v *validator) checkUse(path, name string) {
	if name == "" || v.c.ACL(name) != nil {
		return
	}
	var names []string
	for _, l := range v.c.ACLs {
		names = append(names, l.Name)
	}
	v.fail(path, suggest(name, names), "there is no ACL %q", name)
}
