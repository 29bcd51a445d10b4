package router

import (
	"errors"
	"fmt"
	"time"

	"godwit/controlplane/config"
	"godwit/fib"
)

// applyRequest is a configuration that waits to be applied.
type applyRequest struct {
	next *config.Config
	done func([]string, error)
}

// apply puts a validated configuration into force, or with an error nothing of
// it; one after another. done runs on the loop with a line for each difference.
func (r *Router) apply(next *config.Config, done func([]string, error)) {
	r.applies = append(r.applies, applyRequest{next, done})
	r.nextApply()
}

func (r *Router) nextApply() {
	if r.applying || len(r.applies) == 0 {
		return
	}
	r.applying = true
	req := r.applies[0]
	r.applies = r.applies[1:]
	finish := func(lines []string, err error) {
		r.applying = false
		req.done(lines, err)
		r.nextApply()
	}
	old, next := r.cfg, req.next
	plan := planHost(old, next, r.cards.macs())
	r.host.run(func() error { return r.prepare(&plan, next) }, func(err error) {
		if err != nil {
			r.undo(old, next)
			finish(nil, fmt.Errorf("apply configuration (nothing is changed): %w", err))
			return
		}
		lines := describe(old, next)
		r.commit(old, next)
		r.host.run(func() error { return plan.remove(r.opt.Host) }, func(err error) {
			if err != nil {
				r.opt.Log.Error("remove what is not configured any more", "error", err)
			}
		})
		finish(lines, nil)
	})
}

// prepare makes what a configuration needs of the host, and stores it. It runs
// off the loop.
func (r *Router) prepare(plan *hostPlan, next *config.Config) error {
	if err := plan.add(r.opt.Host, nil); err != nil {
		return err
	}
	if err := r.setAccess(next); err != nil {
		return err
	}
	return r.store.save(next)
}

// undo brings the host back to the configuration in force.
func (r *Router) undo(old, next *config.Config) {
	plan := planHost(next, old, r.cards.macs())
	r.host.run(func() error {
		return errors.Join(plan.add(r.opt.Host, nil), plan.remove(r.opt.Host), r.setAccess(old))
	}, func(err error) {
		if err != nil {
			r.opt.Log.Error("take back a configuration", "error", err)
		}
	})
}

// commit tells everybody. It can't fail: who is not there is told later.
func (r *Router) commit(old, next *config.Config) {
	r.cfg = next
	r.names = makeNames(next)
	for id := range r.macs {
		if _, ok := r.names.ifaces[id]; !ok {
			delete(r.macs, id)
			delete(r.ifUp, id)
		}
	}
	list, removals := planRIB(old, next, func(f *config.Interface) bool {
		st, _ := r.cards.state(f.Number())
		return st.up
	}, func(c *config.Config) usableVia {
		return func(v *config.VRF, via *config.Via) bool { return r.bfd.usable(c, v, via) }
	})
	r.bfd.configure(next)
	r.routes.apply(list...)
	r.configureCards()
	r.speakers.configure(planSpeakers(next))
	r.modules.configure(planModules(next, r.paths))
	r.routes.apply(removals...)
	r.gate.only(gateKeysOf(next))
	r.checkGate(r.gate.check())
	r.opt.Log.Info("configuration in force", "vrfs", len(next.VRFs), "interfaces", len(next.Interfaces))
}

func (r *Router) configureCards() {
	nodes := map[fib.CardID]uint32{}
	for _, k := range r.cfg.Cards {
		nodes[fib.CardID(k.ID)] = uint32(r.cfg.NodeOf(k.ID))
	}
	r.cards.configure(planCards(r.cfg, r.paths, r.cards.macs()), nodes)
}

// gateKeysOf lists what the first sweep of the line cards waits for.
func gateKeysOf(c *config.Config) map[string]bool {
	keys := map[string]bool{}
	for _, c := range c.Cards {
		keys[cardKey(fib.CardID(c.ID))] = true
	}
	for i := range c.VRFs {
		if v := &c.VRFs[i]; v.BGP != nil {
			keys[speakerKey(v.Number())] = true
		}
	}
	return keys
}

func cardKey(id fib.CardID) string { return fmt.Sprintf("ports of line card %d", id) }

func speakerKey(id fib.VRF) string { return fmt.Sprintf("routes of BGP speaker %d", id) }

// restartTimeOf is how long the first sweep waits at most.
func restartTimeOf(c *config.Config) time.Duration {
	longest := 10 * time.Second
	for i := range c.VRFs {
		if b := c.VRFs[i].BGP; b != nil {
			longest = max(longest, restartTime(b))
		}
	}
	return longest + syncGrace
}

func (r *Router) checkGate(opened bool) {
	if opened {
		r.opt.Log.Info("routes complete: line cards drop what is left from before")
		r.routes.pub.Converged()
		r.routes.pump()
	}
}

// portsChanged is called when what is known of a card's interfaces changed.
func (r *Router) portsChanged(c *card) {
	var fresh []hostIf
	for i := range r.cfg.Interfaces {
		f := &r.cfg.Interfaces[i]
		if fib.CardID(f.Card) != c.id {
			continue
		}
		st := c.states[f.Number()]
		if r.ifUp[f.Number()] != st.up {
			r.ifUp[f.Number()] = st.up
			r.opt.Log.Info("interface", "name", f.Name, "up", st.up)
		}
		r.routes.apply(setInterface(r.cfg, f, st.up))
		if mac := st.mac.String(); st.mac != nil && r.macs[f.Number()] != mac {
			r.macs[f.Number()] = mac
			fresh = append(fresh, hostSide(f, r.cards.macs()))
		}
	}
	if len(fresh) > 0 {
		plan := hostPlan{setIfs: fresh}
		r.host.run(func() error { return plan.add(r.opt.Host, nil) }, func(err error) {
			if err != nil {
				r.opt.Log.Error("set MAC addresses of host interfaces", "error", err)
			}
			r.configureCards()
		})
	}
	if c.known {
		r.checkGate(r.gate.done(cardKey(c.id)))
	}
}
