package system

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

func TestFIBEqualsThePeersTable(t *testing.T) {
	shared.converged(t)
	v4, v6, err := topology.Feed{Count4: 5000, Count6: 500}.Prefixes()
	if err != nil {
		t.Fatal(err)
	}
	for card := 1; card <= 2; card++ {
		routes, err := shared.fib(t.Context(), "red", card)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v4 {
			if f, ok := routes[p]; !ok || len(f.NextHops) != 1 || f.NextHops[0].Gateway != netip.MustParseAddr("10.0.0.2") || f.NextHops[0].Interface != "red-a" {
				t.Fatalf("card %d: %v is %+v", card, p, f)
			}
			delete(routes, p)
		}
		for _, p := range v6 {
			if f, ok := routes[p]; !ok || len(f.NextHops) != 1 || f.NextHops[0].Gateway != netip.MustParseAddr("2001:db8::2") {
				t.Fatalf("card %d: %v is %+v", card, p, f)
			}
			delete(routes, p)
		}
		// What is left is the router's own: connected, local, static, and the two of the peers.
		for p := range routes {
			if !strings.HasPrefix(p.String(), "10.0.") && !strings.HasPrefix(p.String(), "2001:db8") && !strings.HasPrefix(p.String(), "fe80") &&
				!slices.Contains([]string{"192.0.2.0/24", "198.51.100.0/24"}, p.String()) && !netip.MustParsePrefix("203.0.113.0/24").Contains(p.Addr()) {
				t.Errorf("card %d has %v that nobody announced", card, p)
			}
		}
	}
}

func TestWithdrawnRoutesLeaveTheFIBAndComeBack(t *testing.T) {
	shared.converged(t)
	first := func() string {
		v4, _, err := topology.Feed{Count4: 1}.Prefixes()
		if err != nil {
			t.Fatal(err)
		}
		return v4[0].String()
	}()
	present := func(want bool) func(context.Context) error {
		return func(ctx context.Context) error {
			for card := 1; card <= 2; card++ {
				gws, err := shared.gateways(ctx, "red", card, first)
				if err != nil {
					return err
				}
				if (len(gws) > 0) != want {
					return fmt.Errorf("card %d: %s has next hops %v", card, first, gws)
				}
			}
			return nil
		}
	}
	up := shared.node("up-a")
	if _, err := up.Birdc(t.Context(), "disable", "feed_ipv4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, present(false))
	if _, err := up.Birdc(t.Context(), "enable", "feed_ipv4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, present(true))
	shared.converged(t)
}

func TestNextHopChangesWithTheBestPath(t *testing.T) {
	shared.converged(t)
	goes := func(want ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			gws, err := shared.gateways(ctx, "red", 2, "192.0.2.0/24")
			slices.Sort(gws)
			if err == nil && !slices.Equal(gws, want) {
				err = fmt.Errorf("192.0.2.0/24 goes to %v, want %v", gws, want)
			}
			return err
		}
	}
	eventually(t, 10*time.Second, goes("10.0.0.2")) // the shorter AS path
	up := shared.node("up-a")
	if _, err := up.Birdc(t.Context(), "disable", "own"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, goes("10.0.2.2"))
	// The static route 203.0.113.192/26 goes through that BGP route: it follows.
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		gws, err := shared.gateways(ctx, "red", 2, "203.0.113.192/26")
		if err == nil && !slices.Equal(gws, []string{"10.0.2.2"}) {
			err = fmt.Errorf("the recursive static route goes to %v", gws)
		}
		return err
	})
	if _, err := up.Birdc(t.Context(), "enable", "own"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, goes("10.0.0.2"))
	shared.converged(t)
}

func TestPeerLossMovesAndRemovesRoutes(t *testing.T) {
	shared.converged(t)
	up := shared.node("up-a")
	if _, err := up.Birdc(t.Context(), "disable", "r1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		routes, err := shared.fib(ctx, "red", 2)
		if err != nil {
			return err
		}
		if len(routes) > 100 {
			return fmt.Errorf("still %d routes", len(routes))
		}
		gws, err := shared.gateways(ctx, "red", 2, "198.51.100.0/24")
		if err == nil && !slices.Equal(gws, []string{"10.0.2.2"}) {
			err = fmt.Errorf("198.51.100.0/24 goes to %v", gws)
		}
		return err
	})
	if _, err := up.Birdc(t.Context(), "enable", "r1"); err != nil {
		t.Fatal(err)
	}
	shared.converged(t)
}

