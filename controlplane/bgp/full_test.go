package bgp

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/controlplane/bgp/bgptest"
)

// TestFullTable measures the time from the session's establishment until the
// last route was acknowledged. It runs when GODWIT_BGP_FULL is set, to the number
// of prefixes.
func TestFullTable(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("GODWIT_BGP_FULL"))
	if err != nil {
		t.Skip("GODWIT_BGP_FULL is not set")
	}
	net, router, peer := pair(t)
	v4, _, err := bgptest.Prefixes(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	table, err := net.WriteFile("table.conf", func(w io.Writer) error { return bgptest.Table{Seed: 1}.Write(w, v4) })
	if err != nil {
		t.Fatal(err)
	}
	bird, err := peer.BIRD(birdConfig(65002, "protocol static { ipv4;\ninclude \""+table+"\";\n}", birdPeer("", "10.0.0.1", 65001, "10.0.0.2", 65002, "ipv4 { import all; export where source = RTS_STATIC; };")))
	if err != nil {
		t.Fatal(err)
	}
	if !bgptest.Until(60*time.Second, func() bool {
		out, err := bird.Ask("show", "route", "count")
		return err == nil && strings.Contains(out, fmt.Sprintf("%d of %d routes", len(v4), len(v4)))
	}) {
		t.Fatalf("BIRD did not load the table: %s", bird.Log())
	}
	w := startTwin(t, net, router, "GODWIT_BGP_TEST_PROFILE="+os.Getenv("GODWIT_BGP_PROFILE"))
	w.configure(speaker(neighbor("10.0.0.2", 65002)))
	w.until(20*time.Second, "session", func() bool { return w.state("10.0.0.2") == established })
	start := time.Now()
	cpu0, _ := w.proc.CPU()
	w.until(120*time.Second, "all routes", func() bool { return len(w.routes) == len(v4) })
	took := time.Since(start)
	w.until(60*time.Second, "sync", func() bool { return w.synced > 0 })
	cpu1, _ := w.proc.CPU()
	mem, _ := w.proc.Memory()
	fmt.Printf("full: %d prefixes in %.2f s, %.1f CPU-s, %d MB, %d batches, %d changes\n", len(v4), took.Seconds(), cpu1-cpu0, mem>>20, w.batches, w.changes)
	w.proc.Stop()
}
