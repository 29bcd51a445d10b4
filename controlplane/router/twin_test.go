package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/fibsync"
	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/kernel"
	"godwit/controlplane/mgmt"
	"godwit/event"
	"godwit/fib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is one router's processes in one: a bus, twins of the host, the
// supervisor, cards and speakers, and the routing engine.
type rig struct {
	t      *testing.T
	dir    string
	host   *hostTwin
	client *mgmt.Client
	option func(*Options) // of start; may be nil
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "gwt-router-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server, err := local.NewServer(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	g := &rig{t: t, dir: dir, host: &hostTwin{vrfs: map[string]map[string]kernel.Interface{}}}
	g.client = mgmt.NewClient(filepath.Join(dir, "mgmt.sock"))
	t.Cleanup(g.client.Close)
	return g
}

func (g *rig) join(name string) bus.Bus {
	g.t.Helper()
	b, err := local.Join(g.dir, name)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

// process runs a loop with a membership of the bus; the function it returns
// ends it, as a kill would.
func (g *rig) process(name string, start func(*event.Loop, bus.Bus) io.Closer) (kill func()) {
	g.t.Helper()
	return g.processOn(g.join(name), name, start)
}

func (g *rig) processOn(b bus.Bus, name string, start func(*event.Loop, bus.Bus) io.Closer) (kill func()) {
	g.t.Helper()
	loop := event.New(name)
	c := start(loop, b)
	done := make(chan error, 1)
	go func() { done <- loop.Run(context.Background()) }()
	kill = sync.OnceFunc(func() {
		b.Close()
		loop.Stop()
		<-done
		if c != nil {
			c.Close()
		}
	})
	g.t.Cleanup(kill)
	return kill
}

// start runs a routing engine with the given configuration file, if any; the
// function it returns ends it.
func (g *rig) start(yaml string) (end func(clean bool)) {
	g.t.Helper()
	file := ""
	if yaml != "" {
		file = filepath.Join(g.dir, "start.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	b := g.join("router")
	loop := event.New("router")
	var log io.Writer = io.Discard
	if testing.Verbose() {
		log = os.Stderr
	}
	opt := Options{
		Instance: "gwt", RunDir: g.dir, StateDir: filepath.Join(g.dir, "state"), Config: file, Loop: loop, Bus: b,
		Host: g.host, Leftovers: g.host, Log: slog.New(slog.NewTextHandler(log, nil)),
		Info: wire.ModuleInfo{Name: "router", Role: "router", Version: "1.2.3", Started: time.Now()},
	}
	if g.option != nil {
		g.option(&opt)
	}
	r := New(opt)
	if err := r.Start(); err != nil {
		g.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- loop.Run(context.Background()) }()
	ended := false
	end = func(clean bool) {
		if ended {
			return
		}
		ended = true
		loop.Stop()
		if err := errors.Join(<-done, r.Close(clean), b.Close()); err != nil {
			g.t.Errorf("end routing engine: %v", err)
		}
	}
	g.t.Cleanup(func() { end(false) })
	return end
}

// eventually polls until f returns nil.
func (g *rig) eventually(what string, f func() error) {
	g.t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if err = f(); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond) // between polls
	}
	g.t.Fatalf("%s: %v", what, err)
}

// hostTwin is a host stack in memory.
type hostTwin struct {
	mu   sync.Mutex
	vrfs map[string]map[string]kernel.Interface
	fail string // interface that can't be made
	made int    // calls of EnsureInterface
}

func (h *hostTwin) EnsureVRF(v string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vrfs[v] == nil {
		h.vrfs[v] = map[string]kernel.Interface{}
	}
	return "/run/netns/gwt-" + v, nil
}

func (h *hostTwin) RemoveVRF(v string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.vrfs, v)
	return nil
}

func (h *hostTwin) EnsureInterface(v string, i kernel.Interface) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i.Name == h.fail {
		return errors.New("no more devices")
	}
	if h.vrfs[v] == nil {
		return fmt.Errorf("no VRF %s", v)
	}
	h.made++
	h.vrfs[v][i.Name] = i
	return nil
}

