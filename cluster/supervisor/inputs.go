package supervisor

import "godwit/event"

// inputs are the entrances of the core: what comes in here can be recorded, and
// replayed into another core, which then does the same.
type inputs struct {
	boot     *event.Input[evBoot]
	set      *event.Input[evSet]
	started  *event.Input[evStarted]
	failed   *event.Input[evFailed]
	exited   *event.Input[evExited]
	dead     *event.Input[evDead]
	timer    *event.Input[evTimer]
	changed  *event.Input[evChanged]
	upgrade  *event.Input[evUpgrade]
	shutdown *event.Input[evShutdown]
}

func newInputs(h *event.Handler, step func(any)) inputs {
	return inputs{
		boot:     event.NewInput(h, "boot", func(ev evBoot) { step(ev) }),
		set:      event.NewInput(h, "set", func(ev evSet) { step(ev) }),
		started:  event.NewInput(h, "started", func(ev evStarted) { step(ev) }),
		failed:   event.NewInput(h, "failed", func(ev evFailed) { step(ev) }),
		exited:   event.NewInput(h, "exited", func(ev evExited) { step(ev) }),
		dead:     event.NewInput(h, "dead", func(ev evDead) { step(ev) }),
		timer:    event.NewInput(h, "timer", func(ev evTimer) { step(ev) }),
		changed:  event.NewInput(h, "changed", func(ev evChanged) { step(ev) }),
		upgrade:  event.NewInput(h, "upgrade", func(ev evUpgrade) { step(ev) }),
		shutdown: event.NewInput(h, "shutdown", func(ev evShutdown) { step(ev) }),
	}
}
