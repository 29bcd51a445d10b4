package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"godwit/cluster/health"
	"godwit/event"
)

const (
	// silence is how long a module's loop may not report: ten reports. Protocol
	// timers are behind by then, and peers begin to notice.
	silence = 10 * health.Period
	// bootSilence is the same before the first report.
	bootSilence = time.Minute
	// lastChance is granted when the silence is over: after this machine itself
	// stood still, reports wait in the pipes to be read.
	lastChance = 2 * health.Period
	// stuckAfter is how long the supervisor's own loop may hang in a handler.
	stuckAfter = 10 * time.Second
)

// liveness is what the supervisor hears of a process's loop.
type liveness struct {
	timer     *event.Timer
	feed      *event.Source
	limit     time.Duration
	stuck     health.Report // since it last lived
	suspected bool
}

// listen reads the reports of a module that was started.
func (s *Supervisor) listen(name string, pipe *os.File) {
	v := &liveness{limit: max(bootSilence, s.silence())}
	v.timer = s.work.After(v.limit, func() { s.silent(name, v) })
	v.feed = event.Feed(s.work, name+" reports", health.Reader(pipe), func() { pipe.Close() }, func(r health.Report) {
		if r.Stuck != "" {
			s.cfg.Log.Error("module has a stuck handler", "name", name, "handler", r.Stuck, "for", r.For)
			v.stuck, v.limit = r, s.silence()
			v.timer.Reset(v.limit - r.For)
			return
		}
		v.stuck, v.suspected, v.limit = health.Report{}, false, s.silence()
		v.timer.Reset(v.limit)
	}, func(err error) {
		if !errors.Is(err, io.EOF) {
			s.cfg.Log.Warn("cannot read module's reports", "name", name, "error", err)
		}
	})
	s.live[name] = v
}

// deafen ends listen, when the process has ended.
func (s *Supervisor) deafen(name string) {
	if v := s.live[name]; v != nil {
		v.timer.Stop()
		v.feed.Close()
		delete(s.live, name)
	}
}

func (s *Supervisor) silence() time.Duration {
	if s.cfg.Silence > 0 {
		return s.cfg.Silence
	}
	return silence
}

func (s *Supervisor) silent(name string, v *liveness) {
	if !v.suspected {
		v.suspected = true
		s.cfg.Log.Warn("module is silent", "name", name, "for", v.limit)
		v.timer.Reset(min(lastChance, v.limit/2))
		return
	}
	reason := fmt.Sprintf("its event loop is silent for %v", v.limit)
	if v.stuck.Stuck != "" {
		reason = fmt.Sprintf("handler %q is stuck for more than %v", v.stuck.Stuck, v.stuck.For.Round(time.Second))
	}
	s.in.dead.Do(evDead{Name: name, Reason: reason})
}
