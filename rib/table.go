package rib

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"godwit/fib"
)

// Options bound and tune a Table; the zero value is the default.
type Options struct {
	// ResolveByDefault is VRFOptions.ResolveByDefault of VRFs for which SetVRF says nothing.
	ResolveByDefault bool
	// MaxDepth bounds how many routes may resolve through each other in a
	// chain. 0: 16.
	MaxDepth int
	// Slice bounds the routes that one Apply decides again because of a set
	// that became usable or unusable, and those it looks at for a sweep. 0: 4,096.
	Slice int
	// History is how many changes of prefixes the log keeps (see Changes). 0: none.
	History int
}

// Table is the RIB of all VRFs.
type Table struct {
	opt    Options
	vrfs   map[fib.VRF]*vrf
	ifaces map[fib.InterfaceID]*iface

	nodes slab[node]
	cands slab[cand]
	sets  slab[set]
	hops  slab[hop]
	attrs slab[attrs]
	leaks slab[leak]

	setIndex   map[string]uint32
	hopIndex   map[hopKey]uint32
	attrIndex1 map[attrKey]uint32 // one path
	attrIndexN map[string]uint32  // several paths
	scratch    []byte
	members    []member
	tracks     []uint32
	res        resolver
	groups     int
	nextGroup  fib.GroupID

	touched   []touched // routes to decide at the end of this Apply
	dirtyHops []uint32
	dirtySets []uint32
	idleSets  []uint32 // may have become unused
	flips     []uint32 // sets whose routes are being decided again
	sweeps    []*sweep
	removing  int // VRFs that go once they are empty

	out      []fib.Change
	best     []BestChange
	notices  []Notice
	missing  []fib.VRF
	hist     history
	rejected uint64
	lastErr  error
}

// touched is a route whose candidates changed.
type touched struct {
	vrf  *vrf
	node uint32
}

// vrf is one routing instance.
type vrf struct {
	id       fib.VRF
	routes   [2]trie // IPv4, IPv6
	hops     [2]trie // tracked next hops
	gen      [numProtocols]uint16
	counts   [2]int // installed prefixes
	cands    [numProtocols]int
	removing bool
	opt      VRFOptions
	exports  []uint32 // leaks from it
	imports  []uint32 // leaks to it
	used     int      // prefixes with a candidate
	leaked   int      // candidates of other VRFs
	refused  uint64
	relist   bool // a leaked route was refused
	lacks    bool // a BGP route was refused
	said     LimitState
}

// New makes an empty table.
func New(opt Options) *Table {
	if opt.MaxDepth == 0 {
		opt.MaxDepth = 16
	}
	if opt.Slice == 0 {
		opt.Slice = 4096
	}
	t := &Table{
		opt: opt, vrfs: map[fib.VRF]*vrf{}, ifaces: map[fib.InterfaceID]*iface{},
		nodes: newSlab[node](), cands: newSlab[cand](), sets: newSlab[set](), hops: newSlab[hop](), attrs: newSlab[attrs](),
		setIndex: map[string]uint32{}, hopIndex: map[hopKey]uint32{},
		attrIndex1: map[attrKey]uint32{}, attrIndexN: map[string]uint32{}, leaks: newSlab[leak](),
	}
	t.hist.ring = make([]RouteChange, opt.History)
	return t
}

// Apply takes updates in order, resolves and decides; the effects are in
// Drain. An update that makes no sense is counted (Stats) and left out.
// Without updates it goes on with what More tells of.
func (t *Table) Apply(updates ...Update) {
	for _, u := range updates {
		t.reject(u.apply(t))
	}
	budget := t.opt.Slice
	t.runSweeps(&budget)
	t.settle()
	for _, x := range t.touched {
		t.nodes.at(x.node).queued = false
		t.decide(x.vrf, x.node, true)
	}
	t.touched = t.touched[:0]
	t.runFlips(&budget)
	t.releaseIdle()
	t.checkLimits()
	t.dropVRFs()
}

