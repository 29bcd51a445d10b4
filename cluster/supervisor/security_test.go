package supervisor

import (
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus/local"
	"godwit/cluster/wire"
	"godwit/security/audit"
	"godwit/security/confine"
	"godwit/security/elfsig"
	"godwit/security/module"
	"godwit/security/trust"
)

func (c *chassis) status() wire.SecurityStatus {
	c.t.Helper()
	var st wire.SecurityStatus
	c.must(c.request(wire.GetSecurity, struct{}{}, &st))
	return st
}

func (c *chassis) verdicts(q wire.AuditQuery) []audit.Event {
	c.t.Helper()
	var list wire.AuditList
	c.must(c.request(wire.GetAudit, q, &list))
	return list.Events
}

func TestSecurityIsShown(t *testing.T) {
	c := newChassis(t)
	c.boot()
	c.await(RouterName, "runs", in(stateRunning))
	c.must(os.WriteFile(c.path("trust/revoked"), []byte("key 0011223344556677\n"), 0o644))
	c.must(os.WriteFile(c.path("trust/policy"), []byte("roles test router,linecard\n"), 0o644))
	st := c.status()
	if st.Mode != "verified only" || st.Allowed != 1 || st.Denied != 0 || len(st.Alarms) != 0 {
		t.Errorf("%+v", st)
	}
	if k := st.Trust.Keys; len(k) != 1 || k[0].Label != "test" || len(k[0].Roles) != 2 || k[0].Revoked || st.Trust.Revocations != 1 || st.Trust.Error != "" {
		t.Errorf("%+v", st.Trust)
	}
	if m := st.Confined; len(m) != 1 || m[0].Module != RouterName || m[0].Seccomp == "" || m[0].Error != "" {
		t.Errorf("%+v", m)
	}
	// A speaker may not be signed by this key any more: denied, told and an alarm.
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp"}, wire.ModuleSpec{Name: "linecard-1", Role: "linecard"})
	c.await("bgp-red", "is refused", in(stateRefused))
	c.await("linecard-1", "runs", in(stateRunning))
	denied := c.verdicts(wire.AuditQuery{Denied: true})
	if len(denied) != 1 || denied[0].Verdict != audit.Denied || denied[0].Reason != "key-role" || denied[0].Role != "bgp" || denied[0].Version != "1.2.3" || denied[0].Time.IsZero() {
		t.Errorf("%+v", denied)
	}
	if all := c.verdicts(wire.AuditQuery{}); len(all) != 3 || all[0].Sequence != 1 || all[0].Key != "test" {
		t.Errorf("%+v", all)
	}
	if one := c.verdicts(wire.AuditQuery{Count: 1}); len(one) != 1 || one[0].Sequence != 3 {
		t.Errorf("%+v", one)
	}
	if a := c.status().Alarms; len(a) != 1 || a[0].Reason != "key-role" || !strings.HasSuffix(a[0].File, "godwit-bgp") {
		t.Errorf("%+v", a)
	}
	c.poll("alarm in the log", func() bool { return strings.Contains(c.output.String(), "security alarm") })
	// The store is repaired: the module starts, the alarm ends.
	c.must(os.Remove(c.path("trust/policy")))
	c.await("bgp-red", "runs", in(stateRunning))
	if a := c.status().Alarms; len(a) != 0 {
		t.Errorf("%+v", a)
	}
	c.must(os.WriteFile(c.path("trust/broken"), nil, 0o644))
	if st := c.status(); !strings.Contains(st.Trust.Error, "want NAME.pem") {
		t.Errorf("%+v", st.Trust)
	}
}

