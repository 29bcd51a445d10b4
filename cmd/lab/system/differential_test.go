package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

// differentialRoutes is how many real prefixes the three peers announce together.
const differentialRoutes = 20_000

// candidates of the comparison, in the order of their links: the peer's third octet.
var candidates = []string{"r1", "bird", "frr"}

const differentialRouter = `system: {hostname: differential}
cards: [{id: 1}, {id: 2}]
vrfs:
  - name: red
    bgp:
      as: 65000
      router-id: 10.255.0.1
      neighbors:
        - {address: 10.1.0.2, as: 65001, import: accept, export: reject}
        - {address: 10.2.0.2, as: 65002, import: accept, export: reject}
        - {address: 10.3.0.2, as: 65003, import: accept, export: reject}
interfaces:
  - {name: p1, card: 1, device: eth1, vrf: red, addresses: [10.1.0.1/24]}
  - {name: p2, card: 2, device: eth2, vrf: red, addresses: [10.2.0.1/24]}
  - {name: p3, card: 1, device: eth3, vrf: red, addresses: [10.3.0.1/24]}
`

// announcedBy are the attributes of a prefix as a peer (1 to 3) announces it: paths of
// three different lengths, so that there is one best path for everybody; some
// prefixes only two of them have, some one.
func announcedBy(peer, k int) (attrs string, ok bool) {
	switch {
	case k%10 == 3 && peer == 1, k%10 == 7 && peer != 2:
		return "", false
	}
	var b strings.Builder
	for hop := range 1 + (k/7+peer)%3 {
		fmt.Fprintf(&b, "bgp_path.prepend(%d); ", 64000+(k*13+hop*7)%900)
	}
	fmt.Fprintf(&b, "bgp_origin = %s; bgp_med = %d; bgp_community.add((%d,%d)); bgp_large_community.add((%d,%d,%d));",
		[]string{"ORIGIN_IGP", "ORIGIN_EGP", "ORIGIN_INCOMPLETE"}[k%3], (k*31+peer)%500, 64000+peer, k%1000, 64000+peer, k%17, k%5)
	return b.String(), true
}

// differentialPeer is a peer's BIRD with a session to each candidate.
func differentialPeer(peer int, prefixes []netip.Prefix) string {
	var b strings.Builder
	fmt.Fprintf(&b, "log stderr all;\nrouter id 10.255.1.%d;\nprotocol device {}\nprotocol static feed { ipv4;\n", peer)
	for k, p := range prefixes {
		if attrs, ok := announcedBy(peer, k); ok {
			fmt.Fprintf(&b, " route %v blackhole { %s };\n", p, attrs)
		}
	}
	b.WriteString("}\n")
	for j := range candidates {
		fmt.Fprintf(&b, "protocol bgp c%d { local 10.%d.%d.2 as 6500%d; neighbor 10.%d.%d.1 as 65000; connect delay time 1; connect retry time 2; ipv4 { import none; export where source = RTS_STATIC; }; }\n",
			j, peer, j, peer, peer, j)
	}
	return b.String()
}

func differentialTopology(t *testing.T) *topology.Topology {
	t.Helper()
	prefixes, _, err := topology.Feed{Count4: differentialRoutes}.Prefixes()
	if err != nil {
		t.Fatal(err)
	}
	var nodes, links strings.Builder
	bird, frr := "log stderr all;\nrouter id 10.255.0.1;\nprotocol device {}\n", "hostname frr\nrouter bgp 65000\n bgp router-id 10.255.0.1\n no bgp ebgp-requires-policy\n"
	addrs := map[string][]string{}
	for peer := 1; peer <= 3; peer++ {
		devices := make([]string, len(candidates))
		for j, c := range candidates {
			devices[j] = fmt.Sprintf("eth%d: [10.%d.%d.2/24]", j, peer, j)
			addrs[c] = append(addrs[c], fmt.Sprintf("eth%d: [10.%d.%d.1/24]", peer, peer, j))
			fmt.Fprintf(&links, "  - {a: \"%s:eth%d\", b: \"p%d:eth%d\"}\n", c, peer, peer, j)
		}
		fmt.Fprintf(&nodes, "  - {name: p%d, devices: {%s}}\n", peer, strings.Join(devices, ", "))
		bird += fmt.Sprintf("protocol bgp p%d { local 10.%d.1.1 as 65000; neighbor 10.%d.1.2 as 6500%d; connect delay time 1; connect retry time 2; ipv4 { import all; export none; }; }\n", peer, peer, peer, peer)
		frr += fmt.Sprintf(" neighbor 10.%d.2.2 remote-as 6500%d\n neighbor 10.%d.2.2 timers connect 2\n", peer, peer, peer)
	}
	text := fmt.Sprintf("name: differential\nnodes:\n%s  - {name: r1}\n  - {name: bird, devices: {%s}}\n  - {name: frr, devices: {%s}}\nlinks:\n%s",
		nodes.String(), strings.Join(addrs["bird"], ", "), strings.Join(addrs["frr"], ", "), links.String())
	top, err := topology.Parse("differential", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := range top.Nodes {
		switch n := &top.Nodes[i]; n.Name {
		case "bird":
			n.Bird = bird
		case "frr":
			n.FRR = frr + "!\n"
		case "p1", "p2", "p3":
			n.Bird = differentialPeer(int(n.Name[1]-'0'), prefixes)
		}
	}
	return top
}

// peerOf is the peer that a next hop belongs to.
func peerOf(a netip.Addr) byte { return a.As4()[1] }

// birdTable is BIRD's choice for each prefix.
func (r policyRig) birdTable(ctx context.Context) (map[netip.Prefix]byte, error) {
	out, err := r.node("bird").Birdc(ctx, "show", "route", "primary")
	if err != nil {
		return nil, err
	}
	table := map[netip.Prefix]byte{}
	var at netip.Prefix
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "via":
			a, err := netip.ParseAddr(f[1])
			if err != nil {
				return nil, err
			}
			table[at] = peerOf(a)
		case len(f) > 1 && f[1] == "unicast":
			if at, err = netip.ParsePrefix(f[0]); err != nil {
				return nil, err
			}
		}
	}
	return table, nil
}

