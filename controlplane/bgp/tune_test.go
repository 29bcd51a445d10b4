package bgp

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
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
	u.limit = minBulk // a test's heap has been used: it would be touched
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

// TestSpreadHeap sees that the heap's addresses get the advice, and that memory
// which nobody uses is not touched by it.
func TestSpreadHeap(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("a kernel without huge pages")
	}
	if os.Getenv(spreadEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSpreadHeap$", "-test.v") // a heap that is still small
		cmd.Env = append(os.Environ(), spreadEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	u := &Tuner{limit: minBulk}
	u.spreadHeap()
	if kb := statusKB(t, "VmRSS:"); kb > minBulk>>11 {
		t.Errorf("%d KiB resident: the ballast was touched", kb)
	}
	used := make([]byte, minBulk/2)
	for i := 0; i < len(used); i += 4096 {
		used[i] = 1
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(smaps, []byte(" hg ")) {
		t.Error("no mapping with the advice")
	}
	runtime.KeepAlive(used)
}

// spreadEnv makes the test the process that it tests.
const spreadEnv = "GODWIT_BGP_TEST_SPREAD"

// statusKB reads a line of /proc/self/status.
func statusKB(t *testing.T, key string) (kb int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), key)
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
