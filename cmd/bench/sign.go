package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"godwit/security/elfsig"
	"godwit/security/module"
	"godwit/security/trust"
)

// The module of "bench sign": a program that ends at once, made large.
const (
	signSize = 35_000_000 // bytes
	signRuns = 15
)

// digsigMillis is the time that the original DigSig took for a file, by the fit
// its authors published.
func digsigMillis(bytes int) float64 { return 1.394e-5*float64(bytes) + 0.815 }

// signBench is what "bench sign" works with.
type signBench struct{ path, trust, floors, pem string }

// benchSign measures verify and start of a large module against a plain exec of
// the same file, and openssl's digest and signature check.
func benchSign(r *report) error {
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b, err := newSignBench(dir)
	if err != nil {
		return err
	}
	warm := b.loader()
	defer warm.Close()
	if err := b.start(warm); err != nil {
		return err
	}
	var plain, cold, coldOver, warmed, warmOver, openssl, digsig []float64
	for range signRuns { // in turn, so that a slow moment hits all
		p, err := milliseconds(func() error { return exec.Command(b.path).Run() })
		if err != nil {
			return fmt.Errorf("plain exec: %w", err)
		}
		c, err := milliseconds(func() error {
			l := b.loader()
			return errors.Join(b.start(l), l.Close())
		})
		if err != nil {
			return fmt.Errorf("cold start: %w", err)
		}
		w, err := milliseconds(func() error { return b.start(warm) })
		if err != nil {
			return fmt.Errorf("warm start: %w", err)
		}
		o, err := milliseconds(b.openssl)
		if err != nil {
			return fmt.Errorf("openssl: %w", err)
		}
		plain, cold, warmed, openssl = append(plain, p), append(cold, c), append(warmed, w), append(openssl, o)
		coldOver, warmOver, digsig = append(coldOver, c-p), append(warmOver, w-p), append(digsig, digsigMillis(signSize))
	}
	r.progress("35 MB: exec %.1f ms, cold %.1f ms, warm %.1f ms, openssl %.1f ms, DigSig's fit %.0f ms", median(plain), median(cold), median(warmed), median(openssl), digsigMillis(signSize))
	return errors.Join(
		r.against("sign.cold", "ms", "less", cold, "exec", plain),
		r.against("sign.warm", "ms", "less", warmed, "exec", plain),
		r.against("sign.cold.overhead", "ms", "less", coldOver, "digsig-2003-fit", digsig),
		r.against("sign.cold.overhead.openssl", "ms", "less", coldOver, "openssl dgst -sha256 + pkeyutl -verify", openssl),
		r.figure("sign.warm.overhead", "ms", "less", warmOver),
	)
}

func milliseconds(f func() error) (float64, error) {
	begin := time.Now()
	err := f()
	return float64(time.Since(begin).Nanoseconds()) / 1e6, err
}

// newSignBench signs the file and makes the trust store.
func newSignBench(dir string) (*signBench, error) {
	b := &signBench{
		path: filepath.Join(dir, "module"), trust: filepath.Join(dir, "trust"),
		floors: filepath.Join(dir, "floors"), pem: filepath.Join(dir, "key.pem"),
	}
	key, err := elfsig.GenerateKey()
	if err != nil {
		return nil, err
	}
	pub, err := elfsig.EncodePublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	source := filepath.Join(dir, "main.go")
	if err := errors.Join(os.WriteFile(b.pem, pub, 0o644), os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600)); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-o", b.path, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build program: %w: %s", err, out)
	}
	program, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	large := make([]byte, signSize)
	copy(large, program)
	signed, err := elfsig.Sign(large, elfsig.Header{Role: "bench", Name: "bench", Version: "1.0.0", MinVersion: "1.0.0"}, key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.path, signed, 0o755); err != nil {
		return nil, err
	}
	if err := b.opensslFiles(key); err != nil {
		return nil, err
	}
	_, err = trust.AddKey(b.trust, b.pem, "bench", "bench", false)
	return b, err
}

// opensslFiles makes a message and its signature for openssl's part.
func (b *signBench) opensslFiles(key ed25519.PrivateKey) error {
	message := []byte("a digest of thirty-two bytes here")
	return errors.Join(os.WriteFile(b.path+".msg", message, 0o600), os.WriteFile(b.path+".rawsig", ed25519.Sign(key, message), 0o600))
}

func (b *signBench) loader() *module.Loader {
	return module.New(module.Config{Trust: b.trust, Floors: trust.OpenFloors(b.floors), Now: time.Now})
}

// start verifies and runs the module to its end.
func (b *signBench) start(l *module.Loader) error {
	img, err := l.Verify(b.path, "bench")
	if err != nil {
		return err
	}
	p, err := l.Start(img, module.Options{})
	if err != nil {
		return errors.Join(err, img.Close())
	}
	how, err := p.Wait()
	if err == nil && how != "exit status 0" {
		err = errors.New(how)
	}
	return errors.Join(err, img.Close())
}

// openssl digests the file and checks a signature: two processes.
func (b *signBench) openssl() error {
	if err := exec.Command("openssl", "dgst", "-sha256", b.path).Run(); err != nil {
		return err
	}
	return exec.Command("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", b.pem, "-rawin", "-in", b.path+".msg", "-sigfile", b.path+".rawsig").Run()
}
