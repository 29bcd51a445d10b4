package supervisor

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/security/audit"
	"godwit/security/confine"
	"godwit/security/elfsig"
	"godwit/security/module"
	"godwit/security/trust"
)

// auditSize is how many verdicts are kept.
const auditSize = 1024

// floorsFile in the state directory keeps the minimum versions of modules.
const floorsFile = "floors"

// The ways a module's signature counts; see wire.ModuleStatus.
const (
	modeEnforced   = "enforced"      // this program checks signatures, and the kernel runs nothing else
	modeVerified   = "verified only" // this program checks signatures; the kernel does not enforce them
	modePermissive = "permissive"
	modeOff        = "off" // the module runs although it would be refused
)

// guard decides what may run, and keeps what was decided.
type guard struct {
	root   ed25519.PublicKey
	ring   *audit.Ring
	log    *slog.Logger
	loader *module.Loader
	scope  *scope
	// off are the modules that run though they would be refused; owned by the loop.
	off map[string]bool
}

func newGuard(cfg Config, sc *scope) (*guard, error) {
	g := &guard{scope: sc, ring: audit.NewRing(auditSize), log: cfg.Log.With("part", "security"), off: map[string]bool{}}
	if cfg.TrustRoot != "" {
		var err error
		if g.root, err = elfsig.ReadPublicKeyFile(cfg.TrustRoot); err != nil {
			return nil, fmt.Errorf("root key of the trust store: %w", err)
		}
	}
	if cfg.Permissive {
		g.log.Error("PERMISSIVE: modules run that nobody signed; this is no way to run a router in service")
	}
	g.loader = module.New(module.Config{
		Trust: cfg.TrustDir, Root: g.root, Floors: trust.OpenFloors(filepath.Join(cfg.StateDir, floorsFile)),
		Permissive: cfg.Permissive, Now: time.Now, Audit: g.verdict, Admit: sc.admit,
		Store: func(store *trust.Store) {
			if err := sc.listFiles(store); err != nil {
				g.log.Error("files that the trust store lists by digest are not allowed", "error", err)
			}
		},
	})
	return g, nil
}

// environment is what a module gets besides the loader's: how it is to confine
// itself.
func (s *Supervisor) environment(role string, img *module.Image) []string {
	env := slices.Clone(s.cfg.Env)
	if p, known := confine.For(role, img.Signed.Capabilities, s.home); known && !s.cfg.NoConfine {
		env = append(env, confine.Variable+"="+p.Encode())
	}
	return env
}

// verdict takes what the loader decided, from any goroutine.
func (g *guard) verdict(e audit.Event) {
	e, raised := g.ring.Add(e)
	level := slog.LevelInfo
	if e.Verdict != audit.Allowed {
		level = slog.LevelWarn
	}
	attrs := []any{"verdict", e.Verdict, "file", e.File, "role", e.Role}
	for _, a := range [][2]string{{"reason", e.Reason}, {"detail", e.Detail}, {"name", e.Name}, {"version", e.Version}, {"build", e.BuildID}, {"key", e.KeyID}, {"signer", e.Key}} {
		if a[1] != "" {
			attrs = append(attrs, a[0], a[1])
		}
	}
	g.log.Log(context.Background(), level, "module check", attrs...)
	if raised {
		g.log.Error("security alarm: a program was not allowed", "file", e.File, "role", e.Role, "reason", e.Reason)
	}
}

// mode tells how a module's signature counts.
func (g *guard) mode(name string) string {
	if g.off[name] {
		return modeOff
	}
	if g.scope.enforcer != nil {
		return modeEnforced
	}
	return modeVerified
}

// list is the modules' status with the way their signatures count.
func (s *Supervisor) list() []wire.ModuleStatus {
	all := s.core.list()
	for i := range all {
		all[i].Verify = s.guard.mode(all[i].Name)
	}
	return all
}

