package system

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"godwit/cluster/bus"
	"godwit/controlplane/mgmt"
)

// opsRig starts the network of configs/lab/ops.yaml and waits until it forwards.
func opsRig(t *testing.T) *rig {
	t.Helper()
	r := ownRig(t, "../../../configs/lab/ops.yaml", "gwo")
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := r.node("lan").Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", "198.51.100.1")
		return err
	})
	return r
}

// trace asks what a card does with a packet.
func (r *rig) trace(t *testing.T, line string) mgmt.FIBTrace {
	t.Helper()
	var v mgmt.FIBTraces
	if err := json.Unmarshal([]byte(r.cli(t, "request fib trace "+line+" --json")), &v); err != nil || len(v.Traces) != 1 {
		t.Fatalf("trace %s: %v, %d traces", line, err, len(v.Traces))
	}
	return v.Traces[0]
}

func (r *rig) neighbors(ctx context.Context, state string) (list []mgmt.Neighbor, err error) {
	v, err := r.client.Neighbors(ctx, mgmt.NeighborQuery{})
	for _, n := range v.Neighbors {
		if n.State == state {
			list = append(list, n)
		}
	}
	return list, err
}

// TestRepairsAndNeighbours runs in one router, step by step.
func TestRepairsAndNeighbours(t *testing.T) {
	r := opsRig(t)
	lan, upA, upB := r.node("lan"), r.node("up-a"), r.node("up-b")
	t.Run("bus of one machine", func(t *testing.T) { r.checkBus(t) })
	t.Run("trace agrees with the wire", func(t *testing.T) { r.checkTrace(t) })
	t.Run("host stack hears of errors", func(t *testing.T) { r.checkHostErrors(t) })
	t.Run("scan of a connected prefix", func(t *testing.T) { r.checkScan(t) })
	t.Run("proxy ARP", func(t *testing.T) {
		// 198.51.100.1 as if it were on the link: only the router's answer makes it reachable.
		sh(t, lan, "ip route add 198.51.100.0/24 dev eth0 && ping -n -c 2 -i 0.2 -W 2 198.51.100.1; s=$?; ip route del 198.51.100.0/24 dev eth0; exit $s")
		if out, err := try(t, lan, "arping -c 1 -w 1 -I eth0 10.1.77.77"); err == nil {
			t.Errorf("the router answers for an address of the link itself: %s", out)
		}
	})
	t.Run("duplicate address", func(t *testing.T) {
		sh(t, upB, "ip addr add 10.0.2.1/32 dev eth0 && arping -U -c 1 -w 2 -I eth0 10.0.2.1; ip addr del 10.0.2.1/32 dev eth0")
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			list, err := r.neighbors(ctx, "duplicate")
			if err == nil && (len(list) != 1 || list[0].Address.String() != "10.0.2.1" || list[0].Interface != "up-b") {
				err = fmt.Errorf("duplicates: %v", list)
			}
			return err
		})
	})
	t.Run("gratuitous ARP", func(t *testing.T) {
		// On "any": a capture on eth0 itself would end with the link.
		p, err := upA.Start("arp", "tcpdump", "-lnni", "any", "-c", "1", "arp", "and", "arp[14:4]=0x0a000001", "and", "arp[24:4]=0x0a000001")
		if err != nil {
			t.Fatal(err)
		}
		defer upA.Forget("arp")
		eventually(t, 10*time.Second, func(context.Context) error {
			if !strings.Contains(p.Output(), "listening on") {
				return fmt.Errorf("tcpdump: %s", p.Output())
			}
			return nil
		})
		eventually(t, 15*time.Second, func(context.Context) error {
			sh(t, upA, "ip link set eth0 down; ip link set eth0 up; ip route replace 10.1.0.0/16 via 10.0.0.1")
			select {
			case <-p.Done():
				return p.Err()
			case <-time.After(500 * time.Millisecond):
				return fmt.Errorf("no announcement: %s", p.Output())
			}
		})
	})
	t.Run("a dead port is left", func(t *testing.T) { r.checkDeadPort(t) })
	if out := r.cli(t, "show fib consistency"); strings.Contains(out, "different") || !strings.Contains(out, "consistent") {
		t.Error(out)
	}
	if out := r.cli(t, "show fib statistics"); !strings.Contains(out, "NEIGHBORS") {
		t.Error(out)
	}
}

// checkBus looks at names, links, nodes and members as people and programs do.
func (r *rig) checkBus(t *testing.T) {
	for line, want := range map[string]string{
		"show bus names": "linecard-2", "show bus links": "linecard-1", "show bus nodes": "0     up", "show modules": "MEMBER",
	} {
		if out := r.cli(t, line); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", line, want, out)
		}
	}
	var v mgmt.Bus
	if err := json.Unmarshal([]byte(r.cli(t, "show bus --json")), &v); err != nil {
		t.Fatal(err)
	}
	cards := 0
	for _, n := range v.Names {
		if n.Type == bus.TypeLinecard && n.Node == 0 && n.PID > 0 {
			cards++
		}
	}
	if cards != 2 || len(v.Links) < 3 || len(v.Nodes) != 1 || !v.Links[0].Up || v.Links[0].Transport != "local" {
		t.Errorf("bus %+v", v)
	}
	var m mgmt.Modules
	if err := json.Unmarshal([]byte(r.cli(t, "show modules --json")), &m); err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Members {
		if c.State != "up" || c.Joins != 1 {
			t.Errorf("member %+v", c)
		}
	}
	if len(m.Members) != 2 {
		t.Errorf("members %+v", m.Members)
	}
}

