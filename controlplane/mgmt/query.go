package mgmt

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// The queries travel as URL parameters. Each encodes its non-zero fields and
// decodes strictly: an unknown parameter or a bad value is an error.

// fields collects the parameters of a query while it is encoded.
type fields url.Values

func (f fields) str(key, v string) {
	if v != "" {
		url.Values(f).Set(key, v)
	}
}

func (f fields) num(key string, v int) {
	if v != 0 {
		url.Values(f).Set(key, strconv.Itoa(v))
	}
}

func (f fields) flag(key string, v bool) {
	if v {
		url.Values(f).Set(key, "true")
	}
}

func (f fields) dur(key string, v time.Duration) {
	if v != 0 {
		url.Values(f).Set(key, v.String())
	}
}

func (f fields) addr(key string, v netip.Addr) {
	if v.IsValid() {
		url.Values(f).Set(key, v.String())
	}
}

func (f fields) prefix(key string, v netip.Prefix) {
	if v.IsValid() {
		url.Values(f).Set(key, v.String())
	}
}

// params takes parameters out of a request one by one; what is left at the end
// is unknown.
type params struct {
	v   url.Values
	err error
}

func (p *params) take(key string) (string, bool) {
	s := p.v.Get(key)
	delete(p.v, key)
	return s, s != ""
}

func (p *params) fail(key, value string, err error) {
	if p.err == nil {
		p.err = fmt.Errorf("parameter %s %q: %w", key, value, err)
	}
}

func (p *params) str(key string) string { s, _ := p.take(key); return s }

func (p *params) num(key string, lo, hi int) int {
	s, ok := p.take(key)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		p.fail(key, s, err)
	} else if n < lo || n > hi {
		p.fail(key, s, fmt.Errorf("want %d to %d", lo, hi))
	}
	return n
}

func (p *params) flag(key string) bool {
	s, ok := p.take(key)
	if !ok {
		return false
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		p.fail(key, s, err)
	}
	return b
}

func (p *params) dur(key string, hi time.Duration) time.Duration {
	s, ok := p.take(key)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		p.fail(key, s, err)
	} else if d < 0 || d > hi {
		p.fail(key, s, fmt.Errorf("want 0s to %v", hi))
	}
	return d
}

func (p *params) addr(key string) netip.Addr {
	s, ok := p.take(key)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		p.fail(key, s, err)
	}
	return a.Unmap()
}

func (p *params) prefix(key string) netip.Prefix {
	s, ok := p.take(key)
	if !ok {
		return netip.Prefix{}
	}
	x, err := netip.ParsePrefix(s)
	if err != nil {
		p.fail(key, s, err)
	} else if x != x.Masked() {
		p.fail(key, s, fmt.Errorf("host bits set: did you mean %v?", x.Masked()))
	}
	return x
}

func (p *params) done() error {
	for key := range p.v {
		if p.err == nil {
			p.err = fmt.Errorf("unknown parameter %q", key)
		}
	}
	return p.err
}

func (q RouteQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.num("family", q.Family)
	f.addr("address", q.Address)
	f.prefix("prefix", q.Prefix)
	f.flag("longer", q.Longer)
	f.str("protocol", q.Protocol)
	f.addr("next-hop", q.NextHop)
	f.num("tag", int(q.Tag))
	f.flag("detail", q.Detail)
	return url.Values(f)
}

func parseRouteQuery(v url.Values) (RouteQuery, error) {
	p := params{v: v}
	q := RouteQuery{
		VRF: p.str("vrf"), Family: p.num("family", 0, 6), Address: p.addr("address"),
		Prefix: p.prefix("prefix"), Longer: p.flag("longer"), Protocol: p.str("protocol"),
		NextHop: p.addr("next-hop"), Tag: uint32(p.num("tag", 0, math.MaxUint32)), Detail: p.flag("detail"),
	}
	if q.Family != 0 && q.Family != 4 && q.Family != 6 {
		p.fail("family", strconv.Itoa(q.Family), fmt.Errorf("want 4 or 6"))
	}
	if q.Address.IsValid() && q.Prefix.IsValid() {
		p.fail("address", q.Address.String(), fmt.Errorf("not together with a prefix"))
	}
	return q, p.done()
}

func (q RouteChangeQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.prefix("prefix", q.Prefix)
	f.num("count", q.Count)
	return url.Values(f)
}

func parseRouteChangeQuery(v url.Values) (RouteChangeQuery, error) {
	p := params{v: v}
	q := RouteChangeQuery{VRF: p.str("vrf"), Prefix: p.prefix("prefix"), Count: p.num("count", 0, 100_000)}
	return q, p.done()
}

func (q FIBQuery) values() url.Values {
	f := fields{}
	f.num("card", int(q.Card))
	f.str("vrf", q.VRF)
	f.addr("address", q.Address)
	f.prefix("prefix", q.Prefix)
	return url.Values(f)
}

