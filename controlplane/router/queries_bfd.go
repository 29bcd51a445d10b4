package router

import (
	"context"
	"fmt"
	"slices"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

// showBFD asks every card; with a VRF it shows that one's sessions.
func (r *Router) showBFD(ctx context.Context, vrf string) (mgmt.BFD, error) {
	out := mgmt.BFD{Sessions: []mgmt.BFDSession{}, Cards: []mgmt.BFDCard{}}
	only := fib.VRF(0)
	if vrf != "" {
		id, err := get(ctx, r, func() (fib.VRF, error) { return r.names.vrfID(vrf) })
		if err != nil {
			return out, err
		}
		only = id
	}
	ids, err := r.cardIDs(ctx, 0)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		list, askErr := askCard[wire.BFDList](ctx, r, id, wire.GetBFD, struct{}{})
		c := mgmt.BFDCard{Card: uint16(id), Drops: orEmpty(list.Drops), Echoes: list.Echoes,
			LateMost: list.LateMost.Microseconds(), LateLong: list.LateLong}
		if askErr != nil {
			c.Error = askErr.Error()
		}
		named, err := get(ctx, r, func() ([]mgmt.BFDSession, error) { return r.nameBFD(id, list.Sessions), nil })
		if err != nil {
			return out, err
		}
		for _, s := range named {
			c.Sessions++
			c.Sent += s.Sent
			c.Received += s.Received
			if s.State == "up" {
				c.Up++
			}
			if vrf == "" || s.VRF == only {
				out.Sessions = append(out.Sessions, s)
			}
		}
		out.Cards = append(out.Cards, c)
	}
	return out, nil
}

// nameBFD adds names, and who asked for the sessions.
func (r *Router) nameBFD(card fib.CardID, list []wire.BFDStatus) []mgmt.BFDSession {
	var out []mgmt.BFDSession
	for i := range list {
		key := bfdKeyOf(&list[i])
		s := mgmt.BFDSession{
			Card: uint16(card), VRFName: r.names.vrf(list[i].VRF), InterfaceName: r.names.iface(list[i].Interface),
			Clients: []string{}, BFDStatus: list[i],
		}
		if len(r.bfd.peers[key]) > 0 {
			s.Clients = append(s.Clients, "bgp")
		}
		for _, ref := range r.bfd.statics[key] {
			s.Clients = append(s.Clients, fmt.Sprintf("static %v", ref.static.Prefix))
		}
		slices.Sort(s.Clients)
		s.Clients = slices.Compact(s.Clients)
		out = append(out, s)
	}
	return out
}
