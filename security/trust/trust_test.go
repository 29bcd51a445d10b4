package trust

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godwit/security/elfsig"
)

func newKey(t *testing.T) (ed25519.PublicKey, elfsig.KeyID, []byte) {
	t.Helper()
	key, err := elfsig.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub := key.Public().(ed25519.PublicKey)
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := elfsig.EncodePublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pub, id, pem
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func signedBy(id elfsig.KeyID) *elfsig.Signed {
	return &elfsig.Signed{Header: elfsig.Header{KeyID: id, BuildID: "b00c"}}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	pub, id, pem := newKey(t)
	_, other, otherPEM := newKey(t)
	_, stranger, _ := newKey(t)
	write(t, filepath.Join(dir, "release.pem"), pem)
	write(t, filepath.Join(dir, "old.pem"), otherPEM)
	write(t, filepath.Join(dir, RevokedFile), []byte("# compromised\n\nkey "+strings.ToUpper(other.String())+" # by name\n"))
	s, err := Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := s.Check(signedBy(id)); err != nil || k.Label != "release" || !k.Public.Equal(pub) || k.ID != id {
		t.Errorf("trusted key: %+v, %v", k, err)
	}
	if _, err := s.Check(signedBy(other)); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked key: %v", err)
	}
	if _, err := s.Check(signedBy(stranger)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("unknown key: %v", err)
	}
	if keys := s.Keys(); len(keys) != 2 || keys[1].ID != id || !s.Revoked(other) || s.Revoked(id) || s.Revocations() != 1 {
		t.Errorf("keys %v", keys)
	}
	write(t, filepath.Join(dir, RevokedFile), []byte("build b00c\n"))
	if s, err = Load(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(signedBy(id)); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked build: %v", err)
	}
	write(t, filepath.Join(dir, RevokedFile), []byte("signature "+strings.Repeat("00", 64)))
	if s, err = Load(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(signedBy(id)); !errors.Is(err, ErrRevoked) { // its signature is all zero
		t.Errorf("revoked signature: %v", err)
	}
}

// Whatever cannot be understood leaves no store at all.
func TestFailsClosed(t *testing.T) {
	_, _, pem := newKey(t)
	for name, tt := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"missing":             {os.RemoveAll, "no such file"},
		"no key":              {func(dir string) error { return os.Remove(dir + "/a.pem") }, "no key"},
		"garbage key":         {func(dir string) error { return os.WriteFile(dir+"/b.pem", []byte("x"), 0o644) }, "no PEM"},
		"foreign file":        {func(dir string) error { return os.WriteFile(dir+"/b.txt", pem, 0o644) }, "want NAME.pem"},
		"nameless key":        {func(dir string) error { return os.WriteFile(dir+"/.pem", pem, 0o644) }, "want NAME.pem"},
		"directory":           {func(dir string) error { return os.Mkdir(dir+"/b.pem", 0o755) }, "not a regular file"},
		"the same key twice":  {func(dir string) error { return os.WriteFile(dir+"/b.pem", pem, 0o644) }, "the same key"},
		"key all may write":   {func(dir string) error { return os.Chmod(dir+"/a.pem", 0o666) }, "writable by everybody"},
		"store all may write": {func(dir string) error { return os.Chmod(dir, 0o777) }, "writable by everybody"},
		"list all may write": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/revoked", nil, 0o644), os.Chmod(dir+"/revoked", 0o666))
		}, "writable by everybody"},
		"list is a directory": {func(dir string) error { return os.Mkdir(dir+"/revoked", 0o755) }, "not a regular file"},
		"list to nowhere":     {func(dir string) error { return os.Symlink("/nonexistent", dir+"/revoked") }, "no such file"},
		"word alone":          {revokes("key"), "revoked:2: want a kind"},
		"unknown kind":        {revokes("user 00"), "want key, build or signature"},
		"short key id":        {revokes("key 0011"), "key id"},
		"key not hexadecimal": {revokes("key xyz"), "not hexadecimal"},
		"signature too short": {revokes("signature 00"), "want 128"},
		"unknown policy":      {policy("deny all"), "policy:1: "},
		"roles of nobody":     {policy("roles b bgp"), "no key"},
		"roles twice":         {policy("roles a bgp\nroles a router"), "policy:2: roles of"},
		"line beyond measure": {revokes("key " + strings.Repeat("0", 1<<17)), "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "trust")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "a.pem"), pem)
			if _, err := Load(dir, nil); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			if s, err := Load(dir, nil); s != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("store %v, error %v, want %q", s, err, tt.want)
			}
		})
	}
}

