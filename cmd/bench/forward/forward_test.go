package forward

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun makes one short run with a small table: both forward, and the lab
// itself fails when something that arrives is damaged or a buffer is lost.
func TestRun(t *testing.T) {
	var got []Series
	err := Run(Options{
		Runs: 1, Warm: 100 * time.Millisecond, D: 200 * time.Millisecond,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/25")},
		Progress: t.Logf,
		Emit:     func(s Series) error { got = append(got, s); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"forward.one", "forward.one.cpu", "forward.tcp", "forward.tcp.cpu", "forward.full", "forward.full.cpu", "forward.latency", "forward.latency.p99",
		"forward.express", "forward.express.cpu", "forward.express", "forward.express.cpu", "forward.express", "forward.express.cpu"}
	if len(got) != len(want) {
		t.Fatalf("%d figures, want %d", len(got), len(want))
	}
	for i, s := range got {
		if s.Name != want[i] || len(s.Ours) != 1 || len(s.Linux) != 1 || s.Ours[0] <= 0 || s.Linux[0] <= 0 {
			t.Errorf("figure %+v", s)
		}
	}
}
