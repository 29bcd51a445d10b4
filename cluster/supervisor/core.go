package supervisor

import (
	"maps"
	"slices"
	"time"

	"godwit/cluster/wire"
)

// RouterName is the module name, and role, of the routing engine.
const RouterName = "router"

// Timing of restarts and stops.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
	steadyAfter  = 10 * time.Second // a run this long forgets earlier crashes
	refusedRetry = 30 * time.Second
	stopGrace    = 5 * time.Second // from SIGTERM to SIGKILL
)

// The states of a module, as ModuleStatus names them.
const (
	stateStarting = "starting"
	stateRunning  = "running"
	stateBackoff  = "backoff"
	stateRefused  = "refused"
	stateStopping = "stopping"
	stateStopped  = "stopped"
)

// The events of the core.
type (
	// evBoot makes the routing engine run.
	evBoot struct{ Router wire.ModuleSpec }
	// evSet replaces the modules that run besides the routing engine. The
	// specs have passed checkSpecs.
	evSet struct{ Specs []wire.ModuleSpec }
	// evStarted and evFailed answer fxStart.
	evStarted struct {
		Name string
		PID  int
		ID   identity
	}
	evFailed struct {
		Name    string
		Refused bool
		Reason  string
		ID      identity
	}
	evExited struct{ Name, How string }
	// evDead: the loop of a module that runs is silent.
	evDead    struct{ Name, Reason string }
	evTimer   struct{ Name string }
	evChanged struct{ Name string } // a refused module's file or the trust store
	// evUpgrade starts a module again from its file, which was verified.
	evUpgrade  struct{ Name string }
	evShutdown struct{ Force bool } // Force: SIGKILL now
)

// identity is what the signature says of a module.
type identity struct{ Version, BuildID, KeyID string }

// The effects of the core.
type (
	fxStart  struct{ spec wire.ModuleSpec }
	fxSignal struct {
		name string
		kill bool // SIGKILL instead of SIGTERM
		dump bool // SIGQUIT: write all stacks and end
		// SIGUSR1: end, and leave to the next process what forwards packets
		upgrade bool
	}
	// fxTimer arms the module's only timer; 0 disarms it.
	fxTimer struct {
		name string
		d    time.Duration
	}
	fxStatus struct{ status wire.ModuleStatus }
	fxDone   struct{} // everything has stopped after evShutdown
)

// core is the supervisor's state machine. It has no clock, process or lock.
type core struct {
	modules map[string]*entry
	down    bool // shutting down
	force   bool // and killing
	done    bool
	now     time.Time
	effects []any
}

// entry is a module. At most one start is under way or one process runs for it,
// so results need no numbers: the entry lives until they are in.
type entry struct {
	spec    wire.ModuleSpec
	status  wire.ModuleStatus
	want    bool
	changed bool   // the spec changed since the start under way or the run
	dead    string // why its loop is taken for dead
	delay   time.Duration
}

func newCore() *core { return &core{modules: map[string]*entry{}} }

// step takes one event and returns what is to be done, in order.
func (c *core) step(now time.Time, ev any) []any {
	c.now, c.effects = now, nil
	switch ev := ev.(type) {
	case evBoot:
		c.add(ev.Router)
	case evSet:
		c.set(ev.Specs)
	case evShutdown:
		c.shutdown(ev.Force)
	case evStarted:
		c.with(ev.Name, func(e *entry) { c.started(e, ev) })
	case evFailed:
		c.with(ev.Name, func(e *entry) { c.failed(e, ev) })
	case evExited:
		c.with(ev.Name, func(e *entry) { c.exited(e, ev.How) })
	case evDead:
		c.with(ev.Name, func(e *entry) { c.dead(e, ev.Reason) })
	case evTimer:
		c.with(ev.Name, c.timer)
	case evUpgrade:
		c.with(ev.Name, c.upgrade)
	case evChanged:
		c.with(ev.Name, func(e *entry) {
			if e.status.State == stateRefused {
				c.start(e)
			}
		})
	}
	c.advanceShutdown()
	return c.effects
}

func (c *core) with(name string, f func(*entry)) {
	if e, ok := c.modules[name]; ok {
		f(e)
	}
}

func (c *core) emit(fx any) { c.effects = append(c.effects, fx) }

// names returns the modules' names, sorted: effects come in a fixed order.
func (c *core) names() []string { return slices.Sorted(maps.Keys(c.modules)) }

func (c *core) add(spec wire.ModuleSpec) {
	e := &entry{spec: spec, want: true, status: wire.ModuleStatus{Name: spec.Name, Role: spec.Role, Verify: modeVerified}}
	c.modules[spec.Name] = e
	c.start(e)
}

func (c *core) set(specs []wire.ModuleSpec) {
	if c.down {
		return
	}
	wanted := map[string]bool{RouterName: true}
	for _, s := range specs {
		wanted[s.Name] = true
	}
	for _, name := range c.names() {
		if !wanted[name] {
			c.stop(c.modules[name])
		}
	}
	for _, s := range specs {
		c.setOne(s)
	}
}

