package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/event"
)

const twoNodes = `
system:
  hostname: rig
  cluster: {node: 1, bearers: [eth8]}
cards:
  - id: 1
  - {id: 2, node: 2}
vrfs:
  - name: red
    id: 7
    static:
      - prefix: 203.0.113.0/24
        via: [{address: 10.0.0.2}, {address: 10.0.2.2}]
      - prefix: 198.51.100.0/24
        via: [{address: 10.0.2.2}]
interfaces:
  - {name: one, card: 1, device: eth1, vrf: red, addresses: [10.0.0.1/24]}
  - {name: two, card: 2, device: eth1, vrf: red, addresses: [10.0.2.1/24]}
`

// between is a bus between nodes: a local one whose members are told apart by
// who they say that they are to the one that dials.
type between struct {
	bus.Bus
	nodes map[string]uint32 // by the listener's process
}

type fromNode struct {
	bus.Conn
	node uint32
}

func (c fromNode) Peer() bus.Address { return bus.Address{Ref: c.Conn.Peer().Ref, Node: c.node} }

func (b between) Dial(ctx context.Context, to bus.Service, opts ...bus.Option) (bus.Conn, error) {
	c, err := b.Bus.Dial(ctx, to, opts...)
	if err != nil {
		return nil, err
	}
	names, err := b.Bus.(bus.Inspector).Links()
	if err != nil {
		return nil, err
	}
	for _, l := range names {
		if l.Peer == c.Peer().Ref>>16 {
			return fromNode{c, b.nodes[l.Name]}, nil
		}
	}
	return nil, errors.New("no link")
}

func (b between) Links() ([]bus.Link, error) {
	return []bus.Link{{Name: "1:eth8-2:eth8", Peer: 2, Up: true, Active: true, Silent: -1}}, nil
}
func (b between) MulticastsOnce() bool { return true }
func (b between) Nodes() []uint32      { return []uint32{1, 2} }
func (b between) NodeStates() ([]bus.NodeState, error) {
	return []bus.NodeState{{Node: 1, Up: true}, {Node: 2, Up: true}, {Node: 3}}, nil
}
func (b between) Names() ([]bus.Binding, error) {
	return []bus.Binding{{Range: bus.One(bus.TypeLinecard, 2), Addr: bus.Address{Ref: 5, Node: 2}}}, nil
}

// cluster gives the rig's routing engine a second bus; join makes members of it.
func (g *rig) cluster(nodes map[string]uint32) (join func(name string) bus.Bus) {
	g.t.Helper()
	dir, err := os.MkdirTemp("", "gwt-cluster-")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { os.RemoveAll(dir) })
	server, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { server.Close() })
	join = func(name string) bus.Bus {
		b, err := local.Join(dir, name)
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { b.Close() })
		return b
	}
	own := between{join("router"), nodes}
	g.option = func(o *Options) { o.Cluster, o.Node = own, 1 }
	return join
}

func (g *rig) member(card int, ok func(mgmt.Member) bool) {
	g.t.Helper()
	g.eventually(fmt.Sprintf("membership of card %d", card), func() error {
		v, err := g.client.Modules(context.Background())
		if err != nil || len(v.Members) < card || !ok(v.Members[card-1]) {
			return fmt.Errorf("%+v, %v", v.Members, err)
		}
		return nil
	})
}

