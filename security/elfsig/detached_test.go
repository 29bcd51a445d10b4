package elfsig

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func checkDetached(data, block []byte, pub ed25519.PublicKey) error {
	s, err := ParseDetached(block, int64(len(data)))
	if err != nil {
		return err
	}
	return s.Verify(bytes.NewReader(data), pub)
}

func detached(t testing.TB, data []byte) ([]byte, ed25519.PublicKey) {
	t.Helper()
	key, pub := testKey(t)
	block, err := SignDetached(data, Header{Role: "config", Name: "r1", Version: "1.0.0"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return block, pub
}

// Every byte of the file and of the signature counts, and so does its length.
func TestDetachedCoversEveryByte(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("system: {hostname: r1}\n"), bytes.Repeat([]byte("x"), digestChunk+7)} {
		block, pub := detached(t, data)
		if err := checkDetached(data, block, pub); err != nil {
			t.Fatal(err)
		}
		for i := range block {
			bad := bytes.Clone(block)
			bad[i] ^= 1
			if err := checkDetached(data, bad, pub); err == nil {
				t.Errorf("signature byte %d changed: accepted", i)
			}
		}
		for i := 0; i < len(data); i += 1 + len(data)/40 {
			bad := bytes.Clone(data)
			bad[i] ^= 0x80
			if err := checkDetached(bad, block, pub); !errors.Is(err, ErrBadSignature) {
				t.Errorf("byte %d changed: %v", i, err)
			}
		}
		if err := checkDetached(append(bytes.Clone(data), 0), block, pub); !errors.Is(err, ErrBadSignature) {
			t.Errorf("a byte more: %v", err)
		}
		if len(data) > 0 && checkDetached(data[1:], block, pub) == nil {
			t.Error("a byte less: accepted")
		}
	}
}

// A detached signature over the bytes that an in-file one covers is not one for
// the file, nor the reverse: the contexts differ.
func TestSignaturesDoNotMix(t *testing.T) {
	data := signed(t)
	s, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	_, pub := testKey(t)
	block := data[s.off-offSignature : s.off+sigSize]
	if err := checkDetached(data[:s.off-offSignature], block, pub); err == nil {
		t.Error("a module's section was taken for a detached signature")
	}
	if len(contextELF) != len(contextDetached) || contextELF == contextDetached {
		t.Error("contexts")
	}
}

func TestDetachedFiles(t *testing.T) {
	dir := t.TempDir()
	path, sig := filepath.Join(dir, "f"), filepath.Join(dir, "f"+DetachedSuffix)
	write(t, path, []byte("hello"))
	key, pub := testKey(t)
	h := Header{Role: "script", Name: "f", Version: "1.0.0"}
	if err := SignFileDetached(path, sig, h, key); err != nil {
		t.Fatal(err)
	}
	find := func(*Signed) (ed25519.PublicKey, error) { return pub, nil }
	if s, err := VerifyFileDetached(path, sig, find); err != nil || s.Role != "script" || len(s.BuildID) != 40 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := ParseFileDetached(path, sig); err != nil || s.Name != "f" {
		t.Errorf("%+v, %v", s, err)
	}
	write(t, path, []byte("hellO"))
	if _, err := VerifyFileDetached(path, sig, find); !errors.Is(err, ErrBadSignature) {
		t.Errorf("changed file: %v", err)
	}
	write(t, sig, []byte("short"))
	if _, err := VerifyFileDetached(path, sig, find); !errors.Is(err, ErrFormat) {
		t.Errorf("short signature: %v", err)
	}
}

func FuzzParseDetached(f *testing.F) {
	block, pub := detached(f, []byte("data"))
	f.Add(block, int64(4))
	f.Add(block[:100], int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		s, err := ParseDetached(b, size)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Header.encode()[:offSignature], b[:offSignature]) {
			t.Error("accepted what it does not write")
		}
		if s.Verify(bytes.NewReader([]byte("data")), pub) == nil && !(bytes.Equal(b, block) && size == 4) {
			t.Error("another signature verifies")
		}
	})
}

// Encrypted keys go to openssl and back.
func TestEncryptedKeysWithOpenSSL(t *testing.T) {
	key, _ := testKey(t)
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	ours, err := EncryptPrivateKey(key, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !IsEncrypted(ours) {
		t.Error("not encrypted")
	}
	write(t, file("ours"), ours)
	plain, err := exec.Command("openssl", "pkey", "-in", file("ours"), "-passin", "pass:correct horse").Output()
	if err != nil {
		t.Fatalf("openssl cannot read our key: %v", err)
	}
	if got, err := DecodePrivateKey(plain, ""); err != nil || !got.Equal(key) {
		t.Errorf("through openssl: %v", err)
	}
	write(t, file("plain"), plain)
	theirs, err := exec.Command("openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "5000", "-in", file("plain"), "-passout", "pass:secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodePrivateKey(theirs, "secret"); err != nil || !got.Equal(key) {
		t.Errorf("openssl's key: %v", err)
	}
	for _, p := range []string{"", "Secret"} {
		if _, err := DecodePrivateKey(theirs, p); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", p, err)
		}
	}
	if _, err := EncryptPrivateKey(key, ""); err == nil {
		t.Error("empty passphrase accepted")
	}
	write(t, file("enc"), theirs)
	if err := os.Chmod(file("enc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivateKeyFile(file("enc"), nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("nobody to ask: %v", err)
	}
	if got, err := ReadPrivateKeyFile(file("enc"), func() (string, error) { return "secret", nil }); err != nil || !got.Equal(key) {
		t.Errorf("asked: %v", err)
	}
}

func FuzzDecryptPBES2(f *testing.F) {
	f.Add([]byte("\x30\x00"), "x")
	f.Fuzz(func(_ *testing.T, der []byte, pass string) {
		// Hostile parameters may not cost more than the bound; the fuzzer's
		// inputs rarely pass the syntax.
		_, _ = decryptPBES2(der, pass)
	})
}

func TestDevelopmentMark(t *testing.T) {
	key, pub := testKey(t)
	secret, err := EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	open, err := EncodePublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	if IsDevelopment(open) || !IsDevelopment(MarkDevelopment(open)) {
		t.Error("mark")
	}
	if got, err := DecodePrivateKey(MarkDevelopment(secret), ""); err != nil || !got.Equal(key) {
		t.Errorf("marked private key: %v", err)
	}
	if got, err := DecodePublicKey(MarkDevelopment(open)); err != nil || !got.Equal(pub) {
		t.Errorf("marked public key: %v", err)
	}
}
