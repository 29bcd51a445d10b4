package system

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

const advertiseRouter = `system: {hostname: advertise}
cards: [{id: 1}, {id: 2}]
vrfs:
  - name: red
    static: [{{static}}]
    bgp:
      as: 65001
      router-id: 10.255.0.1
      advertise: {{advertise}}
      redistribute: [static]
      neighbors:
        - {address: 10.1.0.2, as: 65002, import: accept, export: reject}
        - {address: 10.2.0.2, as: 65003, import: accept, export: accept}
interfaces:
  - {name: up, card: 1, device: eth0, vrf: red, addresses: [10.1.0.1/24]}
  - {name: cust, card: 2, device: eth1, vrf: red, addresses: [10.2.0.1/24]}
`

// TestAdvertisesWhatIsInTheFIB: a peer hears of a prefix when every line card has
// acknowledged it, not before and not longer.
func TestAdvertisesWhatIsInTheFIB(t *testing.T) {
	top, err := topology.Parse("advertise", []byte(`name: advertise
nodes:
  - {name: r1}
  - {name: up, devices: {eth0: [10.1.0.2/24]}}
  - {name: cust, devices: {eth0: [10.2.0.2/24]}}
links:
  - {a: "r1:eth0", b: "up:eth0"}
  - {a: "r1:eth1", b: "cust:eth0"}
`))
	if err != nil {
		t.Fatal(err)
	}
	// The next hop of 198.51.109.0/24 is known to a static route only.
	routes := map[string]string{"198.51.100.0/24": "", "198.51.109.0/24": "bgp_next_hop = 203.0.113.9;"}
	bird := func() string {
		return strings.Replace(birdRoutes(routes), "export where", "next hop keep; export where", 1)
	}
	for i := range top.Nodes {
		switch top.Nodes[i].Name {
		case "up":
			top.Nodes[i].Bird = bird()
		case "cust":
			top.Nodes[i].FRR = policyCust
		}
	}
	conf := func(static, advertise string) string {
		return strings.NewReplacer("{{static}}", static, "{{advertise}}", advertise).Replace(advertiseRouter)
	}
	const leadsToNextHop = "{prefix: 203.0.113.0/24, via: [{address: 10.1.0.2}]}"
	r := newPolicyRig(t, "gwv", conf("", "fib"), top)
	r.leads(t, "red", "198.51.100.0/24")
	r.announced(t, []string{"198.51.100.0/24"}, []string{"198.51.109.0/24", "203.0.113.0/24"})

	// What comes into the FIB is announced, what leaves it is withdrawn, though BGP has it all the time.
	r.apply(t, conf(leadsToNextHop, "fib"))
	r.announced(t, []string{"198.51.100.0/24", "198.51.109.0/24", "203.0.113.0/24"}, nil)
	r.apply(t, conf("", "fib"))
	r.announced(t, []string{"198.51.100.0/24"}, []string{"198.51.109.0/24", "203.0.113.0/24"})

	r.cardSleeps(t, func() {
		routes["198.51.101.0/24"] = ""
		r.bird(t, "up", bird())
	}, "198.51.101.0/24")

	// A new speaker announces again what the line cards have all the time.
	r.kill(t, "bgp-red")
	r.announced(t, []string{"198.51.100.0/24", "198.51.101.0/24"}, []string{"198.51.109.0/24"})
	r.leads(t, "red", "198.51.100.0/24", "198.51.101.0/24")

	// Without it, BGP announces what it has.
	r.apply(t, conf("", "best"))
	r.announced(t, []string{"198.51.100.0/24", "198.51.101.0/24", "198.51.109.0/24"}, nil)
	r.apply(t, conf("", "fib"))
	r.announced(t, []string{"198.51.100.0/24", "198.51.101.0/24"}, []string{"198.51.109.0/24"})
}

// cardSleeps stops a line card: what is announced to the router meanwhile is in the
// other card, but no peer hears of it until the sleeping one has acknowledged it.
func (r policyRig) cardSleeps(t *testing.T, announce func(), prefix string) {
	t.Helper()
	pid, err := r.pid(t.Context(), "linecard-2")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	announce()
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		gws, err := r.gateways(ctx, "red", 1, prefix)
		if err == nil && len(gws) == 0 {
			err = fmt.Errorf("card 1 does not have %s", prefix)
		}
		return err
	})
	// Another change, all the way through the speaker: had the prefix been announced, it would be there.
	out, err := r.node("up").Birdc(t.Context(), "reload", "out", "r1")
	if err != nil {
		t.Fatalf("reload: %v\n%s", err, out)
	}
	for range 10 {
		out, err := r.node("cust").Vtysh(t.Context(), "show bgp ipv4 unicast")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, prefix) {
			t.Fatalf("%s is announced, but card 2 sleeps:\n%s", prefix, out)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.announced(t, []string{prefix}, nil)
}

// kill kills a module; the supervisor starts another one.
func (r policyRig) kill(t *testing.T, module string) {
	t.Helper()
	pid, err := r.pid(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		now, err := r.pid(ctx, module)
		if err == nil && now == pid {
			err = fmt.Errorf("%s still has process %d", module, pid)
		}
		return err
	})
}
