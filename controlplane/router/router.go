package router

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fibcast"
	"godwit/cluster/health"
	"godwit/cluster/member"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/controlplane/config"
	"godwit/controlplane/mgmt"
	"godwit/event"
	"godwit/fib"
)

// Options are what a routing engine is made of.
type Options struct {
	Instance  string
	RunDir    string
	StateDir  string
	Config    string // file to start with; empty: the one that was in force
	Parent    int    // process of the supervisor: Config counts for its first routing engine only; 0: none
	Loop      *event.Loop
	Bus       bus.Bus
	Cluster   bus.Bus // of the line cards on other nodes; nil: there are none
	Node      uint32  // this one in Cluster
	Host      Host
	Leftovers Leftovers
	Log       *slog.Logger
	Info      wire.ModuleInfo
	Record    io.Writer // for what the RIB takes in (see Replay); may be nil
}

// Router is a routing engine. After Start its state belongs to the loop.
type Router struct {
	opt   Options
	paths hostPaths
	store store

	request *event.Handler // requests of the management API
	timers  *event.Handler

	host     *hostQueue
	routes   *routes
	cards    *cards
	speakers *speakers
	modules  *modules
	nodes    *nodes
	bfd      *bfdStates
	casts    casts

	cfg      *config.Config // in force
	names    names
	ifUp     map[fib.InterfaceID]bool
	macs     map[fib.InterfaceID]string // that TAPs have
	gate     gate
	applies  []applyRequest
	applying bool
	record   *event.Recorder // may be nil

	mgmt    *mgmt.Server // nil until connect
	closers []io.Closer
}

// New makes a routing engine that does nothing yet.
func New(opt Options) *Router {
	loop := opt.Loop
	high, normal := loop.Handler("sessions", event.High), loop.Handler("routes", event.Normal)
	r := &Router{
		opt: opt, paths: newHostPaths(opt.Instance, opt.RunDir), store: store{opt.StateDir},
		request: loop.Handler("requests", event.Normal), timers: loop.Handler("timers", event.High),
		host: &hostQueue{h: loop.Handler("host", event.High)},
		ifUp: map[fib.InterfaceID]bool{}, macs: map[fib.InterfaceID]string{},
	}
	r.routes = newRoutes(normal, opt.Log)
	if opt.Record != nil {
		r.record = loop.Record(opt.Record)
	}
	r.cards = &cards{log: opt.Log, h: high, pub: r.routes.pub, pump: r.routes.pump, onPort: r.portsChanged, onBFD: r.bfdChanged, onLost: r.bfdLost, m: map[fib.CardID]*card{}, member: member.New(), turned: map[fib.CardID]string{}}
	r.speakers = &speakers{
		log: opt.Log, high: r.timers, normal: normal, routes: r.routes, m: map[fib.VRF]*speaker{},
		onSynced: func(v fib.VRF) { r.checkGate(r.gate.done(speakerKey(v))) },
	}
	r.routes.onBest, r.routes.onRoom, r.routes.onFIB = r.speakers.best, r.speakers.resend, r.speakers.gone
	r.cards.onAck = r.speakers.follow
	r.bfd = newBFDStates()
	r.modules = &modules{log: opt.Log, h: r.timers}
	r.nodes = &nodes{log: opt.Log, m: map[uint32]*session.Session{}}
	return r
}

// Start loads the configuration, takes over what a former routing engine left,
// connects and serves. It is called before the loop runs.
func (r *Router) Start() error {
	file := r.opt.Config
	if restarted(r.opt.RunDir, r.opt.Parent) {
		file = ""
	}
	cfg, saved, err := r.store.load(file)
	if err != nil {
		return fmt.Errorf("load configuration: %w", err)
	}
	empty, err := config.Parse("empty configuration", nil)
	if err != nil {
		return err
	}
	r.cfg, r.names = empty, makeNames(empty)
	plan := planHost(empty, cfg, nil)
	there, err := plan.adopt(r.opt.Host, r.opt.Leftovers)
	if err != nil {
		r.opt.Log.Warn("take over the host stack", "error", err)
	}
	if err := plan.add(r.opt.Host, there); err != nil {
		return err
	}
	if !saved {
		if err := r.store.save(cfg); err != nil {
			return err
		}
	}
	if err := markStart(r.opt.RunDir, r.opt.Parent); err != nil {
		return err
	}
	for key := range gateKeysOf(cfg) {
		r.gate.wait(key)
	}
	r.commit(empty, cfg)
	r.timers.After(restartTimeOf(cfg), r.expireGate)
	r.timers.Every(expireEvery, r.cards.expire)
	return r.connect()
}

