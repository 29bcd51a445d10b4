package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/fdstore"
	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/security/confine"
	"godwit/security/module"
)

// Config is what a Supervisor needs to know.
type Config struct {
	RunDir, StateDir string // made if missing
	Instance         string
	LibDir           string   // where the executables "godwit-ROLE" are
	TrustDir         string   // trust store of the modules' signers
	TrustRoot        string   // file of the public key that must have signed the trust store; empty: none
	Permissive       bool     // run what would be refused; for bringing up
	NoConfine        bool     // modules run as root with all it may do; for development
	FirstUser        int      // of the modules' users (package confine); 0: they stay root
	NoEnforce        bool     // do not let the kernel enforce signatures, even if it can
	ConfigFile       string   // for the routing engine; may be empty
	Cluster          *Cluster // nil: a router of one machine
	Env              []string
	Stderr           *os.File     // of the modules
	Log              *slog.Logger // of the supervisor
	Self             wire.ModuleInfo
	Silence          time.Duration // how long a module's loop may not report; 0: 10 s
	Record           io.Writer     // for what the state machine takes in; may be nil
	RecordRoutes     string        // file for what the RIB takes in; empty: none
	Signals          []os.Signal   // that shut it down; a second one kills the modules
	Stuck            time.Duration // after which a hanging handler of its own ends the process; 0: 10 s
}

// Supervisor runs the modules. Its methods but New and Run may be called from
// any goroutine.
type Supervisor struct {
	cfg    Config
	loop   *event.Loop
	work   *event.Handler // state machine: exits, starts, timers
	serve  *event.Handler // sessions
	loader *module.Loader
	guard  *guard
	scope  *scope // may be nil before New returns
	home   confine.Place
	server *local.Server
	bus    bus.Bus
	binds  io.Closer
	attach io.Closer       // the loop's watchdog
	end    *event.Source   // ends the process when the loop hangs
	asked  *event.Source   // Config.Signals; may be nil
	record *event.Recorder // may be nil
	clusterPart

	// Owned by the loop:
	keep      keeping
	upgrading string // module whose file is being verified
	core      *core
	in        inputs // of core
	live      map[string]*liveness
	procs     map[string]*module.Process
	timers    map[string]*event.Timer
	refused   map[string]string // stamp of the refused module's file
	watching  *event.Source     // of the files of refused modules; nil: none
	sessions  map[*session.Session]struct{}
}

// New takes the run directory, kills what a supervisor that died may have left
// running there, and joins the bus. Nothing is started before Run.
func New(cfg Config) (_ *Supervisor, err error) {
	s := &Supervisor{
		keep: newKeeping(), cfg: cfg, loop: event.New("supervisor", event.WithUrgency()), core: newCore(),
		procs: map[string]*module.Process{}, timers: map[string]*event.Timer{}, refused: map[string]string{}, live: map[string]*liveness{},
		sessions: map[*session.Session]struct{}{},
	}
	if err := allowUrgency(); err != nil {
		cfg.Log.Warn("modules may not be urgent", "error", err)
	}
	s.work = s.loop.Handler("modules", event.Critical)
	s.serve = s.loop.Handler("sessions", event.Normal)
	s.in = newInputs(s.work, s.step)
	// Caught before anything is started, so that nothing is left behind.
	if len(cfg.Signals) > 0 {
		s.asked = s.loop.Signal(s.work, func(os.Signal) { s.shutdown() }, cfg.Signals...)
	}
	if cfg.Record != nil {
		s.record = s.loop.Record(cfg.Record)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.leave())
		}
	}()
	if err := os.MkdirAll(cfg.StateDir, 0o750); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if s.server, err = local.NewServer(cfg.RunDir, cfg.Log.With("part", "bus")); err != nil {
		return nil, err
	}
	if err := s.killLeftovers(); err != nil {
		return nil, err
	}
	for _, dir := range []string{pidDir, fabricDir, bgpDir} {
		if err := os.MkdirAll(filepath.Join(cfg.RunDir, dir), 0o750); err != nil {
			return nil, fmt.Errorf("make run directory: %w", err)
		}
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if s.bus, err = local.Join(cfg.RunDir, cfg.Self.Name); err != nil {
		return nil, err
	}
	s.scope = newScope(cfg, cfg.Log.With("part", "security"))
	if s.guard, err = newGuard(cfg, s.scope); err != nil {
		return nil, err
	}
	s.loader = s.guard.loader
	if s.attach, err = health.Attach(s.loop, cfg.Log); err != nil {
		return nil, err
	}
	s.end = health.EndStuck(s.loop, cmp.Or(cfg.Stuck, stuckAfter), cfg.Log, func() { os.Exit(health.ExitStuck) })
	if s.binds, err = session.Serve(s.serve, s.bus, bus.One(bus.TypeSupervisor, 0), s.accept); err != nil {
		return nil, err
	}
	return s, s.joinCluster()
}

