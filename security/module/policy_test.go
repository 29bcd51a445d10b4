package module

import (
	"crypto/ed25519"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/security/audit"
	"godwit/security/elfsig"
	"godwit/security/trust"
)

// again opens the fixture's store with a new loader, as a restart does.
func (f *fixture) again(cfg Config) {
	f.t.Helper()
	f.must(f.loader.Close())
	cfg.Trust, cfg.Now, cfg.Audit, cfg.Admit = f.path("trust"), func() time.Time { return f.now }, f.audit, admit
	f.loader = New(cfg)
}

func version(v, floor string) elfsig.Header {
	h := header()
	h.Version, h.MinVersion = v, floor
	return h
}

// Each refusal has its word.
func TestReasons(t *testing.T) {
	f := newFixture(t)
	good := f.install("good", childProgram, header())
	f.verify(good)
	if e := f.lastVerdict(); e.Verdict != audit.Allowed || e.Key != "admin" || e.KeyID == "" || e.BuildID == "" || e.Version != "1.0.0" || e.Cached || e.Reason != "" {
		t.Errorf("%+v", e)
	}
	f.verify(good)
	if e := f.lastVerdict(); !e.Cached {
		t.Errorf("%+v", e)
	}
	data, err := os.ReadFile(good)
	f.must(err)
	data[len(data)/2] ^= 1
	late := header()
	late.NotAfter = f.now.Add(-time.Hour)
	early := header()
	early.NotBefore = f.now.Add(time.Hour)
	for want, write := range map[string]func(path string){
		"unsigned":       func(p string) { f.must(os.WriteFile(p, childProgram, 0o755)) },
		"malformed-file": func(p string) { f.must(os.WriteFile(p, data[:len(data)/2], 0o755)) },
		"bad-signature":  func(p string) { f.must(os.WriteFile(p, data, 0o755)) },
		"expired":        func(p string) { f.install(filepath.Base(p), childProgram, late) },
		"not-yet-valid":  func(p string) { f.install(filepath.Base(p), childProgram, early) },
		"wrong-role": func(p string) {
			f.install(filepath.Base(p), childProgram, elfsig.Header{Role: "router", Name: "r", Version: "1.0.0"})
		},
	} {
		write(f.path(want))
		f.wantRefused(f.path(want), "bgp", "module refused")
		if e := f.lastVerdict(); e.Reason != want {
			t.Errorf("%s: told %q (%s)", want, e.Reason, e.Detail)
		}
	}
	f.revoke("build " + f.verify(good).Signed.BuildID)
	f.wantRefused(good, "bgp", "revoked")
	if e := f.lastVerdict(); e.Reason != "revoked" {
		t.Errorf("%+v", e)
	}
	f.must(os.RemoveAll(f.path("trust")))
	f.wantRefused(good, "bgp", "trust store")
	if e := f.lastVerdict(); e.Reason != "trust-store" {
		t.Errorf("%+v", e)
	}
}

// A byte changed in any section, and in the headers, refuses the file.
func TestEverySectionCounts(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	data, err := os.ReadFile(path)
	f.must(err)
	file, err := elf.Open(path)
	f.must(err)
	defer file.Close()
	at := map[string]uint64{"ELF header": 16, "program headers": 64 + 4}
	for _, s := range file.Sections {
		if s.Type != elf.SHT_NULL && s.Type != elf.SHT_NOBITS && s.Size > 0 {
			at[s.Name] = s.Offset + s.Size/2
		}
	}
	if len(at) < 10 {
		t.Fatalf("only %v", at)
	}
	for name, off := range at {
		data[off] ^= 0x10
		f.must(os.WriteFile(f.path("flipped"), data, 0o755))
		data[off] ^= 0x10
		if _, err := f.loader.Verify(f.path("flipped"), "bgp"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, offset %d: %v", name, off, err)
		}
	}
}

