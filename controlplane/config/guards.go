package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Policer bounds the rate of IP packets. With a peak rate, what is between both rates goes on, marked if asked
// (RFC 2698, color-blind).
type Policer struct {
	Rate       string `yaml:"rate" short:"true"`     // bit/s: 64k, 10M, 1.5G
	Burst      string `yaml:"burst,omitempty"`       // bytes: 64k, 1M; default: what the rate has in 100 ms
	PeakRate   string `yaml:"peak-rate,omitempty"`   // bit/s
	PeakBurst  string `yaml:"peak-burst,omitempty"`  // bytes; default: what the peak rate has in 100 ms
	ExceedDSCP *uint8 `yaml:"exceed-dscp,omitempty"` // of packets above the rate and below the peak; default: as they are
}

// PolicerValues are a policer's numbers.
type PolicerValues struct {
	Rate, Burst, Peak, PeakBurst uint64
	Exceed                       int // DSCP; -1: as it is
}

// Bounds of policers: a bucket holds a packet of the largest MTU.
const (
	minPolicerRate  = 8_000
	maxPolicerRate  = 1_000_000_000_000
	minPolicerBurst = 9_000
	maxPolicerBurst = 1 << 32
)

var units = map[string]float64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

// parseAmount reads a number with a unit: 64k, 1.5M.
func parseAmount(s string) (uint64, error) {
	number := strings.TrimRight(s, "kMGT")
	f, err := strconv.ParseFloat(number, 64)
	unit, ok := units[s[len(number):]]
	if err != nil || !ok || f <= 0 || math.IsNaN(f) || f*unit > 1e15 {
		return 0, fmt.Errorf("%q is no amount", s)
	}
	return uint64(f * unit), nil
}

// Values reads a policer.
func (p *Policer) Values() (v PolicerValues, key string, err error) {
	v.Exceed = -1
	if p.ExceedDSCP != nil {
		v.Exceed = int(*p.ExceedDSCP)
	}
	for _, x := range []struct {
		key, text string
		to        *uint64
		of        *uint64 // default: what this rate has in 100 ms
	}{{"rate", p.Rate, &v.Rate, nil}, {"burst", p.Burst, &v.Burst, &v.Rate}, {"peak-rate", p.PeakRate, &v.Peak, nil}, {"peak-burst", p.PeakBurst, &v.PeakBurst, &v.Peak}} {
		switch {
		case x.text != "":
			if *x.to, err = parseAmount(x.text); err != nil {
				return v, x.key, err
			}
		case x.of != nil && *x.of != 0:
			*x.to = min(max(*x.of/80, minPolicerBurst), maxPolicerBurst)
		}
	}
	return v, "", nil
}

func (v *validator) checkGuards() {
	for i := range v.c.Interfaces {
		f, path := &v.c.Interfaces[i], fmt.Sprintf("interfaces[%d]", i)
		for key, name := range map[string]string{"acl-in": f.ACLIn, "acl-out": f.ACLOut} {
			v.checkUse(path+"."+key, name)
			if l := v.c.ACL(name); l != nil {
				v.checkNoVLAN(path+"."+key, l)
			}
		}
		if f.SourceCheck != "" {
			v.oneOf(path+".source-check", f.SourceCheck, "strict", "loose")
		}
		v.checkPolicer(path+".policer-in", f.PolicerIn)
		v.checkPolicer(path+".policer-out", f.PolicerOut)
	}
}

// checkNoVLAN: packets at an interface have its tag, so a rule for another would never fit.
func (v *validator) checkNoVLAN(path string, l *ACL) {
	for j := range l.Rules {
		if l.Rules[j].VLAN != 0 {
			v.fail(path, "vlan is for mirrors", "rule %d of ACL %q asks for a tag", j+1, l.Name)
		}
	}
}

func (v *validator) checkPolicer(path string, p *Policer) {
	if p == nil {
		return
	}
	n, key, err := p.Values()
	outside := func(x, lo, hi uint64) bool { return x < lo || x > hi }
	switch {
	case err != nil:
		v.fail(path+"."+key, "for example 64k, 10M, 1.5G", "%v", err)
	case outside(n.Rate, minPolicerRate, maxPolicerRate):
		v.fail(path+".rate", "8k to 1T bit/s", "%q is out of range", p.Rate)
	case outside(n.Burst, minPolicerBurst, maxPolicerBurst):
		v.fail(path+".burst", "9k (a packet of the largest MTU) to 4G bytes", "%q is out of range", p.Burst)
	case n.Peak != 0 && outside(n.Peak, n.Rate, maxPolicerRate):
		v.fail(path+".peak-rate", "from the rate to 1T bit/s", "%q is out of range", p.PeakRate)
	case n.Peak != 0 && outside(n.PeakBurst, minPolicerBurst, maxPolicerBurst):
		v.fail(path+".peak-burst", "9k to 4G bytes", "%q is out of range", p.PeakBurst)
	case n.Peak == 0 && (n.PeakBurst != 0 || p.ExceedDSCP != nil):
		v.fail(path, "add peak-rate", "what is above the rate is dropped: there is nothing between two rates")
	case n.Exceed > 63:
		v.fail(path+".exceed-dscp", "0 to 63", "%d is out of range", n.Exceed)
	}
}
