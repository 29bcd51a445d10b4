package supervisor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"godwit/cluster/bus"
	"godwit/cluster/bus/tipc"
	"godwit/cluster/session"
	"godwit/cluster/wire"
)

// Cluster is this machine's part in a router of several machines.
type Cluster struct {
	Node uint32
	// Cards run here on a node for line cards, which has no routing engine; empty:
	// the routing engine's node.
	Cards     []uint16
	Transport Transport
	Secret    []byte // that members of the bus between nodes show each other; empty: none
}

// Transport is the bus between nodes.
type Transport interface {
	Setup() error
	// Remove undoes Setup.
	Remove() error
	Join() (bus.Bus, error)
}

// TIPC is the kernel's.
type TIPC struct {
	Node    tipc.Node
	Options []tipc.Option
}

// Setup gives the kernel identity, key and bearers.
func (t TIPC) Setup() error { return tipc.Setup(t.Node) }

// Remove takes the bearers and the key away.
func (t TIPC) Remove() error { return tipc.Remove(t.Node) }

// Join makes this process a member.
func (t TIPC) Join() (bus.Bus, error) { return tipc.Join(t.Options...) }

// secretFile in the run directory hands the secret to the modules that join the
// bus between nodes.
const secretFile = "cluster.secret"

// clusterPart is what the supervisor holds of the cluster.
type clusterPart struct {
	joined       bool
	between      bus.Bus // the bus between nodes; nil but on nodes for line cards
	betweenBinds io.Closer
}

// joinCluster makes this machine a node, before any module runs.
func (s *Supervisor) joinCluster() error {
	c := s.cfg.Cluster
	if c == nil {
		return nil
	}
	if err := c.Transport.Setup(); err != nil {
		return fmt.Errorf("join cluster as node %d: %w", c.Node, err)
	}
	s.joined = true
	if len(c.Secret) > 0 {
		if err := os.WriteFile(s.secretPath(), []byte(hex.EncodeToString(c.Secret)+"\n"), 0o600); err != nil {
			return fmt.Errorf("join cluster: %w", err)
		}
		if err := s.giveTo("linecard", s.secretPath()); err != nil { // the routing engine passes permissions
			return fmt.Errorf("join cluster: %w", err)
		}
	} else {
		s.cfg.Log.Warn("the cluster has no key: who is on its wires, or opens a socket on a node, may join")
	}
	s.cfg.Log.Info("node of a cluster", "node", c.Node, "cards", c.Cards)
	if len(c.Cards) == 0 {
		return nil
	}
	var err error
	if s.between, err = c.Transport.Join(); err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	s.betweenBinds, err = session.Serve(s.serve, s.between, bus.One(bus.TypeSupervisor, c.Node), s.acceptNode)
	return err
}

// leaveCluster undoes joinCluster.
func (s *Supervisor) leaveCluster() error {
	var errs []error
	if s.betweenBinds != nil {
		errs = append(errs, s.betweenBinds.Close())
	}
	if s.between != nil {
		errs = append(errs, s.between.Close())
	}
	if s.joined {
		if err := os.Remove(s.secretPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, s.cfg.Cluster.Transport.Remove())
	}
	return errors.Join(errs...)
}

func (s *Supervisor) secretPath() string { return filepath.Join(s.cfg.RunDir, secretFile) }

// cardSpecs are the modules of a node for line cards.
func cardSpecs(cards []uint16) []wire.ModuleSpec {
	var specs []wire.ModuleSpec
	for _, id := range cards {
		n := strconv.Itoa(int(id))
		specs = append(specs, wire.ModuleSpec{Name: "linecard-" + n, Role: "linecard", Args: []string{"--card", n}})
	}
	return specs
}

// clusterArgs are what a module needs to join the bus between nodes: the routing
// engine, besides that of its machine, and the line cards of other nodes.
func (s *Supervisor) clusterArgs(role string) []string {
	c := s.cfg.Cluster
	if c == nil || (len(c.Cards) == 0) != (role == RouterName) || (role != RouterName && role != "linecard") {
		return nil
	}
	args := []string{"--cluster-node", strconv.Itoa(int(c.Node))}
	if len(c.Secret) > 0 {
		args = append(args, "--cluster-secret", s.secretPath())
	}
	return args
}

// acceptNode takes a session of the routing engine's node.
func (s *Supervisor) acceptNode(c *session.Session) session.Handler {
	s.sessions[c] = struct{}{}
	return otherNode{s}
}

// otherNode serves another node, which may look but change nothing: what runs
// here is in this node's configuration.
type otherNode struct{ s *Supervisor }

// Closed implements session.Handler.
func (o otherNode) Closed(c *session.Session, err error) { o.s.Closed(c, err) }

// Receive implements session.Handler.
func (o otherNode) Receive(c *session.Session, m session.Message) {
	switch m.Kind {
	case wire.GetModules, wire.GetModule, wire.GetEvents, wire.GetTrace:
		o.s.Receive(c, m)
	default:
		if m.ID != 0 {
			o.s.answered(c, m, c.ReplyError(m, fmt.Errorf("supervisor: %v is not for other nodes", m.Kind)))
		}
	}
}
