package linecard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/fdstore"
	"godwit/cluster/fibsync"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/dataplane/netdev"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/worker"
	"godwit/dataplane/xdp"
	"godwit/event"
	"godwit/fib"
	"godwit/fib/patricia"
)

// Options are what a card is started with.
type Options struct {
	Card      fib.CardID
	FabricDir string // until the configuration names one
	HashSeed  uint64 // of the flow hash: differs from router to router
	Info      wire.ModuleInfo
	Bus       bus.Bus
	Store     *fdstore.Client // keeps the express path for the card's next process; nil: it ends with this one
	Loop      *event.Loop
	Log       *slog.Logger
}

// tickPeriod is that of the slow path's clock.
const tickPeriod = 100 * time.Millisecond

// Agent is a line card. Everything in it belongs to the loop, except where
// noted; Close is called when the loop has ended.
type Agent struct {
	opt   Options
	log   *slog.Logger
	start time.Time // of the workers' clock

	requests *event.Handler // sessions, configuration, tables
	punts    *event.Handler // the slow path
	links    *event.Handler // link changes, failed ports, changes of BFD sessions
	timers   *event.Handler // retries, the slow path's clock

	tables *patricia.Tables
	state  *pipeline.State
	slow   *pipeline.SlowPath
	fibs   *fibsync.Subscriber

	downloads downloads

	cfg      wire.CardConfig
	ports    map[fib.PortID]*port
	ifaces   map[fib.InterfaceID]*iface
	vrfs     map[fib.VRF]*vrf
	plane    *plane
	bfd      *sessions
	samples  *samples
	mirrors  []*mirror
	policies *policies
	// express is nil until a port is configured for it, or if the kernel can't.
	express     *expressPath
	expressMaps *xdp.Express // its maps, from before it is there
	noExpress   string       // why it can't
	heritage    heritage
	looked      time.Time // at the devices' features and programs

	fabricAgain    retry
	fabricProblems []string
	coreProblems   []string
	ifaceProblems  []string // of the last refresh
	neighProblems  []string

	// entry is the worker that takes frames from TAPs and TUNs; readers load it.
	entry atomic.Pointer[worker.Worker]

	sessions map[*session.Session]struct{}
	captures map[fib.InterfaceID]*capture
	capLost  uint64
	tick     *event.Timer
	watch    *event.Source
	server   io.Closer
	frame    []byte // scratch of the drains
	draining drains
	changes  changes
}

// drains says which drain is queued on the loop; workers look.
type drains struct{ punts, captures atomic.Bool }

// New makes a line card and binds it on the bus. It forwards nothing until it
// is configured.
func New(o Options) (*Agent, error) {
	if o.Card == 0 {
		return nil, errors.New("make line card: card 0")
	}
	a := &Agent{
		opt: o, log: o.Log, start: time.Now(),
		requests: o.Loop.Handler("requests", event.Normal),
		punts:    o.Loop.Handler("slow path", event.Normal),
		links:    o.Loop.Handler("links", event.Critical),
		timers:   o.Loop.Handler("timers", event.High),
		ports:    make(map[fib.PortID]*port),
		ifaces:   make(map[fib.InterfaceID]*iface),
		vrfs:     make(map[fib.VRF]*vrf),
		sessions: make(map[*session.Session]struct{}),
		captures: make(map[fib.InterfaceID]*capture),
		frame:    make([]byte, frameMax),
	}
	a.state = pipeline.NewState(o.Card, pipeline.Options{HashSeed: o.HashSeed})
	a.tables = patricia.New(a.state)
	a.state.SetFIB(a.tables)
	a.slow = pipeline.NewSlowPath(a.state)
	a.fibs = fibsync.NewSubscriber(a.tables, 0, 0)
	a.openHeritage(o.Store)
	a.samples = newSamples()
	a.policies = newPolicies()
	if err := a.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("make line card %d: %w", o.Card, err), a.Close())
	}
	return a, nil
}

func (a *Agent) open() (err error) {
	if a.bfd, err = newSessions(a); err != nil {
		return err
	}
	if a.watch, err = watchLinks(a.links, a.linksChanged, a.linksLost); err != nil {
		return err
	}
	a.tick = a.timers.Every(tickPeriod, a.onTick)
	a.receiveCasts()
	a.server, err = session.Serve(a.requests, a.opt.Bus, bus.One(bus.TypeLinecard, uint32(a.opt.Card)), a.accept)
	return err
}

// Close gives ports and host interfaces back. The loop has ended, or has not
// begun.
func (a *Agent) Close() error {
	errs := []error{a.settle()}
	if a.server != nil {
		errs = append(errs, a.server.Close())
	}
	for s := range a.sessions {
		s.Close()
	}
	if a.downloads.casts != nil {
		a.downloads.casts.Close()
	}
	if a.watch != nil {
		a.watch.Close()
	}
	if a.tick != nil {
		a.tick.Stop()
	}
	if a.bfd != nil {
		errs = append(errs, a.bfd.close(a)) // while the workers still send
	}
	for _, i := range a.ifaces {
		if i.tap != nil {
			errs = append(errs, i.tap.SetCarrier(false))
		}
	}
	a.entry.Store(nil)
	errs = append(errs, a.closePlane()) // first: it ends the readers' waiting
	if a.express != nil {
		errs = append(errs, a.express.close(a))
	} else if a.expressMaps != nil {
		errs = append(errs, a.expressMaps.Close())
	}
	errs = append(errs, a.heritage.estate.Close())
	for _, i := range a.ifaces {
		errs = append(errs, i.close())
	}
	for _, v := range a.vrfs {
		errs = append(errs, v.close())
	}
	errs = append(errs, a.tables.Close())
	return errors.Join(errs...)
}

// now is the workers' monotonic clock.
func (a *Agent) now() int64 { return int64(time.Since(a.start)) }

func (a *Agent) onTick() {
	a.slow.Tick(a.opt.Loop.Now())
	a.effects()
	a.tables.Reclaim()
	a.runChanges()
	a.tickExpress()
	a.tickHeritage()
	a.drainPunts() // in case a wake-up was refused by a full loop
	a.catchUpBFD()
	a.drainSamples()
	a.logGuards()
}

// retry tries again what is missing, ever more seldom.
type retry struct {
	timer *event.Timer
	delay time.Duration
}

// Back-off of retries.
const (
	retryFirst = 250 * time.Millisecond
	retryMost  = 5 * time.Second
)

func (r *retry) arm(h *event.Handler, f func()) {
	r.stop()
	r.delay = min(max(2*r.delay, retryFirst), retryMost)
	r.timer = h.After(r.delay, f)
}

func (r *retry) stop() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (r *retry) done() { r.stop(); r.delay = 0 }

// linkNews is what the kernel says of devices.
type linkNews struct {
	links []netdev.Link
	err   error // they could not be read
}

// watchLinks makes link changes events of h.
func watchLinks(h *event.Handler, changed func([]netdev.Link), lost func(error)) (*event.Source, error) {
	w, err := netdev.NewWatcher()
	if err != nil {
		return nil, err
	}
	next := func() (linkNews, error) {
		for {
			links, err := w.Next()
			switch {
			case errors.Is(err, netdev.ErrOverflow):
				links, err = netdev.Links()
				return linkNews{links, err}, nil
			case errors.Is(err, netdev.ErrMalformed):
			default:
				return linkNews{links, nil}, err
			}
		}
	}
	return event.Feed(h, "links", next, func() { w.Close() }, func(n linkNews) {
		if n.err != nil {
			lost(n.err)
			return
		}
		changed(n.links)
	}, lost), nil
}
