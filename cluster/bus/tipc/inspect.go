package tipc

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

var _ bus.ClusterInspector = (*Member)(nil)

// Links returns the links to other nodes: one for each common bearer.
func (m *Member) Links() ([]bus.Link, error) { return Links() }

// Nodes returns this node and those that it has links to.
func (m *Member) Nodes() []uint32 {
	states, _ := m.NodeStates()
	var list []uint32
	for _, n := range states {
		if n.Up {
			list = append(list, n.Node)
		}
	}
	return list
}

// dump asks for a list and hands the attributes of each entry to f.
func dump(what string, cmd byte, kind uint16, f func(map[uint16][]byte) error) error {
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	defer nl.close()
	answers, err := nl.ask(cmd, true)
	if err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	for _, a := range answers {
		in, err := inner(a, kind)
		if err == nil {
			err = f(in)
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", what, err)
		}
	}
	return nil
}

// Links returns the kernel's links to other nodes.
func Links() ([]bus.Link, error) {
	var list []bus.Link
	err := dump("links", cmdLinkGet, nlaLink, func(l map[uint16][]byte) error {
		name := str(l[linkName])
		if strings.HasPrefix(name, "broadcast-link") {
			return nil
		}
		prop, err := inner(l, linkProp)
		if err != nil {
			return err
		}
		_, up := l[linkUp]
		_, active := l[linkActive]
		list = append(list, bus.Link{
			Name: name, Peer: peerOf(name), Up: up, Active: active, Silent: -1,
			Tolerance: time.Duration(number(prop[propTolerance])) * time.Millisecond,
		})
		return nil
	})
	return list, err
}

var peerRE = regexp.MustCompile(`-([0-9a-f]{1,8}):`)

// peerOf finds the peer's address in a link's name, "1:eth0-2:eth0" with the
// nodes in hexadecimal; 0 if it has none yet.
func peerOf(link string) uint32 {
	m := peerRE.FindStringSubmatch(link)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 16, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// NodeStates returns all nodes that the kernel has heard of, this one first.
func (m *Member) NodeStates() ([]bus.NodeState, error) {
	own, err := ownNode()
	if err != nil {
		return nil, err
	}
	var list []bus.NodeState
	err = dump("nodes", cmdNodeGet, nlaNode, func(n map[uint16][]byte) error {
		if a := number(n[nodeAddr]); a != own {
			_, up := n[nodeUp]
			list = append(list, bus.NodeState{Node: a, Up: up})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b bus.NodeState) int { return cmp.Compare(a.Node, b.Node) })
	return append([]bus.NodeState{{Node: own, Up: true}}, list...), err
}

// Names returns the name table of the kernel, without its own services.
func (m *Member) Names() ([]bus.Binding, error) {
	var list []bus.Binding
	err := dump("names", cmdNamesGet, nlaNames, func(n map[uint16][]byte) error {
		p, err := inner(n, namesPubl)
		if err != nil {
			return err
		}
		b := bus.Binding{
			Range: bus.Range{Type: number(p[publType]), Lower: number(p[publLower]), Upper: number(p[publUpper])},
			Addr:  bus.Address{Ref: number(p[publRef]), Node: number(p[publNode])},
		}
		if number(p[publScope]) == unix.TIPC_NODE_SCOPE {
			b.Scope = bus.Node
		}
		if b.Range.Type >= bus.MinType {
			list = append(list, b)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b bus.Binding) int {
		return cmp.Or(cmp.Compare(a.Range.Type, b.Range.Type), cmp.Compare(a.Range.Lower, b.Range.Lower), cmp.Compare(a.Addr.Node, b.Addr.Node), cmp.Compare(a.Addr.Ref, b.Addr.Ref))
	})
	return list, err
}
