package bgp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/apiutil"

	"godwit/cluster/wire"
)

// redist is what the routing engine wants announced: a prefix as long as one
// protocol has it, with the smallest metric.
type redist struct {
	routes map[netip.Prefix]offer
	parts  *wire.RedistBody // a list that goes on; nil: none
}

// origination is one change of what BGP announces.
type origination struct {
	prefix   netip.Prefix
	metric   uint32
	withdraw bool
}

// offer is what protocols have for a prefix. The first lies in the map: mostly
// there is no other.
type offer struct {
	protocol string
	metric   uint32
	next     *offer
}

// with returns the offers with one set.
func (o offer) with(protocol string, metric uint32) offer {
	for x := &o; x != nil; x = x.next {
		if x.protocol == protocol {
			x.metric = metric
			return o
		}
	}
	return offer{protocol, metric, &o}
}

// without returns the offers without one; false if no other is left.
func (o offer) without(protocol string) (offer, bool) {
	if o.protocol == protocol {
		if o.next == nil {
			return o, false
		}
		return *o.next, true
	}
	for x := &o; x.next != nil; x = x.next {
		if x.next.protocol == protocol {
			x.next = x.next.next
			break
		}
	}
	return o, true
}

// least is the smallest metric.
func (o offer) least() uint32 {
	m := o.metric
	for x := o.next; x != nil; x = x.next {
		m = min(m, x.metric)
	}
	return m
}

// metric is the smallest metric of a prefix; false if it is not announced.
func (r *redist) metric(p netip.Prefix) (uint32, bool) {
	o, ok := r.routes[p]
	return o.least(), ok
}

// errPart is a part of a list that has no beginning.
var errPart = errors.New("redistribute: part of a list that was not begun")

// collect joins the parts of a list; false while there are more to come. A list
// that begins replaces one that has not ended.
func (r *redist) collect(body wire.RedistBody) (wire.RedistBody, bool, error) {
	switch {
	case body.Replace && body.More:
		r.parts = &body
		return body, false, nil
	case body.Replace:
		r.parts = nil
		return body, true, nil
	case r.parts == nil && body.More:
		return body, false, errPart
	case r.parts == nil:
		return body, true, nil
	}
	r.parts.Routes = append(r.parts.Routes, body.Routes...)
	if body.More {
		return body, false, nil
	}
	body, r.parts = *r.parts, nil
	return body, true, nil
}

// change takes over a message and returns what it changes.
func (r *redist) change(body wire.RedistBody) ([]origination, error) {
	for _, rt := range body.Routes {
		if p := rt.Prefix; !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("redistribute %v: bad prefix", p)
		}
	}
	body, whole, err := r.collect(body)
	if err != nil || !whole {
		return nil, err
	}
	if body.Replace {
		return r.replace(body.Routes), nil
	}
	if r.routes == nil {
		r.routes = map[netip.Prefix]offer{}
	}
	before := map[netip.Prefix]*uint32{} // metric; nil: not announced
	for _, rt := range body.Routes {
		if _, again := before[rt.Prefix]; !again {
			before[rt.Prefix] = nil
			if o, ok := r.routes[rt.Prefix]; ok {
				m := o.least()
				before[rt.Prefix] = &m
			}
		}
		setOffer(r.routes, &rt)
	}
	var out []origination
	for p, old := range before {
		now, has := r.routes[p]
		switch {
		case has && (old == nil || *old != now.least()):
			out = append(out, origination{prefix: p, metric: now.least()})
		case old != nil && !has:
			out = append(out, origination{prefix: p, withdraw: true})
		}
	}
	return out, nil
}

// replace takes over a whole list.
func (r *redist) replace(list []wire.RedistRoute) (out []origination) {
	old := r.routes
	r.routes = make(map[netip.Prefix]offer, len(list))
	for i := range list {
		setOffer(r.routes, &list[i])
	}
	for p, o := range r.routes {
		if was, had := old[p]; !had || was.least() != o.least() {
			out = append(out, origination{prefix: p, metric: o.least()})
		}
	}
	for p := range old {
		if _, has := r.routes[p]; !has {
			out = append(out, origination{prefix: p, withdraw: true})
		}
	}
	return out
}

func setOffer(m map[netip.Prefix]offer, rt *wire.RedistRoute) {
	o, ok := m[rt.Prefix]
	switch {
	case !rt.Withdraw && !ok:
		m[rt.Prefix] = offer{protocol: rt.Protocol, metric: rt.Metric}
	case !rt.Withdraw:
		m[rt.Prefix] = o.with(rt.Protocol, rt.Metric)
	case ok:
		if o, ok = o.without(rt.Protocol); ok {
			m[rt.Prefix] = o
		} else {
			delete(m, rt.Prefix)
		}
	}
}

// all is everything that is announced, for a server that starts.
func (r *redist) all() map[netip.Prefix]uint32 {
	all := make(map[netip.Prefix]uint32, len(r.routes))
	for p, o := range r.routes {
		all[p] = o.least()
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
