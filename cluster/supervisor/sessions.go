package supervisor

import (
	"context"
	"errors"
	"log/slog"

	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
)

var errLinecards = errors.New("set modules: this node's configuration says which line cards run here")

var errShutdown = errors.New("set modules: the router is shutting down")

// accept takes a session of the routing engine, or of a tool.
func (s *Supervisor) accept(c *session.Session) session.Handler {
	s.sessions[c] = struct{}{}
	return s
}

// Closed implements session.Handler.
func (s *Supervisor) Closed(c *session.Session, _ error) { delete(s.sessions, c) }

// Receive implements session.Handler.
func (s *Supervisor) Receive(c *session.Session, m session.Message) {
	if reply, ok := health.Answer(s.loop, m.Kind); ok {
		s.answered(c, m, c.Reply(m, m.Kind, reply))
		return
	}
	if ok, err := s.security(c, m); ok {
		if err != nil {
			s.cfg.Log.Warn("cannot answer", "request", m.Kind.String(), "error", err)
			c.Close()
		}
		return
	}
	var err error
	switch m.Kind {
	case wire.SetModules:
		err = s.setModules(c, m)
	case wire.Upgrade:
		err = s.upgrade(c, m)
	case wire.GetModules:
		err = c.Reply(m, wire.GetModules, wire.ModuleList{Modules: s.list()})
	case wire.GetNames:
		err = c.Reply(m, wire.GetNames, wire.NameList{Names: s.server.Names()})
	case wire.GetModule:
		err = c.Reply(m, wire.GetModule, s.cfg.Self)
	default:
		err = c.ReplyError(m, errors.New("supervisor: unknown request "+m.Kind.String()))
	}
	s.answered(c, m, err)
}

func (s *Supervisor) answered(c *session.Session, m session.Message, err error) {
	if err != nil {
		s.cfg.Log.Warn("cannot answer", "request", m.Kind.String(), "error", err)
		c.Close()
	}
}

func (s *Supervisor) setModules(c *session.Session, m session.Message) error {
	var body wire.SetModulesBody
	err := wire.DecodeKind(m.Kind, m.Body, &body)
	if err == nil {
		err = checkSpecs(body.Modules)
	}
	if err == nil && s.cfg.Cluster != nil && len(s.cfg.Cluster.Cards) > 0 {
		err = errLinecards
	}
	if err == nil && s.core.down {
		err = errShutdown
	}
	if err != nil {
		s.cfg.Log.Warn("refused set of modules", "error", err)
		return c.ReplyError(m, err)
	}
	s.in.set.Do(evSet{body.Modules})
	return c.Reply(m, wire.SetModules, struct{}{})
}

// tell logs a module's new state and sends it to all sessions.
func (s *Supervisor) tell(st wire.ModuleStatus) {
	st.Verify = s.guard.mode(st.Name)
	level, attrs := slog.LevelInfo, []any{"name", st.Name}
	if st.PID != 0 {
		attrs = append(attrs, "pid", st.PID)
	}
	if st.Reason != "" {
		level, attrs = slog.LevelWarn, append(attrs, "reason", st.Reason, "restarts", st.Restarts)
	}
	if st.State == stateRunning {
		attrs = append(attrs, "version", st.Version, "key", st.KeyID)
	}
	s.cfg.Log.Log(context.Background(), level, "module "+st.State, attrs...)
	for c := range s.sessions {
		if err := c.SendJSON(wire.ModuleEvent, st); err != nil {
			// It will connect again and ask for the whole list.
			s.cfg.Log.Warn("session does not read, closing it", "error", err)
			c.Close()
		}
	}
}
