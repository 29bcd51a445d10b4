package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/event"
)

// moduleAnswer is what a module answered, or why it did not.
type moduleAnswer[T any] struct {
	module string
	v      T
	err    error
}

// askModules asks the event loop of a module, or with an empty name of all. The
// routing engine's own answers even if the loop is busy.
func askModules[T any](ctx context.Context, r *Router, module string, kind wire.Kind) ([]moduleAnswer[T], error) {
	type peer struct {
		name string
		sess *session.Session
	}
	peers, err := get(ctx, r, func() ([]peer, error) {
		list := []peer{{"supervisor", r.modules.sess}}
		for id, c := range r.cards.m {
			list = append(list, peer{fmt.Sprintf("linecard-%d", id), c.sess})
		}
		for v, sp := range r.speakers.m {
			list = append(list, peer{"bgp-" + r.names.vrf(v), sp.sess})
		}
		slices.SortFunc(list[1:], func(a, b peer) int { return cmp.Compare(a.name, b.name) })
		return list, nil
	})
	if err != nil {
		return nil, err
	}
	var out []moduleAnswer[T]
	if module == "" || module == "router" {
		reply, _ := health.Answer(r.opt.Loop, kind)
		v, ok := reply.(T)
		if !ok {
			return nil, fmt.Errorf("ask event loop: %v answers %T", kind, reply)
		}
		out = append(out, moduleAnswer[T]{module: "router", v: v})
	}
	for _, p := range peers {
		if module == "" || module == p.name {
			v, err := ask[T](ctx, r, func() *session.Session { return p.sess }, p.name, kind, struct{}{})
			out = append(out, moduleAnswer[T]{p.name, v, err})
		}
	}
	if len(out) == 0 {
		return nil, notFound("module", module)
	}
	return out, nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *Router) showEvents(ctx context.Context, module string) (mgmt.Events, error) {
	answers, err := askModules[event.Stats](ctx, r, module, wire.GetEvents)
	out := mgmt.Events{Modules: []mgmt.ModuleEvents{}}
	for _, a := range answers {
		m := mgmt.ModuleEvents{Module: a.module, Error: errorText(a.err)}
		if a.err == nil {
			m.Stats = &a.v
		}
		out.Modules = append(out.Modules, m)
	}
	return out, err
}

func (r *Router) showTrace(ctx context.Context, module string) (mgmt.Traces, error) {
	answers, err := askModules[wire.TraceList](ctx, r, module, wire.GetTrace)
	out := mgmt.Traces{Modules: []mgmt.ModuleTrace{}}
	for _, a := range answers {
		out.Modules = append(out.Modules, mgmt.ModuleTrace{Module: a.module, Events: a.v.Events, Error: errorText(a.err)})
	}
	return out, err
}

func (r *Router) clearEvents(ctx context.Context, module string) (mgmt.Done, error) {
	answers, err := askModules[struct{}](ctx, r, module, wire.ClearEvents)
	for _, a := range answers {
		if a.err != nil {
			return mgmt.Done{}, fmt.Errorf("clear events of %s: %w", a.module, a.err)
		}
	}
	return mgmt.Done{Message: fmt.Sprintf("event figures cleared: %d modules", len(answers))}, err
}
