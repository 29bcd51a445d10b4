package signing

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"godwit/security/elfsig"
)

var ceremony = regexp.MustCompile("(?s)<!-- ceremony -->\n```sh\n(.*?)```")

// The key ceremony of the manual works as it is written.
func TestTheManualsCeremony(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	block := ceremony.FindSubmatch(manual)
	if block == nil {
		t.Fatal("no ceremony in the manual")
	}
	b := newBench(t)
	t.Chdir(b.dir)
	for name, text := range map[string]string{"passphrase": "correct horse\n", "notes.txt": "hello"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename("prog", "godwit-linecard"); err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(block[1])) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), "godwit ")
		if !ok {
			continue
		}
		commands++
		if out, err := b.run(words); err != nil {
			t.Fatalf("%s: %v\n%s", words, err, out)
		}
	}
	if commands < 10 {
		t.Errorf("only %d commands", commands)
	}
	// The secret keys are protected, as openssl sees it too.
	for _, key := range []string{"root.key", "release.key"} {
		data, err := os.ReadFile(key)
		if err != nil || !elfsig.IsEncrypted(data) {
			t.Errorf("%s is not encrypted: %v", key, err)
		}
		if out, err := exec.Command("openssl", "pkey", "-noout", "-in", key, "-passin", "file:passphrase").CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", key, err, out)
		}
	}
	// What the ceremony set up holds.
	b.ok("key list --trust trust --trust-root root.pem", "linecard,bgp,router", "version 1.1.0")
	b.fails("module verify --trust trust --trust-root release.pem godwit-linecard", "the root key is")
	b.fails("key seal --trust store --key root.key --version 1.2.0 --passphrase-file notes.txt", "wrong passphrase")
	b.ok("key revoke --trust store key "+keyOf(t, "release.pem"), "does not match any more")
	b.fails("key install --trust trust --trust-root root.pem store", "does not match")
	b.ok("key seal --trust store --key root.key --version 1.2.0 --passphrase-file passphrase", "1.2.0")
	b.ok("key install --trust trust --trust-root root.pem store", "2 revocations")
	b.fails("module verify --trust trust --trust-root root.pem godwit-linecard", "revoked")
	b.ok("key list --trust trust", "REVOKED")
	b.ok("key seal --trust store --key root.key --version 1.0.5 --passphrase-file passphrase", "1.0.5")
	b.fails("key install --trust trust --trust-root root.pem store", "older than")
}

func keyOf(t *testing.T, path string) string {
	t.Helper()
	pub, err := elfsig.ReadPublicKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// A development key is refused where the store does not say otherwise.
func TestDevelopmentKeys(t *testing.T) {
	b := newBench(t)
	b.ok("key generate --development @/dev", "key ")
	b.ok("module sign --key @/dev.key --role bgp --version 1.0.0 @/prog")
	b.ok("key trust --trust @/production @/dev.pem", "is trusted")
	b.ok("key list --trust @/production", "REFUSED")
	b.fails("module verify --trust @/production @/prog", "development key")
	b.ok("key trust --trust @/lab --allow-development @/dev.pem")
	b.ok("module verify --trust @/lab @/prog", "good signature")
	b.fails("key trust --trust @/lab @/dev.pem", "there already")
	b.fails("key trust --trust @/lab --label again @/dev.pem", "the same key")
	b.fails("key trust --trust @/lab --label a/b @/dev.pem", "label")
	b.fails("key revoke --trust @/lab key 12", "key id")
	b.fails("key revoke --trust @/none key 0011223344556677", "no such file")
	b.ok("key install --trust @/router @/lab", "1 keys, 0 revocations, not signed")
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{"a b\nrest": "a b", "x\r\n": "x", "y": "y", "": ""} {
		if got, err := firstLine(bytes.NewBufferString(in)); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
