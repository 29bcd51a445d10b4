package supervisor

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"godwit/security/audit"
	"godwit/security/cgroup"
	"godwit/security/lsm"
	"godwit/security/trust"
)

// scope is the control group of the modules, and what the kernel enforces in it.
type scope struct {
	name     string        // of the group: "godwit-INSTANCE"
	group    *cgroup.Group // nil: there is none, and no limits
	enforcer *lsm.Enforcer // nil: the kernel does not enforce
	kernel   string        // says which, and why
}

// newScope makes the group, if it is good for something: enforcement or limits.
func newScope(cfg Config, log *slog.Logger) *scope {
	s := &scope{name: "godwit-" + cfg.Instance}
	var err error
	if s.group, err = cgroup.Make(s.name); err != nil {
		s.kernel = "not enforced: " + err.Error()
		return s
	}
	switch {
	case cfg.Permissive:
		s.kernel = "not enforced: permissive"
	case cfg.NoEnforce:
		s.kernel = "not enforced: switched off"
	default:
		s.enforcer, err = lsm.Start(s.group, cfg.Instance)
		if err == nil {
			s.kernel = "enforced for the processes of " + s.group.Path
			return s
		}
		s.kernel = "not enforced: " + oneLine(err)
	}
	log.Warn("the kernel does not enforce signatures", "reason", s.kernel)
	// What an earlier supervisor enforced would refuse our modules.
	if err := lsm.Lift(cfg.Instance); err != nil {
		log.Error("cannot lift an earlier policy", "error", err)
	}
	if len(s.group.Limited) == 0 {
		if err := s.group.Remove(0); err != nil {
			log.Warn("cannot remove cgroup", "error", err)
		}
		s.group = nil
	}
	return s
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// maxTasks bounds the threads of a module: Go's runtime needs some for each
// core and for each blocking call.
const maxTasks = 4096

// place makes the group of a module and returns its directory; empty: none.
func (s *scope) place(name string) (dir string, err error) {
	if s.group == nil {
		return "", nil
	}
	child, err := s.group.Child(name, cgroup.Limits{Memory: memoryLimit(), Tasks: maxTasks})
	if err != nil {
		return "", err
	}
	return child.Path, nil
}

// memoryLimit is three quarters of the machine's memory: a module that leaks
// is ended before the others are short of it.
func memoryLimit() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) / 4 * 3
}

// limits tells how a module is limited.
func (s *scope) limits(name string) cgroup.Limits {
	if s.group == nil {
		return cgroup.Limits{}
	}
	child := cgroup.Group{Path: filepath.Join(s.group.Path, name)}
	return child.Limits()
}

// listFiles lets the files of the trust store run that it lists by digest.
func (s *scope) listFiles(store *trust.Store) error {
	if s.enforcer == nil {
		return nil
	}
	var list [][sha256.Size]byte
	for _, d := range store.Digests() {
		list = append(list, d)
	}
	return s.enforcer.SetDigests(list)
}

// admit lets a verified image run.
func (s *scope) admit(image *os.File) error {
	if s.enforcer == nil {
		return nil
	}
	return s.enforcer.Allow(image)
}

// leaveScope removes the group of a module that has ended, without waiting: the
// next start takes one that is there.
func (s *Supervisor) leaveScope(name string) {
	if s.scope.group == nil {
		return
	}
	child := cgroup.Group{Path: filepath.Join(s.scope.group.Path, name)}
	if err := child.Remove(0); err != nil {
		s.cfg.Log.Warn("cannot remove module's cgroup", "module", name, "error", err)
	}
}

// close removes the group, and then the policy. A process that is left in the
// group, or a foreign one that was put there, keeps both.
func (s *scope) close() error {
	var errs []error
	if s.enforcer != nil {
		errs = append(errs, s.enforcer.Close())
	}
	if s.group == nil {
		return errors.Join(errs...)
	}
	if err := s.group.Remove(killTime); err != nil {
		return errors.Join(append(errs, fmt.Errorf("processes are left in the modules' cgroup, it stays: %w", err))...)
	}
	return errors.Join(append(errs, lsm.Lift(strings.TrimPrefix(s.name, "godwit-")))...)
}

// denials takes what the kernel refused, until the enforcer is closed.
func (s *Supervisor) denials() {
	if s.scope.enforcer == nil {
		return
	}
	var d lsm.Denial
	s.serve.Async(func() (err error) {
		d, err = s.scope.enforcer.Next()
		return err
	}, func(err error) {
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				s.cfg.Log.Error("kernel denials are not read any more", "error", err)
			}
			return
		}
		s.guard.verdict(kernelDenial(d))
		s.denials()
	})
}

// kernelDenial is a denial as an event of the audit.
func kernelDenial(d lsm.Denial) audit.Event {
	e := audit.Event{Time: time.Now(), Verdict: audit.Denied, Reason: "kernel", File: d.File, Role: d.Command}
	e.Detail = fmt.Sprintf("process %d (%s) %s", d.PID, d.Command, d.Reason)
	if e.File == "" {
		e.File = "-"
	}
	return e
}
