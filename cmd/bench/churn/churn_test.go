package churn

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/dataplane/xdp/fwdlab"
)

func table() (list []netip.Prefix) {
	for i := range 4000 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24))
	}
	return append(list, prefixes("20.0.0.0/8", "20.0.7.128/25", "30.0.0.0/8", "30.1.0.0/16", "127.0.1.0/24", "0.0.1.0/24", "224.0.1.0/24", "192.0.2.0/24")...)
}

// TestPlanKeepsSteadyAndFlappingApart: by the longest prefix, found by looking at all.
func TestPlanKeepsSteadyAndFlappingApart(t *testing.T) {
	list := table()
	p, err := newPlan(list, 500, 1)
	if err != nil {
		t.Fatal(err)
	}
	flaps := map[netip.Prefix]bool{}
	for _, x := range p.flapping {
		flaps[x] = true
	}
	if len(flaps) != 500 || len(p.targets) != targets {
		t.Fatalf("%d flapping prefixes, %d targets", len(flaps), len(p.targets))
	}
	for i, a := range p.targets[:512] {
		var longest netip.Prefix
		for _, x := range list {
			if x.Contains(a) && (!longest.IsValid() || x.Bits() > longest.Bits()) {
				longest = x
			}
		}
		if flaps[longest] != (i%2 == 1) {
			t.Errorf("target %d, %v, is in %v", i, a, longest)
		}
	}
}

func TestPlanLeavesOutWhatPacketsCannotReach(t *testing.T) {
	able := leaves24(table())
	for _, x := range prefixes("20.0.7.0/24", "127.0.1.0/24", "0.0.1.0/24", "224.0.1.0/24", "192.0.2.0/24") {
		if slices.Contains(able, x) {
			t.Errorf("%v may flap", x)
		}
	}
	if len(able) != 3999 {
		t.Errorf("%d prefixes may flap", len(able))
	}
	for _, n := range []int{-1, 0, 2000} {
		if _, err := newPlan(table(), n, 1); err == nil || !strings.Contains(err.Error(), "flapping") {
			t.Errorf("%d of 3,999: %v", n, err)
		}
	}
}

func TestCountFindsWherePacketsWereLost(t *testing.T) {
	key := [2]string{"port eth0", "rx-ring-full"}
	before := state{received: 100, forwarded: 50, drops: map[[2]string]wire.Drop{key: {Node: key[0], Reason: key[1], Count: 4}}}
	after := state{received: 100 + 1000, forwarded: 50 + 997, drops: map[[2]string]wire.Drop{
		key: {Node: key[0], Reason: key[1], Count: 4 + 5}, {"a", "b"}: {Node: "a", Reason: "b"}}}
	var l Load
	l.count(fwdlab.Seen{Sent: 1007, Good: 994, Bad: 1, Odd: 492, Other: 200}, before, after)
	if l.Steady != 504-502 || l.Flapping != 503-492 || l.Before != 7 || l.Inside != 3 || l.Behind != 2 || l.Misdelivered != 1 || l.Second != 200 {
		t.Errorf("%+v", l)
	}
	if len(l.Drops) != 1 || l.Drops[0].Count != 5 {
		t.Errorf("drops %+v", l.Drops)
	}
	if s := l.String(); !strings.Contains(s, "2 lost to steady and 11 to flapping") || !strings.Contains(s, "port eth0/rx-ring-full 5") {
		t.Error(s)
	}
}

// TestLinuxLosesNothingAtALowRate runs the baseline for a moment.
func TestLinuxLosesNothingAtALowRate(t *testing.T) {
	r, err := Linux(t.Context(), Options{Prefixes: table(), Flapping: 200, Changes: 500, D: time.Second, Rate: 1000, Calm: true, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	x := r.Churn
	if x.Misdelivered != 0 || x.Arrived == 0 || x.Second == 0 || x.Changes < 450 || x.Reached() == 0 {
		t.Errorf("%v", x)
	}
}