// security answers GetSecurity and GetAudit; ok is false for other requests.
func (s *Supervisor) security(c *session.Session, m session.Message) (ok bool, err error) {
	switch m.Kind {
	case wire.GetAudit:
		var q wire.AuditQuery
		if err := wire.DecodeKind(m.Kind, m.Body, &q); err != nil {
			return true, c.ReplyError(m, err)
		}
		return true, c.Reply(m, m.Kind, wire.AuditList{Events: s.guard.latest(q)})
	case wire.GetSecurity:
		modules := s.list()
		var status wire.SecurityStatus
		s.serve.Async(func() error {
			status = s.guard.status(s.cfg, modules) // reads files
			return nil
		}, func(error) {
			if _, there := s.sessions[c]; !there {
				return
			}
			if err := c.Reply(m, m.Kind, status); err != nil {
				c.Close()
			}
		})
		return true, nil
	}
	return false, nil
}

func (g *guard) latest(q wire.AuditQuery) []audit.Event {
	if !q.Denied {
		return g.ring.Latest(q.Count)
	}
	events := slices.DeleteFunc(g.ring.Latest(0), func(e audit.Event) bool { return e.Verdict == audit.Allowed })
	if q.Count > 0 && len(events) > q.Count {
		events = events[len(events)-q.Count:]
	}
	return events
}

// status may be called from any goroutine.
func (g *guard) status(cfg Config, modules []wire.ModuleStatus) wire.SecurityStatus {
	st := wire.SecurityStatus{
		Mode: g.mode(""), Kernel: g.scope.kernel,
		Alarms: g.ring.Alarms(), Trust: wire.TrustStatus{Directory: cfg.TrustDir, Keys: []wire.TrustKey{}}, Confined: []wire.Confinement{},
	}
	if cfg.Permissive {
		st.Mode = modePermissive
	}
	st.Unconfined = cfg.NoConfine
	st.Allowed, st.Denied = g.ring.Counts()
	if g.root != nil {
		if id, err := elfsig.KeyIDOf(g.root); err == nil {
			st.Trust.Root = id.String()
		}
	}
	store, floors, err := g.loader.Status()
	st.Floors = floors
	if st.Floors == nil {
		st.Floors = []trust.Floor{}
	}
	if err != nil {
		st.Trust.Error = err.Error()
	}
	if store != nil {
		st.Trust.Version, st.Trust.Development, st.Trust.Revocations = store.Version(), store.AllowsDevelopment(), store.Revocations()
		for _, k := range store.Keys() {
			st.Trust.Keys = append(st.Trust.Keys, wire.TrustKey{
				ID: k.ID.String(), Label: k.Label, Roles: append([]string{}, k.Roles...), Development: k.Development, Revoked: store.Revoked(k.ID),
			})
		}
	}
	for _, m := range modules {
		if m.PID != 0 {
			c, l := confinement(m.Name, m.PID), g.scope.limits(m.Name)
			c.Memory, c.Tasks = l.Memory, l.Tasks
			st.Confined = append(st.Confined, c)
		}
	}
	return st
}

// confinement reads how a process runs: /proc/PID/status (proc(5)).
func confinement(name string, pid int) wire.Confinement {
	c := wire.Confinement{Module: name, PID: pid}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		c.Error = err.Error()
		return c
	}
	if err := parseStatus(&c, string(data)); err != nil {
		c.Error = err.Error()
	}
	return c
}

func parseStatus(c *wire.Confinement, text string) error {
	seen := 0
	var errs []error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		var err error
		switch key {
		case "Uid": // real, effective, saved, file system
			c.UID, err = strconv.Atoi(words[min(1, len(words)-1)])
		case "CapEff":
			var caps uint64
			caps, err = strconv.ParseUint(words[0], 16, 64)
			c.Capabilities = elfsig.Caps(caps).String()
		case "NoNewPrivs":
			c.NoNewPrivs = words[0] == "1"
		case "Seccomp":
			c.Seccomp = map[string]string{"0": "off", "1": "strict", "2": "filter"}[words[0]]
		default:
			continue
		}
		seen++
		errs = append(errs, err)
	}
	if seen < 4 {
		errs = append(errs, errors.New("status of process: fields are missing"))
	}
	return errors.Join(errs...)
}