func (r *Router) expireGate() {
	missing, opened := r.gate.expire()
	if opened && len(missing) > 0 {
		r.opt.Log.Warn("restart time is over", "missing", missing)
	}
	r.checkGate(opened)
}

// connect joins the bus and serves the management API.
func (r *Router) connect() error {
	high := r.opt.Loop.Handler("sessions", event.High)
	type following struct {
		on bus.Bus
		of bus.Range
		up func(uint32, *session.Session) session.Handler
	}
	follow := []following{
		{r.opt.Bus, bus.One(bus.TypeSupervisor, 0), r.modules.up},
		{r.opt.Bus, bus.All(bus.TypeLinecard), r.localCard},
		{r.opt.Bus, bus.All(bus.TypeBGP), r.speakers.up},
	}
	if r.opt.Cluster != nil {
		follow = append(follow,
			following{r.opt.Cluster, bus.All(bus.TypeLinecard), r.remoteCard},
			following{r.opt.Cluster, bus.Range{Type: bus.TypeSupervisor, Lower: 1, Upper: maxNode}, r.nodes.up})
	}
	if err := r.openCasts(high); err != nil {
		return err
	}
	c, err := session.Serve(high, r.opt.Bus, bus.One(bus.TypeRouter, 0), func(*session.Session) session.Handler {
		return service{r}
	})
	if err != nil {
		return fmt.Errorf("bind routing engine: %w", err)
	}
	r.closers = append(r.closers, c)
	for _, f := range follow {
		c, err := session.Follow(high, f.on, f.of, f.up)
		if err != nil {
			return fmt.Errorf("follow %v: %w", f.of, err)
		}
		r.closers = append(r.closers, c)
	}
	m, err := mgmt.Serve(filepath.Join(r.opt.RunDir, "mgmt.sock"), r.backend(), r.opt.Log)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, m)
	r.mgmt = m
	if err := r.setAccess(r.cfg); err != nil { // the router runs without its remote API
		r.opt.Log.Error("management access is not as configured", "error", err)
	}
	return nil
}

// casts are the senders of multicasts; nil where a copy for each card is as good.
type casts struct{ local, cluster *fibcast.Sender }

// openCasts opens a sender on each bus where a multicast costs less than a copy for
// each card.
func (r *Router) openCasts(h *event.Handler) (err error) {
	open := func(b bus.Bus) (c *fibcast.Sender) {
		if b == nil || err != nil || !fibcast.Worth(b) {
			return nil
		}
		if c, err = fibcast.NewSender(h, b); err == nil {
			r.closers = append(r.closers, c)
		}
		return c
	}
	r.casts = casts{open(r.opt.Bus), open(r.opt.Cluster)}
	return err
}

// Close ends the services. It is called after the loop has ended. With clean
// set it takes down the host stack, too: namespaces and TAPs.
func (r *Router) Close(clean bool) error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i].Close())
	}
	r.closers = nil
	if r.record != nil {
		errs = append(errs, r.record.Close())
		r.record = nil
	}
	if clean {
		errs = append(errs, r.opt.Host.Clean(), unmarkStart(r.opt.RunDir))
	}
	return errors.Join(errs...)
}

// service answers other processes.
type service struct{ r *Router }

// Receive answers a request.
func (s service) Receive(from *session.Session, m session.Message) {
	var err error
	reply, ok := health.Answer(s.r.opt.Loop, m.Kind)
	switch {
	case m.ID == 0:
	case ok:
		err = from.Reply(m, m.Kind, reply)
	case m.Kind == wire.GetModule:
		err = from.Reply(m, m.Kind, s.r.opt.Info)
	default:
		err = from.ReplyError(m, fmt.Errorf("routing engine does not answer %v", m.Kind))
	}
	if err != nil {
		s.r.opt.Log.Debug("reply", "kind", m.Kind.String(), "error", err)
	}
}

// Closed is called when the session has ended.
func (service) Closed(*session.Session, error) {}

// uptime is how long the routing engine has been running.
func (r *Router) uptime() time.Duration { return time.Since(r.opt.Info.Started) }