// allowUrgency lets modules without any privilege make the thread of their event
// loop urgent: they inherit the limit.
func allowUrgency() error {
	limit := uint64(20 - event.UrgentNice)
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_NICE, &unix.Rlimit{Cur: limit, Max: limit}))
}

// Run starts the routing engine and serves until Shutdown has stopped
// everything, or ctx ends, which kills the modules. It leaves nothing behind.
func (s *Supervisor) Run(ctx context.Context) error {
	s.denials()
	err := s.boot()
	if err != nil {
		return errors.Join(fmt.Errorf("start modules: %w", err), s.leave())
	}
	err = s.loop.Run(ctx)
	if errors.Is(err, event.ErrStopped) {
		err = nil
	}
	return errors.Join(err, s.leave())
}

// Shutdown stops all modules, the routing engine last; then Run returns. A
// second call kills what still runs.
func (s *Supervisor) Shutdown() error {
	return s.work.Post(s.shutdown)
}

func (s *Supervisor) shutdown() {
	again := s.core.down
	s.cfg.Log.Info("shutting down", "modules", len(s.core.modules), "kill", again)
	s.in.shutdown.Do(evShutdown{Force: again})
}

// boot starts the routing engine, or on a node for line cards these.
func (s *Supervisor) boot() error {
	if c := s.cfg.Cluster; c != nil && len(c.Cards) > 0 {
		return s.in.set.Post(evSet{cardSpecs(c.Cards)})
	}
	return s.in.boot.Post(evBoot{s.routerSpec()})
}

func (s *Supervisor) routerSpec() wire.ModuleSpec {
	spec := wire.ModuleSpec{Name: RouterName, Role: RouterName}
	if s.cfg.ConfigFile != "" {
		spec.Args = append(spec.Args, "--config", s.cfg.ConfigFile)
	}
	if s.cfg.RecordRoutes != "" {
		spec.Args = append(spec.Args, "--record", s.cfg.RecordRoutes)
	}
	return spec
}

// leave ends all that New began and removes its files.
func (s *Supervisor) leave() error {
	var errs []error
	for _, src := range []*event.Source{s.asked, s.end, s.watching} {
		if src != nil {
			src.Close()
		}
	}
	if s.attach != nil {
		errs = append(errs, s.attach.Close())
	}
	if s.record != nil {
		errs = append(errs, s.record.Close())
	}
	if s.binds != nil {
		errs = append(errs, s.binds.Close())
	}
	if s.loader != nil {
		errs = append(errs, s.loader.Close()) // kills what may still run
	}
	s.letGoAll()
	if s.scope != nil {
		errs = append(errs, s.scope.close())
	}
	errs = append(errs, s.leaveCluster())
	if s.bus != nil {
		errs = append(errs, s.bus.Close())
	}
	if s.server == nil {
		return errors.Join(errs...) // the run directory is not ours
	}
	errs = append(errs, s.removeFiles(), s.server.Close())
	errs = append(errs, os.RemoveAll(filepath.Join(s.cfg.RunDir, busDir)))
	_ = os.Remove(s.cfg.RunDir) // only if it is empty: others may use it
	return errors.Join(errs...)
}

