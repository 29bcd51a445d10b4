package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"godwit/cluster/bus"
	"godwit/cluster/fibcast"
	"godwit/cluster/fibsync"
	"godwit/cluster/member"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
)

// maxNode is the highest number of a node.
const maxNode = 4095

// localCard is called when a line card of this machine is connected.
func (r *Router) localCard(instance uint32, sess *session.Session) session.Handler {
	node := uint32(0)
	if c := r.cfg.System.Cluster; c != nil {
		node = uint32(c.Node)
	}
	return r.cards.up(instance, node, sess, r.casts.local)
}

// remoteCard is called when a line card of another node is connected. Those of
// this one are on the bus of this machine, where the kernel tells who they are.
func (r *Router) remoteCard(instance uint32, sess *session.Session) session.Handler {
	if sess.Peer().Node == r.opt.Node {
		r.opt.Log.Warn("line card turned away: one of this node is not taken from the bus between nodes", "card", instance)
		return nil
	}
	return r.cards.up(instance, sess.Peer().Node, sess, r.casts.cluster)
}

// nodes follows the supervisors of the nodes for line cards.
type nodes struct {
	log *slog.Logger
	m   map[uint32]*session.Session
}

// up is called when a node's supervisor is connected. Its instance is its node.
func (n *nodes) up(node uint32, sess *session.Session) session.Handler {
	if sess.Peer().Node != node {
		n.log.Warn("supervisor turned away: it is on another node than it says", "node", sess.Peer().Node, "says", node)
		return nil
	}
	n.log.Info("node connected", "node", node)
	n.m[node] = sess
	return nodeSession{n, node, sess}
}

type nodeSession struct {
	n    *nodes
	node uint32
	sess *session.Session
}

// Receive takes a message of the node's supervisor.
func (x nodeSession) Receive(_ *session.Session, m session.Message) {
	var st wire.ModuleStatus
	if m.Kind != wire.ModuleEvent {
		return
	}
	if err := wire.DecodeKind(m.Kind, m.Body, &st); err != nil {
		x.n.log.Error("message of node", "node", x.node, "error", err)
		return
	}
	x.n.log.Info("module", "node", x.node, "name", st.Name, "state", st.State, "reason", st.Reason, "last_exit", st.LastExit)
}

// Closed is called when the session has ended.
func (x nodeSession) Closed(_ *session.Session, err error) {
	if x.n.m[x.node] == x.sess {
		delete(x.n.m, x.node)
		x.n.log.Warn("node lost", "node", x.node, "error", err)
	}
}

// showModules lists the modules of all nodes, and the membership of the cards.
func (r *Router) showModules(ctx context.Context) (mgmt.Modules, error) {
	out := mgmt.Modules{Members: []mgmt.Member{}}
	list, err := ask[wire.ModuleList](ctx, r, r.supervisorSession, "supervisor", wire.GetModules, struct{}{})
	if err != nil {
		return out, err
	}
	out.Modules = orEmpty(list.Modules)
	others, err := get(ctx, r, func() (map[uint32]*session.Session, error) {
		for _, s := range r.cards.member.List() {
			out.Members = append(out.Members, showMember(s))
		}
		return maps.Clone(r.nodes.m), nil
	})
	if err != nil {
		return out, err
	}
	for _, node := range slices.Sorted(maps.Keys(others)) {
		find := func() *session.Session { return others[node] }
		list, err := ask[wire.ModuleList](ctx, r, find, fmt.Sprintf("node %d", node), wire.GetModules, struct{}{})
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, m := range list.Modules {
			m.Node = node
			out.Modules = append(out.Modules, m)
		}
	}
	return out, nil
}

func showMember(s member.Status) mgmt.Member {
	return mgmt.Member{Card: s.Card, Node: s.Node, State: s.State.String(), Since: s.Since, Joins: s.Joins, Reason: s.Reason, TookMS: s.Took.Milliseconds()}
}

