package system

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
)

// policyRouter has an upstream in red, and a customer in blue who gets what is leaked.
const policyRouter = `system: {hostname: policy}
cards: [{id: 1}, {id: 2}]
vrfs:
  - name: red
    limit: {{limit}}
    import: ["65000:2"]
    export: ["65000:1"]
    bgp:
      as: 65001
      router-id: 10.255.0.1
      neighbors: [{address: 10.1.0.2, as: 65002, import: accept, export: reject}]
  - name: blue
    export: ["65000:2"]
    import: [{target: "65000:1", communities: [{{communities}}]}]
    bgp:
      as: 65001
      router-id: 10.255.0.2
      redistribute: [leaked]
      neighbors: [{address: 10.2.0.2, as: 65003, import: accept, export: local}]
interfaces:
  - {name: up, card: 1, device: eth0, vrf: red, addresses: [10.1.0.1/24]}
  - {name: cust, card: 2, device: eth1, vrf: blue, addresses: [10.2.0.1/24]}
`

// policyUp is the upstream's BIRD; its routes have communities of all kinds.
const policyUp = `log stderr all;
router id 10.255.0.9;
protocol device {}
protocol static feed { ipv4;
 {{routes}}
}
protocol bgp r1 {
 local 10.1.0.2 as 65002; neighbor 10.1.0.1 as 65001; connect delay time 1; connect retry time 2;
 ipv4 { import all; export where source = RTS_STATIC; };
}
`

const policyCust = `hostname cust
router bgp 65003
 bgp router-id 10.255.0.8
 no bgp ebgp-requires-policy
 neighbor 10.2.0.1 remote-as 65001
 neighbor 10.2.0.1 timers connect 2
!
`

// policyRoutes are what the upstream announces, and with which communities.
var policyRoutes = map[string]string{
	"198.51.100.0/24": "bgp_community.add((65002,100));",
	"198.51.101.0/24": "bgp_community.add((65002,200)); bgp_community.add((65002,1));",
	"198.51.102.0/24": "bgp_large_community.add((65002,1,7));",
	"198.51.103.0/24": "bgp_ext_community.add((rt,65002,9));",
	"198.51.104.0/24": "",
}

func birdRoutes(routes map[string]string) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(routes)) {
		fmt.Fprintf(&b, " route %s blackhole { %s };\n", p, routes[p])
	}
	return strings.Replace(policyUp, "{{routes}}", b.String(), 1)
}

// policyRig is a lab of its own, whose configurations are made here.
type policyRig struct {
	*rig
	dir string
}

