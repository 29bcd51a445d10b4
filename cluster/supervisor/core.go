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
	evBoot struct{ router wire.ModuleSpec }
	// evSet replaces the modules that run besides the routing engine. The
	// specs have passed checkSpecs.
	evSet struct{ specs []wire.ModuleSpec }
	// evStarted and evFailed answer fxStart.
	evStarted struct {
		name string
		pid  int
		id   identity
	}
	evFailed struct {
		name    string
		refused bool
		reason  string
		id      identity
	}
	evExited   struct{ name, how string }
	evTimer    struct{ name string }
	evChanged  struct{ name string } // a refused module's file or the trust store
	evShutdown struct{ force bool }  // force: SIGKILL now
)

// identity is what the signature says of a module.
type identity struct{ version, buildID, keyID string }

// The effects of the core.
type (
	fxStart  struct{ spec wire.ModuleSpec }
	fxSignal struct {
		name string
		kill bool // SIGKILL instead of SIGTERM
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
	changed bool // the spec changed since the start under way or the run
	delay   time.Duration
}

func newCore() *core { return &core{modules: map[string]*entry{}} }

// step takes one event and returns what is to be done, in order.
func (c *core) step(now time.Time, ev any) []any {
	c.now, c.effects = now, nil
	switch ev := ev.(type) {
	case evBoot:
		c.add(ev.router)
	case evSet:
		c.set(ev.specs)
	case evShutdown:
		c.shutdown(ev.force)
	case evStarted:
		c.with(ev.name, func(e *entry) { c.started(e, ev) })
	case evFailed:
		c.with(ev.name, func(e *entry) { c.failed(e, ev) })
	case evExited:
		c.with(ev.name, func(e *entry) { c.exited(e, ev.how) })
	case evTimer:
		c.with(ev.name, c.timer)
	case evChanged:
		c.with(ev.name, func(e *entry) {
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
	e := &entry{spec: spec, want: true, status: wire.ModuleStatus{Name: spec.Name, Role: spec.Role, Verify: verifyMode}}
	c.modules[spec.Name] = e
	c.start(e)
}

// verifyMode: this program checks signatures; the kernel does not enforce them.
const verifyMode = "verified only"

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
	e.changed = false
	c.emit(fxTimer{name: e.spec.Name})
	c.state(e, stateStarting, "")
	c.emit(fxStart{e.spec})
}

func (c *core) started(e *entry, ev evStarted) {
	e.status.PID = ev.pid
	e.identify(ev.id)
	if !e.want || e.changed {
		c.terminate(e)
		return
	}
	c.state(e, stateRunning, "")
}

func (e *entry) identify(id identity) {
	e.status.Version, e.status.BuildID, e.status.KeyID = id.version, id.buildID, id.keyID
}

func (c *core) failed(e *entry, ev evFailed) {
	e.identify(ev.id)
	switch {
	case !e.want:
		c.remove(e)
	case e.changed:
		c.start(e)
	case ev.refused:
		c.state(e, stateRefused, ev.reason)
		c.emit(fxTimer{e.spec.Name, refusedRetry})
	default:
		c.backoff(e, ev.reason)
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

func (c *core) timer(e *entry) {
	switch e.status.State {
	case stateBackoff, stateRefused:
		c.start(e)
	case stateStopping:
		c.emit(fxSignal{e.spec.Name, true})
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
			c.emit(fxSignal{name, true})
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