func (h *hostTwin) RemoveInterface(v, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.vrfs[v], name)
	return nil
}

func (h *hostTwin) Clean() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.vrfs)
	return nil
}

func (h *hostTwin) VRFs() ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for v := range h.vrfs {
		list = append(list, v)
	}
	return list, nil
}

func (h *hostTwin) Interfaces(v string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for name := range h.vrfs[v] {
		list = append(list, name)
	}
	return list, nil
}

// count tells how often an interface was set up.
func (h *hostTwin) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.made
}

// get looks an interface up.
func (h *hostTwin) get(v, name string) (kernel.Interface, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, ok := h.vrfs[v][name]
	return i, ok
}

// cardTwin behaves like a line card: its ports are up, its FIB is a map. The
// FIB outlives the sessions.
type cardTwin struct {
	mu     sync.Mutex
	id     fib.CardID
	cfg    wire.CardConfig
	down   map[string]bool // devices without carrier
	sess   *session.Session
	sub    *fibsync.Subscriber
	epoch  uint32
	groups map[uint64]fib.Group // epoch and number
	routes map[string]twinRoute
	sweeps int
	h      *event.Handler
	opened []int // routes that it had each time it got its first ports
	// held are configurations that named ports before all were to open; complete is the last one's.
	held     []int
	complete bool
}

type twinRoute struct {
	group uint64
	epoch uint32
}

func newCardTwin(id fib.CardID) *cardTwin {
	c := &cardTwin{id: id, groups: map[uint64]fib.Group{}, routes: map[string]twinRoute{}, down: map[string]bool{}}
	c.sub = fibsync.NewSubscriber(c, 0, 0)
	return c
}

func (g *rig) card(c *cardTwin) (kill func()) {
	return g.process(fmt.Sprintf("linecard-%d", c.id), g.serveCard(c))
}

func (g *rig) serveCard(c *cardTwin) func(*event.Loop, bus.Bus) io.Closer {
	return func(l *event.Loop, b bus.Bus) io.Closer {
		c.h = l.Handler("card", event.High)
		closer, err := session.Serve(c.h, b, bus.One(bus.TypeLinecard, uint32(c.id)), func(s *session.Session) session.Handler {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.sess = s
			for _, p := range c.ports() {
				_ = s.SendJSON(wire.PortEvent, p)
			}
			return c
		})
		if err != nil {
			g.t.Fatal(err)
		}
		return closer
	}
}

// Apply plays a batch into the map.
func (c *cardTwin) Apply(b fib.Batch) error {
	c.epoch = b.Epoch
	num := func(id fib.GroupID) uint64 { return uint64(b.Epoch)<<32 | uint64(id) }
	for _, x := range b.Changes {
		k := fmt.Sprintf("%d %v", x.Route.VRF, x.Route.Prefix)
		switch x.Op {
		case fib.SetGroup:
			c.groups[num(x.Group.ID)] = x.Group
		case fib.DeleteGroup:
			delete(c.groups, num(x.Group.ID))
		case fib.SetRoute:
			c.routes[k] = twinRoute{num(x.Route.Group), b.Epoch}
		case fib.DeleteRoute:
			delete(c.routes, k)
		}
	}
	if b.Sweep {
		c.sweeps++
		for k, r := range c.routes {
			if r.epoch != b.Epoch {
				delete(c.routes, k)
			}
		}
	}
	return nil
}

