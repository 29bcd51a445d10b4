package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

// TestLeakedRoutesForward: packets cross between two VRFs and two line cards
// where routes are leaked, and nowhere else.
func TestLeakedRoutesForward(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := newRig(ctx, "../../../configs/lab/leak.yaml", "gwk", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the router's log\n%s", tail(r.r1.Proc("godwitd").Output(), 50))
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	cust, hidden, svc := r.node("cust"), r.node("hidden"), r.node("svc")
	sh(t, svc, "ip link set lo up; ip addr add 203.0.113.1/32 dev lo; ip addr add 198.51.100.1/32 dev lo")

	pings := func(h *topology.Host, dst string) {
		t.Helper()
		eventually(t, 30*time.Second, func(context.Context) error {
			out, err := try(t, h, "ping -n -c 1 -W 1 %s", dst)
			if err != nil {
				return fmt.Errorf("%s does not reach %s: %w\n%s", h.Name, dst, err, out)
			}
			return nil
		})
		sh(t, h, "ping -n -c 5 -i 0.05 -W 2 %s", dst)
	}
	for _, dst := range []string{"192.0.2.2", "203.0.113.1", "198.51.100.1", "2001:db8:2::2"} {
		pings(cust, dst) // connected, static, a next hop in the other VRF
	}
	pings(svc, "10.1.0.2")
	pings(svc, "2001:db8:1::2")

	// What is not leaked stays apart, in both directions.
	stop := sniff(t, hidden, "eth0", "icmp")
	if out, err := try(t, svc, "ping -n -c 3 -i 0.1 -W 1 10.5.0.2"); err == nil || !strings.Contains(out, "nreachable") {
		t.Errorf("blue reaches what red does not export: %v\n%s", err, out)
	}
	if out, err := try(t, hidden, "ping -n -c 3 -i 0.1 -W 1 192.0.2.2"); err == nil {
		t.Errorf("an answer came back to what red does not export:\n%s", out)
	}
	file := stop()
	if out := sh(t, hidden, "tshark -n -r %s -Y 'ip.src == 192.0.2.2' 2>/dev/null | wc -l", file); strings.TrimSpace(out) != "0" {
		t.Errorf("%s packets of the service at hidden", out)
	}
	// The router answers to an address in its own VRF only.
	if out, err := try(t, cust, "ping -n -c 1 -W 2 192.0.2.1"); err == nil || !strings.Contains(out, "filtered") {
		t.Errorf("the address of the other VRF: %v\n%s", err, out)
	}

	for _, c := range []struct{ line, want string }{
		{"show route vrf red 203.0.113.1 detail", "static from VRF blue, distance 1, tag 7"},
		{"show route vrf red 198.51.100.1 detail", "next hop 192.0.2.2 in VRF blue"},
		{"show route vrf red protocol leaked", "(from VRF blue)"},
		{"show route vrf red tag 7", "203.0.113.0/24"},
		{"show route changes vrf red", "static from VRF blue"},
		{"show route vrf blue 10.1.0.2", "connected from VRF red"},
	} {
		if out := r.cli(t, c.line); !strings.Contains(out, c.want) {
			t.Errorf("%s lacks %q:\n%s", c.line, c.want, out)
		}
	}
	r.endLeaks(t, cust)
}

// endLeaks takes the imports away: nothing crosses any more but the static
// route with its next hop in the other VRF, whose answers find no way back.
func (r *rig) endLeaks(t *testing.T, cust *topology.Host) {
	t.Helper()
	text, err := os.ReadFile("../../../configs/lab/leak-r1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.Contains(line, "import:") {
			kept = append(kept, line)
		}
	}
	file := filepath.Join(t.TempDir(), "apart.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cli(t, "apply "+file)
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		for card := 1; card <= 2; card++ {
			for vrf, prefix := range map[string]string{"red": "203.0.113.0/24", "blue": "10.1.0.0/24"} {
				routes, err := r.fib(ctx, vrf, card)
				if err != nil {
					return err
				}
				for p := range routes {
					if p.String() == prefix {
						return fmt.Errorf("card %d still has %s in %s", card, prefix, vrf)
					}
				}
			}
		}
		return nil
	})
	if out, err := try(t, cust, "ping -n -c 2 -i 0.1 -W 1 192.0.2.2"); err == nil {
		t.Errorf("packets cross without a leak:\n%s", out)
	}
}
