package forward

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun makes one short run with a small table: both forward, what arrives is sound.
func TestRun(t *testing.T) {
	o := Options{
		Runs: 1, Warm: 100 * time.Millisecond, D: 200 * time.Millisecond,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/25")},
	}
	if os.Getenv("FULL") != "" {
		o.Prefixes = nil
		o.Runs, o.D = 3, time.Second
	}
	var got []Figure
	if err := Run(o, os.Stderr, func(f Figure) { got = append(got, f); t.Logf("%+v", f) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"forward.one", "forward.one.cpu", "forward.full", "forward.full.cpu", "forward.latency", "forward.latency.p99"}
	if len(got) != len(want) {
		t.Fatalf("%d figures, want %d", len(got), len(want))
	}
	for i, f := range got {
		if f.Name != want[i] || f.Value <= 0 || f.BaselineValue <= 0 || f.Ratio <= 0 || f.Runs != o.Runs {
			t.Errorf("figure %+v", f)
		}
	}
}

func TestSeries(t *testing.T) {
	s := series{Figure: Figure{Name: "x", Unit: "pps", Better: "more"}}
	s.add(30, 10)
	s.add(10, 10)
	s.add(20, 5)
	f := s.figure()
	if f.Value != 20 || f.BaselineValue != 10 || f.Ratio != 3 || f.Spread != 1 || f.Runs != 3 {
		t.Errorf("figure %+v", f)
	}
	if m := median([]float64{4, 1}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}
