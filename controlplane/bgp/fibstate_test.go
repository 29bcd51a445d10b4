package bgp

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"godwit/cluster/wire"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, prefix(p))
	}
	return out
}

func TestFIBStateChanges(t *testing.T) {
	var f fibState
	for i, c := range []struct {
		body     wire.FIBStateBody
		add, del []netip.Prefix
	}{
		{wire.FIBStateBody{Begin: true}, nil, nil},
		{wire.FIBStateBody{Installed: prefixes("10.0.0.0/8", "10.1.0.0/16")}, prefixes("10.0.0.0/8", "10.1.0.0/16"), nil},
		{wire.FIBStateBody{Installed: prefixes("10.0.0.0/8"), End: true}, nil, nil},
		{wire.FIBStateBody{Gone: prefixes("10.0.0.0/8", "192.0.2.0/24")}, nil, prefixes("10.0.0.0/8")},
		{wire.FIBStateBody{Installed: prefixes("10.2.0.0/16")}, prefixes("10.2.0.0/16"), nil},
		// Another session: what it does not tell goes with its end, not before.
		{wire.FIBStateBody{Begin: true}, nil, nil},
		{wire.FIBStateBody{Installed: prefixes("10.2.0.0/16", "10.3.0.0/16")}, prefixes("10.3.0.0/16"), nil},
		{wire.FIBStateBody{Gone: prefixes("10.3.0.0/16")}, nil, prefixes("10.3.0.0/16")},
		{wire.FIBStateBody{End: true}, nil, prefixes("10.1.0.0/16")},
		{wire.FIBStateBody{End: true}, nil, nil},
	} {
		add, del := f.change(c.body)
		if !slices.Equal(add, c.add) || !slices.Equal(del, c.del) {
			t.Errorf("step %d: added %v, deleted %v", i, add, del)
		}
	}
	if len(f.have) != 1 || !f.have[prefix("10.2.0.0/16")] {
		t.Errorf("left: %v", f.have)
	}
}

// TestFIBStateModel checks that additions and deletions sum up to what is told,
// session after session.
func TestFIBStateModel(t *testing.T) {
	all := prefixes("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32", "::/0")
	rapid.Check(t, func(t *rapid.T) {
		var f fibState
		got, told := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			var b wire.FIBStateBody
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				b.Begin = true
				clear(told)
			case 1:
				b.End = true
			case 2, 3:
				b.Installed = rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "installed")
			default:
				b.Gone = rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, "gone")
			}
			for _, p := range b.Installed {
				told[p] = true
			}
			for _, p := range b.Gone {
				delete(told, p)
			}
			add, del := f.change(b)
			for _, p := range add {
				if got[p] {
					t.Fatalf("%v added twice", p)
				}
				got[p] = true
			}
			for _, p := range del {
				if !got[p] {
					t.Fatalf("%v deleted, but not there", p)
				}
				delete(got, p)
			}
			for p := range told {
				if !got[p] {
					t.Fatalf("%v was told, but is missing", p)
				}
			}
		}
		if _, del := f.change(wire.FIBStateBody{End: true}); len(del)+len(f.have) != len(got) || f.confirm != nil {
			t.Fatalf("the end deletes %v, leaves %v of %v", del, f.have, got)
		}
	})
}

func TestFIBStateRefusesBadPrefixes(t *testing.T) {
	var s Speaker
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		for _, b := range []wire.FIBStateBody{{Installed: []netip.Prefix{p}}, {Gone: []netip.Prefix{p}}} {
			if err := s.fibState(b); err == nil || len(s.fib.have) > 0 {
				t.Errorf("%v was taken", b)
			}
		}
	}
}
