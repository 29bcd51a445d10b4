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
	s, err := Load(dir)
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
	if keys := s.Keys(); len(keys) != 1 || keys[0].ID != id {
		t.Errorf("keys %v", keys)
	}
	write(t, filepath.Join(dir, RevokedFile), []byte("build b00c\n"))
	if s, err = Load(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(signedBy(id)); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked build: %v", err)
	}
	write(t, filepath.Join(dir, RevokedFile), []byte("signature "+strings.Repeat("00", 64)))
	if s, err = Load(dir); err != nil {
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
		"word alone":          {list("key"), "revoked:2: want a kind"},
		"unknown kind":        {list("user 00"), "want key, build or signature"},
		"short key id":        {list("key 0011"), "key id"},
		"key not hexadecimal": {list("key xyz"), "not hexadecimal"},
		"signature too short": {list("signature 00"), "want 128"},
		"line beyond measure": {list("key " + strings.Repeat("0", 1<<17)), "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "trust")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "a.pem"), pem)
			if _, err := Load(dir); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			if s, err := Load(dir); s != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("store %v, error %v, want %q", s, err, tt.want)
			}
		})
	}
}

func list(line string) func(dir string) error {
	return func(dir string) error { return os.WriteFile(dir+"/revoked", []byte("# list\n"+line+"\n"), 0o644) }
}

func FuzzRevoked(f *testing.F) {
	f.Add([]byte("key 0123456789abcdef # old\nbuild 00\n"))
	f.Add([]byte("signature " + strings.Repeat("ab", 64)))
	f.Add([]byte("key\n#\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Store{revokedKey: map[elfsig.KeyID]bool{}, builds: map[string]bool{}, signatures: map[string]bool{}}
		if err := s.parseRevoked(data); err != nil {
			return
		}
		// Each line that says something was taken.
		lines := 0
		for line := range strings.Lines(string(data)) {
			text, _, _ := strings.Cut(line, "#")
			if strings.TrimSpace(text) != "" {
				lines++
			}
		}
		if got := len(s.revokedKey) + len(s.builds) + len(s.signatures); got > lines || got == 0 && lines > 0 {
			t.Errorf("%d lines, %d revocations", lines, got)
		}
	})
}
