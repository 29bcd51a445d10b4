package router

import (
	"context"

	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/fib"
)

// showSampling asks every card.
func (r *Router) showSampling(ctx context.Context) (mgmt.Sampling, error) {
	out := mgmt.Sampling{Cards: []mgmt.SamplingCard{}}
	ids, err := r.cardIDs(ctx, 0)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		st, askErr := askCard[wire.SamplingStatus](ctx, r, id, wire.GetSampling, struct{}{})
		c, err := get(ctx, r, func() (mgmt.SamplingCard, error) { return r.nameSampling(id, &st), nil })
		if err != nil {
			return out, err
		}
		if askErr != nil {
			c.Error = askErr.Error()
		}
		out.Cards = append(out.Cards, c)
	}
	return out, nil
}

func (r *Router) nameSampling(id fib.CardID, st *wire.SamplingStatus) mgmt.SamplingCard {
	c := mgmt.SamplingCard{Card: uint16(id), Interfaces: []mgmt.SamplingInterface{}, Collectors: []mgmt.SamplingCollector{}, Lost: st.Lost, Unsent: st.Unsent}
	for _, x := range st.Interfaces {
		c.Interfaces = append(c.Interfaces, mgmt.SamplingInterface{Name: r.names.iface(x.ID), SampledInterface: x})
	}
	for _, x := range st.Collectors {
		c.Collectors = append(c.Collectors, mgmt.SamplingCollector{VRFName: r.names.vrf(x.VRF), CollectorStatus: x})
	}
	return c
}

// showMirrors asks the cards that have mirrors.
func (r *Router) showMirrors(ctx context.Context) (mgmt.Mirrors, error) {
	out := mgmt.Mirrors{Mirrors: []mgmt.Mirror{}}
	cfg, err := get(ctx, r, func() (*config.Config, error) { return r.cfg, nil })
	if err != nil {
		return out, err
	}
	for _, k := range cfg.Cards {
		mirrors := cfg.MirrorsOf(k.ID)
		if len(mirrors) == 0 {
			continue
		}
		list, err := askCard[wire.MirrorList](ctx, r, fib.CardID(k.ID), wire.GetMirrors, struct{}{})
		for _, m := range mirrors {
			x := mgmt.Mirror{Card: k.ID, Interfaces: m.Interfaces, Direction: m.Direction, ACL: m.ACL, MirrorStatus: wire.MirrorStatus{Name: m.Name, Device: m.Device}}
			if err != nil {
				x.Error = err.Error()
			}
			for _, st := range list.Mirrors {
				if st.Name == m.Name {
					x.MirrorStatus = st
				}
			}
			out.Mirrors = append(out.Mirrors, x)
		}
	}
	return out, nil
}

// showGuards asks every card; with an ACL it shows where that is used.
func (r *Router) showGuards(ctx context.Context, acl string) (mgmt.Guards, error) {
	out := mgmt.Guards{Cards: []mgmt.GuardCard{}}
	cfg, err := get(ctx, r, func() (*config.Config, error) { return r.cfg, nil })
	if err != nil {
		return out, err
	}
	if acl != "" && cfg.ACL(acl) == nil {
		return out, notFound("ACL", acl)
	}
	ids, err := r.cardIDs(ctx, 0)
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		list, askErr := askCard[wire.GuardList](ctx, r, id, wire.GetGuards, struct{}{})
		c := mgmt.GuardCard{Card: uint16(id), Guards: []mgmt.Guard{}, Unlogged: list.Unlogged}
		if askErr != nil {
			c.Error = askErr.Error()
		}
		for _, g := range list.Guards {
			if acl != "" && g.ACL != acl {
				continue
			}
			x := mgmt.Guard{GuardStatus: g}
			if l := cfg.ACL(g.ACL); l != nil && len(l.Rules) == len(g.Hits) { // else it has just changed
				for i := range l.Rules {
					x.Texts = append(x.Texts, l.Rules[i].String())
				}
			}
			c.Guards = append(c.Guards, x)
		}
		named, err := get(ctx, r, func() (mgmt.GuardCard, error) {
			for i := range c.Guards {
				c.Guards[i].Name = r.names.iface(c.Guards[i].Interface)
			}
			return c, nil
		})
		if err != nil {
			return out, err
		}
		out.Cards = append(out.Cards, named)
	}
	return out, nil
}