func parseFIBQuery(v url.Values) (FIBQuery, error) {
	p := params{v: v}
	q := FIBQuery{
		Card: uint16(p.num("card", 0, 65535)), VRF: p.str("vrf"),
		Address: p.addr("address"), Prefix: p.prefix("prefix"),
	}
	return q, p.done()
}

func (q FIBTraceQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.addr("address", q.Address)
	f.addr("from", q.From)
	f.str("protocol", q.Protocol)
	f.num("source-port", int(q.SrcPort))
	f.num("port", int(q.DstPort))
	f.num("card", int(q.Card))
	return url.Values(f)
}

func parseFIBTraceQuery(v url.Values) (FIBTraceQuery, error) {
	p := params{v: v}
	q := FIBTraceQuery{
		VRF: p.str("vrf"), Address: p.addr("address"), From: p.addr("from"), Protocol: p.str("protocol"),
		SrcPort: uint16(p.num("source-port", 0, 65535)), DstPort: uint16(p.num("port", 0, 65535)), Card: uint16(p.num("card", 0, 65535)),
	}
	if !q.Address.IsValid() {
		p.fail("address", "", fmt.Errorf("needed"))
	}
	if q.From.IsValid() && q.From.Is4() != q.Address.Is4() {
		p.fail("from", q.From.String(), fmt.Errorf("another family than %v", q.Address))
	}
	if _, err := q.IPProtocol(); err != nil {
		p.fail("protocol", q.Protocol, err)
	}
	return q, p.done()
}

// IPProtocol is the number of the protocol.
func (q FIBTraceQuery) IPProtocol() (uint8, error) {
	switch q.Protocol {
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	case "":
		if q.SrcPort != 0 || q.DstPort != 0 {
			return 17, nil
		}
		return 0, nil
	}
	n, err := strconv.ParseUint(q.Protocol, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("want tcp, udp or a number to 255")
	}
	return uint8(n), nil
}

func (q NeighborQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.str("interface", q.Interface)
	f.addr("address", q.Address)
	return url.Values(f)
}

func parseNeighborQuery(v url.Values) (NeighborQuery, error) {
	p := params{v: v}
	q := NeighborQuery{VRF: p.str("vrf"), Interface: p.str("interface"), Address: p.addr("address")}
	return q, p.done()
}

func (q ResetQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.addr("address", q.Address)
	f.flag("soft", q.Soft)
	return url.Values(f)
}

func parseResetQuery(v url.Values) (ResetQuery, error) {
	p := params{v: v}
	q := ResetQuery{VRF: p.str("vrf"), Address: p.addr("address"), Soft: p.flag("soft")}
	return q, p.done()
}

func (q UpgradeQuery) values() url.Values {
	f := fields{}
	f.str("module", q.Module)
	f.str("file", q.File)
	return url.Values(f)
}

func parseUpgradeQuery(v url.Values) (UpgradeQuery, error) {
	p := params{v: v}
	q := UpgradeQuery{Module: p.str("module"), File: p.str("file")}
	return q, p.done()
}

// The bounds of a ping.
const (
	maxPingCount    = 1_000_000
	maxPingSize     = 65_507 - 8 // largest UDP-sized payload of IPv4, less the ICMP header
	maxPingInterval = time.Minute
)

func (q PingQuery) values() url.Values {
	f := fields{}
	f.str("vrf", q.VRF)
	f.addr("address", q.Address)
	f.addr("source", q.Source)
	f.num("count", q.Count)
	f.num("size", q.Size)
	f.dur("interval", q.Interval)
	f.dur("timeout", q.Timeout)
	f.num("ttl", q.TTL)
	f.flag("df", q.DF)
	return url.Values(f)
}

func parsePingQuery(v url.Values) (PingQuery, error) {
	p := params{v: v}
	q := PingQuery{
		VRF: p.str("vrf"), Address: p.addr("address"), Source: p.addr("source"),
		Count: p.num("count", 0, maxPingCount), Size: p.num("size", 0, maxPingSize),
		Interval: p.dur("interval", maxPingInterval), Timeout: p.dur("timeout", maxPingInterval),
		TTL: p.num("ttl", 0, 255), DF: p.flag("df"),
	}
	if !q.Address.IsValid() {
		p.fail("address", "", fmt.Errorf("needed"))
	}
	if q.Source.IsValid() && q.Source.Is4() != q.Address.Is4() {
		p.fail("source", q.Source.String(), fmt.Errorf("another family than %v", q.Address))
	}
	return q, p.done()
}

func (q CaptureQuery) values() url.Values {
	f := fields{}
	f.str("interface", q.Interface)
	f.num("snap", q.Snap)
	f.num("count", q.Count)
	q.Match.add(f)
	return url.Values(f)
}

func parseCaptureQuery(v url.Values) (CaptureQuery, error) {
	p := params{v: v}
	q := CaptureQuery{Interface: p.str("interface"), Snap: p.num("snap", 0, 65535), Count: p.num("count", 0, 1<<31-1), Match: p.match()}
	if q.Interface == "" {
		p.fail("interface", "", fmt.Errorf("needed"))
	}
	return q, p.done()
}
