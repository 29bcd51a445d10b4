package system

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"godwit/cmd/bench/churn"
	"godwit/controlplane/bgp/bgptest"
)

// TestChurnLosesAndMisdeliversNothing moves 500 of 20,000 prefixes between two next
// hops, 2,000 changes a second, under packets at a rate that a loaded machine
// carries. What the router has taken it sends, to a next hop of that moment;
// only what it names as never accepted (a full ring of a port) may be missing.
func TestChurnLosesAndMisdeliversNothing(t *testing.T) {
	table, _, err := bgptest.Prefixes(20_000, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := churn.Run(t.Context(), churn.Options{
		Bin: binaries(), Trust: trust(), Prefixes: table, Flapping: 500, Changes: 2000, D: 5 * time.Second, Rate: 5000, Calm: true, Progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]churn.Load{"still": r.Still, "churn": r.Churn} {
		if err := sound(l); err != nil {
			t.Errorf("%s: %v: %v", name, err, l)
		}
	}
	if r.Still.Second != 0 || r.Still.Changes != 0 {
		t.Errorf("packets at the second next hop, or changes, without churn: %v", r.Still)
	}
	if r.Churn.Second == 0 || r.Churn.Second >= r.Churn.Arrived/2 || r.Churn.Changes < 9000 || r.Churn.Applied != r.Churn.Changes {
		t.Errorf("nothing flapped, or changes are missing: %v", r.Churn)
	}
}

// sound says what is wrong with what became of packets.
func sound(l churn.Load) error {
	if l.Sent < 5000 || l.Arrived == 0 {
		return fmt.Errorf("only %d packets sent and %d arrived", l.Sent, l.Arrived)
	}
	if l.Misdelivered != 0 {
		return fmt.Errorf("%d packets misdelivered", l.Misdelivered)
	}
	for _, d := range l.Drops {
		if !strings.HasPrefix(d.Node, "port ") || d.Reason != "rx-ring-full" {
			return fmt.Errorf("the router dropped %d packets in %s: %s", d.Count, d.Node, d.Reason)
		}
	}
	if l.Inside != 0 {
		return fmt.Errorf("%d packets vanished in the router", l.Inside)
	}
	return nil
}
