package module

import (
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"godwit/security/elfsig"
)

// benchSize is the size of a large module in bytes.
const benchSize = 35_000_000

// BenchmarkStart is the time from the path of a 35 MB file to the end of the
// program in it, which ends at once: cold (copy, seal, digest), warm (the image
// is held), and exec (the same file without any of it).
func BenchmarkStart(b *testing.B) {
	path, trustDir := bigModule(b)
	run := func(l *Loader) error {
		img, err := l.Verify(path, "bgp")
		if err != nil {
			return err
		}
		p, err := l.Start(img, Options{})
		if err != nil {
			return errors.Join(err, img.Close())
		}
		_, err = p.Wait()
		return errors.Join(err, img.Close())
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			l := New(Config{Trust: trustDir, Now: time.Now})
			if err := errors.Join(run(l), l.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		l := New(Config{Trust: trustDir, Now: time.Now})
		defer l.Close()
		if err := run(l); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := run(l); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("exec", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(path)
			cmd.Dir, cmd.Env = "/", cleanEnv
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// bigModule installs a signed module of benchSize bytes and a trust store.
func bigModule(b *testing.B) (path, trustDir string) {
	dir := b.TempDir()
	key, err := elfsig.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	pub, err := elfsig.EncodePublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		b.Fatal(err)
	}
	program := make([]byte, benchSize)
	copy(program, childProgram)
	data, err := elfsig.Sign(program, header(), key)
	if err != nil {
		b.Fatal(err)
	}
	path, trustDir = filepath.Join(dir, "m"), filepath.Join(dir, "trust")
	err = errors.Join(os.Mkdir(trustDir, 0o755), os.WriteFile(filepath.Join(trustDir, "k.pem"), pub, 0o644), os.WriteFile(path, data, 0o755))
	if err != nil {
		b.Fatal(err)
	}
	return path, trustDir
}
