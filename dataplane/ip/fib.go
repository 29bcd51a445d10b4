// Package ip forwards IPv4 and IPv6: validation (ip4-input, ip6-input), batched
// lookup in the VRF's table (ip4-lookup, ip6-lookup), and next hop, TTL and
// rewrite (ip4-forward, ip6-forward). It owns the next-hop groups and the table
// of own addresses, which one goroutine writes and workers read without locks.
package ip

import (
	"godwit/dataplane/graph"
	"godwit/fib"
)

// FIB is what the nodes ask the tables: fib/patricia's Tables. Results are
// dense group indices, 0 for no route.
type FIB interface {
	LookupBatch4(vrf fib.VRF, addrs []uint32, groups []uint32)
	LookupBatch6(vrf fib.VRF, addrs [][2]uint64, groups []uint32)
}

// Lookup is the node ip4-lookup or ip6-lookup: it sets Group of each packet that
// its Input found valid, with one batch for each VRF in the vector.
type Lookup struct {
	FIB FIB // set by the pipeline

	in     *Input
	name   string
	groups [graph.VectorSize]uint32
	order  [graph.VectorSize]uint8 // packets of one VRF, then those that are left
	addr4  [graph.VectorSize]uint32
	addr6  [graph.VectorSize][2]uint64
}

// NewLookup makes the lookup behind an Input.
func NewLookup(in *Input) *Lookup { return &Lookup{in: in, name: in.name[:3] + "-lookup"} }

// Name is the node's name.
func (n *Lookup) Name() string { return n.name }

// Nexts are the nodes that follow.
func (n *Lookup) Nexts() []string { return []string{n.name[:3] + "-forward"} }

// Process looks up all packets of v, which is the Input's Valid.
func (n *Lookup) Process(v *graph.Vector) {
	if v.N == 0 {
		return
	}
	first := v.P[0].VRF
	mixed := false
	for _, p := range v.P[1:v.N] {
		mixed = mixed || p.VRF != first
	}
	if mixed {
		n.byVRF(v)
		return
	}
	groups := n.groups[:v.N]
	if n.in.ip6 {
		n.FIB.LookupBatch6(first, n.in.Addr6[:v.N], groups)
	} else {
		n.FIB.LookupBatch4(first, n.in.Addr4[:v.N], groups)
	}
	for i, p := range v.P[:v.N] {
		p.Group = groups[i]
	}
}

// few is the packets of a VRF that are worth a batch: tables look up less one by one. A vector
// whose packets are of nearly as many VRFs is not sorted then.
const few = 4

// byVRF makes a batch of each VRF's packets.
func (n *Lookup) byVRF(v *graph.Vector) {
	left := n.order[:v.N]
	for i := range left {
		left[i] = uint8(i)
	}
	var mine [graph.VectorSize]uint8
	for len(left) > 0 {
		vrf := v.P[left[0]].VRF
		m, rest := 0, left[:0]
		for _, i := range left {
			if v.P[i].VRF != vrf {
				rest = append(rest, i)
				continue
			}
			mine[m] = i
			n.addr4[m], n.addr6[m] = n.in.Addr4[i], n.in.Addr6[i]
			m++
		}
		if n.in.ip6 {
			n.FIB.LookupBatch6(vrf, n.addr6[:m], n.groups[:m])
		} else {
			n.FIB.LookupBatch4(vrf, n.addr4[:m], n.groups[:m])
		}
		for k, i := range mine[:m] {
			v.P[i].Group = n.groups[k]
		}
		left = rest
		if m < few {
			for _, i := range left {
				n.one(v.P[i], int(i))
			}
			return
		}
	}
}

// one looks up packet i by itself.
func (n *Lookup) one(p *graph.Packet, i int) {
	if n.in.ip6 {
		n.FIB.LookupBatch6(p.VRF, n.in.Addr6[i:i+1], n.groups[:1])
	} else {
		n.FIB.LookupBatch4(p.VRF, n.in.Addr4[i:i+1], n.groups[:1])
	}
	p.Group = n.groups[0]
}
