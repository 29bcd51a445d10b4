package system

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/event"
)

// running returns the modules that run, by name; the supervisor is not one.
func (r *rig) running(ctx context.Context) (map[string]wire.ModuleStatus, error) {
	v, err := r.client.Modules(ctx)
	m := map[string]wire.ModuleStatus{}
	for _, st := range v.Modules {
		if st.State == "running" {
			m[st.Name] = st
		}
	}
	return m, err
}

// events returns the figures of all loops, by module.
func (r *rig) events(ctx context.Context) (map[string]event.Stats, error) {
	v, err := r.client.Events(ctx, "")
	m := map[string]event.Stats{}
	for _, x := range v.Modules {
		if x.Stats == nil {
			return nil, fmt.Errorf("events of %s: %s", x.Module, x.Error)
		}
		m[x.Module] = *x.Stats
	}
	return m, err
}

// TestEventsAreShown looks at the loops of all processes of a running router.
func TestEventsAreShown(t *testing.T) {
	shared.converged(t)
	modules, err := shared.running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"supervisor"}
	speaker := ""
	for name := range modules {
		names = append(names, name)
		if strings.HasPrefix(name, "bgp-") {
			speaker = name
		}
	}
	if len(modules) < 3 || speaker == "" {
		t.Fatalf("the lab has %v", names)
	}
	for view, want := range map[string]string{
		"": "RUN P99", "cpu": "OF ALL", "queues": "WAITED UP TO", "timers": "SOURCE", "trace": "liveness",
	} {
		out := shared.cli(t, "show events "+view)
		for _, name := range names {
			if !strings.Contains(out, name+":") {
				t.Errorf("show events %s: nothing of %s\n%s", view, name, out)
			}
		}
		if !strings.Contains(out, want) {
			t.Errorf("show events %s: no %q\n%s", view, want, out)
		}
		if one := shared.cli(t, "show events "+view+" "+speaker); !strings.Contains(one, speaker+":") || strings.Contains(one, "supervisor:") {
			t.Errorf("show events %s %s:\n%s", view, speaker, one)
		}
	}
	stats, err := shared.events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s := stats[name]
		if s.Priority != "urgent" || s.Busy == 0 || s.Timers == 0 || len(s.Handlers) == 0 {
			t.Errorf("%s: priority %q, busy %v, %d timers, %d handlers", name, s.Priority, s.Busy, s.Timers, len(s.Handlers))
		}
		kinds := []string{"signal", "watchdog", "warnings"}
		switch {
		case name == "supervisor":
			kinds = append(kinds, "child", "feed")
		case strings.HasPrefix(name, "linecard-"):
			kinds = append(kinds, "feed")
		}
		for _, kind := range kinds {
			if !slices.ContainsFunc(s.Sources, func(x event.SourceStats) bool { return x.Kind == kind }) {
				t.Errorf("%s has no source %q: %+v", name, kind, s.Sources)
			}
		}
	}
	t.Run("clear", func(t *testing.T) { shared.checkClear(t, stats) })
	t.Run("warnings", func(t *testing.T) { shared.checkWarnings(t, speaker, modules[speaker].PID) })
}

// checkClear clears the figures of all loops.
func (r *rig) checkClear(t *testing.T, before map[string]event.Stats) {
	r.cli(t, "clear events")
	after, err := r.events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range after {
		if s.Window >= before[name].Window || s.Window <= 0 {
			t.Errorf("%s: figures of %v, before clear of %v", name, s.Window, before[name].Window)
		}
	}
}

// checkWarnings stops a process for a while: its loop finds that its timers were
// starved, shows and logs it.
func (r *rig) checkWarnings(t *testing.T, module string, pid int) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(1500 * time.Millisecond) // longer than the period of the liveness timer: one is due meanwhile
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		all, err := r.events(ctx)
		for _, h := range all[module].Handlers {
			if h.Starved > 0 {
				return err
			}
		}
		return fmt.Errorf("nothing of %s was starved: %w", module, err)
	})
	if out := r.cli(t, "show events "+module); !strings.Contains(out, " starved, ") {
		t.Errorf("not shown:\n%s", out)
	}
	eventually(t, 30*time.Second, func(context.Context) error {
		for _, line := range strings.Split(r.r1.Proc("godwitd").Output(), "\n") {
			if strings.Contains(line, "handler is starved") && strings.Contains(line, "module="+module) {
				return nil
			}
		}
		return fmt.Errorf("no warning of %s in the log", module)
	})
}
