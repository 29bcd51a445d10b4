package router

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/fib"
	"godwit/rib"
)

const (
	// routePage is how many routes one event lists: some 2 ms.
	routePage = 500
	// fibPage is how many routes one request to a card lists.
	fibPage = 2000
)

// vrfsFor lists the VRFs that a query means: the named one, or all.
func (r *Router) vrfsFor(ctx context.Context, name string, address bool) ([]fib.VRF, error) {
	return get(ctx, r, func() ([]fib.VRF, error) {
		if name == "" && !address {
			return slices.Sorted(maps.Keys(r.names.vrfs)), nil
		}
		id, err := r.names.vrfID(name)
		return []fib.VRF{id}, err
	})
}

func (r *Router) showRoutes(ctx context.Context, q mgmt.RouteQuery, emit func(mgmt.Route) error) error {
	f := rib.Filter{Family: q.Family, Prefix: q.Prefix, Longer: q.Longer, NextHop: q.NextHop, Explain: q.Detail}
	if q.Tag != 0 {
		f.Tag = &q.Tag
	}
	if q.Protocol == "leaked" {
		f.Leaked = true
	} else if q.Protocol != "" {
		p, ok := rib.ParseProtocol(q.Protocol)
		if !ok {
			return &mgmt.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("no such protocol: %q", q.Protocol)}
		}
		f.Protocol = p
	}
	vrfs, err := r.vrfsFor(ctx, q.VRF, q.Address.IsValid())
	if err != nil {
		return err
	}
	if q.Address.IsValid() {
		list, err := get(ctx, r, func() ([]mgmt.Route, error) {
			return r.viewRoutes(r.routes.table.Lookup(vrfs[0], q.Address)), nil
		})
		return emitAll(list, err, emit)
	}
	for _, v := range vrfs {
		if err := r.showRoutesOf(ctx, v, f, emit); err != nil {
			return err
		}
	}
	return nil
}

func emitAll[T any](list []T, err error, emit func(T) error) error {
	if err != nil {
		return err
	}
	for _, x := range list {
		if err := emit(x); err != nil {
			return err
		}
	}
	return nil
}

// showRoutesOf streams one VRF's routes, page by page, so that the loop does
// other work in between.
func (r *Router) showRoutesOf(ctx context.Context, v fib.VRF, f rib.Filter, emit func(mgmt.Route) error) error {
	for cursor, done := (rib.Cursor{}), false; !done; {
		list, err := get(ctx, r, func() ([]mgmt.Route, error) {
			var page []rib.Route
			page, cursor, done = r.routes.table.Page(v, f, cursor, routePage)
			return r.viewRoutes(page), nil
		})
		if err := emitAll(list, err, emit); err != nil {
			return err
		}
	}
	return nil
}

func (r *Router) viewRoutes(list []rib.Route) []mgmt.Route {
	out := make([]mgmt.Route, len(list))
	for i, x := range list {
		out[i] = mgmt.Route{VRF: r.names.vrf(x.VRF), Prefix: x.Prefix, Installed: x.Group != 0, Group: x.Group}
		out[i].Candidates = make([]mgmt.Candidate, len(x.Candidates))
		for j := range x.Candidates {
			out[i].Candidates[j] = r.viewCandidate(&x.Candidates[j])
		}
	}
	return out
}

func (r *Router) viewCandidate(c *rib.Candidate) mgmt.Candidate {
	m := mgmt.Candidate{
		Protocol: c.Protocol.String(), Distance: c.Distance, Tag: c.Tag, Kind: c.Kind.String(), Chosen: c.Chosen, Reason: c.Reason,
		Stale: c.Stale, NextHops: r.viewVias(c.Vias), Resolved: r.viewHops(c.Resolved),
	}
	if len(c.Tracks) > 0 {
		m.Tracks = r.viewVias(c.Tracks)
	}
	if c.Leaked {
		m.From = r.names.vrf(c.Origin)
	}
	for _, p := range c.Paths {
		m.Paths = append(m.Paths, mgmt.BGPPath{
			NextHop: p.NextHop, Peer: p.Peer, PeerAS: p.PeerAS, Internal: p.Internal, MED: p.MED, LocalPref: p.LocalPref, ASPathLen: p.ASPathLen,
			Communities: strings.Fields(p.Communities),
		})
	}
	return m
}

