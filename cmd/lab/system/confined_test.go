package system

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/security/confine"
	"godwit/security/elfsig"
)

// TestModulesRunConfined: every module of a router that runs has a user of its
// own, what its role needs, and nothing else.
func TestModulesRunConfined(t *testing.T) {
	shared.converged(t)
	s, err := shared.client.Security(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Unconfined || len(s.Confined) < 5 {
		t.Fatalf("%+v", s)
	}
	if enforced := s.Mode == "enforced"; enforced != strings.HasPrefix(s.Kernel, "enforced for") || !enforced && (s.Mode != "verified only" || !strings.HasPrefix(s.Kernel, "not enforced: ")) {
		t.Errorf("mode %q, kernel %q", s.Mode, s.Kernel)
	}
	for _, c := range s.Confined {
		role, _, _ := strings.Cut(c.Module, "-")
		p, known := confine.For(role, 0, confine.Place{FirstUser: confine.DefaultFirstUser})
		has, err := elfsig.ParseCaps(c.Capabilities)
		if !known || err != nil || has&^p.Caps != 0 || c.UID != p.UID || !c.NoNewPrivs || c.Seccomp != "filter" || c.Error != "" {
			t.Errorf("%+v, want %+v, %v", c, p, err)
		}
	}
}

// planted is a password that nobody must ever see.
const planted = "planted-5ecret-9b1d"

// TestSecretsStaySecret: a BGP password is in no log, no output, no argument or
// environment of a process, and in no file that others may read.
func TestSecretsStaySecret(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := newRig(ctx, "../../../configs/lab/small.yaml", "gwx", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	text, err := os.ReadFile("../../../configs/lab/small-r1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with := bytes.Replace(text, []byte("neighbors:\n"), []byte("neighbors:\n        - {address: 10.9.9.9, as: 65999, password: "+planted+", import: accept, export: local}\n"), 1)
	if bytes.Equal(with, text) {
		t.Fatal("the configuration has no neighbours")
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := r.client.Apply(ctx, "with.yaml", with)
		return err
	})
	var said strings.Builder
	// Faults at and beside the password.
	for _, bad := range []string{"password: [" + planted + "]", "password: " + planted + strings.Repeat("x", 80), "pasword: " + planted, "password: " + planted + ", pasword: x"} {
		_, err := r.client.Apply(ctx, "bad.yaml", bytes.Replace(with, []byte("password: "+planted), []byte(bad), 1))
		if err == nil {
			t.Errorf("%s was taken", bad)
			continue
		}
		if !strings.HasPrefix(bad, "pasword") { // the key that is not known may be quoted, not what is behind it
			fmt.Fprintln(&said, err)
		}
	}
	for _, line := range []string{"version", "modules", "vrfs", "interfaces", "route", "fib all", "fib statistics", "neighbors", "bgp", "bus", "bus names",
		"security", "security audit", "events", "events trace", "drops", "config"} {
		for _, form := range []string{"", " --json"} {
			out, err := r.r1.CLI(ctx, strings.Fields("show "+line+form)...)
			if err != nil && form == "" {
				t.Errorf("show %s: %v", line, err)
			}
			said.WriteString(out)
		}
	}
	if out, err := r.r1.CLI(ctx, "show", "config"); err != nil || !strings.Contains(out, "10.9.9.9") {
		t.Errorf("the configuration is not in force: %v\n%s", err, out)
	}
	said.WriteString(r.r1.Proc("godwitd").Output())
	ms, err := r.client.Modules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms.Modules {
		for _, file := range []string{"cmdline", "environ", "status"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.PID, file))
			if err != nil {
				t.Fatal(err)
			}
			said.Write(b)
		}
	}
	if i := strings.Index(said.String(), planted); i >= 0 {
		t.Errorf("the password is told: …%s", said.String()[max(0, i-200):i])
	}
	kept := false
	for _, dir := range []string{r.r1.RunDir(), filepath.Join(r.r1.Dir, "state")} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err == nil && bytes.Contains(b, []byte(planted)) {
				kept = true
				if info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has the password and mode %v", path, info.Mode())
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if !kept {
		t.Error("the configuration is not kept: the search finds nothing")
	}
}
