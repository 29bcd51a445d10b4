package bgp

import (
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"godwit/cluster/wire"
)

// GoBGP's numbers of the families in api.Global.
const (
	familyIndex4 = 0
	familyIndex6 = 1
)

const (
	connectRetry = 5 // seconds between attempts to connect
	idleHold     = 5 // seconds before the first attempt after an administrative reset

	// nativeLimit is the largest prefix limit left to GoBGP, which counts the
	// whole Adj-RIB-In at each UPDATE; larger ones are checked by checkLimits.
	nativeLimit = 5000
)

// maxDeferral bounds how long a restarting speaker waits for its peers' End-of-RIB.
const maxDeferral = 60 * time.Second

// deferral is how long peers may take to send their tables before they are
// given up: Selection_Deferral_Timer of RFC 4724 section 4.1.
func deferral(cfg *wire.SpeakerConfig) time.Duration {
	if cfg.GracefulRestart <= 0 {
		return maxDeferral
	}
	return min(cfg.GracefulRestart, maxDeferral)
}

func apiFamily(name string) *api.Family {
	f := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if name == ipv6 {
		f.Afi = api.Family_AFI_IP6
	}
	return f
}

func familyName(f bgp.Family) string {
	switch f {
	case bgp.RF_IPv4_UC:
		return ipv4
	case bgp.RF_IPv6_UC:
		return ipv6
	}
	return ""
}

// apiPeer is the neighbour as GoBGP wants it.
func apiPeer(cfg *wire.SpeakerConfig, p wire.SpeakerPeer, restarting bool) *api.Peer {
	peer := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(),
			PeerAsn:         p.AS,
			LocalAsn:        p.LocalAS,
			AuthPassword:    p.Password,
			AdminDown:       p.Shutdown,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           connectRetry,
			HoldTime:               uint64(p.HoldTime / time.Second),
			IdleHoldTimeAfterReset: idleHold,
		}},
		Transport: &api.Transport{PassiveMode: p.Passive, RemotePort: uint32(p.Port)},
	}
	if p.LocalAddress.IsValid() {
		peer.Transport.LocalAddress = p.LocalAddress.String()
	}
	if p.Multihop > 0 {
		peer.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	}
	graceful := cfg.GracefulRestart > 0
	if graceful {
		peer.GracefulRestart = &api.GracefulRestart{
			Enabled:         true,
			RestartTime:     uint32((cfg.GracefulRestart + time.Second - 1) / time.Second),
			DeferralTime:    uint32(max(deferral(cfg)/time.Second, 1)),
			LocalRestarting: restarting,
		}
	}
	for _, f := range p.Families {
		a := &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
		}
		if p.MaxPrefixes > 0 && p.MaxPrefixes <= nativeLimit {
			a.PrefixLimits = &api.PrefixLimit{Family: apiFamily(f), MaxPrefixes: p.MaxPrefixes}
		}
		peer.AfiSafis = append(peer.AfiSafis, a)
	}
	return peer
}