func (c *cardTwin) Receive(s *session.Session, m session.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Kind {
	case wire.SetCard:
		had := len(c.cfg.Ports)
		c.cfg = wire.CardConfig{}
		if err := wire.Decode(m.Body, &c.cfg); err != nil {
			_ = s.ReplyError(m, err)
			return
		}
		c.complete = c.cfg.Complete
		if c.cfg.Hold && len(c.cfg.Ports) > 0 {
			c.held = append(c.held, len(c.cfg.Ports))
		}
		if had == 0 && len(c.cfg.Ports) > 0 {
			c.opened = append(c.opened, len(c.routes))
		}
		_ = s.Reply(m, m.Kind, wire.CardResult{})
	case wire.GetPorts:
		_ = s.Reply(m, m.Kind, wire.PortList{Card: c.id, Ports: c.ports()})
	case wire.GetFIBStats:
		_ = s.Reply(m, m.Kind, wire.FIBStats{Card: c.id, Epoch: c.sub.Epoch(), VRFs: []wire.FIBVRFStats{}})
	case wire.FIBBatch:
		if ack, ok := c.sub.Receive(m.Body); ok {
			_ = s.SendJSON(wire.FIBAck, ack)
		}
	case wire.GetBFD:
		l := wire.BFDList{Card: c.id, Sessions: []wire.BFDStatus{}, Drops: []wire.Drop{}}
		for _, b := range c.cfg.BFD {
			l.Sessions = append(l.Sessions, wire.BFDStatus{VRF: b.VRF, Interface: b.Interface, Peer: b.Peer, Local: b.Local, State: "up", Sent: 5})
		}
		_ = s.Reply(m, m.Kind, l)
	case wire.GetDrops:
		_ = s.Reply(m, m.Kind, wire.DropList{Card: c.id, Drops: []wire.Drop{{Node: "ip4", Reason: "ttl", Count: 3}}})
	case wire.GetNeighbors:
		_ = s.Reply(m, m.Kind, wire.NeighborList{Neighbors: []wire.Neighbor{{Interface: c.cfg.Interfaces[0].ID, Address: netip.MustParseAddr("10.0.0.2"), State: "reachable"}}})
	case wire.ClearNeighbor, wire.StopCapture:
		_ = s.Reply(m, m.Kind, struct{}{})
	case wire.StartCapture:
		_ = s.Reply(m, m.Kind, struct{}{})
		frame := append([]byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 60, 1}, make([]byte, 60)...)
		_ = s.Send(wire.CaptureFrame, frame)
	case wire.GetEvents, wire.GetTrace, wire.ClearEvents:
		reply, _ := health.Answer(c.h.Loop(), m.Kind)
		_ = s.Reply(m, m.Kind, reply)
	default:
		_ = s.ReplyError(m, fmt.Errorf("unknown kind %v", m.Kind))
	}
}

func (c *cardTwin) Closed(*session.Session, error) {}

// ports lists the ports of the configuration.
func (c *cardTwin) ports() []wire.PortStatus {
	list := []wire.PortStatus{}
	for i, p := range c.cfg.Ports {
		st := wire.PortStatus{ID: p.ID, Device: p.Device, Up: !c.down[p.Device], Express: express(p), MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", c.id, i+1), Interfaces: []wire.InterfaceStatus{}}
		for _, f := range c.cfg.Interfaces {
			if f.Port == p.ID {
				st.Interfaces = append(st.Interfaces, wire.InterfaceStatus{ID: f.ID, Name: f.Name, VRF: f.VRF, Up: st.Up && !f.Down})
			}
		}
		list = append(list, st)
	}
	return list
}

func express(p wire.PortConfig) string {
	if p.Express {
		return "on"
	}
	return "off"
}

// carrier changes a device's carrier and tells it.
func (c *cardTwin) carrier(device string, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[device] = !up
	for _, p := range c.ports() {
		if p.Device == device {
			_ = c.sess.SendJSON(wire.PortEvent, p)
		}
	}
}

// fib lists the card's routes: "vrf prefix" to "kind hops".
func (c *cardTwin) fib() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for k, r := range c.routes {
		g := c.groups[r.group]
		text := g.Kind.String()
		for _, h := range g.NextHops {
			text += fmt.Sprintf(" %v@%d", h.Gateway, h.Interface)
		}
		out[k] = text
	}
	return out
}

func (c *cardTwin) swept() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sweeps
}

// speakerTwin behaves like a BGP speaker: it announces its routes to whoever
// configures it, within the window, then tells that it is done.
type speakerTwin struct {
	mu     sync.Mutex
	vrf    fib.VRF
	routes []wire.RouteChange
	hold   bool // does not tell that it is done
	cfg    wire.SpeakerConfig
	redist map[netip.Prefix]string
	acked  uint64
	sent   uint64
	resets []string
}