// step runs the core and carries its effects out.
func (s *Supervisor) step(ev any) {
	for _, fx := range s.core.step(s.loop.Now(), ev) {
		switch fx := fx.(type) {
		case fxStart:
			s.start(fx.spec)
		case fxSignal:
			s.signal(fx)
		case fxTimer:
			s.arm(fx)
		case fxStatus:
			s.tell(fx.status)
			if fx.status.State == stateStopped {
				s.letGo(fx.status.Name)
			}
		case fxDone:
			s.loop.Stop()
		}
	}
}

func (s *Supervisor) signal(fx fxSignal) {
	p, ok := s.procs[fx.name]
	if !ok {
		return
	}
	sig := syscall.SIGTERM
	if fx.upgrade {
		sig = syscall.SIGUSR1
	} else if fx.kill {
		sig = syscall.SIGKILL
		s.cfg.Log.Warn("killing module", "module", fx.name, "pid", p.PID())
	} else if fx.dump {
		sig = syscall.SIGQUIT
		s.cfg.Log.Warn("asking module for its stacks, and to end", "module", fx.name, "pid", p.PID())
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.cfg.Log.Error("cannot signal module", "module", fx.name, "pid", p.PID(), "error", err)
	}
}

func (s *Supervisor) arm(fx fxTimer) {
	if t := s.timers[fx.name]; t != nil {
		t.Stop()
		delete(s.timers, fx.name)
	}
	if fx.d > 0 {
		s.timers[fx.name] = s.work.After(fx.d, func() { s.in.timer.Do(evTimer{fx.name}) })
	}
}

// started is a start's outcome, from the goroutine that did the work.
type started struct {
	proc    *module.Process
	reports *os.File // of the process's loop
	line    *fdstore.Line
	id      identity
	stamp   string
	err     error
	refused bool
	off     bool // it runs though it would be refused
}

// start verifies and starts a module off the loop.
func (s *Supervisor) start(spec wire.ModuleSpec) {
	line, theirs, err := s.lineFor(spec.Name, spec.Role)
	if err != nil {
		s.cfg.Log.Warn("cannot keep module's descriptors", "module", spec.Name, "error", err)
	}
	var out started
	s.work.Async(func() error {
		out = s.launch(spec, theirs)
		return nil
	}, func(error) {
		out.line = line
		if out.err != nil {
			s.failed(spec, out)
			return
		}
		s.running(spec.Name, out)
	})
}

// launch runs on its own goroutine and touches nothing of the loop's. store is the
// process's end of the socket for descriptors; may be nil.
func (s *Supervisor) launch(spec wire.ModuleSpec, store *os.File) (out started) {
	if store != nil {
		defer store.Close()
	}
	path := s.path(spec.Role)
	out.stamp = s.loader.Stamp(path)
	img, err := s.loader.Verify(path, spec.Role)
	if err != nil {
		out.err, out.refused = err, errors.Is(err, module.ErrRefused) || errors.Is(err, os.ErrNotExist)
		return out
	}
	if out.off = img.Unverified != nil; !out.off {
		out.id = identity{img.Signed.Version, img.Signed.BuildID, img.Signed.KeyID.String()}
	}
	args := []string{
		"--name", spec.Name, "--run-dir", s.cfg.RunDir, "--state-dir", s.cfg.StateDir, "--instance", s.cfg.Instance,
	}
	args = append(args, s.clusterArgs(spec.Role)...)
	group, err := s.scope.place(spec.Name)
	if err != nil {
		out.err = errors.Join(err, img.Close())
		return out
	}
	reports, theirs, err := os.Pipe()
	if err != nil {
		out.err = errors.Join(fmt.Errorf("make pipe for reports: %w", err), img.Close())
		return out
	}
	files, env := []*os.File{theirs}, append(s.environment(spec.Role, img), health.FDVariable+"=3") // the first of files
	if store != nil {
		files, env = append(files, store), append(env, fdstore.Variable+"=4")
	}
	out.proc, err = s.loader.Start(img, module.Options{
		Name: "godwit-" + spec.Role, Args: append(args, spec.Args...), NetNS: spec.NetNS,
		Env: env, Files: files, Stderr: s.cfg.Stderr, Cgroup: group,
	})
	if out.err = errors.Join(err, img.Close(), theirs.Close()); err != nil {
		out.err = errors.Join(out.err, reports.Close())
	}
	out.reports = reports
	return out
}