// showBus shows the bus of this machine and, in a cluster, the one between
// nodes.
func (r *Router) showBus(ctx context.Context) (mgmt.Bus, error) {
	list, err := ask[wire.NameList](ctx, r, r.supervisorSession, "supervisor", wire.GetNames, struct{}{})
	if err != nil {
		return mgmt.Bus{}, err
	}
	v := mgmt.Bus{Names: orEmpty(list.Names), Links: []mgmt.BusLink{}, Nodes: []mgmt.BusNode{}}
	if err := r.addMulticasts(ctx, &v); err != nil {
		return v, err
	}
	if b, ok := r.opt.Bus.(bus.Inspector); ok {
		if err := addLinks(&v, b, "local"); err != nil {
			return v, err
		}
		for _, n := range b.Nodes() {
			v.Nodes = append(v.Nodes, mgmt.BusNode{Node: n, Up: true, Cards: []mgmt.Member{}})
		}
	}
	b, ok := r.opt.Cluster.(bus.ClusterInspector)
	if !ok {
		return v, nil
	}
	states, err := b.NodeStates()
	names, nameErr := b.Names()
	if err := errors.Join(err, nameErr, addLinks(&v, b, "tipc")); err != nil {
		return v, err
	}
	for _, n := range names {
		v.Names = append(v.Names, wire.NameEntry{Type: n.Range.Type, Lower: n.Range.Lower, Upper: n.Range.Upper, Ref: n.Addr.Ref, Node: n.Addr.Node})
	}
	v.Nodes = v.Nodes[:0] // of the cluster, in which this machine has a number
	members, err := get(ctx, r, func() ([]member.Status, error) { return r.cards.member.List(), nil })
	for _, n := range states {
		node := mgmt.BusNode{Node: n.Node, Up: n.Up, Own: n.Node == r.opt.Node, Cards: []mgmt.Member{}}
		for _, s := range members {
			if s.Node == n.Node {
				node.Cards = append(node.Cards, showMember(s))
			}
		}
		v.Nodes = append(v.Nodes, node)
	}
	return v, err
}

// addMulticasts tells how routes got to the cards.
func (r *Router) addMulticasts(ctx context.Context, v *mgmt.Bus) error {
	v.Multicasts, v.Downloads = []mgmt.BusMulticast{}, []mgmt.BusDownload{}
	add := func(transport string, s *fibcast.Sender) {
		if s != nil {
			st := s.Stats()
			v.Multicasts = append(v.Multicasts, mgmt.BusMulticast{Transport: transport, Sent: st.Sent, Bytes: st.Bytes, Failed: st.Failed, Busy: st.Busy})
		}
	}
	add("local", r.casts.local)
	add("tipc", r.casts.cluster)
	streams, err := get(ctx, r, func() ([]fibsync.Status, error) { return r.routes.pub.Status(), nil })
	for _, s := range streams {
		d := mgmt.BusDownload{Card: uint16(s.Card), Takes: s.Casts.Takes, Named: s.Casts.Named, Again: s.Casts.Again, Whole: s.Casts.Whole}
		if st, err := askCard[wire.FIBStats](ctx, r, s.Card, wire.GetFIBStats, struct{}{}); err != nil {
			d.Error = err.Error()
		} else {
			d.Seen = &st.Casts
		}
		v.Downloads = append(v.Downloads, d)
	}
	return err
}

func addLinks(v *mgmt.Bus, b bus.Inspector, transport string) error {
	links, err := b.Links()
	for _, l := range links {
		silent := l.Silent.Milliseconds()
		if l.Silent < 0 {
			silent = -1
		}
		v.Links = append(v.Links, mgmt.BusLink{
			Transport: transport, Name: l.Name, Peer: l.Peer, Up: l.Up, Active: l.Active, ToleranceMS: l.Tolerance.Milliseconds(), SilentMS: silent,
		})
	}
	return err
}