func (r *Router) viewVias(vias []rib.ViaInfo) []mgmt.RouteNextHop {
	out := make([]mgmt.RouteNextHop, len(vias))
	for i, v := range vias {
		out[i] = mgmt.RouteNextHop{
			Address: v.Address, Interface: r.names.iface(v.Interface), Weight: v.Weight, Backup: v.Backup, Usable: v.Usable, Chain: v.Chain,
		}
		if v.Foreign {
			out[i].VRF = r.names.vrf(v.VRF)
		}
	}
	return out
}

// changeLog is how many changes of prefixes are kept: some 1.5 MB.
const changeLog = 16384

func (r *Router) showRouteChanges(ctx context.Context, q mgmt.RouteChangeQuery) (mgmt.RouteChanges, error) {
	return get(ctx, r, func() (mgmt.RouteChanges, error) {
		out := mgmt.RouteChanges{Changes: []mgmt.RouteChange{}}
		var only *fib.VRF
		if q.VRF != "" {
			id, err := r.names.vrfID(q.VRF)
			if err != nil {
				return out, err
			}
			only = &id
		}
		limit := q.Count
		if limit == 0 {
			limit = 100
		}
		list, all := r.routes.table.Changes(func(c *rib.RouteChange) bool {
			return (only == nil || c.VRF == *only) &&
				(!q.Prefix.IsValid() || c.Prefix.Bits() >= q.Prefix.Bits() && q.Prefix.Contains(c.Prefix.Addr()))
		}, limit)
		out.Total = all
		for _, c := range slices.Backward(list) {
			out.Changes = append(out.Changes, mgmt.RouteChange{
				Time: c.Time, VRF: r.names.vrf(c.VRF), Prefix: c.Prefix,
				Old: r.viewInstalled(c.VRF, c.Old), New: r.viewInstalled(c.VRF, c.New),
			})
		}
		return out, nil
	})
}

func (r *Router) viewInstalled(vrf fib.VRF, x rib.Installed) *mgmt.Installed {
	if x.Protocol == 0 {
		return nil
	}
	m := &mgmt.Installed{Protocol: x.Protocol.String(), Group: x.Group}
	if x.Origin != vrf {
		m.From = r.names.vrf(x.Origin)
	}
	return m
}

func (r *Router) viewHops(hops []fib.NextHop) []mgmt.ResolvedHop {
	out := make([]mgmt.ResolvedHop, len(hops))
	for i, h := range hops {
		out[i] = mgmt.ResolvedHop{Interface: r.names.iface(h.Interface), Gateway: h.Gateway, Weight: h.Weight, Backup: h.Backup}
	}
	return out
}