func (s *Supervisor) path(role string) string { return filepath.Join(s.cfg.LibDir, "godwit-"+role) }

func (s *Supervisor) failed(spec wire.ModuleSpec, out started) {
	if out.line != nil {
		if err := out.line.Close(); err != nil {
			s.cfg.Log.Warn("cannot keep module's descriptors", "module", spec.Name, "error", err)
		}
	}
	if out.refused {
		s.refused[spec.Name] = out.stamp
	}
	s.in.failed.Do(evFailed{Name: spec.Name, Refused: out.refused, Reason: out.err.Error(), ID: out.id})
	if out.refused {
		s.watch()
	}
}

func (s *Supervisor) running(name string, out started) {
	p := out.proc
	s.procs[name] = p
	s.guard.off[name] = out.off
	s.listen(name, out.reports)
	s.serveLine(name, out.line)
	if err := s.writePID(name, p.PID()); err != nil {
		s.cfg.Log.Warn("cannot note module's process", "module", name, "error", err)
	}
	s.reap(name, p)
	s.in.started.Do(evStarted{Name: name, PID: p.PID(), ID: out.id})
}

// reap waits for a module's end.
func (s *Supervisor) reap(name string, p *module.Process) {
	_, err := s.loop.Child(s.work, p.PID(), func(status syscall.WaitStatus, err error) {
		how := p.Reaped(status)
		if err != nil {
			how = err.Error()
		}
		s.ended(name, how)
	})
	if err == nil {
		return
	}
	s.cfg.Log.Warn("cannot watch module", "module", name, "error", err) // no descriptors left
	var how string
	s.work.Async(func() (err error) {
		how, err = p.Wait()
		return err
	}, func(err error) {
		if err != nil {
			how = err.Error()
		}
		s.ended(name, how)
	})
}

func (s *Supervisor) ended(name, how string) {
	delete(s.procs, name)
	delete(s.guard.off, name)
	s.removePID(name)
	s.deafen(name)
	s.endLine(name)
	s.leaveScope(name)
	s.in.exited.Do(evExited{name, how})
}

// watch looks whether a refused module's file or the trust store changed, as
// long as a module is refused. Where the directories cannot be watched the
// module is tried again in any case, after refusedRetry.
func (s *Supervisor) watch() {
	if s.watching != nil {
		return
	}
	src, err := s.loop.Files(s.work, func(event.FileEvent) { s.look() }, s.cfg.LibDir, s.cfg.TrustDir)
	if err != nil {
		s.cfg.Log.Warn("cannot watch for new modules", "error", err)
		return
	}
	s.watching = src
	s.look() // what changed before
}

func (s *Supervisor) look() {
	for _, name := range s.core.names() {
		stamp, ok := s.refused[name]
		e := s.core.modules[name]
		if ok && e.status.State == stateRefused && s.loader.Stamp(s.path(e.spec.Role)) != stamp {
			s.in.changed.Do(evChanged{name})
		}
	}
	for name := range s.refused {
		if e, ok := s.core.modules[name]; !ok || e.status.State != stateRefused {
			delete(s.refused, name)
		}
	}
	if len(s.refused) == 0 && s.watching != nil {
		s.watching.Close()
		s.watching = nil
	}
}
