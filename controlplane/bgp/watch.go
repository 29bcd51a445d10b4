package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	gobgp "github.com/osrg/gobgp/v4/pkg/server"

	"godwit/controlplane/community"
)

// watch turns GoBGP's events into ours. GoBGP's watch queue is unbounded, so its
// callbacks, which run one after another, only convert and store.
type watch struct {
	mu    sync.Mutex // held by callbacks
	feed  *feed
	peer  func(peerNews)                       // a session changed
	eor   func(peer netip.Addr, family string) // End-of-RIB; all paths before it are in the feed
	multi bool                                 // events are single paths, not best paths
	names *community.Filter                    // what the routing engine asks for
	buf   []change
}

// peerNews is a change of a session.
type peerNews struct {
	address  netip.Addr // with zone
	state    string     // one of stateNames
	limited  bool       // GoBGP holds it down above its prefix limit
	reason   string     // why it went down
	refused  bool       // one side sent a NOTIFICATION before the session was up
	graceful bool       // the peer marks the end of its table
	families []string   // the peer's
}

// start watches the server until the context ends.
func (w *watch) start(ctx context.Context, b *gobgp.BgpServer, multi bool) error {
	w.multi = multi
	err := b.WatchEvent(ctx, gobgp.WatchEventMessageCallbacks{
		OnBestPath:   func(paths []*apiutil.Path, _ time.Time) { w.paths(ctx, paths) },
		OnPathEor:    func(p *apiutil.Path, _ time.Time) { w.endOfRIB(ctx, p) },
		OnPeerUpdate: func(m *apiutil.WatchEventMessage_PeerEvent, _ time.Time) { w.peerUpdate(ctx, m) },
	}, gobgp.WatchBestPath(true), gobgp.WatchPeer(), gobgp.WatchEor(false))
	if err != nil {
		return fmt.Errorf("watch BGP: %w", err)
	}
	return nil
}

func (w *watch) paths(ctx context.Context, paths []*apiutil.Path) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return // of a server that was stopped
	}
	changes := w.buf[:0]
	for _, p := range paths {
		if e, ok := makeChange(p, w.names); ok {
			changes = append(changes, e)
		}
	}
	w.feed.apply(changes, !w.multi)
	if cap(changes) <= 1024 {
		w.buf = changes
	}
}

// settle waits for callbacks that began before the context of start ended; later
// ones do nothing.
func (w *watch) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

func (w *watch) endOfRIB(ctx context.Context, p *apiutil.Path) {
	if name := familyName(p.Family); ctx.Err() == nil && name != "" {
		w.eor(p.PeerAddress, name)
	}
}

// makeChange converts a path; false for what the router cannot use.
func makeChange(p *apiutil.Path, names *community.Filter) (change, bool) {
	n, ok := p.Nlri.(*bgp.IPAddrPrefix)
	if !ok || !n.Prefix.IsValid() || n.Prefix.Addr().Is4In6() {
		return change{}, false
	}
	e := change{prefix: n.Prefix.Masked(), withdraw: p.Withdrawal, local: !p.PeerAddress.IsValid()}
	if e.local && isHold(p.Attrs) {
		return change{}, false
	}
	e.path.Peer = p.PeerAddress.Unmap()
	if e.withdraw || e.local {
		return e, true
	}
	e.path.PeerAS = p.PeerASN
	e.path.LocalPref = defaultLocalPref
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			e.path.NextHop = a.Value
		case *bgp.PathAttributeMpReachNLRI:
			e.path.NextHop = chooseNextHop(a.Nexthop, a.LinkLocalNexthop)
		case *bgp.PathAttributeMultiExitDisc:
			e.path.MED = a.Value
		case *bgp.PathAttributeLocalPref:
			e.path.LocalPref = a.Value
		case *bgp.PathAttributeAsPath:
			n := 0
			for _, seg := range a.Value {
				n += seg.ASLen()
			}
			e.path.ASPathLen = uint16(min(n, 0xffff))
		}
	}
	if !names.Empty() {
		e.path.Communities = communitiesOf(p.Attrs, names)
	}
	e.path.NextHop = e.path.NextHop.Unmap().WithZone("")
	if !e.path.NextHop.IsValid() && e.path.Peer.Is6() && e.path.Peer.IsLinkLocalUnicast() {
		// Peers on link-local addresses send no global next hop, and GoBGP
		// drops the link-local one.
		e.path.NextHop = e.path.Peer.WithZone("")
	}
	if !e.path.NextHop.IsValid() || e.path.NextHop.IsUnspecified() || e.path.NextHop.IsMulticast() {
		e.withdraw = true // usable by nobody: as if there were no path
	}
	return e, true
}