// Permissive: it runs, is called unverified everywhere, and raises an alarm.
func TestPermissive(t *testing.T) {
	c := newChassis(t)
	c.replace("linecard", program) // nobody signed it
	c.config = func(cfg *Config) { cfg.Permissive = true }
	c.boot()
	c.set(wire.ModuleSpec{Name: "linecard-1", Role: "linecard"})
	if st := c.await("linecard-1", "runs", in(stateRunning)); st.Verify != "off" || st.KeyID != "" {
		t.Errorf("%+v", st)
	}
	if st := c.await(RouterName, "runs", in(stateRunning)); st.Verify != "verified only" {
		t.Errorf("%+v", st)
	}
	if st := c.status(); st.Mode != "permissive" || len(st.Alarms) != 1 || st.Alarms[0].Reason != "unsigned" {
		t.Errorf("%+v", st)
	}
	if e := c.verdicts(wire.AuditQuery{Denied: true}); len(e) != 1 || e[0].Verdict != audit.Permitted {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(c.output.String(), "PERMISSIVE") {
		t.Error("the log does not say it")
	}
}

// With a root key, a store that it did not sign starts nothing.
func TestRootKey(t *testing.T) {
	c := newChassis(t)
	root, err := elfsig.GenerateKey()
	c.must(err)
	pub, err := elfsig.EncodePublicKey(root.Public().(ed25519.PublicKey))
	c.must(err)
	c.must(os.WriteFile(c.path("root.pem"), pub, 0o644))
	c.config = func(cfg *Config) { cfg.TrustRoot = c.path("root.pem") }
	c.boot()
	c.await(RouterName, "is refused", in(stateRefused))
	c.must(trust.Sign(c.path("trust"), "1.0.0", root))
	c.await(RouterName, "runs", in(stateRunning))
	if st := c.status(); st.Trust.Version != "1.0.0" || st.Trust.Root == "" || len(st.Floors) != 1 {
		t.Errorf("%+v", st)
	}
	c.stop()
	bad := testConfig(c.dir, c.output.w, nil)
	bad.TrustRoot = c.path("none.pem")
	bad.Log = slog.New(slog.DiscardHandler)
	if _, err := New(bad); err == nil || !strings.Contains(err.Error(), "root key") {
		t.Errorf("no root key: %v", err)
	}
}

func TestParseStatus(t *testing.T) {
	var c wire.Confinement
	text := "Name:\tx\nUid:\t0\t7\t0\t0\nCapEff:\t0000000000003000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	if err := parseStatus(&c, text); err != nil || c.UID != 7 || c.Capabilities != "net_admin,net_raw" || !c.NoNewPrivs || c.Seccomp != "filter" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"", "Uid:\tx\n", strings.Replace(text, "3000", "xyz", 1), strings.Replace(text, "Seccomp", "S", 1)} {
		if err := parseStatus(&c, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// A module is told to confine itself, unless it is switched off.
func TestEnvironment(t *testing.T) {
	s := &Supervisor{cfg: Config{Env: []string{"A=b"}}}
	s.home.RunDir = "/run/x"
	img := &module.Image{}
	var err error
	if img.Signed.Capabilities, err = elfsig.ParseCaps("net_bind_service,sys_admin"); err != nil {
		t.Fatal(err)
	}
	env := s.environment("bgp", img)
	if len(env) != 2 || env[0] != "A=b" {
		t.Fatal(env)
	}
	text, ok := strings.CutPrefix(env[1], confine.Variable+"=")
	if p, err := confine.Decode(text); !ok || err != nil || p.Role != "bgp" || p.Caps.String() != "net_bind_service" {
		t.Errorf("%s: %+v, %v", env[1], p, err)
	}
	if got := s.environment("another", img); len(got) != 1 {
		t.Errorf("unknown role: %v", got)
	}
	s.cfg.NoConfine = true
	if got := s.environment("bgp", img); len(got) != 1 {
		t.Errorf("not to be confined: %v", got)
	}
}

// The modules' users get what they need of the run directory, and no more.
func TestSettle(t *testing.T) {
	run := t.TempDir()
	if err := os.Chmod(filepath.Dir(run), 0o711); err != nil { // others pass
		t.Fatal(err)
	}
	server, err := local.NewServer(run, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, dir := range []string{fabricDir, bgpDir} {
		if err := errors.Join(os.Mkdir(filepath.Join(run, dir), 0o750), os.WriteFile(filepath.Join(run, dir, "left"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := &Supervisor{cfg: Config{RunDir: run, FirstUser: 60900, Log: slog.New(slog.DiscardHandler)}}
	if err := s.settle(); err != nil {
		t.Fatal(err)
	}
	if s.home.FirstUser != 60900 {
		t.Fatalf("%+v, barrier %q", s.home, barrier(run))
	}
	for path, want := range map[string][3]uint32{
		"": {0, 60900, 0o751}, "bus": {0, 60900, 0o3770}, "bus.sock": {0, 60900, 0o660},
		"fabric": {60902, 60900, 0o750}, "fabric/left": {60902, 60900, 0o600}, "bgp": {60903, 60900, 0o750},
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(run, path), &st); err != nil {
			t.Fatal(err)
		}
		if got := [3]uint32{st.Uid, st.Gid, st.Mode & 0o7777}; got != want {
			t.Errorf("%q: %d %d %o, want %d %d %o", path, got[0], got[1], got[2], want[0], want[1], want[2])
		}
	}
	// Below a folder that others cannot pass, modules stay root.
	closed := filepath.Join(run, "closed")
	if err := os.MkdirAll(closed+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	s = &Supervisor{cfg: Config{RunDir: closed + "/run", FirstUser: 60900, Log: slog.New(slog.DiscardHandler)}}
	if err := s.settle(); err != nil || s.home.FirstUser != 0 {
		t.Errorf("%v, %+v", err, s.home)
	}
	s = &Supervisor{cfg: Config{RunDir: run, FirstUser: 60900, NoConfine: true, Log: slog.New(slog.DiscardHandler)}}
	if err := s.settle(); err != nil || s.home.FirstUser != 0 {
		t.Errorf("not confined: %v, %+v", err, s.home)
	}
}