func revokes(line string) func(dir string) error {
	return func(dir string) error { return os.WriteFile(dir+"/revoked", []byte("# list\n"+line+"\n"), 0o644) }
}

func FuzzRevoked(f *testing.F) {
	f.Add([]byte("key 0123456789abcdef # old\nbuild 00\n"))
	f.Add([]byte("signature " + strings.Repeat("ab", 64)))
	f.Add([]byte("key\n#\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Store{revokedKey: map[elfsig.KeyID]bool{}, builds: map[string]bool{}, signatures: map[string]bool{}}
		if err := lines(data, s.revoke); err != nil {
			return
		}
		// Each line that says something was taken.
		said := 0
		for line := range strings.Lines(string(data)) {
			text, _, _ := strings.Cut(line, "#")
			if strings.TrimSpace(text) != "" {
				said++
			}
		}
		if got := len(s.revokedKey) + len(s.builds) + len(s.signatures); got > said || got == 0 && said > 0 {
			t.Errorf("%d lines, %d revocations", said, got)
		}
	})
}

func policy(text string) func(dir string) error {
	return func(dir string) error { return os.WriteFile(dir+"/policy", []byte(text), 0o644) }
}

func TestKeyRolesAndDevelopmentKeys(t *testing.T) {
	dir := t.TempDir()
	_, id, pem := newKey(t)
	_, dev, devPEM := newKey(t)
	write(t, filepath.Join(dir, "cards.pem"), pem)
	write(t, filepath.Join(dir, "dev.pem"), elfsig.MarkDevelopment(devPEM))
	write(t, filepath.Join(dir, PolicyFile), []byte("roles cards linecard,bpf # not the router\n"))
	as := func(id elfsig.KeyID, role string) error {
		t.Helper()
		s, err := Load(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		sig := signedBy(id)
		sig.Role = role
		_, err = s.Check(sig)
		return err
	}
	if err := as(id, "linecard"); err != nil {
		t.Error(err)
	}
	if err := as(id, "router"); !errors.Is(err, ErrKeyRole) {
		t.Errorf("foreign role: %v", err)
	}
	if err := as(dev, "bgp"); !errors.Is(err, ErrDevelopment) {
		t.Errorf("development key: %v", err)
	}
	write(t, filepath.Join(dir, PolicyFile), []byte("allow development\n"))
	if err := as(dev, "bgp"); err != nil {
		t.Errorf("development key where it is allowed: %v", err)
	}
}

// signedStore is a store with one key, signed by a root key.
func signedStore(t *testing.T, root ed25519.PrivateKey, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "trust")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, pem := newKey(t)
	write(t, filepath.Join(dir, "a.pem"), pem)
	write(t, filepath.Join(dir, PolicyFile), []byte("roles a bgp\n"))
	if err := Sign(dir, version, root); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSignedStore(t *testing.T) {
	key, err := elfsig.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	root := key.Public().(ed25519.PublicKey)
	for name, tt := range map[string]struct {
		do   func(dir string) error
		want error
	}{
		"nothing":       {func(string) error { return nil }, nil},
		"key added":     {func(dir string) error { _, _, pem := newKey(t); return os.WriteFile(dir+"/b.pem", pem, 0o644) }, elfsig.ErrBadSignature},
		"key removed":   {func(dir string) error { return os.Remove(dir + "/a.pem") }, elfsig.ErrBadSignature},
		"key renamed":   {func(dir string) error { return os.Rename(dir+"/a.pem", dir+"/b.pem") }, elfsig.ErrBadSignature},
		"policy gone":   {func(dir string) error { return os.Remove(dir + "/policy") }, elfsig.ErrBadSignature},
		"policy wider":  {policy("allow development"), elfsig.ErrBadSignature},
		"revoked added": {revokes("key 0011223344556677"), elfsig.ErrBadSignature},
		"not signed":    {func(dir string) error { return os.Remove(dir + "/store.sig") }, ErrNoSignature},
		"cut":           {func(dir string) error { return os.Truncate(dir+"/store.sig", 1000) }, elfsig.ErrFormat},
	} {
		dir := signedStore(t, key, "1.0.0")
		if err := tt.do(dir); err != nil {
			t.Fatal(err)
		}
		s, err := Load(dir, root)
		if !errors.Is(err, tt.want) || err != nil && !errors.Is(err, ErrStore) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err == nil && s.Version() != "1.0.0" {
			t.Errorf("version %q", s.Version())
		}
	}
	stranger, _, _ := newKey(t)
	if _, err := Load(signedStore(t, key, "1.0.0"), stranger); err == nil || !strings.Contains(err.Error(), "the root key is") {
		t.Errorf("other root: %v", err)
	}
}

// A router reads the old store or the new one, never a mixture.
func TestInstall(t *testing.T) {
	key, err := elfsig.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	root := key.Public().(ed25519.PublicKey)
	to := filepath.Join(t.TempDir(), "trust")
	one, two := signedStore(t, key, "1.0.0"), signedStore(t, key, "1.1.0")
	if _, err := Install(one, to, root); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := Load(to, root); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 20 {
		if _, err := Install(two, to, root); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("read meanwhile: %v", err)
	}
	if _, err := Install(one, to, root); !errors.Is(err, ErrRollback) {
		t.Errorf("older store: %v", err)
	}
	if err := os.Remove(filepath.Join(two, SignatureFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(two, to, root); !errors.Is(err, ErrNoSignature) {
		t.Errorf("unsigned store: %v", err)
	}
	if s, err := Load(to, root); err != nil || s.Version() != "1.1.0" {
		t.Errorf("after refusals: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(to), ".trust-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFloors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floors")
	f := OpenFloors(path)
	if err := f.Check("bgp", "godwit-bgp", "0.0.1"); err != nil {
		t.Errorf("no floor yet: %v", err)
	}
	for _, v := range []string{"1.2.0", "1.1.0", "1.2.0"} { // it never goes down
		if err := f.Raise("bgp", "godwit-bgp", v); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Raise("router", "godwit-router", "2.0.0"); err != nil {
		t.Fatal(err)
	}
	f = OpenFloors(path) // another start
	for v, ok := range map[string]bool{"1.1.9": false, "1.2.0-rc.1": false, "1.2.0": true, "1.10.0": true} {
		if err := f.Check("bgp", "godwit-bgp", v); (err == nil) != ok || err != nil && !errors.Is(err, ErrRollback) {
			t.Errorf("%s: %v", v, err)
		}
	}
	if err := f.Check("linecard", "godwit-bgp", "0.0.1"); err != nil {
		t.Errorf("another role: %v", err)
	}
	if all, err := f.List(); err != nil || len(all) != 2 || all[0] != (Floor{"bgp", "godwit-bgp", "1.2.0"}) {
		t.Errorf("%v, %v", all, err)
	}
	write(t, path, []byte("bgp godwit-bgp new\n"))
	if err := f.Check("router", "other", "9.9.9"); err == nil {
		t.Error("a damaged file lets modules run")
	}
	if err := f.Raise("router", "other", "9.9.9"); err == nil {
		t.Error("a damaged file was overwritten")
	}
}

func FuzzFloors(f *testing.F) {
	f.Add([]byte("bgp godwit-bgp 1.0.0\n# x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseFloors(data)
		if err != nil {
			return
		}
		for k, v := range m {
			if k.role == "" || k.name == "" || elfsig.CheckVersion(v) != nil {
				t.Errorf("%v %q", k, v)
			}
		}
	})
}

// Files are listed by their fs-verity digests.
func TestDigests(t *testing.T) {
	dir := t.TempDir()
	key, err := elfsig.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := elfsig.EncodePublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a.pem"), pub)
	hex := strings.Repeat("0a", 32)
	write(t, filepath.Join(dir, PolicyFile), []byte("file sha256:"+hex+" # busybox\nfile sha256:"+strings.Repeat("ff", 32)+"\n"))
	s, err := Load(dir, nil)
	if err != nil || len(s.Digests()) != 2 || s.Digests()[0][31] != 10 || s.Digests()[1][0] != 255 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"file " + hex, "file sha512:" + hex, "file sha256:" + hex[1:], "file sha256:", "file", "file sha256:" + hex + " x", "file sha256:" + strings.Repeat("zz", 32)} {
		write(t, filepath.Join(dir, PolicyFile), []byte(bad+"\n"))
		if _, err := Load(dir, nil); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
