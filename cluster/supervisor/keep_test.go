package supervisor

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"godwit/cluster/wire"
)

// TestDescriptorsAreKept: a line card that is killed finds what it gave to keep;
// one that was taken out of the configuration does not.
func TestDescriptorsAreKept(t *testing.T) {
	c := newChassis(t)
	c.boot()
	spec := wire.ModuleSpec{Name: "linecard-1", Role: "linecard", Args: []string{"keeper"}}
	c.set(spec, wire.ModuleSpec{Name: "bgp-red", Role: "bgp"})
	said := func(what string) func() bool {
		return func() bool { return strings.Contains(c.output.String(), what) }
	}
	starts := func(n int) func() bool {
		return func() bool { return strings.Count(c.output.String(), "keeps: ") == n }
	}
	c.poll("the first process begins", said("kept: ;"))
	c.poll("and keeps", starts(1))
	for n, want := range []string{"kept: of-1;", "kept: of-1 of-2;"} {
		c.must(syscall.Kill(c.await("linecard-1", "runs", in(stateRunning)).PID, syscall.SIGKILL))
		c.poll(want, said(want))
		c.poll("it keeps", starts(n+2))
	}
	c.set()
	c.poll("the line card is gone", func() bool { _, ok := c.modules()["linecard-1"]; return !ok })
	c.set(spec)
	c.poll("nothing is kept for a new card", func() bool { return strings.Count(c.output.String(), "kept: ;") == 2 })
	c.poll("it keeps", starts(4))
	before, err := os.ReadDir("/proc/self/fd")
	c.must(err)
	c.stop()
	after, err := os.ReadDir("/proc/self/fd")
	c.must(err)
	if len(after) >= len(before) {
		t.Errorf("%d descriptors behind the end, %d before", len(after), len(before))
	}
	if len(c.sup.keep.stores)+len(c.sup.keep.lines) > 0 {
		t.Errorf("left: %v, %v", c.sup.keep.stores, c.sup.keep.lines)
	}
}