// checkTrace compares traces with where datagrams of the same flow arrive.
func (r *rig) checkTrace(t *testing.T) {
	seen := map[string]int{}
	for port := 4000; port < 4012; port++ {
		tr := r.trace(t, fmt.Sprintf("vrf red 198.51.100.1 from 10.1.0.2 source-port %d port 9 card 2", port))
		if tr.Prefix.String() != "198.51.100.0/24" || len(tr.Members) != 2 || tr.Egress.Card != 1 || tr.Egress.Result != "sent" || tr.Egress.MAC == "" {
			t.Fatalf("trace %+v", tr)
		}
		at := r.node(tr.Egress.Interface)
		p, err := at.Start("udp", "tcpdump", "-lnni", "eth0", "-c", "1", fmt.Sprintf("udp src port %d", port))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func(context.Context) error {
			sh(t, r.node("lan"), "echo x | socat -u - UDP4-SENDTO:198.51.100.1:9,sourceport=%d,reuseaddr", port)
			select {
			case <-p.Done():
				return p.Err()
			case <-time.After(200 * time.Millisecond):
				return fmt.Errorf("flow %d does not arrive at %s as traced", port, at.Name)
			}
		})
		at.Forget("udp")
		seen[tr.Egress.Interface]++
	}
	if len(seen) != 2 {
		t.Errorf("all flows take one member: %v", seen)
	}
	for line, want := range map[string]string{
		"vrf red 203.0.113.9 card 1": "rejected", "vrf red 192.0.2.9 card 1": "no-route", "vrf red 10.0.0.1 card 1": "local",
		"vrf red 10.1.200.1 card 1": "queued", "vrf red 10.1.255.255 card 1": "directed-broadcast",
	} {
		if tr := r.trace(t, line); tr.Egress.Result != want {
			t.Errorf("trace %s: %+v, want %s", line, tr.Egress, want)
		}
	}
}

// checkHostErrors pings from the router's own host stack, a real kernel.
func (r *rig) checkHostErrors(t *testing.T) {
	h := r.r1.VRF("red")
	for _, c := range []struct{ line, want string }{
		{"ping -n -c 2 -i 0.3 -W 2 -M do -s 1450 -I 10.1.0.1 10.0.2.2", "message too long"},
		{"ping -n -c 1 -W 5 203.0.113.9", "Packet filtered"},
		{"ping -n -c 1 -W 5 192.0.2.9", "Net Unreachable"},
		{"ping -n -c 1 -W 6 10.0.0.77", "Host Unreachable"},
	} {
		if out, err := try(t, h, "%s 2>&1", c.line); err == nil || !strings.Contains(strings.ToLower(out), strings.ToLower(c.want)) {
			t.Errorf("%s: %v, want %q in\n%s", c.line, err, c.want, out)
		}
	}
	sh(t, h, "ping -n -c 2 -i 0.2 -W 2 10.1.0.2")
}

// checkScan sends to 20,000 dead addresses of the LAN, while a neighbour is talked to.
func (r *rig) checkScan(t *testing.T) {
	p, err := r.node("lan").Start("talk", "ping", "-n", "-i", "0.05", "-c", "60", "-W", "2", "198.51.100.1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.node("lan").Forget("talk")
	sh(t, r.node("up-a"), `python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(20000):
    s.sendto(b"x", ("10.1.%%d.%%d" %% (100 + i // 250, 2 + i %% 250), 9))
'`)
	v, err := r.client.Neighbors(t.Context(), mgmt.NeighborQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Neighbors) > 600 {
		t.Errorf("%d neighbours behind a scan", len(v.Neighbors))
	}
	<-p.Done()
	if out := p.Output(); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("a neighbour suffered from the scan:\n%s", tail(out, 4))
	}
}

// checkDeadPort cuts the link to an upstream: flows go on through the other one at once, by the card's own decision.
func (r *rig) checkDeadPort(t *testing.T) {
	sh(t, r.node("up-a"), "ip link set eth0 down")
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		s, err := r.client.FIBSummary(ctx)
		if err == nil && s.Cards[0].Switches == 0 {
			err = fmt.Errorf("card 1 has not switched: %+v", s.Cards[0])
		}
		return err
	})
	sh(t, r.node("lan"), "for i in 1 2 3 4 5 6; do ping -n -c 1 -W 2 198.51.100.1 || exit 1; done")
	if tr := r.trace(t, "vrf red 198.51.100.1 from 10.1.0.2 card 1"); tr.Egress.Interface != "up-b" || tr.Egress.Result != "sent" {
		t.Errorf("trace %+v", tr)
	}
}
