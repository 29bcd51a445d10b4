package router

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/event"
	"godwit/fib"
)

// names finds what the numbers of a configuration are called.
type names struct {
	vrfs   map[fib.VRF]string
	ifaces map[fib.InterfaceID]string
}

func makeNames(c *config.Config) names {
	n := names{map[fib.VRF]string{}, map[fib.InterfaceID]string{}}
	for name, id := range vrfsOf(c) {
		n.vrfs[id] = name
	}
	for i := range c.Interfaces {
		n.ifaces[c.Interfaces[i].Number()] = c.Interfaces[i].Name
	}
	return n
}

func (n names) vrf(id fib.VRF) string {
	if s, ok := n.vrfs[id]; ok {
		return s
	}
	return fmt.Sprintf("#%d", id)
}

func (n names) iface(id fib.InterfaceID) string {
	if s, ok := n.ifaces[id]; ok || id == 0 {
		return s
	}
	return fmt.Sprintf("#%d.%d", id.Card(), uint16(id))
}

// vrfID finds a VRF; empty is the default one.
func (n names) vrfID(name string) (fib.VRF, error) {
	if name == "" {
		name = config.DefaultVRFName
	}
	for id, s := range n.vrfs {
		if s == name {
			return id, nil
		}
	}
	return 0, notFound("vrf", name)
}

func notFound(what, name string) error {
	return &mgmt.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("no such %s: %q", what, name)}
}

// call runs f on the loop and waits for its answer. f calls done exactly once,
// then or later.
func call[T any](ctx context.Context, h *event.Handler, f func(done func(T, error))) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 1)
	var zero T
	if err := h.Post(func() { f(func(v T, err error) { ch <- answer{v, err} }) }); err != nil {
		return zero, &mgmt.Error{Status: http.StatusServiceUnavailable, Message: err.Error()}
	}
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		return zero, ctx.Err()
	case <-h.Loop().Done():
		return zero, &mgmt.Error{Status: http.StatusServiceUnavailable, Message: "routing engine is stopping"}
	}
}

// get runs f on the loop, for answers that are known there.
func get[T any](ctx context.Context, r *Router, f func() (T, error)) (T, error) {
	return call(ctx, r.request, func(done func(T, error)) { done(f()) })
}

// ask asks another process; find returns its session, on the loop.
func ask[T any](ctx context.Context, r *Router, find func() *session.Session, what string, kind wire.Kind, body any) (T, error) {
	return call(ctx, r.request, func(done func(T, error)) {
		var v T
		sess := find()
		if sess == nil {
			done(v, &mgmt.Error{Status: http.StatusServiceUnavailable, Message: what + " is not connected"})
			return
		}
		sess.Request(kind, body, requestTimeout, func(m session.Message, err error) {
			if err == nil {
				err = wire.DecodeKind(kind, m.Body, &v)
			}
			done(v, err)
		})
	})
}

// askCard asks a line card.
func askCard[T any](ctx context.Context, r *Router, id fib.CardID, kind wire.Kind, body any) (T, error) {
	return ask[T](ctx, r, func() *session.Session {
		if c := r.cards.m[id]; c != nil {
			return c.sess
		}
		return nil
	}, fmt.Sprintf("line card %d", id), kind, body)
}

func askSpeaker[T any](ctx context.Context, r *Router, v fib.VRF, kind wire.Kind, body any) (T, error) {
	return ask[T](ctx, r, func() *session.Session {
		if sp := r.speakers.m[v]; sp != nil {
			return sp.sess
		}
		return nil
	}, "BGP speaker", kind, body)
}

func (r *Router) supervisorSession() *session.Session { return r.modules.sess }

// backend is the management API's view of the routing engine.
func (r *Router) backend() mgmt.Backend {
	return mgmt.Backend{
		Version: r.showVersion, Modules: r.showModules, VRFs: r.showVRFs, Interfaces: r.showInterfaces,
		Routes: r.showRoutes, RouteChanges: r.showRouteChanges, FIB: r.showFIB, FIBSummary: r.showFIBSummary, FIBTrace: r.traceFIB, FIBConsistency: r.checkFIB,
		Neighbors: r.showNeighbors, ClearNeighbors: r.clearNeighbors,
		Sampling: r.showSampling, Mirrors: r.showMirrors, Guards: r.showGuards,
		BFD: r.showBFD, BGP: r.showBGP, ResetBGP: r.resetBGP, Upgrade: r.upgrade, Bus: r.showBus, Security: r.showSecurity, Audit: r.showAudit, Events: r.showEvents, Trace: r.showTrace, ClearEvents: r.clearEvents, Drops: r.showDrops,
		Config: r.showConfig, Check: r.checkConfig, Apply: r.applyConfig, Ping: r.ping, Capture: r.runCapture,
	}
}

