package linecard

import (
	"fmt"
	"reflect"
	"slices"

	"godwit/cluster/wire"
	"godwit/dataplane/filter"
	"godwit/dataplane/worker"
	"godwit/fib"
)

// mirror is a configured mirror and what the workers have of it.
type mirror struct {
	cfg wire.MirrorConfig
	*worker.Mirror
}

// compile makes a filter of rules; none permit everything.
func compile(rules []wire.FilterRule) (*filter.List, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	list := make([]filter.Rule, len(rules))
	for i := range rules {
		r, err := ruleOf(&rules[i])
		if err != nil {
			return nil, err
		}
		list[i] = r
	}
	return filter.Compile(list)
}

func ruleOf(r *wire.FilterRule) (filter.Rule, error) {
	kinds := map[string]filter.Fragments{"": filter.AnyFragment, "only": filter.OnlyFragments, "none": filter.NoFragments}
	frag, ok := kinds[r.Fragments]
	if !ok {
		return filter.Rule{}, fmt.Errorf("filter: fragments %q", r.Fragments)
	}
	return filter.Rule{Deny: r.Deny, Log: r.Log, Family: r.Family, Source: r.Source, Destination: r.Destination, Protocol: r.Protocol,
		SrcPorts: rangesOf(r.SrcPorts), DstPorts: rangesOf(r.DstPorts), FlagsSet: r.FlagsSet, FlagsClear: r.FlagsClear,
		DSCP: r.DSCP, ICMPType: r.ICMPType, Fragments: frag, VLAN: r.VLAN}, nil
}

func rangesOf(list []wire.PortRange) (out []filter.Range) {
	for _, r := range list {
		out = append(out, filter.Range(r))
	}
	return out
}

// checkMirror refuses what workers could not do.
func (a *Agent) checkMirror(m *wire.MirrorConfig, cfg *wire.CardConfig) error {
	if !slices.ContainsFunc(cfg.Ports, func(p wire.PortConfig) bool { return p.ID == m.Port }) {
		return fmt.Errorf("mirror %s: port %#x is not of card %d", m.Name, uint32(m.Port), a.opt.Card)
	}
	if slices.ContainsFunc(cfg.Interfaces, func(i wire.InterfaceConfig) bool { return i.Port == m.Port }) {
		return fmt.Errorf("mirror %s: port %#x has interfaces", m.Name, uint32(m.Port))
	}
	if _, err := compile(m.Rules); err != nil {
		return fmt.Errorf("mirror %s: %w", m.Name, err)
	}
	return nil
}

// setMirrors follows the configuration; a mirror that stays keeps its counters.
func (a *Agent) setMirrors() {
	var next []*mirror
	var list []*worker.Mirror
	for _, c := range a.cfg.Mirrors {
		m := a.makeMirror(c)
		next = append(next, m)
		list = append(list, m.Mirror)
	}
	a.mirrors = next
	a.plane.mirrors.Set(list)
}

func (a *Agent) makeMirror(c wire.MirrorConfig) *mirror {
	in, out := a.portsOf(c.Interfaces, c.In), a.portsOf(c.Interfaces, c.Out)
	for _, m := range a.mirrors {
		if reflect.DeepEqual(m.cfg, c) && reflect.DeepEqual(m.In, in) && reflect.DeepEqual(m.Out, out) {
			return m
		}
	}
	f, _ := compile(c.Rules) // checkMirror has refused faults
	return &mirror{c, &worker.Mirror{Port: c.Port, Snap: c.Snap, Filter: f, In: in, Out: out}}
}

// portsOf are the interfaces by their ports.
func (a *Agent) portsOf(ids []fib.InterfaceID, on bool) map[fib.PortID]map[fib.InterfaceID]bool {
	ports := make(map[fib.PortID]map[fib.InterfaceID]bool)
	for _, c := range a.cfg.Interfaces {
		if on && slices.Contains(ids, c.ID) {
			if ports[c.Port] == nil {
				ports[c.Port] = make(map[fib.InterfaceID]bool)
			}
			ports[c.Port][c.ID] = true
		}
	}
	return ports
}

// mirroring tells which directions of a port's frames are mirrored: they go through the workers.
func (a *Agent) mirroring(id fib.PortID) (in, out bool) {
	for _, m := range a.mirrors {
		in = in || m.In[id] != nil
		out = out || m.Out[id] != nil
	}
	return in, out
}

// mirrorList answers GetMirrors.
func (a *Agent) mirrorList() wire.MirrorList {
	list := wire.MirrorList{Card: a.opt.Card, Mirrors: []wire.MirrorStatus{}}
	for _, m := range a.mirrors {
		n := m.Stats()
		s := wire.MirrorStatus{Name: m.cfg.Name, Matched: n.Matched, Frames: n.Frames, Bytes: n.Bytes, Dropped: n.Dropped}
		if p := a.ports[m.cfg.Port]; p != nil {
			st := a.portStatus(p, nil)
			s.Device, s.Up, s.Reason = p.cfg.Device, st.Up, st.Reason
			if s.Up {
				s.Reason = ""
			}
		}
		list.Mirrors = append(list.Mirrors, s)
	}
	return list
}