func (g *rig) speaker(s *speakerTwin) (kill func()) {
	s.redist = map[netip.Prefix]string{}
	return g.process(fmt.Sprintf("bgp-%d", s.vrf), func(l *event.Loop, b bus.Bus) io.Closer {
		closer, err := session.Serve(l.Handler("bgp", event.High), b, bus.One(bus.TypeBGP, uint32(s.vrf)), func(*session.Session) session.Handler {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sent, s.acked = 0, 0
			return s
		})
		if err != nil {
			g.t.Fatal(err)
		}
		return closer
	})
}

func (s *speakerTwin) Receive(from *session.Session, m session.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Kind {
	case wire.SetSpeaker:
		s.cfg = wire.SpeakerConfig{}
		if err := wire.Decode(m.Body, &s.cfg); err != nil {
			_ = from.ReplyError(m, err)
			return
		}
		_ = from.Reply(m, m.Kind, struct{}{})
		for c := range slices.Chunk(s.routes, 3000) {
			s.sent++
			body, err := wire.EncodeRouteBatch(wire.RouteBatchBody{Seq: s.sent, Changes: c})
			if err == nil {
				err = from.Send(wire.RouteBatch, body)
			}
			if err != nil {
				panic(err)
			}
		}
		if !s.hold {
			_ = from.SendJSON(wire.RoutesSynced, struct{}{})
		}
	case wire.Redistribute:
		var b wire.RedistBody
		if err := wire.Decode(m.Body, &b); err != nil {
			panic(err)
		}
		if b.Replace {
			clear(s.redist)
		}
		for _, r := range b.Routes {
			if r.Withdraw {
				delete(s.redist, r.Prefix)
			} else {
				s.redist[r.Prefix] = r.Protocol
			}
		}
	case wire.RouteAck:
		var a wire.RouteAckBody
		if err := wire.Decode(m.Body, &a); err != nil {
			panic(err)
		}
		s.acked = a.Seq
	case wire.ResetPeer:
		var p wire.PeerReset
		if err := wire.Decode(m.Body, &p); err != nil {
			panic(err)
		}
		s.resets = append(s.resets, fmt.Sprintf("%v %s", p.Address, p.Reason))
		_ = from.Reply(m, m.Kind, struct{}{})
	case wire.GetPeers:
		_ = from.Reply(m, m.Kind, wire.PeerList{VRF: s.cfg.VRF, AS: s.cfg.AS, Peers: []wire.PeerStatus{}})
	default:
		_ = from.ReplyError(m, fmt.Errorf("unknown kind %v", m.Kind))
	}
}

func (s *speakerTwin) Closed(*session.Session, error) {}

// supervisorTwin keeps what it is told.
type supervisorTwin struct {
	mu   sync.Mutex
	body wire.SetModulesBody
}

func (g *rig) supervisor(s *supervisorTwin) {
	g.process("supervisor", func(l *event.Loop, b bus.Bus) io.Closer {
		closer, err := session.Serve(l.Handler("supervisor", event.High), b, bus.One(bus.TypeSupervisor, 0), func(*session.Session) session.Handler { return s })
		if err != nil {
			g.t.Fatal(err)
		}
		return closer
	})
}

func (s *supervisorTwin) Receive(from *session.Session, m session.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Kind {
	case wire.SetModules:
		s.body = wire.SetModulesBody{}
		if err := wire.Decode(m.Body, &s.body); err != nil {
			panic(err)
		}
		_ = from.Reply(m, m.Kind, struct{}{})
	case wire.GetModules:
		_ = from.Reply(m, m.Kind, wire.ModuleList{Modules: []wire.ModuleStatus{{Name: "linecard-1", State: "running"}}})
	case wire.GetNames:
		_ = from.Reply(m, m.Kind, wire.NameList{Names: []wire.NameEntry{{Type: 100, Name: "supervisor"}}})
	}
}

func (s *supervisorTwin) Closed(*session.Session, error) {}

func (s *supervisorTwin) modules() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range s.body.Modules {
		out = append(out, m.Name+" "+m.Role+" "+m.NetNS)
	}
	return out
}

func mustConfig(t *testing.T, yaml string) *config.Config {
	t.Helper()
	c, err := config.Parse("test", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