func TestRedistributedRoutesReachThePeers(t *testing.T) {
	shared.converged(t)
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		out, err := shared.node("up-b").Vtysh(ctx, "show bgp ipv4 unicast")
		if err != nil {
			return err
		}
		for _, want := range []string{"10.0.1.0/24", "203.0.113.0/24", "203.0.113.64/26"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("up-b lacks %s:\n%s", want, out)
			}
		}
		if strings.Contains(out, "1.0.0.0/24") {
			return fmt.Errorf("export: local let a peer's route through:\n%s", out)
		}
		return nil
	})
}

func TestGobgpWorksAgainstEachSpeaker(t *testing.T) {
	shared.converged(t)
	for vrf, peers := range map[string][]string{"red": {"10.0.0.2", "10.0.2.2"}, "blue": {"10.0.0.2"}} {
		out := sh(t, shared.r1, "%s --target unix:%s neighbor", filepath.Join(binaries(), "gobgp"), filepath.Join(shared.r1.RunDir(), "bgp", vrf+".sock"))
		for _, p := range peers {
			if !strings.Contains(out, p) || strings.Count(out, "Establ") != len(peers) {
				t.Errorf("gobgp neighbor of %s:\n%s", vrf, out)
			}
		}
	}
	out := sh(t, shared.r1, "%s --target unix:%s global rib 192.0.2.0/24", filepath.Join(binaries(), "gobgp"), filepath.Join(shared.r1.RunDir(), "bgp", "red.sock"))
	if !strings.Contains(out, "65101") || !strings.Contains(out, "65102") {
		t.Errorf("gobgp global rib:\n%s", out)
	}
}

func TestApplyChangesTheDifferenceOnly(t *testing.T) {
	shared.converged(t)
	original, err := os.ReadFile(shared.r1.Config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	before, err := shared.client.Modules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := write("bad.yaml", strings.Replace(string(original), "203.0.113.64/26, blackhole: true", "203.0.113.65/26, blackhole: true", 1))
	if out, err := shared.r1.CLI(t.Context(), "apply", bad); err == nil || !strings.Contains(out, "bad.yaml:10:18") || !strings.Contains(out, "did you mean 203.0.113.64/26?") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("bad configuration: %v\n%s", err, out)
	}
	if out := shared.cli(t, "apply "+write("same.yaml", string(original))); !strings.Contains(out, "0 changes") {
		t.Errorf("the same configuration: %s", out)
	}
	more := strings.Replace(string(original), "      - {prefix: 203.0.113.64/26, blackhole: true}\n", "      - {prefix: 203.0.113.64/26, blackhole: true}\n      - {prefix: 100.64.0.0/10, via: [{address: 10.0.2.2}]}\n", 1) +
		"  - {name: green-cust, card: 2, device: nodevice0, vrf: green, addresses: [10.0.1.1/24]}\n"
	more = strings.Replace(more, "vrfs:\n", "vrfs:\n  - name: green\n", 1)
	shared.cli(t, "apply "+write("more.yaml", more))
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		gws, err := shared.gateways(ctx, "red", 2, "100.64.0.0/10")
		if err == nil && !slices.Equal(gws, []string{"10.0.2.2"}) {
			err = fmt.Errorf("the new static route goes to %v", gws)
		}
		return err
	})
	if out := sh(t, shared.r1.VRF("green"), "ip addr show green-cust"); !strings.Contains(out, "10.0.1.1/24") {
		t.Errorf("no host stack of green:\n%s", out)
	}
	shared.cli(t, "apply "+write("same.yaml", string(original)))
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		gws, err := shared.gateways(ctx, "red", 2, "100.64.0.0/10")
		if err == nil && len(gws) > 0 {
			err = fmt.Errorf("the removed static route still goes to %v", gws)
		}
		if _, serr := os.Stat("/run/netns/" + shared.r1.Instance() + "-green"); serr == nil {
			err = fmt.Errorf("the namespace of green is still there")
		}
		return err
	})
	after, err := shared.client.Modules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range before.Modules {
		if i < len(after.Modules) && (before.Modules[i].PID != after.Modules[i].PID || after.Modules[i].Restarts != before.Modules[i].Restarts) {
			t.Errorf("module %s was restarted by an apply", before.Modules[i].Name)
		}
	}
	shared.converged(t)
}