// TestALineCardOnAnotherNode: it is served as one of this machine; when it goes
// its next hops are withdrawn at once from the groups of the others.
func TestALineCardOnAnotherNode(t *testing.T) {
	g := newRig(t)
	join := g.cluster(map[string]uint32{"linecard-2": 2, "impostor": 1, "supervisor-2": 2})
	sup := &supervisorTwin{}
	g.supervisor(sup)
	one := newCardTwin(1)
	g.card(one)
	g.start(twoNodes)
	g.count(one, 7, 3) // connected, local, static by card 1 alone

	// One that says it is card 2 but is on this node is turned away.
	endImpostor := g.processOn(join("impostor"), "impostor", g.serveCard(newCardTwin(2)))
	g.member(2, func(m mgmt.Member) bool { return m.State == "absent" && m.Node == 2 && m.Joins == 0 })
	endImpostor()

	two := newCardTwin(2)
	kill := g.processOn(join("linecard-2"), "linecard-2", g.serveCard(two))
	g.count(one, 7, 6)
	g.count(two, 7, 6)
	g.member(2, func(m mgmt.Member) bool { return m.State == "up" && m.Joins == 1 })
	cfg := mustConfig(t, twoNodes)
	a, b := config.InterfaceID(cfg, "one"), config.InterfaceID(cfg, "two")
	both := fmt.Sprintf("forward 10.0.0.2@%d 10.0.2.2@%d", a, b)
	g.eventually("both next hops", func() error {
		if got := one.fib()["7 203.0.113.0/24"]; got != both {
			return fmt.Errorf("%q, want %q", got, both)
		}
		return nil
	})
	two.mu.Lock()
	if len(two.opened) != 1 || two.opened[0] != 3 {
		t.Errorf("its ports came up with %v routes, want the snapshot of 3", two.opened)
	}
	if c := two.cfg; len(c.Cards) != 1 || c.FabricDir != "" || c.VRFs[1].NetNS != "" || c.VRFs[1].TUN != "" || c.Interfaces[0].TAP != "" {
		t.Errorf("a card on another node was told of this one's host: %+v", c)
	}
	two.mu.Unlock()
	if got := sup.modules(); !slices.Equal(got, []string{"linecard-1 linecard "}) {
		t.Errorf("modules of this node: %q", got)
	}

	kill()
	g.eventually("withdrawal", func() error {
		if got, want := one.fib()["7 203.0.113.0/24"], fmt.Sprintf("forward 10.0.0.2@%d", a); got != want || one.fib()["7 198.51.100.0/24"] != "" {
			return fmt.Errorf("%q and %q", got, one.fib()["7 198.51.100.0/24"])
		}
		return nil
	})
	g.member(2, func(m mgmt.Member) bool { return m.State == "absent" && m.Reason != "" })
	// Back, with what it had: it goes on forwarding while it is resynchronised.
	g.processOn(join("linecard-2"), "linecard-2", g.serveCard(two))
	g.count(two, 7, 6)
	g.member(2, func(m mgmt.Member) bool { return m.State == "up" && m.Joins == 2 })
	two.mu.Lock()
	defer two.mu.Unlock()
	if len(two.opened) != 1 {
		t.Errorf("its ports were taken down: %v", two.opened)
	}
}

func TestShowBusOfACluster(t *testing.T) {
	g := newRig(t)
	join := g.cluster(map[string]uint32{"supervisor-2": 2, "liar": 9})
	g.supervisor(&supervisorTwin{})
	g.card(newCardTwin(1))
	// The other node's supervisor, and one that says it is another's.
	serve := func(node uint32) func(*event.Loop, bus.Bus) io.Closer {
		return func(l *event.Loop, b bus.Bus) io.Closer {
			c, err := session.Serve(l.Handler("x", event.Normal), b, bus.One(bus.TypeSupervisor, node), func(*session.Session) session.Handler { return nodeTwin{} })
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	g.processOn(join("supervisor-2"), "supervisor-2", serve(2))
	g.processOn(join("liar"), "liar", serve(3))
	g.start(twoNodes)
	g.eventually("modules of both nodes", func() error {
		v, err := g.client.Modules(context.Background())
		if err != nil || len(v.Modules) != 2 || v.Modules[1].Node != 2 || v.Modules[1].Name != "linecard-2" {
			return fmt.Errorf("%+v, %v", v.Modules, err)
		}
		return nil
	})
	v, err := g.client.Bus(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Nodes) != 3 || !v.Nodes[0].Own || len(v.Nodes[1].Cards) != 1 || v.Nodes[1].Cards[0].State != "absent" || v.Nodes[2].Up {
		t.Errorf("nodes %+v", v.Nodes)
	}
	if n := v.Names[len(v.Names)-1]; n.Type != bus.TypeLinecard || n.Node != 2 {
		t.Errorf("names %+v", v.Names)
	}
	if l := v.Links[len(v.Links)-1]; l.Transport != "tipc" || l.Peer != 2 || !l.Active {
		t.Errorf("links %+v", v.Links)
	}
}

// nodeTwin is the supervisor of a node for line cards.
type nodeTwin struct{}

func (nodeTwin) Receive(s *session.Session, m session.Message) {
	if m.Kind == wire.GetModules {
		_ = s.Reply(m, m.Kind, wire.ModuleList{Modules: []wire.ModuleStatus{{Name: "linecard-2", Role: "linecard", State: "running"}}})
	}
}
func (nodeTwin) Closed(*session.Session, error) {}

func TestDescribeTellsOfTheCluster(t *testing.T) {
	old, next := mustConfig(t, twoNodes), mustConfig(t, strings.Replace(twoNodes, "[eth8]", "[eth8, eth9]", 1))
	lines := describe(old, next)
	if len(lines) != 1 || !strings.Contains(lines[0], "when the supervisor starts again") {
		t.Errorf("%q", lines)
	}
	next.System.Cluster.Bearers, next.System.Hostname = old.System.Cluster.Bearers, "other"
	if lines := describe(old, next); !slices.Equal(lines, []string{"system: changed"}) {
		t.Errorf("%q", lines)
	}
}