func TestUpgradeAndDowngrade(t *testing.T) {
	f := newFixture(t)
	floors := func() Config { return Config{Floors: trust.OpenFloors(f.path("floors"))} }
	f.again(floors())
	old := f.install("old", childProgram, version("1.0.0", ""))
	minor := f.install("minor", childProgram, version("1.1.0", ""))
	fixed := f.install("fixed", otherProgram, version("1.2.0", "1.1.0"))
	f.verify(old)
	f.verify(minor)
	f.verify(old)   // no floor yet: back is allowed
	f.verify(fixed) // it forbids what is older than 1.1.0
	f.verify(minor)
	f.wantRefused(old, "bgp", "older than the minimum version")
	f.again(floors()) // the floor outlives the process
	f.wantRefused(old, "bgp", "1.1.0")
	if e := f.lastVerdict(); e.Reason != "rollback" {
		t.Errorf("%+v", e)
	}
	f.verify(minor)
	// A module that does not verify raises nothing.
	evil := f.install("evil", childProgram, version("9.0.0", "9.0.0"))
	data, err := os.ReadFile(evil)
	f.must(err)
	data[len(data)/2] ^= 1
	f.must(os.WriteFile(evil, data, 0o755))
	f.wantRefused(evil, "bgp", "does not match")
	f.verify(fixed)
	// Nothing runs on floors that cannot be read.
	f.must(os.WriteFile(f.path("floors"), []byte("damaged"), 0o600))
	f.wantRefused(fixed, "bgp", "version floors")
}

func TestSignedStoreIsDemanded(t *testing.T) {
	f := newFixture(t)
	root, err := elfsig.GenerateKey()
	f.must(err)
	path := f.install("m", childProgram, header())
	cfg := Config{Root: root.Public().(ed25519.PublicKey), Floors: trust.OpenFloors(f.path("floors"))}
	f.again(cfg)
	f.wantRefused(path, "bgp", "the store is not signed")
	f.must(trust.Sign(f.path("trust"), "2.0.0", root))
	f.verify(path)
	stranger, err := elfsig.GenerateKey()
	f.must(err)
	f.trust("stranger", stranger)
	f.wantRefused(path, "bgp", "signature does not match")
	f.must(os.Remove(f.path("trust/stranger.pem")))
	f.verify(path)
	// An older store, rightly signed, is one that knows less of revocations.
	f.must(trust.Sign(f.path("trust"), "1.9.0", root))
	f.wantRefused(path, "bgp", "older than")
	if s, floors, err := f.loader.Status(); err == nil || s != nil || len(floors) != 1 || floors[0].Version != "2.0.0" {
		t.Errorf("status %v, %v, %v", s, floors, err)
	}
	f.must(trust.Sign(f.path("trust"), "2.0.1", root))
	if s, _, err := f.loader.Status(); err != nil || s.Version() != "2.0.1" {
		t.Errorf("status %v", err)
	}
}

// A production store refuses what the development key signed.
func TestDevelopmentKey(t *testing.T) {
	f := newFixture(t)
	pem, err := os.ReadFile(f.path("trust/admin.pem"))
	f.must(err)
	f.must(os.WriteFile(f.path("trust/admin.pem"), elfsig.MarkDevelopment(pem), 0o644))
	path := f.install("m", childProgram, header())
	f.wantRefused(path, "bgp", "development key")
	f.must(os.WriteFile(f.path("trust/policy"), []byte("allow development\n"), 0o644))
	f.verify(path)
}

// Permissive runs what would be refused, and never calls it verified.
func TestPermissive(t *testing.T) {
	f := newFixture(t)
	good := f.install("good", childProgram, header())
	f.must(os.WriteFile(f.path("unsigned"), childProgram, 0o755))
	f.again(Config{Permissive: true})
	img := f.verify(f.path("unsigned"))
	if !errors.Is(img.Unverified, elfsig.ErrUnsigned) || img.Signed.Name != "" {
		t.Errorf("%+v", img)
	}
	if e := f.lastVerdict(); e.Verdict != audit.Permitted || e.Reason != "unsigned" {
		t.Errorf("%+v", e)
	}
	if out, end := f.run(img, Options{Args: []string{"exit=4"}}); !strings.Contains(out, "build 1") || end != "exit status 4" {
		t.Errorf("%q, %q", out, end)
	}
	if img := f.verify(good); img.Unverified != nil {
		t.Error(img.Unverified)
	}
	f.must(os.RemoveAll(f.path("trust")))
	if img := f.verify(good); !errors.Is(img.Unverified, trust.ErrStore) {
		t.Error(img.Unverified)
	}
	// What ran by permission is not held as verified.
	f.must(os.Mkdir(f.path("trust"), 0o755))
	f.trust("admin", f.key)
	if img := f.verify(f.path("unsigned")); img.Unverified == nil || f.lastVerdict().Cached {
		t.Errorf("%+v", f.lastVerdict())
	}
	if _, err := f.loader.Verify(f.path("none"), "bgp"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if e := f.lastVerdict(); e.Verdict != audit.Denied || e.Reason != "missing" {
		t.Errorf("%+v", e)
	}
}
