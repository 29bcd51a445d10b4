package supervisor

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"godwit/security/audit"
	"godwit/security/cgroup"
	"godwit/security/lsm"
)

// Whatever this kernel can, the scope says so and leaves nothing behind.
func TestScope(t *testing.T) {
	cfg := Config{Instance: "scopetest"}
	for _, set := range []func(){func() {}, func() { cfg.NoEnforce = true }, func() { cfg.Permissive = true }} {
		set()
		s := newScope(cfg, slog.New(slog.DiscardHandler))
		enforced := strings.HasPrefix(s.kernel, "enforced for the processes of ")
		if enforced != (s.enforcer != nil) || !enforced && !strings.HasPrefix(s.kernel, "not enforced: ") {
			t.Errorf("%+v", s)
		}
		if enforced && (cfg.NoEnforce || cfg.Permissive) {
			t.Errorf("enforced though it is off: %+v", cfg)
		}
		dir, err := s.place("m")
		if err != nil || (dir == "") != (s.group == nil) {
			t.Errorf("%q, %v, %+v", dir, err, s.group)
		}
		if l := s.limits("m"); s.group != nil && len(s.group.Limited) == 2 && (l.Memory == 0 || l.Tasks != maxTasks) {
			t.Errorf("limits: %+v", l)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if root, err := cgroup.Root(); err == nil {
			if _, err := os.Stat(root + "/godwit-scopetest"); err == nil {
				t.Error("the cgroup is left")
			}
		}
	}
	if n := memoryLimit(); n < 64<<20 {
		t.Errorf("memory limit %d", n)
	}
}

func TestKernelDenials(t *testing.T) {
	g := &guard{ring: audit.NewRing(4), log: slog.New(slog.DiscardHandler)}
	g.verdict(kernelDenial(lsm.Denial{Reason: 1, PID: 7, Command: "sh", File: "busybox"}))
	g.verdict(kernelDenial(lsm.Denial{Reason: 3, PID: 8, Command: "sh"}))
	all := g.ring.Latest(0)
	if len(all) != 2 || all[0].Reason != "kernel" || all[0].File != "busybox" || all[1].File != "-" ||
		!strings.Contains(all[0].Detail, "process 7 (sh) executed a file") || len(g.ring.Alarms()) != 2 {
		t.Errorf("%+v, %+v", all, g.ring.Alarms())
	}
}
