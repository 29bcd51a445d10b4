package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
)

// rig is the shared lab: one router that all tests look at.
type rig struct {
	lab    *topology.Lab
	client *mgmt.Client
	r1     *topology.Host
}

var shared *rig

const convergeTime = 60 * time.Second

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "system lab:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if shared, err = newRig(ctx, "../../../configs/lab/system.yaml", "gws", ""); err != nil {
		return 1, err
	}
	prefix := shared.r1.NetNS
	code = m.Run()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "--- the router's log\n%s\n", tail(shared.r1.Proc("godwitd").Output(), 100))
	}
	if err := shared.close(); err != nil {
		return 1, err
	}
	if left, _ := filepath.Glob("/run/netns/" + strings.TrimSuffix(prefix, "r1") + "*"); len(left) > 0 {
		return 1, fmt.Errorf("left behind: %v", left)
	}
	return code, nil
}

// newRig builds a topology and starts all of it. bin overrides the folder of the binaries;
// GODWIT_TEST_EXPRESS (on, off) switches the express path.
func newRig(ctx context.Context, file, prefix, bin string) (*rig, error) {
	return newExpressRig(ctx, file, prefix, bin, os.Getenv("GODWIT_TEST_EXPRESS"))
}

// ownRig starts a network for one test, which removes it and, if it failed, shows
// the router's log.
func ownRig(t *testing.T, file, prefix string) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := newRig(ctx, file, prefix, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the router's log\n%s", tail(r.r1.Proc("godwitd").Output(), 60))
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newExpressRig(ctx context.Context, file, prefix, bin, express string) (*rig, error) {
	top, err := topology.Load(file)
	if err != nil {
		return nil, err
	}
	if bin == "" {
		bin = binaries()
	}
	if _, err := os.Stat(filepath.Join(bin, "godwitd")); err != nil {
		return nil, fmt.Errorf("the router is not built (make build): %w", err)
	}
	lab, err := topology.Build(ctx, top, topology.Options{Bin: bin, Trust: trust(), Prefix: fmt.Sprintf("%s%d", prefix, os.Getpid()), Express: express})
	if err != nil {
		return nil, err
	}
	r := &rig{lab: lab, r1: lab.Node("r1")}
	r.client = mgmt.NewClient(filepath.Join(r.r1.RunDir(), "mgmt.sock"))
	if err := lab.Start(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) close() error {
	r.client.Close()
	return r.lab.Close()
}

func binaries() string {
	abs, _ := filepath.Abs("../../../bin")
	return abs
}

func trust() string {
	abs, _ := filepath.Abs("../../../build/keys/trust")
	return abs
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// eventually polls until f returns nil, or fails the test with its last error.
func eventually(t *testing.T, within time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := topology.Wait(ctx, func() error { return f(ctx) }); err != nil {
		t.Fatal(err)
	}
}

// sh runs a command line on a host and fails the test if it fails.
func sh(t *testing.T, h *topology.Host, line string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := h.Exec(ctx, "sh", "-c", fmt.Sprintf(line, args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is sh for commands that are expected to fail.
func try(t *testing.T, h *topology.Host, line string, args ...any) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	return h.Exec(ctx, "sh", "-c", fmt.Sprintf(line, args...))
}

func (r *rig) node(name string) *topology.Host { return r.lab.Node(name) }

// cli runs the router's command line and returns what it prints.
func (r *rig) cli(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := r.r1.CLI(ctx, strings.Fields(line)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fib reads a VRF's routes on one card as the CLI prints them, by prefix.
func (r *rig) fib(ctx context.Context, vrf string, card int) (map[netip.Prefix]mgmt.FIBRoute, error) {
	out, err := r.r1.CLI(ctx, "show", "fib", "vrf", vrf, "card", fmt.Sprint(card), "--json")
	if err != nil {
		return nil, err
	}
	routes := map[netip.Prefix]mgmt.FIBRoute{}
	dec := json.NewDecoder(strings.NewReader(out))
	for dec.More() {
		var f mgmt.FIBRoute
		if err := dec.Decode(&f); err != nil {
			return nil, err
		}
		routes[f.Prefix] = f
	}
	return routes, nil
}

// gateways are the next hops of a prefix on a card.
func (r *rig) gateways(ctx context.Context, vrf string, card int, prefix string) ([]string, error) {
	out, err := r.r1.CLI(ctx, "show", "fib", "vrf", vrf, "card", fmt.Sprint(card), prefix, "--json")
	if err != nil {
		return nil, err
	}
	var gws []string
	dec := json.NewDecoder(strings.NewReader(out))
	for dec.More() {
		var f mgmt.FIBRoute
		if err := dec.Decode(&f); err != nil {
			return nil, err
		}
		if f.Prefix.String() != prefix {
			continue
		}
		for _, n := range f.NextHops {
			gws = append(gws, n.Gateway.String())
		}
	}
	return gws, nil
}

// converged waits until every session is established and the feeds are in the FIB.
func (r *rig) converged(t *testing.T) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		b, err := r.client.BGP(ctx, "")
		if err != nil {
			return err
		}
		peers := 0
		for _, s := range b.Speakers {
			for _, p := range s.Peers {
				if p.State != "established" {
					return fmt.Errorf("VRF %s: peer %v is %s (%s)", s.VRF, p.Address, p.State, p.LastError)
				}
				peers++
			}
			if !s.Synced || s.Stale {
				return fmt.Errorf("VRF %s is not in sync", s.VRF)
			}
		}
		if peers != 3 {
			return fmt.Errorf("%d peers, want 3", peers)
		}
		for card := 1; card <= 2; card++ {
			routes, err := r.fib(ctx, "red", card)
			if err != nil {
				return err
			}
			if len(routes) < 5500 {
				return fmt.Errorf("%d routes of red on card %d", len(routes), card)
			}
		}
		gws, err := r.gateways(ctx, "red", 2, "198.51.100.0/24")
		if err == nil && len(gws) != 2 {
			err = fmt.Errorf("198.51.100.0/24 has next hops %v, want two", gws)
		}
		return err
	})
}

// pid is the process of a running module.
func (r *rig) pid(ctx context.Context, module string) (int, error) {
	ms, err := r.client.Modules(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range ms.Modules {
		if m.Name == module && m.State == "running" {
			return m.PID, nil
		}
	}
	return 0, fmt.Errorf("module %s does not run", module)
}