// frrTable is FRR's choice for each prefix.
func (r policyRig) frrTable(ctx context.Context) (map[netip.Prefix]byte, error) {
	out, err := r.node("frr").Vtysh(ctx, "show bgp ipv4 unicast json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Routes map[netip.Prefix][]struct {
			Best     bool `json:"bestpath"`
			NextHops []struct {
				IP netip.Addr `json:"ip"`
			} `json:"nexthops"`
		} `json:"routes"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("read FRR's table: %w", err)
	}
	table := map[netip.Prefix]byte{}
	for p, paths := range answer.Routes {
		for _, x := range paths {
			if x.Best && len(x.NextHops) > 0 {
				table[p] = peerOf(x.NextHops[0].IP)
			}
		}
	}
	return table, nil
}

// cardTable is what one of our line cards forwards, without the router's own subnets.
func (r policyRig) cardTable(ctx context.Context, card int) (map[netip.Prefix]byte, error) {
	routes, err := r.fib(ctx, "red", card)
	if err != nil {
		return nil, err
	}
	table := map[netip.Prefix]byte{}
	for p, x := range routes {
		if p.Addr().Is4() && !netip.MustParsePrefix("10.0.0.0/8").Contains(p.Addr()) && len(x.NextHops) == 1 {
			table[p] = peerOf(x.NextHops[0].Gateway)
		}
	}
	return table, nil
}

// same waits until all tables have what the peers that announce give, and says where
// they differ.
func (r policyRig) same(t *testing.T, prefixes []netip.Prefix, announcing ...int) {
	t.Helper()
	want := map[netip.Prefix]byte{}
	for k, p := range prefixes {
		shortest := 99
		for _, peer := range announcing {
			if attrs, ok := announcedBy(peer, k); ok && strings.Count(attrs, "prepend") < shortest {
				shortest = strings.Count(attrs, "prepend")
				want[p] = byte(peer)
			}
		}
	}
	for name, read := range map[string]func(context.Context) (map[netip.Prefix]byte, error){
		"BIRD": r.birdTable, "FRR": r.frrTable,
		"card 1": func(ctx context.Context) (map[netip.Prefix]byte, error) { return r.cardTable(ctx, 1) },
		"card 2": func(ctx context.Context) (map[netip.Prefix]byte, error) { return r.cardTable(ctx, 2) },
	} {
		eventually(t, 2*time.Minute, func(ctx context.Context) error {
			got, err := read(ctx)
			if err != nil {
				return err
			}
			if len(got) != len(want) {
				return fmt.Errorf("%s has %d prefixes, want %d", name, len(got), len(want))
			}
			for p, peer := range want {
				if got[p] != peer {
					return fmt.Errorf("%s: %v goes to peer %d, want %d", name, p, got[p], peer)
				}
			}
			return nil
		})
	}
}

// TestSameTableAsBIRDAndFRR gives three peers' routes to BIRD, FRR and this router,
// and compares the choices for each prefix, also after a peer has withdrawn its routes
// and announced them again.
func TestSameTableAsBIRDAndFRR(t *testing.T) {
	prefixes, _, err := topology.Feed{Count4: differentialRoutes}.Prefixes()
	if err != nil {
		t.Fatal(err)
	}
	r := newPolicyRig(t, "gwd", differentialRouter, differentialTopology(t))
	r.same(t, prefixes, 1, 2, 3)
	for _, step := range []struct {
		verb  string
		peers []int
	}{{"disable", []int{1, 3}}, {"enable", []int{1, 2, 3}}} {
		if out, err := r.node("p2").Birdc(t.Context(), step.verb, "feed"); err != nil {
			t.Fatalf("%s: %v\n%s", step.verb, err, out)
		}
		r.same(t, prefixes, step.peers...)
	}
}
