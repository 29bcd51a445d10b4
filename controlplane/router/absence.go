package router

import (
	"errors"
	"time"

	"godwit/cluster/bus"
	"godwit/event"
	"godwit/fib"
)

// absence is that of a card whose process has died and whose express path goes on without it:
// its interfaces count as they were until it is back, or for absenceLimit. Packets that only its
// workers could forward are lost meanwhile, those of other cards to its ports among them.
type absence struct {
	ports  map[fib.PortID]bool // that go on
	ifaces map[fib.InterfaceID]bool
	timer  *event.Timer
}

// absenceLimit is above what it takes to start a card and give it a full table; tests change it.
var absenceLimit = 15 * time.Second

// leave takes the end of a card's session: its express path may go on.
func (s *cards) leave(c *card, err error) {
	gone := (*bus.GoneError)(nil)
	if c.cfg == nil || errors.As(err, &gone) && gone.Code == bus.NoNode {
		c.returned()
		return
	}
	if c.absent != nil {
		return // it dies again before it was back: the limit stays
	}
	x := &absence{ports: map[fib.PortID]bool{}, ifaces: map[fib.InterfaceID]bool{}}
	for _, p := range c.cfg.Ports {
		st := c.ports[p.ID]
		if !p.Express || !st.Up || st.Express == "" || st.Express == "off" {
			continue
		}
		x.ports[p.ID] = true
		for _, f := range st.Interfaces {
			x.ifaces[f.ID] = true
		}
	}
	if len(x.ports) == 0 {
		return
	}
	x.timer = s.h.After(absenceLimit, func() { s.giveUp(c, x) })
	c.absent = x
	s.log.Info("line card's express path goes on without it", "card", c.id, "ports", len(x.ports))
}

// giveUp is called when a card was away for too long.
func (s *cards) giveUp(c *card, x *absence) {
	if c.absent != x {
		return
	}
	c.absent = nil
	s.log.Warn("line card has not come back in time", "card", c.id)
	if c.sess != nil {
		s.refresh(c)
		return
	}
	s.down(c)
	s.forget()
}

// returned ends a card's absence: what it says of its ports counts.
func (c *card) returned() {
	if c.absent != nil {
		c.absent.timer.Stop()
		c.absent = nil
	}
}

// goesOn tells that an interface forwards while its card is away.
func (c *card) goesOn(id fib.InterfaceID) bool { return c.absent != nil && c.absent.ifaces[id] }
