package fwdlab

import (
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
