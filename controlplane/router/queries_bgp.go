package router

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

func (r *Router) showBGP(ctx context.Context, vrf string) (mgmt.BGP, error) {
	out := mgmt.BGP{Speakers: []mgmt.Speaker{}}
	ids, err := r.speakerIDs(ctx, vrf)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		list, peersErr := askSpeaker[wire.PeerList](ctx, r, id, wire.GetPeers, struct{}{})
		s, err := get(ctx, r, func() (mgmt.Speaker, error) { return r.showSpeaker(id), nil })
		if err != nil {
			return out, err
		}
		s.Peers = orEmpty(list.Peers)
		if list.RouterID.IsValid() {
			s.RouterID = list.RouterID
		}
		if peersErr != nil {
			s.Error = peersErr.Error()
		}
		out.Speakers = append(out.Speakers, s)
	}
	return out, nil
}

// speakerIDs lists the VRFs with BGP, or checks that one has it.
func (r *Router) speakerIDs(ctx context.Context, vrf string) ([]fib.VRF, error) {
	return get(ctx, r, func() ([]fib.VRF, error) {
		plans := planSpeakers(r.cfg)
		if vrf == "" {
			return slices.Sorted(maps.Keys(plans)), nil
		}
		id, err := r.names.vrfID(vrf)
		if err != nil {
			return nil, err
		}
		if _, ok := plans[id]; !ok {
			return nil, &mgmt.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("vrf %q has no BGP", vrf)}
		}
		return []fib.VRF{id}, nil
	})
}

func (r *Router) showSpeaker(id fib.VRF) mgmt.Speaker {
	s := mgmt.Speaker{VRF: r.names.vrf(id)}
	sp := r.speakers.m[id]
	if sp == nil || sp.plan == nil {
		return s
	}
	s.AS, s.RouterID = sp.plan.cfg.AS, sp.plan.cfg.RouterID
	s.Connected, s.Synced, s.Stale = sp.sess != nil, sp.sync, sp.stale
	s.Batches, s.Changes = sp.batches, sp.changes
	for _, p := range sp.queue {
		s.Backlog += len(p.batch.Changes) - p.at
	}
	return s
}

func (r *Router) resetBGP(ctx context.Context, q mgmt.ResetQuery) (mgmt.Done, error) {
	if !q.Address.IsValid() {
		return mgmt.Done{}, &mgmt.Error{Status: http.StatusBadRequest, Message: "reset of which neighbor?"}
	}
	vrf := q.VRF
	if vrf == "" {
		vrf = config.DefaultVRFName
	}
	ids, err := r.speakerIDs(ctx, vrf)
	if err != nil {
		return mgmt.Done{}, err
	}
	_, err = askSpeaker[any](ctx, r, ids[0], wire.ResetPeer, wire.PeerReset{Address: q.Address.WithZone(""), Soft: q.Soft})
	if err != nil {
		return mgmt.Done{}, err
	}
	how := ""
	if q.Soft {
		how = " (soft)"
	}
	return mgmt.Done{Message: fmt.Sprintf("session with %v in vrf %s is reset%s", q.Address, vrf, how)}, nil
}
