package bgp

import (
	"context"
	"fmt"
	"math"
	"net/netip"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"godwit/cluster/wire"
)

// Advertising only what is in the FIB: the export policies ask for a prefix set
// that has what all line cards have acknowledged. GoBGP does not look again at a path
// when a set changes, so that each prefix gets, for a moment, a path of ours that is
// better than any other and is never advertised (the hold):
//
//	installed: hold; into the set; no hold: the best path is advertised
//	gone:      hold: what was advertised is withdrawn; out of the set; no hold: the best path is refused
//
// The routing engine does not hear of holds. What GoBGP says when one ends is the
// state of the prefix, so nothing is missed; that needs best paths to be single.

// fibState is what the routing engine says to be in the FIB of all line cards.
type fibState struct {
	have    map[netip.Prefix]bool
	confirm map[netip.Prefix]bool // told since Begin; nil: End was
}

// fibState takes over a message.
func (s *Speaker) fibState(b wire.FIBStateBody) error {
	for _, list := range [][]netip.Prefix{b.Installed, b.Gone} {
		for _, p := range list {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				return fmt.Errorf("take over what is in the FIB: bad prefix %v", p)
			}
		}
	}
	add, del := s.fib.change(b)
	if len(add)+len(del) == 0 {
		return nil
	}
	adds, dels := s.heldRoutes(add), s.heldRoutes(del)
	s.enqueue(func() error { return s.srv.fibChange(adds, dels) }, func(err error) {
		if err != nil {
			s.opt.Log.Error("advertise what is in the FIB", "error", err)
		}
	})
	return nil
}

// change returns what is new and what is gone.
func (f *fibState) change(b wire.FIBStateBody) (add, del []netip.Prefix) {
	if f.have == nil {
		f.have = map[netip.Prefix]bool{}
	}
	if b.Begin {
		f.confirm = map[netip.Prefix]bool{}
	}
	for _, p := range b.Installed {
		if f.confirm != nil {
			f.confirm[p] = true
		}
		if !f.have[p] {
			f.have[p] = true
			add = append(add, p)
		}
	}
	for _, p := range b.Gone {
		delete(f.confirm, p)
		if f.have[p] {
			delete(f.have, p)
			del = append(del, p)
		}
	}
	if b.End && f.confirm != nil {
		for p := range f.have {
			if !f.confirm[p] {
				delete(f.have, p)
				del = append(del, p)
			}
		}
		f.confirm = nil
	}
	return add, del
}

// held is a prefix that gets a hold, and the route of ours that it takes the place of.
type held struct {
	prefix netip.Prefix
	metric uint32
	ours   bool // redistributed
}

func (s *Speaker) heldRoutes(list []netip.Prefix) []held {
	out := make([]held, len(list))
	for i, p := range list {
		out[i].prefix = p
		out[i].metric, out[i].ours = s.redist.metric(p)
	}
	return out
}

// holdPref is the local preference of a hold, above all that are usual.
const holdPref = math.MaxUint32

// isHold tells whether a path of ours is a hold.
func isHold(attrs []bgp.PathAttributeInterface) bool {
	for _, a := range attrs {
		if p, ok := a.(*bgp.PathAttributeLocalPref); ok {
			return p.Value == holdPref
		}
	}
	return false
}

// fibChange puts prefixes into the sets and takes others out.
func (s *server) fibChange(add, del []held) error {
	if s.installed == nil {
		s.installed = map[netip.Prefix]bool{}
	}
	for _, h := range add {
		s.installed[h.prefix] = true
	}
	for _, h := range del {
		delete(s.installed, h.prefix)
	}
	if s.bgp == nil || !s.cfg.AdvertiseFIB {
		return nil
	}
	for len(add) > 0 {
		n := min(len(add), originateRun)
		if err := s.holdRoutes(add[:n]); err != nil {
			return err
		}
		if err := s.editSets(add[:n], func(d *api.DefinedSet) error {
			return s.bgp.AddDefinedSet(context.Background(), &api.AddDefinedSetRequest{DefinedSet: d})
		}); err != nil {
			return err
		}
		if err := s.release(add[:n]); err != nil {
			return err
		}
		add = add[n:]
	}
	for len(del) > 0 {
		n := min(len(del), originateRun)
		if err := s.holdRoutes(del[:n]); err != nil {
			return err
		}
		if err := s.editSets(del[:n], func(d *api.DefinedSet) error {
			return s.bgp.DeleteDefinedSet(context.Background(), &api.DeleteDefinedSetRequest{DefinedSet: d})
		}); err != nil {
			return err
		}
		if err := s.release(del[:n]); err != nil {
			return err
		}
		del = del[n:]
	}
	return nil
}

// holdRoutes gives prefixes their hold.
func (s *server) holdRoutes(list []held) error {
	paths := make([]*apiutil.Path, len(list))
	for i, h := range list {
		p, err := pathOf(h.prefix, 0, false)
		if err != nil {
			return err
		}
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeLocalPref(holdPref))
		paths[i] = p
	}
	if _, err := s.bgp.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("hold %d routes: %w", len(list), err)
	}
	return nil
}

// release ends holds: the route of ours takes its place again, or none.
func (s *server) release(list []held) error {
	var again []origination
	for _, h := range list {
		again = append(again, origination{h.prefix, h.metric, !h.ours})
	}
	return s.originate(again)
}

// editSets calls f with the prefixes of each family as a set.
func (s *server) editSets(list []held, f func(*api.DefinedSet) error) error {
	sets := map[string]*api.DefinedSet{ipv4: fibSet(ipv4), ipv6: fibSet(ipv6)}
	for _, h := range list {
		d := sets[familyOf(h.prefix)]
		d.Prefixes = append(d.Prefixes, setEntry(h.prefix))
	}
	for _, d := range sets {
		if len(d.Prefixes) > 0 {
			if err := f(d); err != nil {
				return fmt.Errorf("change prefix set %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// installedSets are the prefix sets of both families, for a policy made anew.
func (s *server) installedSets() []*api.DefinedSet {
	v4, v6 := fibSet(ipv4), fibSet(ipv6)
	for p := range s.installed {
		if p.Addr().Is4() {
			v4.Prefixes = append(v4.Prefixes, setEntry(p))
		} else {
			v6.Prefixes = append(v6.Prefixes, setEntry(p))
		}
	}
	return []*api.DefinedSet{v4, v6}
}

// holdStatement refuses holds. GoBGP withdraws what the policy refuses only if it accepts
// what was there before, so that it must not be the set that refuses them.
func holdStatement() *api.Statement {
	return &api.Statement{
		Name:       "export-hold",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL, LocalPrefEq: &api.LocalPrefEq{Value: holdPref}},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT},
	}
}

// fibCondition is what an export statement asks for.
func fibCondition(cfg *wire.SpeakerConfig, family string) *api.MatchSet {
	if !cfg.AdvertiseFIB {
		return nil
	}
	return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: fibSet(family).Name}
}

func fibSet(family string) *api.DefinedSet {
	return &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: "godwit-fib-" + family}
}

func familyOf(p netip.Prefix) string {
	if p.Addr().Is4() {
		return ipv4
	}
	return ipv6
}

func setEntry(p netip.Prefix) *api.Prefix {
	return &api.Prefix{IpPrefix: p.String(), MaskLengthMin: uint32(p.Bits()), MaskLengthMax: uint32(p.Bits())}
}