func (r *Router) showVersion(ctx context.Context) (mgmt.Version, error) {
	return get(ctx, r, func() (mgmt.Version, error) {
		i := r.opt.Info
		v := mgmt.Version{
			Product: "godwit", Version: i.Version, BuildID: i.BuildID, Go: runtime.Version(), Hostname: r.cfg.System.Hostname,
			Instance: r.opt.Instance, Started: i.Started, Uptime: r.uptime(),
		}
		if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
			v.Kernel = strings.TrimSpace(string(text))
		}
		return v, nil
	})
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (r *Router) showVRFs(ctx context.Context) (mgmt.VRFs, error) {
	return get(ctx, r, func() (mgmt.VRFs, error) {
		out := mgmt.VRFs{VRFs: []mgmt.VRF{}}
		for _, id := range slices.Sorted(maps.Keys(r.names.vrfs)) {
			v := mgmt.VRF{Name: r.names.vrfs[id], ID: id, NetNS: r.paths.netns(r.names.vrfs[id]), Interfaces: []string{}}
			st := r.routes.table.VRFStats(id)
			v.Routes4, v.Routes6, v.Prefixes, v.Leaked = st.Routes4, st.Routes6, st.Prefixes, st.Leaked
			v.Refused, v.Limit, v.LimitState = st.Refused, st.Limit, st.State.String()
			for i := range r.cfg.Interfaces {
				if f := &r.cfg.Interfaces[i]; vrfName(f) == v.Name {
					v.Interfaces = append(v.Interfaces, f.Name)
				}
			}
			out.VRFs = append(out.VRFs, v)
		}
		return out, nil
	})
}

func (r *Router) showInterfaces(ctx context.Context, name string) (mgmt.Interfaces, error) {
	ports := map[fib.PortID]wire.PortStatus{}
	ids, err := r.cardIDs(ctx, 0)
	if err != nil {
		return mgmt.Interfaces{}, err
	}
	for _, id := range ids {
		list, err := askCard[wire.PortList](ctx, r, id, wire.GetPorts, struct{}{})
		if err != nil {
			continue // its interfaces are shown without counters
		}
		for _, p := range list.Ports {
			ports[p.ID] = p
		}
	}
	return get(ctx, r, func() (mgmt.Interfaces, error) {
		out := mgmt.Interfaces{Interfaces: []mgmt.Interface{}}
		for i := range r.cfg.Interfaces {
			if f := &r.cfg.Interfaces[i]; name == "" || f.Name == name {
				out.Interfaces = append(out.Interfaces, r.showInterface(f, ports))
			}
		}
		if name != "" && len(out.Interfaces) == 0 {
			return out, notFound("interface", name)
		}
		return out, nil
	})
}

func (r *Router) showInterface(f *config.Interface, ports map[fib.PortID]wire.PortStatus) mgmt.Interface {
	st, known := r.cards.state(f.Number())
	m := mgmt.Interface{
		Name: f.Name, ID: f.Number(), Description: f.Description, VRF: vrfName(f), Card: f.Card, Device: f.Device, VLAN: f.VLAN,
		Admin: "up", State: "down", Since: st.since, MTU: f.MTU, Addresses: orEmpty(withLinkLocal(f.Addresses, st.mac)),
	}
	if st.mac != nil {
		m.MAC = st.mac.String()
	}
	port, there := ports[config.PortID(f.Card, f.Device)]
	m.Mode, m.Queues = port.Mode, port.Queues
	m.Express, m.ExpressReason = port.Express, port.ExpressReason
	for _, x := range port.Interfaces {
		if x.ID == m.ID {
			m.Counters = x.Counters
		}
	}
	switch {
	case f.Shutdown:
		m.Admin, m.Reason = "down", "shut down by configuration"
	case st.up:
		m.State = "up"
		if port.Reason != "" {
			m.Reason = port.Reason
		}
	case !there:
		m.Reason = fmt.Sprintf("line card %d is not connected, or does not have the port yet", f.Card)
	case !known || port.Reason == "":
		m.Reason = "no carrier"
	default:
		m.Reason = port.Reason
	}
	return m
}

// cardIDs lists the configured cards, or checks that one is.
func (r *Router) cardIDs(ctx context.Context, one uint16) ([]fib.CardID, error) {
	return get(ctx, r, func() ([]fib.CardID, error) {
		var ids []fib.CardID
		for _, c := range r.cfg.Cards {
			if one == 0 || c.ID == one {
				ids = append(ids, fib.CardID(c.ID))
			}
		}
		if one != 0 && len(ids) == 0 {
			return nil, notFound("line card", fmt.Sprint(one))
		}
		slices.Sort(ids)
		return ids, nil
	})
}

func (r *Router) showDrops(ctx context.Context, card uint16) (mgmt.Drops, error) {
	ids, err := r.cardIDs(ctx, card)
	if err != nil {
		return mgmt.Drops{}, err
	}
	out := mgmt.Drops{Cards: []mgmt.CardDrops{}}
	for _, id := range ids {
		list, err := askCard[wire.DropList](ctx, r, id, wire.GetDrops, struct{}{})
		d := mgmt.CardDrops{Card: uint16(id), Drops: orEmpty(list.Drops)}
		if err != nil {
			d.Error = err.Error()
		}
		out.Cards = append(out.Cards, d)
	}
	return out, nil
}
