package system

import (
	"os"
	"testing"
	"time"

	"godwit/cmd/bench/churn"
	"godwit/controlplane/bgp/bgptest"
)

// TestSoakLeaksNothing is a short soak at a rate that a loaded machine carries;
// GODWIT_TEST_SOAK=60s makes it a longer one. Soak itself fails when frames, memory or
// descriptors leak, a process dies or a packet is misdelivered.
func TestSoakLeaksNothing(t *testing.T) {
	d := 6 * time.Second
	if s := os.Getenv("GODWIT_TEST_SOAK"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	table, _, err := bgptest.Prefixes(5000, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := churn.Soak(t.Context(), churn.Options{
		Bin: binaries(), Trust: trust(), Prefixes: table, Flapping: 100, Changes: 200, D: d, Rate: 5000, Calm: true, Progress: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Load.Sent == 0 || r.Load.Arrived == 0 || r.Load.Changes == 0 || r.Flaps < 3 || r.Remade < 1 || r.Neighbors < 20 {
		t.Errorf("too little happened: %+v", r)
	}
	if len(r.After) < 4 || len(r.Before) != len(r.After) { // supervisor, routing engine, speaker, line card
		t.Errorf("usage of %v", r.After)
	}
}
