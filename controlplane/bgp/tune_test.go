package bgp

import (
	"math"
	"runtime/debug"
	"testing"
	"time"
)

func TestTuner(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetGCPercent(100)
	defer debug.SetMemoryLimit(math.MaxInt64)
	u := NewTuner()
	if u == nil || u.limit < minBulk || u.limit > maxBulk {
		t.Fatalf("%+v", u)
	}
	percent := func() int { p := debug.SetGCPercent(-1); debug.SetGCPercent(p); return p }
	now := time.Unix(100, 0)
	u.begin(now)
	if percent() != -1 || debug.SetMemoryLimit(-1) != int64(u.limit) {
		t.Error("collections do not wait")
	}
	now = now.Add(bulkQuiet)
	if u.tick(now, now) || percent() != -1 {
		t.Error("ended while routes change")
	}
	now = now.Add(bulkQuiet)
	if !u.tick(now, now.Add(-bulkQuiet)) || percent() != 100 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("did not end")
	}
	if u.tick(now, now.Add(-bulkQuiet)) {
		t.Error("ended twice")
	}
	u.begin(now)
	u.limit = 1 // more than half is in use
	if u.tick(now, now) || u.bulk {
		t.Error("went on with a full heap")
	}
	t.Setenv("GOGC", "50")
	if u := NewTuner(); u != nil || u.tick(now, now) {
		t.Error("GOGC is not respected")
	}
	u = nil
	u.begin(now)
}