// communitiesOf are the names of a path's communities that are looked for.
func communitiesOf(attrs []bgp.PathAttributeInterface, names *community.Filter) string {
	for _, a := range attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeCommunities:
			for _, c := range a.Value {
				names.Standard(c)
			}
		case *bgp.PathAttributeLargeCommunities:
			for _, c := range a.Values {
				names.Large(c.ASN, c.LocalData1, c.LocalData2)
			}
		case *bgp.PathAttributeExtendedCommunities:
			for _, c := range a.Value {
				if b, err := c.Serialize(); err == nil && len(b) == 8 {
					names.Extended([8]byte(b))
				}
			}
		}
	}
	return names.Names()
}

const defaultLocalPref = 100

// chooseNextHop takes the global address of a pair (RFC 2545 section 3), the
// link-local one if that is all there is.
func chooseNextHop(global, linkLocal netip.Addr) netip.Addr {
	if global.IsValid() && !global.IsUnspecified() {
		return global
	}
	return linkLocal
}

var stateNames = map[bgp.FSMState]string{
	bgp.BGP_FSM_IDLE: "idle", bgp.BGP_FSM_CONNECT: "connect", bgp.BGP_FSM_ACTIVE: "active",
	bgp.BGP_FSM_OPENSENT: "open-sent", bgp.BGP_FSM_OPENCONFIRM: "open-confirm", bgp.BGP_FSM_ESTABLISHED: established,
}

const (
	established = "established"
	idle        = "idle"
	shutdown    = "shutdown"
)

func (w *watch) peerUpdate(ctx context.Context, m *apiutil.WatchEventMessage_PeerEvent) {
	st := &m.Peer.State
	if ctx.Err() != nil || !st.NeighborAddress.IsValid() {
		return
	}
	n := peerNews{
		address: st.NeighborAddress,
		state:   stateNames[st.SessionState],
		limited: st.AdminState == api.PeerState_ADMIN_STATE_PFX_CT,
	}
	switch st.DisconnectReason {
	case api.PeerState_DISCONNECT_REASON_UNSPECIFIED, api.PeerState_DISCONNECT_REASON_IDLE_TIMER_EXPIRED:
	default:
		n.reason = reasonText(st.DisconnectReason, st.DisconnectMessage)
		n.refused = n.state == idle
	}
	for _, c := range st.RemoteCap {
		switch c := c.(type) {
		case *bgp.CapMultiProtocol:
			if f := familyName(c.CapValue); f != "" {
				n.families = append(n.families, f)
			}
		case *bgp.CapGracefulRestart:
			n.graceful = true
		}
	}
	w.peer(n)
}

// reasonText words why a session ended: "notification received: cease".
func reasonText(r api.PeerState_DisconnectReason, detail string) string {
	s := strings.TrimPrefix(r.String(), "DISCONNECT_REASON_")
	s = strings.ToLower(strings.ReplaceAll(s, "_", " "))
	if detail != "" {
		s += ": " + detail
	}
	return s
}

// pathOf is the converse of makeChange for routes originated here.
func pathOf(prefix netip.Prefix, metric uint32, withdraw bool) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(prefix)
	if err != nil {
		return nil, fmt.Errorf("announce %v: %w", prefix, err)
	}
	p := &apiutil.Path{Family: bgp.RF_IPv4_UC, Nlri: nlri, Age: time.Now().Unix(), Withdrawal: withdraw}
	unspecified := netip.IPv4Unspecified() // GoBGP puts the session's address
	if prefix.Addr().Is6() {
		p.Family, unspecified = bgp.RF_IPv6_UC, netip.IPv6Unspecified()
	}
	nextHop, err := bgp.NewPathAttributeNextHop(unspecified)
	if err != nil {
		return nil, fmt.Errorf("announce %v: %w", prefix, err)
	}
	p.Attrs = []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_INCOMPLETE), nextHop}
	if metric > 0 {
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeMultiExitDisc(metric))
	}
	return p, nil
}
