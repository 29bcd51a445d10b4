package supervisor

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/session"
	"godwit/cluster/wire"
)

var errNoTIPC = errors.New("the kernel has no TIPC")

// transport is a bus between nodes that writes down what is done with it.
type transport struct {
	dir  string // of a local bus
	fail error

	mu    sync.Mutex
	calls []string
}

func (f *transport) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *transport) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, " ")
}

func (f *transport) Setup() error           { f.note("setup"); return f.fail }
func (f *transport) Remove() error          { f.note("remove"); return nil }
func (f *transport) Join() (bus.Bus, error) { f.note("join"); return local.Join(f.dir, "supervisor-2") }

func newTransport(c *chassis) *transport {
	f := &transport{dir: c.path("between")}
	server, err := local.NewServer(f.dir, slog.New(slog.DiscardHandler))
	c.must(err)
	c.t.Cleanup(func() { server.Close() })
	return f
}

func TestWithoutTheKernelsTransportNothingStarts(t *testing.T) {
	c := newChassis(t)
	f := newTransport(c)
	f.fail = errNoTIPC
	cfg := testConfig(c.dir, os.Stderr, slog.New(slog.DiscardHandler))
	cfg.Cluster = &Cluster{Node: 2, Transport: f}
	if _, err := New(cfg); !errors.Is(err, errNoTIPC) || !strings.Contains(err.Error(), "node 2") {
		t.Errorf("error %v", err)
	}
	if f.said() != "setup" {
		t.Errorf("calls: %s", f.said())
	}
	if _, err := os.Stat(c.path("run")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory is left: %v", err)
	}
}

// TestNodeForLineCards: its cards run, no routing engine; the other nodes may
// look, and change nothing.
func TestNodeForLineCards(t *testing.T) {
	c := newChassis(t)
	f := newTransport(c)
	c.config = func(cfg *Config) {
		cfg.Cluster = &Cluster{Node: 2, Cards: []uint16{2, 5}, Transport: f, Secret: []byte{0xab, 0xcd}}
	}
	c.boot()
	c.await("linecard-5", "runs", in(stateRunning))
	c.await("linecard-2", "runs", in(stateRunning))
	if m := c.modules(); len(m) != 2 {
		t.Errorf("modules %+v", m)
	}
	c.poll("its arguments", func() bool {
		return strings.Contains(c.output.String(), "--cluster-node 2 --cluster-secret "+c.path("run/cluster.secret")+" --card 2")
	})
	if st, err := os.Stat(c.path("run/cluster.secret")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secret: %v, %v", st, err)
	}
	if strings.Contains(c.output.String(), "abcd") {
		t.Error("the secret is in the output")
	}
	if err := c.request(wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{}}, nil); err == nil {
		t.Error("the node's cards were changed")
	}

	// As the routing engine's node sees it.
	other, err := local.Join(f.dir, "router")
	c.must(err)
	defer other.Close()
	up := make(chan *session.Session, 1)
	follow, err := session.Follow(c.work, other, bus.One(bus.TypeSupervisor, 2), func(_ uint32, s *session.Session) session.Handler {
		up <- s
		return c
	})
	c.must(err)
	defer follow.Close()
	far := <-up
	ask := func(k wire.Kind, v any) (wire.ModuleList, error) {
		var list wire.ModuleList
		result := make(chan error, 1)
		far.Request(k, v, deadline, func(m session.Message, err error) {
			if err == nil && k == wire.GetModules {
				err = wire.DecodeKind(k, m.Body, &list)
			}
			result <- err
		})
		err := <-result
		return list, err
	}
	if list, err := ask(wire.GetModules, struct{}{}); err != nil || len(list.Modules) != 2 {
		t.Errorf("modules %+v, %v", list, err)
	}
	for _, k := range []wire.Kind{wire.SetModules, wire.ClearEvents, wire.GetAudit, wire.GetNames} {
		if _, err := ask(k, struct{}{}); err == nil || !strings.Contains(err.Error(), "not for other nodes") {
			t.Errorf("%v: %v", k, err)
		}
	}
	c.stop()
	if f.said() != "setup join remove" {
		t.Errorf("calls: %s", f.said())
	}
}

func TestNodeOfTheRoutingEngine(t *testing.T) {
	c := newChassis(t)
	f := newTransport(c)
	c.config = func(cfg *Config) { cfg.Cluster = &Cluster{Node: 1, Transport: f} }
	c.boot()
	c.await("router", "runs", in(stateRunning))
	c.set(wire.ModuleSpec{Name: "linecard-1", Role: "linecard", Args: []string{"--card", "1"}}, wire.ModuleSpec{Name: "bgp-red", Role: "bgp"})
	c.await("linecard-1", "runs", in(stateRunning))
	c.await("bgp-red", "runs", in(stateRunning))
	c.poll("arguments", func() bool { return strings.Count(c.output.String(), "module: ") == 3 })
	for line := range strings.Lines(c.output.String()) {
		if isRouter := strings.Contains(line, "--name router "); strings.HasPrefix(line, "module: ") && strings.Contains(line, "--cluster") != isRouter {
			t.Errorf("arguments: %s", line)
		}
	}
	if !strings.Contains(c.output.String(), "has no key") {
		t.Error("no warning of a cluster without a key")
	}
	c.stop()
	if f.said() != "setup remove" {
		t.Errorf("calls: %s", f.said())
	}
}
