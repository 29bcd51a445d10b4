package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"godwit/cluster/wire"
)

// peerState is what the event loop knows of a neighbour.
type peerState struct {
	cfg     wire.SpeakerPeer
	status  wire.PeerStatus
	limited bool   // held down above its prefix limit
	why     string // the reason that the next end of the session was asked for with
}

func newPeerState(p wire.SpeakerPeer, now time.Time) *peerState {
	s := &peerState{status: wire.PeerStatus{Address: p.Address, State: idle, Since: now}}
	s.configure(p, now)
	return s
}

// configure takes over a configuration and tells whether the status changed.
func (s *peerState) configure(p wire.SpeakerPeer, now time.Time) bool {
	before := s.status
	s.cfg = p
	s.status.Description, s.status.AS = p.Description, p.AS
	switch {
	case p.Shutdown:
		s.move(shutdown, now)
	case s.status.State == shutdown:
		s.limited = false
		s.move(idle, now)
	}
	return s.status != before
}

// move changes the state.
func (s *peerState) move(state string, now time.Time) {
	if state == s.status.State {
		return
	}
	if s.status.State == established {
		s.status.Flaps++
		s.status.Received, s.status.Accepted, s.status.Advertised = 0, 0, 0
	}
	s.status.State, s.status.Since = state, now
}

// news takes over a change of the session and tells whether it is one.
func (s *peerState) news(n peerNews, now time.Time) bool {
	state := n.state
	if s.cfg.Shutdown {
		state = shutdown
	}
	reason := s.status.LastError
	switch {
	case n.limited:
		reason = fmt.Sprintf("more than %d prefixes; reset the neighbour to try again", s.cfg.MaxPrefixes)
	case n.reason != "" && s.why != "":
		reason, s.why = s.why, ""
	case n.reason != "":
		reason = n.reason
	}
	if state == s.status.State && reason == s.status.LastError {
		return false
	}
	if state == established {
		s.why = ""
	}
	s.move(state, now)
	s.status.LastError = reason
	return true
}

// peerCounts are GoBGP's counters of one neighbour.
type peerCounts struct {
	received, accepted, advertised uint64
	messagesIn, messagesOut        uint64
}

// exactAdvertised is the largest table for which GoBGP is asked what a neighbour
// was sent: it applies the policy to every path again to find out.
const exactAdvertised = 10_000

// countsShare bounds the part of the time that goes into counting: an answer
// serves for so many times what it took.
const countsShare = 20

// counted is the last answer of GoBGP's counters.
type counted struct {
	byPeer map[netip.Addr]peerCounts
	until  time.Time // when to ask again
}

// counts returns GoBGP's counters. To tell them, GoBGP copies every Adj-RIB-In,
// some half a second for a full table: whoever polls gets an answer again.
func (s *server) counts(feed feedStats) (map[netip.Addr]peerCounts, error) {
	if s.bgp == nil {
		return nil, nil
	}
	start := time.Now()
	if start.Before(s.counted.until) {
		return s.counted.byPeer, nil
	}
	m, err := s.count(feed)
	if err != nil {
		return nil, err
	}
	end := time.Now()
	s.counted = counted{m, end.Add(countsShare * end.Sub(start))}
	return m, nil
}

// count asks GoBGP.
func (s *server) count(feed feedStats) (map[netip.Addr]peerCounts, error) {
	exact := feed.routes4+feed.routes6 <= exactAdvertised
	m := map[netip.Addr]peerCounts{}
	err := s.bgp.ListPeer(context.Background(), &api.ListPeerRequest{EnableAdvertised: exact}, func(p *api.Peer) {
		a, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
		if err != nil {
			return
		}
		c := peerCounts{
			messagesIn:  p.GetState().GetMessages().GetReceived().GetTotal(),
			messagesOut: p.GetState().GetMessages().GetSent().GetTotal(),
		}
		for _, f := range p.AfiSafis {
			c.received += f.GetState().GetReceived()
			c.accepted += f.GetState().GetAccepted()
			c.advertised += f.GetState().GetAdvertised()
		}
		if cfg, ok := s.peer(a); ok {
			if cfg.Import == reject {
				c.accepted = 0
			}
			if !exact && cfg.Export == accept && c.received+c.messagesIn > 0 {
				c.advertised = uint64(feed.routes4 + feed.routes6 - feed.byPeer[a])
			}
		}
		m[a] = c
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	return m, nil
}

// checkLimits returns the established neighbours that sent more prefixes of a
// family than they may, among those whose limit GoBGP does not check.
func (s *server) checkLimits() []netip.Addr {
	if s.bgp == nil {
		return nil
	}
	var over []netip.Addr
	for _, p := range s.cfg.Neighbors {
		if p.MaxPrefixes <= nativeLimit || s.limited[p.Address] {
			continue
		}
		for _, f := range p.Families {
			t, err := s.bgp.GetTable(context.Background(), &api.GetTableRequest{
				TableType: api.TableType_TABLE_TYPE_ADJ_IN, Family: apiFamily(f), Name: p.Address.String(),
			})
			if err == nil && t.NumPath > uint64(p.MaxPrefixes) {
				over = append(over, p.Address)
				break
			}
		}
	}
	return over
}

// hold keeps a neighbour down: it is deleted, which drops its routes at once
// (graceful restart would keep them), and added again administratively down.
func (s *server) hold(a netip.Addr) error {
	p, ok := s.peer(a)
	if s.bgp == nil || !ok || s.limited[a] {
		return nil
	}
	p.Shutdown = true
	s.limited[a] = true
	_, err := s.bgp.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: apiPeer(&s.cfg, p, false)})
	return wrapPeer("hold down", a, err)
}