func (c *core) setOne(spec wire.ModuleSpec) {
	e, ok := c.modules[spec.Name]
	if !ok {
		c.add(spec)
		return
	}
	e.want = true
	if sameSpec(e.spec, spec) {
		return
	}
	e.spec = spec
	e.status.Role = spec.Role
	switch e.status.State {
	case stateRunning:
		c.terminate(e)
	case stateBackoff, stateRefused:
		e.delay = 0
		c.start(e)
	case stateStarting:
		e.changed = true
	}
}

func sameSpec(a, b wire.ModuleSpec) bool {
	return a.Name == b.Name && a.Role == b.Role && a.NetNS == b.NetNS && slices.Equal(a.Args, b.Args)
}

// state moves a module to a state and tells.
func (c *core) state(e *entry, state, reason string) {
	e.status.State, e.status.Reason, e.status.Since = state, reason, c.now
	c.emit(fxStatus{e.status})
}

func (c *core) start(e *entry) {
	e.changed, e.dead = false, ""
	c.emit(fxTimer{name: e.spec.Name})
	c.state(e, stateStarting, "")
	c.emit(fxStart{e.spec})
}

func (c *core) started(e *entry, ev evStarted) {
	e.status.PID = ev.PID
	e.identify(ev.ID)
	if !e.want || e.changed {
		c.terminate(e)
		return
	}
	c.state(e, stateRunning, "")
}

func (e *entry) identify(id identity) {
	e.status.Version, e.status.BuildID, e.status.KeyID = id.Version, id.BuildID, id.KeyID
}

func (c *core) failed(e *entry, ev evFailed) {
	e.identify(ev.ID)
	switch {
	case !e.want:
		c.remove(e)
	case e.changed:
		c.start(e)
	case ev.Refused:
		c.state(e, stateRefused, ev.Reason)
		c.emit(fxTimer{e.spec.Name, refusedRetry})
	default:
		c.backoff(e, ev.Reason)
	}
}

func (c *core) backoff(e *entry, reason string) {
	e.delay = min(max(firstBackoff, 2*e.delay), maxBackoff)
	e.status.Restarts++
	c.state(e, stateBackoff, reason+"; next start in "+e.delay.String())
	c.emit(fxTimer{e.spec.Name, e.delay})
}

func (c *core) exited(e *entry, how string) {
	ran := c.now.Sub(e.status.Since)
	e.status.PID, e.status.LastExit = 0, how
	switch {
	case !e.want || c.force:
		c.remove(e)
	case e.dead != "":
		c.backoff(e, e.dead)
	case e.status.State == stateStopping:
		e.delay = 0
		c.start(e)
	default:
		if ran >= steadyAfter {
			e.delay = 0
		}
		c.backoff(e, how)
	}
}

// dead ends a module whose loop does not run: it cannot follow SIGTERM.
func (c *core) dead(e *entry, reason string) {
	if e.status.State != stateRunning {
		return
	}
	e.dead = reason
	c.state(e, stateStopping, reason)
	c.emit(fxSignal{name: e.spec.Name, dump: true})
	c.emit(fxTimer{e.spec.Name, stopGrace})
}

func (c *core) timer(e *entry) {
	switch e.status.State {
	case stateBackoff, stateRefused:
		c.start(e)
	case stateStopping:
		c.emit(fxSignal{name: e.spec.Name, kill: true})
	}
}

// upgrade ends a module that its next process follows at once.
func (c *core) upgrade(e *entry) {
	switch e.status.State {
	case stateRunning:
		c.state(e, stateStopping, "")
		c.emit(fxSignal{name: e.spec.Name, upgrade: true})
		c.emit(fxTimer{e.spec.Name, stopGrace})
	case stateBackoff, stateRefused:
		e.delay = 0
		c.start(e)
	}
}

// stop ends a module for good; it is removed once nothing of it runs.
func (c *core) stop(e *entry) {
	e.want = false
	switch e.status.State {
	case stateRunning:
		c.terminate(e)
	case stateBackoff, stateRefused:
		c.remove(e)
	}
}

func (c *core) terminate(e *entry) {
	c.state(e, stateStopping, "")
	c.emit(fxSignal{name: e.spec.Name})
	c.emit(fxTimer{e.spec.Name, stopGrace})
}

func (c *core) remove(e *entry) {
	c.emit(fxTimer{name: e.spec.Name})
	c.state(e, stateStopped, "")
	delete(c.modules, e.spec.Name)
}

func (c *core) shutdown(force bool) {
	c.down, c.force = true, c.force || force
	for _, name := range c.names() {
		e := c.modules[name]
		if name != RouterName {
			c.stop(e)
		}
		if force && e.status.PID != 0 {
			c.emit(fxSignal{name: name, kill: true})
		}
	}
}

// advanceShutdown stops the routing engine when it is the last, and tells when
// nothing is left.
func (c *core) advanceShutdown() {
	if !c.down || c.done {
		return
	}
	if r, ok := c.modules[RouterName]; ok && len(c.modules) == 1 && r.want {
		c.stop(r)
	}
	if len(c.modules) == 0 {
		c.done = true
		c.emit(fxDone{})
	}
}

// list returns the modules' status by name.
func (c *core) list() []wire.ModuleStatus {
	all := []wire.ModuleStatus{}
	for _, name := range c.names() {
		all = append(all, c.modules[name].status)
	}
	return all
}
