package supervisor

import (
	"crypto/ed25519"
	"log/slog"
	"os"
	"strings"
	"testing"

	"godwit/cluster/wire"
	"godwit/security/audit"
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

// A module gets the capabilities of its role that were signed into it.
func TestEnvironment(t *testing.T) {
	s := &Supervisor{cfg: Config{Env: []string{"A=b"}, Confine: true}}
	img := &module.Image{}
	for _, tt := range []struct {
		role, signed, want string
	}{
		{"router", "", "A=b"},
		{"bgp", "", "A=b GODWIT_CONFINE=net_bind_service"},
		{"bgp", "net_bind_service,sys_admin", "A=b GODWIT_CONFINE=net_bind_service"},
		{"bgp", "sys_admin", "A=b GODWIT_CONFINE="},
		{"linecard", "net_admin,bpf,sys_module", "A=b GODWIT_CONFINE=net_admin,bpf"},
	} {
		var err error
		if img.Signed.Capabilities, err = elfsig.ParseCaps(tt.signed); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.environment(tt.role, img), " "); got != tt.want {
			t.Errorf("%s %q: %s", tt.role, tt.signed, got)
		}
	}
	s.cfg.Confine = false
	if got := s.environment("bgp", img); len(got) != 1 {
		t.Errorf("not to be confined: %v", got)
	}
	for role, list := range roleCaps {
		if _, err := elfsig.ParseCaps(list); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}
