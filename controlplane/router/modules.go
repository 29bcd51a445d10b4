package router

import (
	"log/slog"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
)

// retryModules is when SetModules is sent again after an error.
const retryModules = 2 * time.Second

// modules follows the supervisor and tells it which modules shall run.
type modules struct {
	log  *slog.Logger
	h    *event.Handler
	want *wire.SetModulesBody // nil: not known yet
	sess *session.Session
}

// configure sets the modules that shall run.
func (m *modules) configure(want wire.SetModulesBody) {
	m.want = &want
	m.send()
}

func (m *modules) send() {
	if m.want == nil || m.sess == nil {
		return
	}
	sess, want := m.sess, m.want
	sess.Request(wire.SetModules, *want, requestTimeout, func(_ session.Message, err error) {
		if err == nil {
			return
		}
		m.log.Error("tell supervisor the modules", "error", err)
		if m.sess == sess && m.want == want {
			m.h.After(retryModules, func() {
				if m.sess == sess && m.want == want {
					m.send()
				}
			})
		}
	})
}

// up is called when the supervisor is connected.
func (m *modules) up(_ uint32, sess *session.Session) session.Handler {
	m.sess = sess
	m.send()
	return supervisorSession{m, sess}
}

type supervisorSession struct {
	m    *modules
	sess *session.Session
}

// Receive takes a message of the supervisor.
func (x supervisorSession) Receive(_ *session.Session, m session.Message) {
	if m.Kind != wire.ModuleEvent {
		return
	}
	var st wire.ModuleStatus
	if err := wire.DecodeKind(m.Kind, m.Body, &st); err != nil {
		x.m.log.Error("message of supervisor", "error", err)
		return
	}
	x.m.log.Info("module", "name", st.Name, "state", st.State, "reason", st.Reason, "last_exit", st.LastExit)
}

// Closed is called when the session has ended.
func (x supervisorSession) Closed(_ *session.Session, err error) {
	if x.m.sess == x.sess {
		x.m.sess = nil
		x.m.log.Warn("supervisor lost", "error", err)
	}
}
