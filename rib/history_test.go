package rib

import (
	"net/netip"
	"testing"
	"time"

	"godwit/fib"
)

func TestChangeLogIsBoundedAndOrdered(t *testing.T) {
	table := New(Options{History: 4})
	start := time.Unix(1000, 0)
	p := netip.MustParsePrefix("10.0.0.0/8")
	table.Apply(AddVRF{1}, AddVRF{2}, SetLeak{From: 1, To: 2, Rules: []LeakRule{{}}})
	for i := range 5 {
		table.SetTime(start.Add(time.Duration(i) * time.Second))
		if i%2 == 0 {
			table.Apply(SetStatic{1, StaticRoute{Prefix: p, Kind: fib.Blackhole}})
		} else {
			table.Apply(DeleteStatic{1, p, 0})
		}
	}
	list, all := table.Changes(nil, 100)
	if all != 10 || len(list) != 4 {
		t.Fatalf("%d of %d changes", len(list), all)
	}
	for i, c := range list {
		if i > 0 && c.Time.After(list[i-1].Time) {
			t.Errorf("change %d is newer than the one before", i)
		}
		if (c.New.Protocol == Static) != (c.Time.Unix()%2 == 0) || c.New.Protocol == c.Old.Protocol {
			t.Errorf("change %+v", c)
		}
		if in := max(c.New.Origin, c.Old.Origin); in != 1 {
			t.Errorf("origin of %+v", c)
		}
	}
	list, _ = table.Changes(func(c *RouteChange) bool { return c.VRF == 2 }, 1)
	if len(list) != 1 || list[0].VRF != 2 || list[0].Time != start.Add(4*time.Second) {
		t.Errorf("newest of VRF 2: %+v", list)
	}
	if list, all := New(Options{}).Changes(nil, 10); list != nil || all != 0 {
		t.Error("changes without a log")
	}
}

// TestPrefixRules tells which prefixes a rule fits.
func TestPrefixRules(t *testing.T) {
	pfx := netip.MustParsePrefix
	m := Match{Prefixes: []PrefixRule{
		{Prefix: pfx("10.1.0.0/16"), Deny: true, Min: 16, Max: 32},
		{Prefix: pfx("10.0.0.0/8"), Min: 8, Max: 24},
		{Prefix: pfx("2001:db8::/32")},
	}}
	for p, want := range map[string]bool{
		"10.0.0.0/8": true, "10.2.3.0/24": true, "10.2.3.0/25": false, "10.1.0.0/16": false, "10.1.2.0/24": false,
		"0.0.0.0/0": false, "11.0.0.0/8": false, "2001:db8::/32": true, "2001:db8::/48": false, "::/0": false,
	} {
		if m.Accepts(pfx(p), BGP, 0, nil) != want {
			t.Errorf("%s: %v", p, !want)
		}
	}
}

func TestMatchCommunities(t *testing.T) {
	m := Match{Communities: []string{"65000:1", "no-export"}}
	for _, c := range []struct {
		paths []string
		want  bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"65000:1"}, true}, {[]string{"65000:10"}, false},
		{[]string{"65000:2 no-export"}, true}, {[]string{"65000:1", "no-export"}, true}, {[]string{"65000:1", ""}, false},
	} {
		var paths []Path
		for _, names := range c.paths {
			paths = append(paths, Path{Communities: names})
		}
		if m.Accepts(netip.MustParsePrefix("10.0.0.0/8"), BGP, 0, paths) != c.want {
			t.Errorf("%q: %v", c.paths, !c.want)
		}
	}
}
