package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/security/audit"
	"godwit/security/trust"
)

func TestTextSecurity(t *testing.T) {
	s := mgmt.Security{
		Mode: "permissive", Kernel: "not enforced", Allowed: 3, Denied: 1,
		Trust: wire.TrustStatus{Directory: "/t", Root: "00aa", Version: "1.2.0", Development: true, Revocations: 2, Keys: []wire.TrustKey{
			{ID: "1111", Label: "release", Roles: []string{"bgp", "router"}}, {ID: "2222", Label: "old", Revoked: true}, {ID: "3333", Label: "dev", Development: true}}},
		Floors:   []trust.Floor{{Role: "bgp", Name: "godwit-bgp", Version: "1.1.0"}},
		Alarms:   []audit.Alarm{{File: "/m", Role: "bgp", Reason: "revoked", Count: 7}},
		Confined: []wire.Confinement{{Module: "bgp-red", PID: 9, Seccomp: "filter", NoNewPrivs: true, Capabilities: "net_bind_service"}},
	}
	var b bytes.Buffer
	textSecurity(&b, s)
	for _, want := range []string{"PERMISSIVE", "3 allowed, 1 not", "version 1.2.0 signed by root key 00aa", "development keys", "bgp,router", "revoked", "1.1.0", "net_bind_service", "7"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	s = mgmt.Security{Mode: "verified only", Trust: wire.TrustStatus{Directory: "/t", Error: "damaged"}}
	textSecurity(&b, s)
	if out := b.String(); strings.Contains(out, "***") || !strings.Contains(out, "NOT USABLE, nothing starts: damaged") {
		t.Error(out)
	}
	b.Reset()
	textAudit(&b, mgmt.Audit{Events: []audit.Event{{Time: time.Unix(0, 0), Verdict: audit.Denied, Reason: "expired", File: "/m", KeyID: "1111", BuildID: strings.Repeat("ab", 20)}}})
	if out := b.String(); !strings.Contains(out, "1970-01-01T00:00:00Z  denied") || !strings.Contains(out, "expired") || !strings.Contains(out, "abababababab") {
		t.Error(out)
	}
}

func TestSecurityWords(t *testing.T) {
	for line, want := range map[string]string{
		"show security denied":        "go with",
		"show security audit count x": "a number",
	} {
		var out, errw bytes.Buffer
		if code := Execute(context.Background(), append(strings.Fields(line), "--run-dir", t.TempDir()), &out, &errw); code != 2 || !strings.Contains(errw.String(), want) {
			t.Errorf("%s: %d, %s", line, code, errw.String())
		}
	}
	var out, errw bytes.Buffer
	if code := Execute(context.Background(), []string{"key", "generate", t.TempDir() + "/k"}, &out, &errw); code != 0 || !strings.Contains(out.String(), "secret") {
		t.Errorf("key generate: %d, %s%s", code, out.String(), errw.String())
	}
}
