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
	defer func(l []int) { spreadOver = l }(spreadOver)
	spreadOver = spreadOver[:2]
	err := Run(Options{
		Runs: 1, Warm: 100 * time.Millisecond, D: 200 * time.Millisecond,
		Prefixes: table(), Prefixes6: []netip.Prefix{netip.MustParsePrefix("2001:db8:77::/48"), netip.MustParsePrefix("2001:db8:78:1::/64")},
		Progress: t.Logf,
		Emit:     func(s Series) error { got = append(got, s); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"forward.one", "forward.one.cpu", "forward.tcp", "forward.tcp.cpu", "forward.full", "forward.full.cpu", "forward.latency", "forward.latency.p99",
		"forward.express", "forward.express.cpu", "forward.express", "forward.express.cpu", "forward.express", "forward.express.cpu", "forward.tcp.express", "forward.tcp.express.cpu",
		"forward.full6", "forward.express6", "forward.full.vrfs100", "forward.express.vrfs100"}
	if len(got) != len(want) {
		t.Fatalf("%d figures, want %d", len(got), len(want))
	}
	for i, s := range got {
		if s.Name != want[i] || len(s.Ours) != 1 || len(s.Linux) != 1 || s.Ours[0] <= 0 || s.Linux[0] <= 0 {
			t.Errorf("figure %+v", s)
		}
	}
}

// table has a route for each VRF.
func table() (list []netip.Prefix) {
	for i := range 2000 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32))
	}
	return list
}