func (r *Router) showFIB(ctx context.Context, q mgmt.FIBQuery, emit func(mgmt.FIBRoute) error) error {
	ids, err := r.cardIDs(ctx, q.Card)
	if err != nil {
		return err
	}
	vrfs, err := r.vrfsFor(ctx, q.VRF, q.Address.IsValid())
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, v := range vrfs {
			if err := r.showFIBOf(ctx, id, v, q, emit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Router) showFIBOf(ctx context.Context, id fib.CardID, v fib.VRF, q mgmt.FIBQuery, emit func(mgmt.FIBRoute) error) error {
	ask := wire.FIBQuery{VRF: v, Address: q.Address, Prefix: q.Prefix, Limit: fibPage}
	for {
		list, err := askCard[wire.FIBList](ctx, r, id, wire.GetFIB, ask)
		if err != nil {
			return err
		}
		out, err := get(ctx, r, func() ([]mgmt.FIBRoute, error) {
			var out []mgmt.FIBRoute
			for _, e := range list.Entries {
				out = append(out, mgmt.FIBRoute{
					Card: uint16(id), VRF: r.names.vrf(v), Prefix: e.Prefix, Group: e.Group, Kind: e.Kind, NextHops: r.viewHops(e.NextHops),
					ExpressPackets: e.ExpressPackets, ExpressBytes: e.ExpressBytes,
				})
			}
			return out, nil
		})
		if err := emitAll(out, err, emit); err != nil {
			return err
		}
		if !list.More || len(list.Entries) == 0 {
			return nil
		}
		ask.After = list.Entries[len(list.Entries)-1].Prefix
	}
}

func (r *Router) showFIBSummary(ctx context.Context) (mgmt.FIBSummary, error) {
	out, err := get(ctx, r, func() (mgmt.FIBSummary, error) {
		s := mgmt.FIBSummary{Groups: r.routes.table.Stats().Groups, Cards: []mgmt.FIBCard{}}
		for v := range r.names.vrfs {
			n4, n6 := r.routes.table.Count(v)
			s.Routes4, s.Routes6 = s.Routes4+n4, s.Routes6+n6
		}
		for _, c := range r.cfg.Cards {
			s.Cards = append(s.Cards, mgmt.FIBCard{Card: c.ID, VRFs: []mgmt.FIBVRF{}})
		}
		return s, nil
	})
	if err != nil {
		return out, err
	}
	for i := range out.Cards {
		r.fillFIBCard(ctx, &out.Cards[i])
	}
	return out, nil
}

func (r *Router) fillFIBCard(ctx context.Context, c *mgmt.FIBCard) {
	st, err := askCard[wire.FIBStats](ctx, r, fib.CardID(c.Card), wire.GetFIBStats, struct{}{})
	if err != nil {
		c.Error = err.Error()
		return
	}
	c.Connected, c.Epoch, c.Groups, c.Neighbors, c.Switches = true, st.Epoch, st.Groups, st.Neighbors, st.Switches
	c.Workers = st.Workers
	_, err = get(ctx, r, func() (struct{}, error) {
		for _, s := range r.routes.pub.Status() {
			if s.Card == fib.CardID(c.Card) {
				c.Epoch, c.Sent, c.Acked, c.Converged, c.Error = s.Epoch, s.Sent, s.Acked, s.Synced, s.Refused
			}
		}
		for _, v := range st.VRFs {
			c.Bytes += v.Bytes
			c.VRFs = append(c.VRFs, mgmt.FIBVRF{VRF: r.names.vrf(v.VRF), Routes4: v.Routes4, Routes6: v.Routes6, Bytes: v.Bytes})
		}
		return struct{}{}, nil
	})
	if err != nil {
		c.Error = err.Error()
	}
}

func (r *Router) neighborQuery(ctx context.Context, q mgmt.NeighborQuery) (wire.NeighborQuery, error) {
	return get(ctx, r, func() (wire.NeighborQuery, error) {
		w := wire.NeighborQuery{Address: q.Address.WithZone("")}
		if q.VRF != "" {
			id, err := r.names.vrfID(q.VRF)
			if err != nil {
				return w, err
			}
			w.VRF = &id
		}
		if q.Interface != "" {
			f := r.cfg.Interface(q.Interface)
			if f == nil {
				return w, notFound("interface", q.Interface)
			}
			w.Interface = f.Number()
		}
		return w, nil
	})
}

// cardsOf lists the cards that a neighbour query concerns.
func (r *Router) cardsOf(ctx context.Context, w wire.NeighborQuery) ([]fib.CardID, error) {
	return r.cardIDs(ctx, uint16(w.Interface.Card()))
}

func (r *Router) showNeighbors(ctx context.Context, q mgmt.NeighborQuery) (mgmt.Neighbors, error) {
	out := mgmt.Neighbors{Neighbors: []mgmt.Neighbor{}}
	w, err := r.neighborQuery(ctx, q)
	if err != nil {
		return out, err
	}
	ids, err := r.cardsOf(ctx, w)
	if err != nil {
		return out, err
	}
	var found []wire.Neighbor
	var lastErr error
	for _, id := range ids {
		list, err := askCard[wire.NeighborList](ctx, r, id, wire.GetNeighbors, w)
		if err != nil {
			lastErr = err
			continue
		}
		found = append(found, list.Neighbors...)
	}
	if lastErr != nil && len(found) == 0 {
		return out, lastErr
	}
	return get(ctx, r, func() (mgmt.Neighbors, error) {
		for _, n := range found {
			out.Neighbors = append(out.Neighbors, mgmt.Neighbor{
				VRF: r.names.vrf(n.VRF), Interface: r.names.iface(n.Interface), Address: n.Address, MAC: n.MAC, State: n.State, Age: n.Age,
			})
		}
		return out, nil
	})
}

func (r *Router) clearNeighbors(ctx context.Context, q mgmt.NeighborQuery) (mgmt.Done, error) {
	w, err := r.neighborQuery(ctx, q)
	if err != nil {
		return mgmt.Done{}, err
	}
	ids, err := r.cardsOf(ctx, w)
	if err != nil {
		return mgmt.Done{}, err
	}
	for _, id := range ids {
		if _, err := askCard[any](ctx, r, id, wire.ClearNeighbor, w); err != nil {
			return mgmt.Done{}, err
		}
	}
	return mgmt.Done{Message: "neighbors cleared"}, nil
}
