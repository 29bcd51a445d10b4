package linecard

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
)

// cpuTime is what a process has used, in ticks of 10 ms.
func cpuTime(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	must(t, err)
	system, err := strconv.Atoi(f[12])
	must(t, err)
	return user + system
}

// TestIdleBusyPollingCardSleeps: with busy polling for 1 ms behind each packet, on one core, a card without
// packets uses less than 2 % of a core, and says how its workers run.
func TestIdleBusyPollingCardSleeps(t *testing.T) {
	r := cabled(t)
	cfg := oneCard(r)
	cfg.Cores = []int{0}
	for i := range cfg.Ports {
		cfg.Ports[i].BusyPoll, cfg.Ports[i].Express = 1000, false
	}
	r.setUp(cfg)
	r.ping("h1", "10.2.0.2")
	if m := r.status(1).Mode; !strings.Contains(m, "busy polling 1ms") {
		t.Errorf("mode %q", m)
	}
	w := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{}).Workers
	if len(w) != 1 || fmt.Sprint(w[0].Cores) != "[0]" || w[0].Packets == 0 {
		t.Errorf("workers %+v", w)
	}
	// Neighbours were just learned; the quietest of some spans counts.
	const span = time.Second
	least := 1000
	eventually(t, "an idle second", func() bool {
		before := cpuTime(t, r.cards[1].cmd.Process.Pid)
		end := time.NewTimer(span)
		<-end.C
		least = min(least, cpuTime(t, r.cards[1].cmd.Process.Pid)-before)
		return least < 2
	})
	cfg.Cores = nil
	r.configure(cfg)
	if w := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{}).Workers; len(w) != 1 || len(w[0].Cores) < 1 {
		t.Errorf("workers %+v", w)
	}
	cfg.Cores = []int{1000}
	if p := get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems; len(p) != 1 || !strings.Contains(p[0], "keep thread on cores [1000]") {
		t.Errorf("problems %q", p)
	}
}
