package fwdlab

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKernel measures the kernel for a moment: everything that leaves the
// generator at a low rate arrives, is sound, and costs something.
func TestKernel(t *testing.T) {
	l, err := New("gwt-fwdlab")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	prefixes := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	must(t, l.KernelForwards(true))
	must(t, l.LoadKernel(prefixes))
	tr := Traffic{Targets: Targets(prefixes, 256, 1), Rate: 20_000, Stamp: true, CheckOneOf: 1}
	res, err := l.Measure(tr, nil, 100*time.Millisecond, 300*time.Millisecond)
	must(t, err)
	if res.PPS > 30_000 || res.Seen.Checked != res.Seen.Good || res.PerFrame < 100 {
		t.Errorf("%v pps, %v a packet, seen %+v", res.PPS, res.PerFrame, res.Seen)
	}
	if p50, p99 := Quantile(res.Delays, 0.5), Quantile(res.Delays, 0.99); p50 <= 0 || p99 < p50 {
		t.Errorf("delays: median %v, p99 %v", p50, p99)
	}
	tr.Rate, tr.Stamp, tr.CheckOneOf = 2_000_000, false, 16
	res, err = l.Measure(tr, nil, 200*time.Millisecond, time.Second)
	must(t, err)
	if res.Seen.Checked == 0 || res.Seen.Checked > res.Seen.Good/4 {
		t.Errorf("one in 16 was to be checked: %+v", res.Seen)
	}
}

// TestCalmTrafficToTwoNextHops: packets of odd index may come to the other next
// hop, those of even index not; and a calm generator, which is not urgent, keeps its rate or sends less.
func TestCalmTrafficToTwoNextHops(t *testing.T) {
	l, err := New("gwt-fwdlab")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	one, two := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")
	other := net.HardwareAddr{2, 0x67, 0, 0, 0, 5}
	must(t, l.KernelForwards(true))
	must(t, l.LoadKernel([]netip.Prefix{one}))
	must(t, l.IP(Router, "addr", "add", "192.0.2.33/28", "dev", l.Out))
	must(t, l.IP(Router, "neigh", "replace", "192.0.2.35", "lladdr", other.String(), "dev", l.Out, "nud", "permanent"))
	must(t, l.IP(Router, "route", "add", two.String(), "via", "192.0.2.35"))
	a, b := Targets([]netip.Prefix{one}, 64, 1), Targets([]netip.Prefix{two}, 64, 1)
	for _, swapped := range []bool{false, true} {
		tr := Traffic{Rate: 2000, CheckOneOf: 1, Other: other, Calm: true}
		for i := range a {
			if swapped {
				tr.Targets = append(tr.Targets, b[i], a[i])
			} else {
				tr.Targets = append(tr.Targets, a[i], b[i])
			}
		}
		r, err := l.Start(tr)
		must(t, err)
		var s Seen
		for end := time.Now().Add(20 * time.Second); s.Good+s.Bad < 600 && time.Now().Before(end); s, err = r.Seen() {
			must(t, err)
			sleep(burst)
		}
		must(t, r.Halt())
		must(t, r.Stop())
		if s.Good+s.Bad < 600 || s.Checked != s.Good+s.Bad {
			t.Fatalf("swapped %v: %+v", swapped, s)
		}
		if !swapped && (s.Bad != 0 || s.Other != s.Odd || s.Odd < 200) {
			t.Errorf("as wanted: %+v", s)
		}
		if swapped && (s.Bad < 200 || s.Other != 0 || s.Odd != s.Good) {
			t.Errorf("the wrong way round: %+v", s)
		}
	}
}

// TestSharedCore: a generator that shares its core keeps to its rate in the mean, or sends less; and all is well made.
func TestSharedCore(t *testing.T) {
	l, err := New("gwt-fwdlab")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	prefix := netip.MustParsePrefix("198.51.100.0/24")
	must(t, l.KernelForwards(true))
	must(t, l.LoadKernel([]netip.Prefix{prefix}))
	tr := Traffic{Targets: Targets([]netip.Prefix{prefix}, 256, 1), Rate: 10_000, CheckOneOf: 1, Share: true}
	for _, bad := range []Traffic{{Targets: tr.Targets, CheckOneOf: 1, Share: true}, {Targets: tr.Targets, CheckOneOf: 1, Share: true, Calm: true, Rate: 1}} {
		if r, err := l.Start(bad); err == nil {
			t.Error("accepted", bad, r.Stop())
		}
	}
	start := time.Now()
	r, err := l.Start(tr)
	must(t, err)
	var s Seen
	for end := start.Add(20 * time.Second); s.Good < 5000 && time.Now().Before(end); s, err = r.Seen() {
		must(t, err)
		sleep(burst)
	}
	most := uint64(time.Since(start).Seconds()*float64(tr.Rate)*5/4) + 100
	must(t, r.Stop())
	if s.Good < 5000 || s.Bad != 0 || s.Sent > most {
		t.Errorf("%+v, at most %d sent", s, most)
	}
}
