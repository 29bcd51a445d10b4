package bgp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	gobgp "github.com/osrg/gobgp/v4/pkg/server"

	"godwit/cluster/wire"
)

// server is the running GoBGP server and what it was told. Its methods block on
// GoBGP's management channel and must not run concurrently.
type server struct {
	log    *slog.Logger
	level  *slog.LevelVar
	socket string // of the gRPC API

	bgp       *gobgp.BgpServer // nil: not running
	cfg       wire.SpeakerConfig
	stopWatch func()
	limited   map[netip.Addr]bool // held down above their prefix limit
	counted   counted
	addresses func() []interfaceAddrs
	installed map[netip.Prefix]bool // in the FIB of all line cards, see fibstate.go
}

// startTimeout bounds how long a start waits for the TCP port and the API socket.
const startTimeout = 5 * time.Second

// apply brings the server to the (normalized) configuration.
func (s *server) apply(cfg wire.SpeakerConfig, w *watch, redist map[netip.Prefix]uint32) error {
	if s.bgp != nil && needsRestart(&s.cfg, &cfg) {
		s.stop()
		w.feed.clear(cfg.Multipath)
	}
	if s.bgp == nil || !slices.Equal(s.cfg.Communities, cfg.Communities) {
		if err := s.name(cfg.Communities, w); err != nil {
			return err
		}
		s.cfg.Communities = cfg.Communities
	}
	if s.bgp == nil {
		if err := s.start(cfg, w); err != nil {
			return err
		}
		w.feed.clear(cfg.Multipath)
		if err := s.announce(redist); err != nil {
			return err
		}
	}
	return s.applyPeers(cfg)
}

// start starts a server without neighbours.
func (s *server) start(cfg wire.SpeakerConfig, w *watch) error {
	if err := s.clearSocket(); err != nil {
		return err
	}
	b := gobgp.NewBgpServer(gobgp.GrpcListenAddress("unix://"+s.socket), gobgp.LoggerOption(s.log, s.level))
	go b.Serve()
	global := &api.Global{
		Asn:              cfg.AS,
		RouterId:         cfg.RouterID.String(),
		ListenPort:       int32(cfg.Port),
		Families:         []uint32{familyIndex4, familyIndex6},
		UseMultiplePaths: cfg.Multipath > 1,
	}
	deadline := time.Now().Add(startTimeout)
	for {
		// The port may still be held by a speaker that is going away.
		err := b.StartBgp(context.Background(), &api.StartBgpRequest{Global: global})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.Stop()
			return fmt.Errorf("start BGP on port %d: %w", cfg.Port, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.bgp, s.limited = b, map[netip.Addr]bool{}
	s.cfg = cfg
	s.cfg.Neighbors, s.counted = nil, counted{}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopWatch = func() { cancel(); w.settle() }
	err := w.start(ctx, b, cfg.Multipath > 1)
	if err == nil {
		err = s.restrictSocket(deadline)
	}
	if err == nil {
		err = s.setPolicies(cfg)
	}
	if err != nil {
		s.stop()
	}
	return err
}

// clearSocket removes the socket of a speaker that died.
func (s *server) clearSocket() error {
	if err := os.MkdirAll(filepath.Dir(s.socket), 0o750); err != nil {
		return fmt.Errorf("make directory of the BGP API: %w", err)
	}
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket of the BGP API: %w", err)
	}
	return nil
}

// restrictSocket waits until GoBGP listens and lets owner and group in only.
func (s *server) restrictSocket(deadline time.Time) error {
	for {
		err := os.Chmod(s.socket, 0o660)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("open socket of the BGP API: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stop ends the server; neighbours get a NOTIFICATION.
func (s *server) stop() {
	if s.bgp == nil {
		return
	}
	s.stopWatch()
	s.bgp.Stop()
	s.bgp = nil
}

// applyPeers changes neighbours and policies by difference.
func (s *server) applyPeers(cfg wire.SpeakerConfig) error {
	ctx := context.Background()
	d := diffPeers(&s.cfg, &cfg)
	if d.empty() {
		s.cfg = cfg // descriptions
		return nil
	}
	if err := s.setPolicies(cfg); err != nil {
		return err
	}
	var errs []error
	for _, p := range d.remove {
		errs = append(errs, s.removePeer(ctx, p))
	}
	for _, p := range d.update {
		delete(s.limited, p.Address)
		_, err := s.bgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(&cfg, p, false)})
		errs = append(errs, wrapPeer("update", p.Address, err))
	}
	for _, p := range d.add {
		errs = append(errs, wrapPeer("add", p.Address, s.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: apiPeer(&cfg, p, cfg.Restarting)})))
	}
	for _, a := range d.softIn {
		errs = append(errs, s.reset(a, true, api.ResetPeerRequest_DIRECTION_IN, ""))
	}
	for _, a := range d.softOut {
		errs = append(errs, s.reset(a, true, api.ResetPeerRequest_DIRECTION_OUT, ""))
	}
	s.cfg = cfg
	return errors.Join(errs...)
}

// removePeer deletes a neighbour. GoBGP forgets to take its MD5 key off the
// listening socket unless the password is removed first.
func (s *server) removePeer(ctx context.Context, p wire.SpeakerPeer) error {
	delete(s.limited, p.Address)
	if p.Password != "" {
		p.Password, p.Shutdown = "", true
		if _, err := s.bgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(&s.cfg, p, false)}); err != nil {
			return wrapPeer("remove", p.Address, err)
		}
	}
	return wrapPeer("remove", p.Address, s.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Address.String()}))
}

// reset clears a session, or with soft evaluates its routes again. A neighbour
// held down above its prefix limit is let in again. The reason is told to the neighbour (RFC 9003).
func (s *server) reset(a netip.Addr, soft bool, dir api.ResetPeerRequest_Direction, reason string) error {
	if s.bgp == nil {
		return errors.New("reset neighbour: BGP is not running")
	}
	if s.limited[a] && !soft {
		p, ok := s.peer(a)
		if !ok {
			return wrapPeer("reset", a, errors.New("unknown"))
		}
		delete(s.limited, a)
		_, err := s.bgp.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: apiPeer(&s.cfg, p, false)})
		return wrapPeer("reset", a, err)
	}
	err := s.bgp.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: a.String(), Soft: soft, Direction: dir, Communication: reason})
	return wrapPeer("reset", a, err)
}

func (s *server) peer(a netip.Addr) (wire.SpeakerPeer, bool) {
	for _, p := range s.cfg.Neighbors {
		if p.Address == a {
			return p, true
		}
	}
	return wire.SpeakerPeer{}, false
}

// farewell sends every neighbour a NOTIFICATION (Cease, administrative
// shutdown): the final stop. A speaker that shall be replaced does not call it.
func (s *server) farewell() error {
	if s.bgp == nil {
		return nil
	}
	return s.bgp.ShutdownPeer(context.Background(), &api.ShutdownPeerRequest{})
}

func wrapPeer(verb string, a netip.Addr, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s neighbour %v: %w", verb, a, err)
}
