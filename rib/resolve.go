package rib

import (
	"math"
	"slices"

	"godwit/fib"
)

// Resolution of a next hop (docs/rib.md has the same list):
//
//  1. With an interface it resolves if the interface is up, in the VRF: to
//     itself.
//  2. Without, the routes of its VRF that contain its address are tried from the
//     longest prefix to the shortest, the candidates of each in the order of the
//     decision, leaked ones too: their next hops are resolved in the VRF that they
//     came from. The default route is not tried unless the VRF says so.
//  3. A local candidate ends the search: the next hop is the router itself.
//  4. A blackhole or reject candidate resolves it to discard.
//  5. An interface without an address makes the next hop a neighbour there.
//  6. A candidate with next hops resolves it if one of them resolves, to where they do;
//     a chain has at most MaxDepth of these. All that it tracks has to resolve.
//  7. A next hop that is being resolved does not resolve (loop): the candidate
//     that led back to it is passed over.
//
// So the outcome for a next hop is a function of candidates and interfaces
// alone, whatever the order of events; what was tried on the way is recorded,
// and only next hops that tried something that changed are resolved again.

// resolution is the outcome for a next hop.
type resolution struct {
	kind   fib.Kind      // Forward; or Blackhole, Reject: discard
	leaves []fib.NextHop // where it leads to; never changed in place
	height int           // how many routes were gone through
	why    failure       // resolved, or why not

	via      key // the route that it resolves through
	viaProto Protocol
	viaSet   uint32
	viaVRF   *vrf // of the route's origin
}

func (r *resolution) ok() bool { return len(r.leaves) > 0 || r.kind != fib.Forward }

// resolver is the state of one resolution.
type resolver struct {
	log   []uint32 // hops looked at, by frames that are not finished or depend on such
	steps int

	round  uint32 // of resolveDirty
	search uint32 // of onStack
}

// maxSteps bounds the work for one next hop where routes resolve through each
// other in a tangle; a sane table needs a few dozen.
const maxSteps = 4_000

// clean is a depth that no frame has: the outcome depends on none.
const clean = math.MaxInt

// resolve finds the outcome for a next hop, at the given depth of the stack
// (from 1). It also returns the lowest frame whose being on the stack it ran
// into: unless that is clean, the outcome holds in this context only.
func (t *Table) resolve(i uint32, depth int) (resolution, int) {
	h := t.hops.at(i)
	if depth > 1 {
		t.res.log = append(t.res.log, i)
	}
	switch {
	case h.pos > 0:
		return resolution{why: looped}, h.pos
	case h.valid && (depth == 1 || !t.onStack(h)):
		return h.resolution, clean
	case h.direct():
		h.resolution, h.valid = t.resolveDirect(h), true
		return h.resolution, clean
	}
	if t.res.steps++; t.res.steps > maxSteps {
		return resolution{why: tooComplex}, 0
	}
	start := len(t.res.log)
	h.pos = depth
	r, low := t.resolveThrough(h, depth)
	h.pos = 0
	if low < depth && depth > 1 {
		return r, low
	}
	if !h.valid {
		h.resolution, h.valid, h.round = r, true, t.res.round
		t.setInputs(i, h, t.res.log[start:])
		t.res.log = t.res.log[:start]
	}
	return r, clean
}

// onStack tells whether a known outcome came about through a next hop that is
// being resolved now: then it does not hold in this context. Only outcomes of
// this round can have.
func (t *Table) onStack(h *hop) bool {
	if h.round != t.res.round {
		return false
	}
	t.res.search++
	return t.searchStack(h)
}

func (t *Table) searchStack(h *hop) bool {
	h.search = t.res.search
	for _, in := range h.inputs {
		x := t.hops.at(in)
		if t.res.steps++; x.pos > 0 || t.res.steps > maxSteps {
			return true
		}
		if x.round == t.res.round && x.search != t.res.search && t.searchStack(x) {
			return true
		}
	}
	return false
}

// setInputs records what a resolution looked at.
func (t *Table) setInputs(i uint32, h *hop, log []uint32) {
	slices.Sort(log)
	h.inputs = append(h.inputs[:0], slices.Compact(log)...)
	for _, in := range h.inputs {
		x := t.hops.at(in)
		if x.deps == nil {
			x.deps = map[uint32]struct{}{}
		}
		x.deps[i] = struct{}{}
	}
}

func (t *Table) resolveDirect(h *hop) resolution {
	f := t.ifaces[h.iface]
	if !f.known || !f.Up || f.VRF != h.vrf {
		return resolution{why: interfaceDown}
	}
	return resolution{leaves: []fib.NextHop{{Interface: h.iface, Gateway: h.addr, Weight: 1}}}
}

// resolveThrough tries the routes that contain a next hop's address.
func (t *Table) resolveThrough(h *hop, depth int) (resolution, int) {
	why, low := noRoute, clean
	tr := &h.v.routes[family(h.addr)]
	for ni := tr.deepest(&t.nodes, addrKey(h.addr, uint8(h.addr.BitLen()))); ni != 0; {
		n := t.nodes.at(ni)
		ni = n.up
		if n.bits == 0 && !h.v.opt.ResolveByDefault {
			if n.first != 0 && why == noRoute {
				why = onlyDefault
			}
			continue
		}
		for ci := n.first; ci != 0; {
			c := t.cands.at(ci)
			r, l := t.through(h, c, depth)
			low = min(low, l)
			if r.ok() {
				r.via, r.viaProto, r.viaSet, r.viaVRF = n.key, c.proto, c.set, t.origin(h.v, c)
				return r, low
			}
			if c.proto == Local {
				return r, low
			}
			if why == noRoute {
				why = r.why
			}
			ci = c.next
		}
	}
	return resolution{why: why}, low
}

// through tries one candidate of a route that contains the next hop.
func (t *Table) through(h *hop, c *cand, depth int) (resolution, int) {
	s := t.sets.at(c.set)
	if c.proto == Local {
		return resolution{why: ownAddress}, clean
	}
	low := clean
	for _, x := range s.tracks {
		sub, l := t.resolve(x, depth+1)
		low = min(low, l)
		if len(sub.leaves) == 0 {
			return resolution{why: trackDown}, low
		}
	}
	if s.kind != fib.Forward {
		return resolution{kind: s.kind, height: 1}, low
	}
	var m merger
	r := resolution{why: unusable, height: 1}
	for _, x := range s.members {
		sub, l := t.resolve(x.hop, depth+1)
		low = min(low, l)
		switch {
		case sub.height >= t.opt.MaxDepth:
			r.why = tooDeep
			continue
		case !sub.ok():
			r.why = sub.why
			continue
		case sub.kind == fib.Blackhole, sub.kind == fib.Reject && r.kind == fib.Forward:
			r.kind = sub.kind
		case len(sub.leaves) > 0 && !t.hops.at(x.hop).addr.IsValid():
			m.add([]fib.NextHop{{Interface: sub.leaves[0].Interface, Gateway: h.addr, Weight: 1}}, x.weight, x.backup)
		default:
			m.add(sub.leaves, x.weight, x.backup)
		}
		r.height = max(r.height, sub.height+1)
	}
	if r.leaves = m.hops(); len(r.leaves) > 0 {
		r.kind = fib.Forward
	}
	if r.ok() {
		r.why = resolved
	}
	return r, low
}
