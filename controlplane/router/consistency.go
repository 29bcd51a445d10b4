package router

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/fib"
	"godwit/rib"
)

const (
	// checkTries is how often a card is asked that has not caught up, checkPause how long
	// between two.
	checkTries = 20
	checkPause = 100 * time.Millisecond
	// checkList is how many differences are named.
	checkList = 100
)

// checkFIB compares the RIB with each card, or one.
func (r *Router) checkFIB(ctx context.Context, card uint16) (mgmt.FIBConsistency, error) {
	out := mgmt.FIBConsistency{Cards: []mgmt.FIBCheck{}}
	ids, err := r.cardIDs(ctx, card)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		c, err := r.checkCard(ctx, id)
		if err != nil {
			c.State, c.Error = "unknown", err.Error()
		}
		out.Cards = append(out.Cards, c)
	}
	return out, nil
}

// checkCard compares digests when the card has acknowledged everything, and walks the VRFs that differ.
func (r *Router) checkCard(ctx context.Context, id fib.CardID) (mgmt.FIBCheck, error) {
	none := mgmt.FIBCheck{Card: uint16(id), State: "behind", VRFs: []mgmt.FIBVRFCheck{}, Differences: []mgmt.FIBDifference{}}
	for range checkTries {
		st, err := askCard[wire.FIBStats](ctx, r, id, wire.GetFIBStats, struct{}{})
		if err != nil {
			return none, err
		}
		c := none
		walk, err := get(ctx, r, func() ([]fib.VRF, error) { return r.compareDigests(id, &st, &c), nil })
		if err != nil {
			return none, err
		}
		if c.State == "different" {
			err = r.walkDifferences(ctx, id, walk, &c)
		}
		if c.State != "behind" {
			return c, err
		}
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case <-time.After(checkPause):
		}
	}
	return none, nil
}

// compareDigests fills c, and tells which VRFs are to be walked. It runs on the loop.
func (r *Router) compareDigests(id fib.CardID, st *wire.FIBStats, c *mgmt.FIBCheck) (walk []fib.VRF) {
	pub := r.routes.pub
	there := false
	for _, s := range pub.Status() {
		there = there || s.Card == id && s.Synced && s.Swept && s.Epoch == st.Epoch && s.Sent == st.Seq
	}
	if !there {
		return nil
	}
	onCard := map[fib.VRF]wire.FIBVRFStats{}
	var vrfs []fib.VRF
	for _, v := range st.VRFs {
		onCard[v.VRF] = v
		vrfs = append(vrfs, v.VRF)
	}
	for v := range r.names.vrfs {
		if _, ok := onCard[v]; !ok {
			vrfs = append(vrfs, v)
		}
	}
	slices.Sort(vrfs)
	c.Groups = st.GroupSum == pub.GroupSum()
	c.State = "consistent"
	for _, v := range vrfs {
		d, on := pub.Digest(v), onCard[v]
		x := mgmt.FIBVRFCheck{VRF: r.names.vrf(v), RIB: d.Routes, Card: on.Routes4 + on.Routes6, Digest: fmt.Sprintf("%016x", d.Sum)}
		if x.Equal = x.RIB == x.Card && d.Sum == on.Sum; !x.Equal || !c.Groups {
			walk = append(walk, v)
			c.State = "different"
		}
		c.VRFs = append(c.VRFs, x)
	}
	return walk
}

// way is where a route leads: its kind and next hops.
func way(kind string, hops []fib.NextHop) string {
	hops = slices.Clone(hops)
	slices.SortFunc(hops, func(a, b fib.NextHop) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Gateway.Compare(b.Gateway))
	})
	for i := range hops {
		hops[i].Weight = max(hops[i].Weight, 1)
	}
	return fmt.Sprint(kind, hops)
}

// walkDifferences compares VRFs route by route, a page at a time. Routes that change meanwhile
// may be named though they are in order: asking again tells.
func (r *Router) walkDifferences(ctx context.Context, id fib.CardID, vrfs []fib.VRF, c *mgmt.FIBCheck) error {
	for _, v := range vrfs {
		want, err := r.installed(ctx, v)
		if err != nil {
			return err
		}
		name, err := get(ctx, r, func() (string, error) { return r.names.vrf(v), nil })
		if err != nil {
			return err
		}
		differ := func(p netip.Prefix, what string) {
			if len(c.Differences) == checkList {
				c.More++
				return
			}
			c.Differences = append(c.Differences, mgmt.FIBDifference{VRF: name, Prefix: p, What: what})
		}
		ask := wire.FIBQuery{VRF: v, Limit: fibPage}
		for more := true; more; {
			list, err := askCard[wire.FIBList](ctx, r, id, wire.GetFIB, ask)
			if err != nil {
				return err
			}
			for _, e := range list.Entries {
				switch w, ok := want[e.Prefix]; {
				case !ok:
					differ(e.Prefix, "not in the RIB")
				case w != way(e.Kind, e.NextHops):
					differ(e.Prefix, "other next hops")
				}
				delete(want, e.Prefix)
				ask.After = e.Prefix
			}
			more = list.More && len(list.Entries) > 0
		}
		for p := range want {
			differ(p, "missing on the card")
		}
	}
	slices.SortStableFunc(c.Differences, func(a, b mgmt.FIBDifference) int {
		return cmp.Or(cmp.Compare(a.VRF, b.VRF), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return nil
}

// installed lists the routes that the RIB has in the FIB, and where they lead.
func (r *Router) installed(ctx context.Context, v fib.VRF) (map[netip.Prefix]string, error) {
	all := map[netip.Prefix]string{}
	ways := map[string]string{} // a few strings for many routes
	for cursor, done := (rib.Cursor{}), false; !done; {
		_, err := get(ctx, r, func() (struct{}, error) {
			var page []rib.Route
			page, cursor, done = r.routes.table.Page(v, rib.Filter{Installed: true}, cursor, routePage)
			for _, x := range page {
				for _, k := range x.Candidates {
					if k.Chosen {
						w := way(k.Kind.String(), k.Resolved)
						if _, ok := ways[w]; !ok {
							ways[w] = w
						}
						all[x.Prefix] = ways[w]
					}
				}
			}
			return struct{}{}, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
