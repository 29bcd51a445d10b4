package lsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/security/cgroup"
)

// An unrelated program outside of the group is executed as fast with the policy
// in force as without. The figure is for people; emulation on a busy machine
// leaves room for a gross error only.
func TestExecLatencyOutside(t *testing.T) {
	e, _ := start(t)
	const rounds, execs = 3, 50
	group, instance := e.Group(), strings.TrimPrefix(filepath.Base(e.pins), pinPrefix)
	var on, off []float64
	for range rounds {
		on = append(on, latencies(t, execs)...)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Lift(instance); err != nil {
			t.Fatal(err)
		}
		lifted(t, group)
		off = append(off, latencies(t, execs)...)
		var err error
		if e, err = Start(group, instance); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = e.Close() })
	slices.Sort(on)
	slices.Sort(off)
	ratio := on[len(on)/2] / off[len(off)/2]
	t.Logf("exec of %s outside: on %.0f µs, off %.0f µs (medians of %d), ratio %.3f; best %.0f and %.0f µs", tool, on[len(on)/2], off[len(off)/2], len(on), ratio, on[0], off[0])
	if ratio > 1.5 {
		t.Errorf("%.2f times slower", ratio)
	}
}

// latencies are how long fork, exec and exit of a program took, in µs.
func latencies(t *testing.T, n int) []float64 {
	t.Helper()
	var out []float64
	for range n {
		begin := time.Now()
		if err := exec.Command(tool, "true").Run(); err != nil {
			t.Fatal(err)
		}
		out = append(out, float64(time.Since(begin).Nanoseconds())/1e3)
	}
	return out
}

// lifted waits until the policy is gone.
func lifted(t *testing.T, g *cgroup.Group) {
	t.Helper()
	child, err := g.Child("shell", cgroup.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for end := time.Now().Add(replaceTime); command(t, f, child, "LSM_WAIT=0").Run() != nil; time.Sleep(replacePoll) {
		if time.Now().After(end) {
			t.Fatal("the policy is not lifted")
		}
	}
}
