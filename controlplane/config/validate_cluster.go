package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"
)

// Bounds of a cluster. The kernel's TIPC has three bearers at most.
const (
	maxNode      = 4095
	maxNetwork   = 9999
	maxBearers   = 3
	minTolerance = 100 * time.Millisecond
	maxTolerance = 30 * time.Second
)

func (v *validator) checkCluster() {
	k := v.c.System.Cluster
	for i := range v.c.Cards {
		card, path := &v.c.Cards[i], fmt.Sprintf("cards[%d].node", i)
		switch {
		case card.Node == 0:
		case k == nil:
			v.fail(path, "say which node this one is under system.cluster", "card %d is on a node, but there is no cluster", card.ID)
		default:
			v.inRange(path, int(card.Node), 1, maxNode)
		}
	}
	if k == nil {
		return
	}
	const path = "system.cluster"
	v.inRange(path+".node", int(k.Node), 1, maxNode)
	v.oneOf(path+".role", k.Role, RoleRouter, RoleLinecard)
	v.inRange(path+".network", int(k.Network), 1, maxNetwork)
	if k.LinkTolerance < minTolerance || k.LinkTolerance > maxTolerance {
		v.fail(path+".link-tolerance", fmt.Sprintf("%v to %v", minTolerance, maxTolerance), "%v is out of range", k.LinkTolerance)
	}
	if k.KeyFile != "" && !filepath.IsAbs(k.KeyFile) {
		v.fail(path+".key-file", "for example /etc/godwit/cluster.key", "%q is not an absolute path", k.KeyFile)
	}
	v.checkBearers(path+".bearers", k)
	if k.Role == RoleLinecard {
		v.checkLinecardNode(k)
	}
}

func (v *validator) checkBearers(path string, k *Cluster) {
	if len(k.Bearers) == 0 || len(k.Bearers) > maxBearers {
		v.fail(path, "network devices that lead to the other nodes, for example [eth2, eth3]", "%d bearers, want 1 to %d", len(k.Bearers), maxBearers)
	}
	taken := map[string]string{}
	for i := range v.c.Cards {
		card := &v.c.Cards[i]
		for _, p := range card.Ports {
			if !v.c.Remote(card) {
				taken[p.Device] = fmt.Sprintf("a port of card %d", card.ID)
			}
		}
	}
	for i := range v.c.Interfaces {
		if f := &v.c.Interfaces[i]; v.c.NodeOf(f.Card) == k.Node {
			taken[f.Device] = "the device of interface " + f.Name
		}
	}
	for i, b := range k.Bearers {
		at := fmt.Sprintf("%s[%d]", path, i)
		if b.Local.IsValid() || b.Remote.IsValid() {
			v.checkUDP(at, b)
			continue
		}
		v.checkDevice(at, b.Device)
		if other, used := taken[b.Device]; used {
			v.fail(at, "a line card takes its devices for itself: use another", "bearer %q is %s already", b.Device, other)
		}
		taken[b.Device] = "a bearer"
	}
}

func (v *validator) checkUDP(path string, b Bearer) {
	own := func(a netip.Addr) bool {
		return a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && a.Zone() == "" && !a.Is4In6()
	}
	switch {
	case b.Device != "":
		v.fail(path, "one of: device, local", "a bearer is a device or UDP, not both")
	case !own(b.Local):
		v.fail(path+".local", "this node's address, for example 192.0.2.1", "%v is not the address of a station", b.Local)
	case b.Remote.IsValid() && (!own(b.Remote) || b.Remote.Is4() != b.Local.Is4() || b.Remote == b.Local):
		v.fail(path+".remote", "the other node's address, of the same family", "%v is no peer of %v", b.Remote, b.Local)
	}
}

// checkLinecardNode: the routing engine's node has the router's configuration.
func (v *validator) checkLinecardNode(k *Cluster) {
	const hint = "it belongs into the configuration of the routing engine's node"
	if len(v.c.Cards) == 0 {
		v.fail("cards", "list the line cards that run here: [{id: 2}]", "a node for line cards without a line card")
	}
	for i, c := range v.c.Cards {
		if c.Node != 0 && c.Node != k.Node {
			v.fail(fmt.Sprintf("cards[%d].node", i), "leave it out", "card %d is on node %d, this is node %d", c.ID, c.Node, k.Node)
		}
	}
	if len(v.c.Interfaces) > 0 {
		v.fail("interfaces", hint, "a node for line cards has no interfaces of its own")
	}
	for i := range v.c.VRFs {
		if _, listed := v.p.at[v.vrfPath(i)]; listed {
			v.fail("vrfs", hint, "a node for line cards has no VRFs of its own")
			break
		}
	}
}

// checkPeerNode refuses a BGP neighbor behind an interface on another node: the
// host stack, with the BGP speaker, is on the routing engine's and gets no
// packets from there.
func (v *validator) checkPeerNode(path string, vrf *VRF, a netip.Addr) {
	for i := range v.c.Interfaces {
		f := &v.c.Interfaces[i]
		onLink := f.Name == a.Zone() || slices.ContainsFunc(f.Addresses, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
		if f.VRF != vrf.Name || !onLink {
			continue
		}
		for j := range v.c.Cards {
			if k := &v.c.Cards[j]; k.ID == f.Card && v.c.Remote(k) {
				v.fail(path+".address", "peer over an interface of the routing engine's node", "neighbor %v is behind interface %q, which is on node %d", a, f.Name, k.Node)
				return
			}
		}
	}
}
