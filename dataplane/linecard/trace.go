package linecard

import (
	"errors"

	"godwit/cluster/wire"
	"godwit/dataplane/pipeline"
)

// trace tells what the workers would do with a packet.
func (a *Agent) trace(q wire.TraceQuery) (any, error) {
	to := q.To.Unmap().WithZone("")
	switch {
	case !to.IsValid():
		return nil, errors.New("trace: no destination")
	case q.From.IsValid() && q.From.Unmap().Is4() != to.Is4():
		return nil, errors.New("trace: source and destination are of different families")
	case q.Out != 0 && (q.Out.Card() != a.opt.Card || !q.NextHop.IsValid()):
		return nil, errors.New("trace: no such egress on this card")
	}
	f := pipeline.Flow{VRF: q.VRF, From: q.From.Unmap().WithZone(""), To: to, Protocol: q.Protocol, SrcPort: q.SrcPort,
		DstPort: q.DstPort, Out: q.Out, NextHop: q.NextHop.Unmap().WithZone("")}
	t := a.slow.Trace(f)
	r := wire.TraceResult{Card: a.opt.Card, Hash: t.Hash, Egress: t.Card, Out: t.Out, NextHop: t.NextHop, State: t.State,
		MTU: t.MTU, Result: t.Result}
	if t.MAC != [6]byte{} {
		r.MAC = macString(t.MAC[:])
	}
	if q.Out == 0 {
		if route, g, ok := a.tables.Find(q.VRF, to); ok {
			r.Prefix, r.Group, r.Kind = route.Prefix, uint32(g.ID), g.Kind.String()
		}
	}
	for _, m := range t.Members {
		r.Members = append(r.Members, wire.TraceMember{Interface: m.Out, Gateway: m.Gateway, Dead: m.Dead, Backup: m.Backup, Chosen: m.Chosen})
	}
	return r, nil
}