// More tells whether routes wait to be decided again or swept: call Apply
// until it is false. What waits forwards by its old route until then (or, if
// that has no usable next hop, not at all).
func (t *Table) More() bool { return len(t.flips) > 0 || len(t.sweeps) > 0 }

// Drain takes the changes for the FIB since the last time, groups before the
// routes that use them, deletes after.
func (t *Table) Drain() []fib.Change {
	out := t.out
	t.out = nil
	return out
}

// DrainBest takes the changes of chosen connected and static routes.
func (t *Table) DrainBest() []BestChange {
	best := t.best
	t.best = nil
	return best
}

func (t *Table) reject(err error) {
	if err != nil {
		t.rejected++
		t.lastErr = err
	}
}

// Errors of updates.
var (
	ErrUnknownVRF = errors.New("unknown VRF")
	ErrBadRoute   = errors.New("bad route")
)

func (t *Table) vrf(id fib.VRF) (*vrf, error) {
	v := t.vrfs[id]
	if v == nil || v.removing {
		return nil, fmt.Errorf("%w %d", ErrUnknownVRF, id)
	}
	return v, nil
}

func checkPrefix(p netip.Prefix) error {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return fmt.Errorf("%w: prefix %v is invalid, IPv4-mapped or has host bits set", ErrBadRoute, p)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (u AddVRF) apply(t *Table) error {
	if v := t.vrfs[u.VRF]; v != nil {
		if v.removing {
			t.removing--
		}
		was := v.removing
		v.removing = false // its old routes are swept all the same
		if was {
			return SetVRF{u.VRF, VRFOptions{ResolveByDefault: t.opt.ResolveByDefault}}.apply(t)
		}
		return nil
	}
	t.vrfs[u.VRF] = &vrf{
		id: u.VRF, routes: [2]trie{{is4: true}, {}}, hops: [2]trie{{is4: true}, {}},
		opt: VRFOptions{ResolveByDefault: t.opt.ResolveByDefault, EBGP: DistanceEBGP, IBGP: DistanceIBGP},
	}
	return nil
}

func (u RemoveVRF) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err != nil {
		return err
	}
	for id, i := range t.ifaces {
		if i.known && i.VRF == v.id {
			t.reject(RemoveInterface{id}.apply(t))
		}
	}
	v.removing = true
	t.removing++
	for _, i := range slices.Concat(v.exports, v.imports) {
		t.endLeak(i)
	}
	for p := Local; p < numProtocols; p++ {
		v.gen[p]++
		t.startSweep(v, p)
	}
	return nil
}

func (u MarkStale) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err != nil {
		return err
	}
	if u.Protocol == 0 || u.Protocol >= numProtocols {
		return fmt.Errorf("mark %v stale: no such protocol", u.Protocol)
	}
	v.gen[u.Protocol]++
	t.stopSweep(v, u.Protocol)
	return nil
}

func (u Sweep) apply(t *Table) error {
	v, err := t.vrf(u.VRF)
	if err != nil {
		return err
	}
	if u.Protocol == 0 || u.Protocol >= numProtocols {
		return fmt.Errorf("sweep %v: no such protocol", u.Protocol)
	}
	t.startSweep(v, u.Protocol)
	return nil
}

// Stats counts what a table holds.
type Stats struct {
	VRFs       int
	Routes     int // installed prefixes
	Candidates int
	Groups     int
	NextHops   int
	Sets       int
	Rejected   uint64
	LastReject error
}

// Stats tells the table's counts.
func (t *Table) Stats() Stats {
	s := Stats{
		VRFs: len(t.vrfs), Candidates: t.cands.len(), Groups: t.groups, NextHops: t.hops.len(), Sets: t.sets.len(),
		Rejected: t.rejected, LastReject: t.lastErr,
	}
	for _, v := range t.vrfs {
		s.Routes += v.counts[0] + v.counts[1]
	}
	return s
}

// Count tells how many IPv4 and IPv6 prefixes of a VRF are installed.
func (t *Table) Count(id fib.VRF) (n4, n6 int) {
	if v := t.vrfs[id]; v != nil {
		return v.counts[0], v.counts[1]
	}
	return 0, 0
}
