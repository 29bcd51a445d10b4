package bgp

import (
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/apiutil"

	"godwit/cluster/wire"
)

// redist is what the routing engine wants announced: a prefix as long as one
// protocol has it, with the smallest metric.
type redist struct {
	routes map[netip.Prefix]map[string]uint32 // protocol → metric
}

// origination is one change of what BGP announces.
type origination struct {
	prefix   netip.Prefix
	metric   uint32
	withdraw bool
}

// change takes over a message and returns what it changes.
func (r *redist) change(body wire.RedistBody) ([]origination, error) {
	for _, rt := range body.Routes {
		if p := rt.Prefix; !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("redistribute %v: bad prefix", p)
		}
	}
	if r.routes == nil {
		r.routes = map[netip.Prefix]map[string]uint32{}
	}
	touched := map[netip.Prefix]bool{}
	before := map[netip.Prefix]uint32{}
	touch := func(p netip.Prefix) {
		if !touched[p] {
			touched[p] = true
			if m, ok := r.metric(p); ok {
				before[p] = m
			}
		}
	}
	if body.Replace {
		for p := range r.routes {
			touch(p)
		}
		clear(r.routes)
	}
	for _, rt := range body.Routes {
		touch(rt.Prefix)
		r.set(rt)
	}
	var out []origination
	for p := range touched {
		old, had := before[p]
		now, has := r.metric(p)
		switch {
		case has && (!had || old != now):
			out = append(out, origination{prefix: p, metric: now})
		case had && !has:
			out = append(out, origination{prefix: p, withdraw: true})
		}
	}
	return out, nil
}

func (r *redist) set(rt wire.RedistRoute) {
	m := r.routes[rt.Prefix]
	if rt.Withdraw {
		delete(m, rt.Protocol)
		if len(m) == 0 {
			delete(r.routes, rt.Prefix)
		}
		return
	}
	if m == nil {
		m = map[string]uint32{}
		r.routes[rt.Prefix] = m
	}
	m[rt.Protocol] = rt.Metric
}

func (r *redist) metric(p netip.Prefix) (least uint32, ok bool) {
	for _, m := range r.routes[p] {
		if !ok || m < least {
			least, ok = m, true
		}
	}
	return least, ok
}

// all is everything that is announced, for a server that starts.
func (r *redist) all() map[netip.Prefix]uint32 {
	all := make(map[netip.Prefix]uint32, len(r.routes))
	for p := range r.routes {
		all[p], _ = r.metric(p)
	}
	return all
}

// announce announces routes on a server that was just started.
func (s *server) announce(routes map[netip.Prefix]uint32) error {
	list := make([]origination, 0, len(routes))
	for p, m := range routes {
		list = append(list, origination{prefix: p, metric: m})
	}
	return s.originate(list)
}

// originateRun is how many routes GoBGP gets at a time; its management channel is
// closed to everybody else meanwhile.
const originateRun = 500

// originate announces and withdraws routes.
func (s *server) originate(list []origination) error {
	if s.bgp == nil {
		return nil // the start announces everything
	}
	for len(list) > 0 {
		n := min(len(list), originateRun)
		var add, del []*apiutil.Path
		for _, o := range list[:n] {
			p, err := pathOf(o.prefix, o.metric, o.withdraw)
			if err != nil {
				return err
			}
			if o.withdraw {
				del = append(del, p)
			} else {
				add = append(add, p)
			}
		}
		list = list[n:]
		if len(del) > 0 {
			if err := s.bgp.DeletePath(apiutil.DeletePathRequest{Paths: del}); err != nil {
				return fmt.Errorf("withdraw redistributed routes: %w", err)
			}
		}
		if len(add) > 0 {
			if _, err := s.bgp.AddPath(apiutil.AddPathRequest{Paths: add}); err != nil {
				return fmt.Errorf("announce redistributed routes: %w", err)
			}
		}
	}
	return nil
}
