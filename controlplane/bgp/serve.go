package bgp

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"godwit/cluster/bus"
	"godwit/cluster/session"
	"godwit/fib"
)

var _ Client = (*session.Session)(nil)

// Serve binds the VRF's BGP service on the bus and hands its sessions to the
// speaker.
func (s *Speaker) Serve(b bus.Bus, vrf fib.VRF) (io.Closer, error) {
	c, err := session.Serve(s.high, b, bus.One(bus.TypeBGP, uint32(vrf)), func(*session.Session) session.Handler {
		return sessionHandler{s}
	})
	if err != nil {
		return nil, fmt.Errorf("bind BGP service of VRF %d: %w", vrf, err)
	}
	return c, nil
}

// sessionHandler is the speaker as its sessions see it.
type sessionHandler struct{ s *Speaker }

func (h sessionHandler) Receive(from *session.Session, m session.Message) {
	h.s.Handle(from, m.Kind, m.Body, func(v any, err error) {
		if m.ID == 0 {
			return // no request
		}
		if err != nil {
			err = from.ReplyError(m, err)
		} else {
			err = from.Reply(m, m.Kind, v)
		}
		if err != nil {
			h.s.opt.Log.Debug("reply", "kind", m.Kind.String(), "error", err)
		}
	})
}

func (h sessionHandler) Closed(from *session.Session, err error) {
	h.s.opt.Log.Info("session ended", "error", err)
	h.s.Lost(from)
}

var _ session.Handler = sessionHandler{}

// Signal ends the speaker as a signal asks: SIGUSR1 at once and without a word to
// the neighbours, any other after Farewell; a second one does not wait. exit ends
// the loop, of which Signal is an event.
func (s *Speaker) Signal(sig os.Signal, exit func()) {
	if sig == syscall.SIGUSR1 || s.leaving {
		exit()
		return
	}
	s.leaving = true
	s.Farewell(exit)
}
