package router

import (
	"context"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

// traceFIB asks each card (or one) what it would do with a packet, and the card that
// sends it what happens there.
func (r *Router) traceFIB(ctx context.Context, q mgmt.FIBTraceQuery) (mgmt.FIBTraces, error) {
	out := mgmt.FIBTraces{Traces: []mgmt.FIBTrace{}}
	proto, err := q.IPProtocol()
	if err != nil {
		return out, err
	}
	ids, err := r.cardIDs(ctx, q.Card)
	if err != nil {
		return out, err
	}
	v, err := get(ctx, r, func() (fib.VRF, error) { return r.names.vrfID(q.VRF) })
	if err != nil {
		return out, err
	}
	w := wire.TraceQuery{VRF: v, From: q.From, To: q.Address.WithZone(""), Protocol: proto, SrcPort: q.SrcPort, DstPort: q.DstPort}
	for _, id := range ids {
		t, err := r.traceCard(ctx, id, w)
		if err != nil {
			t.Error = err.Error()
		}
		out.Traces = append(out.Traces, t)
	}
	return out, nil
}

// traceCard follows a packet that one card receives.
func (r *Router) traceCard(ctx context.Context, id fib.CardID, w wire.TraceQuery) (mgmt.FIBTrace, error) {
	t := mgmt.FIBTrace{Card: uint16(id), Members: []mgmt.FIBTraceHop{}}
	res, err := askCard[wire.TraceResult](ctx, r, id, wire.TraceFIB, w)
	if err != nil {
		return t, err
	}
	end := res
	if res.Egress != 0 {
		w.Out, w.NextHop = res.Out, res.NextHop
		if end, err = askCard[wire.TraceResult](ctx, r, res.Egress, wire.TraceFIB, w); err != nil {
			end = wire.TraceResult{Out: res.Out, NextHop: res.NextHop, Result: err.Error()}
		}
		end.Card = res.Egress
	}
	return get(ctx, r, func() (mgmt.FIBTrace, error) {
		t.VRF, t.Prefix, t.Group, t.Kind, t.Hash = r.names.vrf(w.VRF), res.Prefix, res.Group, res.Kind, res.Hash
		for _, m := range res.Members {
			t.Members = append(t.Members, mgmt.FIBTraceHop{Interface: r.names.iface(m.Interface), Gateway: m.Gateway, Dead: m.Dead, Backup: m.Backup, Chosen: m.Chosen})
		}
		t.Egress = mgmt.FIBTraceEgress{Card: uint16(end.Card), Interface: r.names.iface(end.Out), Neighbor: end.NextHop,
			State: end.State, MAC: end.MAC, MTU: end.MTU, Result: end.Result}
		return t, nil
	})
}