func newPolicyRig(t *testing.T, prefix, conf string, top *topology.Topology) policyRig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	for i := range top.Nodes {
		if n := &top.Nodes[i]; n.Name == "r1" {
			n.Godwit = filepath.Join(dir, "r1.yaml")
			if err := os.WriteFile(n.Godwit, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(binaries(), "godwitd")); err != nil {
		t.Fatalf("the router is not built (make build): %v", err)
	}
	lab, err := topology.Build(ctx, top, topology.Options{Bin: binaries(), Trust: trust(), Prefix: fmt.Sprintf("%s%d", prefix, os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	r := policyRig{&rig{lab: lab, r1: lab.Node("r1")}, dir}
	r.client = mgmt.NewClient(filepath.Join(r.r1.RunDir(), "mgmt.sock"))
	t.Cleanup(func() {
		if t.Failed() {
			if p := r.r1.Proc("godwitd"); p != nil {
				t.Logf("the router's log\n%s", tail(p.Output(), 60))
			}
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if err := lab.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

// apply applies a configuration of the router.
func (r policyRig) apply(t *testing.T, conf string) {
	t.Helper()
	file := filepath.Join(r.dir, "next.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cli(t, "apply "+file)
}

// bird gives a peer another configuration.
func (r policyRig) bird(t *testing.T, node, conf string) {
	t.Helper()
	h := r.node(node)
	if err := os.WriteFile(filepath.Join(h.Dir, "bird.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := h.Birdc(t.Context(), "configure"); err != nil || !strings.Contains(out, "Reconfig") {
		t.Fatalf("configure BIRD: %v\n%s", err, out)
	}
}

// leads waits until both cards have exactly these of the prefixes of the test nets.
func (r policyRig) leads(t *testing.T, vrf string, want ...string) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		for card := 1; card <= 2; card++ {
			routes, err := r.fib(ctx, vrf, card)
			if err != nil {
				return err
			}
			var got []string
			for p := range routes {
				if s := p.String(); strings.HasPrefix(s, "198.51.") {
					got = append(got, s)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return fmt.Errorf("card %d has %v in %s, want %v", card, got, vrf, want)
			}
		}
		return nil
	})
}

// TestCommunitiesDecideWhatLeaks: BGP routes leak by their communities to another
// VRF, follow changes of the filter and of the routes, forward, and are announced to a
// peer there.
func TestCommunitiesDecideWhatLeaks(t *testing.T) {
	top, err := topology.Parse("policy", []byte(`name: policy
nodes:
  - {name: r1}
  - {name: up, devices: {eth0: [10.1.0.2/24], lo: [198.51.100.1/32, 198.51.102.1/32]}, routes: ["10.2.0.0/24 via 10.1.0.1"]}
  - {name: cust, devices: {eth0: [10.2.0.2/24]}, routes: ["198.51.0.0/16 via 10.2.0.1"]}
links:
  - {a: "r1:eth0", b: "up:eth0"}
  - {a: "r1:eth1", b: "cust:eth0"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range top.Nodes {
		switch top.Nodes[i].Name {
		case "up":
			top.Nodes[i].Bird = birdRoutes(policyRoutes)
		case "cust":
			top.Nodes[i].FRR = policyCust
		}
	}
	conf := func(communities, limit string) string {
		return strings.NewReplacer("{{communities}}", communities, "{{limit}}", limit).Replace(policyRouter)
	}
	r := newPolicyRig(t, "gwp", conf(`"65002:100", "65002:1:*", "rt:65002:9"`, "{}"), top)
	all := slices.Sorted(maps.Keys(policyRoutes))
	r.leads(t, "red", all...)
	r.leads(t, "blue", "198.51.100.0/24", "198.51.102.0/24", "198.51.103.0/24")
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		_, err := r.node("cust").Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", "198.51.102.1")
		return err
	})
	r.announced(t, []string{"198.51.100.0/24", "198.51.102.0/24", "198.51.103.0/24"}, []string{"198.51.101.0/24", "198.51.104.0/24"})
	if out := r.cli(t, "show route vrf blue 198.51.102.1 detail"); !strings.Contains(out, "65002:1:*") || !strings.Contains(out, "from VRF red") {
		t.Errorf("detail does not tell the community:\n%s", out)
	}

	// Another filter: the speaker looks for other names in the same routes.
	r.apply(t, conf(`"65002:200"`, "{}"))
	r.leads(t, "blue", "198.51.101.0/24")
	r.announced(t, []string{"198.51.101.0/24"}, []string{"198.51.100.0/24", "198.51.102.0/24", "198.51.103.0/24"})

	// Other communities: nothing but them changes.
	routes := maps.Clone(policyRoutes)
	routes["198.51.101.0/24"], routes["198.51.104.0/24"] = "", "bgp_community.add((65002,200));"
	r.bird(t, "up", birdRoutes(routes))
	r.leads(t, "blue", "198.51.104.0/24")
	r.leads(t, "red", all...)
	r.limited(t, conf(`"65002:200"`, "{routes: 10, action: refuse}"), routes)
}

// announced waits until the customer has these prefixes, and not those.
func (r policyRig) announced(t *testing.T, want, not []string) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		out, err := r.node("cust").Vtysh(ctx, "show bgp ipv4 unicast")
		if err != nil {
			return err
		}
		for _, p := range want {
			if !strings.Contains(out, p) {
				return fmt.Errorf("the customer lacks %s:\n%s", p, out)
			}
		}
		for _, p := range not {
			if strings.Contains(out, p) {
				return fmt.Errorf("the customer has %s:\n%s", p, out)
			}
		}
		return nil
	})
}

// limited sets a limit of routes: what is refused comes by itself when there is room.
func (r policyRig) limited(t *testing.T, conf string, routes map[string]string) {
	t.Helper()
	r.apply(t, conf)
	more := maps.Clone(routes)
	for i := range 6 {
		more[fmt.Sprintf("198.51.%d.0/24", 110+i)] = ""
	}
	vrf := func(ctx context.Context) (mgmt.VRF, error) {
		list, err := r.client.VRFs(ctx)
		if err != nil {
			return mgmt.VRF{}, err
		}
		for _, v := range list.VRFs {
			if v.Name == "red" {
				return v, nil
			}
		}
		return mgmt.VRF{}, errors.New("no VRF red")
	}
	r.bird(t, "up", birdRoutes(more))
	eventually(t, convergeTime, func(ctx context.Context) error {
		v, err := vrf(ctx)
		if err == nil && (v.Refused == 0 || v.Prefixes != 10) {
			err = fmt.Errorf("%d prefixes, %d refused", v.Prefixes, v.Refused)
		}
		return err
	})
	for _, p := range []string{"198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24", "198.51.103.0/24", "198.51.104.0/24"} {
		delete(more, p)
	}
	before := r.updatesSent(t)
	r.bird(t, "up", birdRoutes(more))
	r.leads(t, "red", slices.Sorted(maps.Keys(more))...)
	if n := r.updatesSent(t); n != before {
		t.Errorf("the peer announced again: %d updates, %d before", n, before)
	}
}

// updatesSent counts the routes that the upstream has announced to the router.
func (r policyRig) updatesSent(t *testing.T) (n int) {
	t.Helper()
	out, err := r.node("up").Birdc(t.Context(), "show", "protocols", "all", "r1")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Export updates:"); ok {
			f := strings.Fields(rest)
			if _, err := fmt.Sscan(f[len(f)-1], &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return n
		}
	}
	t.Fatalf("no count of updates:\n%s", out)
	return 0
}
