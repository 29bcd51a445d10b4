package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/security/module"
)

// Config is what a Supervisor needs to know.
type Config struct {
	RunDir, StateDir string // made if missing
	Instance         string
	LibDir           string // where the executables "godwit-ROLE" are
	TrustDir         string // trust store of the modules' signers
	TrustRoot        string // file of the public key that must have signed the trust store; empty: none
	Permissive       bool   // run what would be refused; for bringing up
	ConfigFile       string // for the routing engine; may be empty
	Env              []string
	Stderr           *os.File     // of the modules
	Log              *slog.Logger // of the supervisor
	Self             wire.ModuleInfo
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
	server *local.Server
	bus    bus.Bus
	binds  io.Closer

	// Owned by the loop:
	core     *core
	procs    map[string]*module.Process
	timers   map[string]*event.Timer
	refused  map[string]string // stamp of the refused module's file
	watching *event.Timer
	sessions map[*session.Session]struct{}
}

// New takes the run directory, kills what a supervisor that died may have left
// running there, and joins the bus. Nothing is started before Run.
func New(cfg Config) (_ *Supervisor, err error) {
	s := &Supervisor{
		cfg: cfg, loop: event.New("supervisor"), core: newCore(),
		procs: map[string]*module.Process{}, timers: map[string]*event.Timer{}, refused: map[string]string{},
		sessions: map[*session.Session]struct{}{},
	}
	s.work = s.loop.Handler("modules", event.Critical)
	s.serve = s.loop.Handler("sessions", event.Normal)
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
	if s.bus, err = local.Join(cfg.RunDir, cfg.Self.Name); err != nil {
		return nil, err
	}
	if s.guard, err = newGuard(cfg); err != nil {
		return nil, err
	}
	s.loader = s.guard.loader
	s.binds, err = session.Serve(s.serve, s.bus, bus.One(bus.TypeSupervisor, 0), s.accept)
	return s, err
}

// Run starts the routing engine and serves until Shutdown has stopped
// everything, or ctx ends, which kills the modules. It leaves nothing behind.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.work.Post(func() { s.step(evBoot{s.routerSpec()}) }); err != nil {
		return errors.Join(fmt.Errorf("start routing engine: %w", err), s.leave())
	}
	err := s.loop.Run(ctx)
	if errors.Is(err, event.ErrStopped) {
		err = nil
	}
	return errors.Join(err, s.leave())
}

// Shutdown stops all modules, the routing engine last; then Run returns. A
// second call kills what still runs.
func (s *Supervisor) Shutdown() error {
	return s.work.Post(func() {
		again := s.core.down
		s.cfg.Log.Info("shutting down", "modules", len(s.core.modules), "kill", again)
		s.step(evShutdown{force: again})
	})
}

// ShutdownOn calls Shutdown for each of the next two signals, until the channel
// is closed.
func (s *Supervisor) ShutdownOn(signals <-chan os.Signal) {
	for range 2 {
		s.serve.Async(func() error {
			if _, ok := <-signals; !ok {
				return nil
			}
			return s.Shutdown()
		}, func(error) {})
	}
}

func (s *Supervisor) routerSpec() wire.ModuleSpec {
	spec := wire.ModuleSpec{Name: RouterName, Role: RouterName}
	if s.cfg.ConfigFile != "" {
		spec.Args = []string{"--config", s.cfg.ConfigFile}
	}
	return spec
}

// leave ends all that New began and removes its files.
func (s *Supervisor) leave() error {
	var errs []error
	if s.binds != nil {
		errs = append(errs, s.binds.Close())
	}
	if s.loader != nil {
		errs = append(errs, s.loader.Close()) // kills what may still run
	}
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
	if fx.kill {
		sig = syscall.SIGKILL
		s.cfg.Log.Warn("killing module", "module", fx.name, "pid", p.PID())
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
		s.timers[fx.name] = s.work.After(fx.d, func() { s.step(evTimer{fx.name}) })
	}
}

// started is a start's outcome, from the goroutine that did the work.
type started struct {
	proc    *module.Process
	id      identity
	stamp   string
	err     error
	refused bool
	off     bool // it runs though it would be refused
}

// start verifies and starts a module off the loop.
func (s *Supervisor) start(spec wire.ModuleSpec) {
	var out started
	s.work.Async(func() error {
		out = s.launch(spec)
		return nil
	}, func(error) {
		if out.err != nil {
			s.failed(spec, out)
			return
		}
		s.running(spec.Name, out)
	})
}

// launch runs on its own goroutine and touches nothing of the loop's.
func (s *Supervisor) launch(spec wire.ModuleSpec) (out started) {
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
	out.proc, err = s.loader.Start(img, module.Options{
		Name: "godwit-" + spec.Role, Args: append(args, spec.Args...), NetNS: spec.NetNS, Env: s.cfg.Env, Stderr: s.cfg.Stderr,
	})
	out.err = errors.Join(err, img.Close())
	return out
}

func (s *Supervisor) path(role string) string { return filepath.Join(s.cfg.LibDir, "godwit-"+role) }

func (s *Supervisor) failed(spec wire.ModuleSpec, out started) {
	if out.refused {
		s.refused[spec.Name] = out.stamp
		s.watch()
	}
	s.step(evFailed{name: spec.Name, refused: out.refused, reason: out.err.Error(), id: out.id})
}

func (s *Supervisor) running(name string, out started) {
	p := out.proc
	s.procs[name] = p
	s.guard.off[name] = out.off
	if err := s.writePID(name, p.PID()); err != nil {
		s.cfg.Log.Warn("cannot note module's process", "module", name, "error", err)
	}
	var how string
	s.work.Async(func() (err error) {
		how, err = p.Wait()
		return err
	}, func(err error) {
		if err != nil {
			how = err.Error()
		}
		delete(s.procs, name)
		delete(s.guard.off, name)
		s.removePID(name)
		s.step(evExited{name, how})
	})
	s.step(evStarted{name: name, pid: p.PID(), id: out.id})
}

// watchEvery is how often the files of refused modules are looked at.
const watchEvery = time.Second

// watch looks whether a refused module's file or the trust store changed, as
// long as a module is refused.
func (s *Supervisor) watch() {
	if s.watching != nil {
		return
	}
	s.watching = s.work.Every(watchEvery, func() {
		for _, name := range s.core.names() {
			stamp, ok := s.refused[name]
			e := s.core.modules[name]
			if ok && e.status.State == stateRefused && s.loader.Stamp(s.path(e.spec.Role)) != stamp {
				s.step(evChanged{name})
			}
		}
		for name := range s.refused {
			if e, ok := s.core.modules[name]; !ok || e.status.State != stateRefused {
				delete(s.refused, name)
			}
		}
		if len(s.refused) == 0 {
			s.watching.Stop()
			s.watching = nil
		}
	})
}
