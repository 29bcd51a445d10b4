// Package trust holds which keys may sign modules.
//
// A store is a directory:
//
//	NAME.pem   a public key (Ed25519, SubjectPublicKeyInfo); NAME is its label
//	revoked    optional: what is refused although a trusted key signed it
//
// Each line of "revoked" is a kind, a space and hexadecimal text; '#' begins a
// comment:
//
//	key 0123456789abcdef      a key, by its id
//	build 5f1c…               a build, by its id
//	signature 9a…             one signature, by its 128 digits
//
// It fails closed: Load returns no store when anything in the directory cannot
// be read and understood, and revocations are in before a key can be found. A
// Store does not change; any goroutine may use it.
package trust

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"godwit/security/elfsig"
)

// RevokedFile is the name of the revocation list in a store.
const RevokedFile = "revoked"

// Bounds of a store.
const (
	maxKeys    = 1024
	maxRevoked = 16 << 20 // bytes of the revocation list
)

// Errors of Check.
var (
	ErrUntrusted = errors.New("key not trusted")
	ErrRevoked   = errors.New("revoked")
)

// Key is a trusted public key.
type Key struct {
	ID     elfsig.KeyID
	Label  string // file name without ".pem"
	Public ed25519.PublicKey
}

// Store is a set of trusted keys and revocations.
type Store struct {
	keys       map[elfsig.KeyID]Key
	revokedKey map[elfsig.KeyID]bool
	builds     map[string]bool
	signatures map[string]bool
}

// Load reads the store in the directory.
func Load(dir string) (*Store, error) {
	if err := checkMode(dir); err != nil {
		return nil, fmt.Errorf("trust store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("trust store: %w", err)
	}
	if len(entries) > maxKeys+1 {
		return nil, fmt.Errorf("trust store %s: more than %d files", dir, maxKeys+1)
	}
	s := &Store{
		keys: map[elfsig.KeyID]Key{}, revokedKey: map[elfsig.KeyID]bool{},
		builds: map[string]bool{}, signatures: map[string]bool{},
	}
	if err := s.loadRevoked(filepath.Join(dir, RevokedFile)); err != nil {
		return nil, fmt.Errorf("trust store: %w", err)
	}
	for _, e := range entries {
		if e.Name() == RevokedFile {
			continue
		}
		if err := s.loadKey(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("trust store: %w", err)
		}
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("trust store %s: no key (want NAME.pem)", dir)
	}
	return s, nil
}

// checkMode refuses what anybody may write.
func checkMode(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%s: writable by everybody (mode %04o)", path, st.Mode().Perm())
	}
	return nil
}

func (s *Store) loadKey(path string) error {
	label, ok := strings.CutSuffix(filepath.Base(path), ".pem")
	if !ok || label == "" {
		return fmt.Errorf("%s: want NAME.pem or %q", path, RevokedFile)
	}
	if err := checkMode(path); err != nil {
		return err
	}
	pub, err := elfsig.ReadPublicKeyFile(path)
	if err != nil {
		return err
	}
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		return err
	}
	if other, dup := s.keys[id]; dup {
		return fmt.Errorf("%s: the same key as %s.pem", path, other.Label)
	}
	s.keys[id] = Key{ID: id, Label: label, Public: pub}
	return nil
}

func (s *Store) loadRevoked(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := checkMode(path); err != nil {
		return err
	}
	data, err := elfsig.ReadSmallFile(path, maxRevoked)
	if err != nil {
		return err
	}
	if err := s.parseRevoked(data); err != nil {
		return fmt.Errorf("%s:%w", path, err)
	}
	return nil
}

func (s *Store) parseRevoked(data []byte) error {
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) != 2 {
			return fmt.Errorf("%d: want a kind and hexadecimal text", n)
		}
		if err := s.revoke(words[0], strings.ToLower(words[1])); err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf(" %w", err)
	}
	return nil
}

func (s *Store) revoke(kind, value string) error {
	raw, err := hex.DecodeString(value)
	if err != nil && kind != "build" {
		return fmt.Errorf("%q: not hexadecimal", value)
	}
	switch kind {
	case "key":
		id, err := elfsig.ParseKeyID(value)
		if err != nil {
			return err
		}
		s.revokedKey[id] = true
	case "build":
		s.builds[value] = true
	case "signature":
		if len(raw) != ed25519.SignatureSize {
			return fmt.Errorf("signature: %d digits, want %d", len(value), 2*ed25519.SignatureSize)
		}
		s.signatures[value] = true
	default:
		return fmt.Errorf("%q: want key, build or signature", kind)
	}
	return nil
}

// Keys returns the trusted keys that are not revoked, by label.
func (s *Store) Keys() []Key {
	var keys []Key
	for id, k := range s.keys {
		if !s.revokedKey[id] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Label, b.Label) })
	return keys
}

// Check returns the key that a signature must be verified with, or why the
// signature is refused whatever it verifies to.
func (s *Store) Check(sig *elfsig.Signed) (Key, error) {
	k, ok := s.keys[sig.KeyID]
	switch {
	case s.revokedKey[sig.KeyID]:
		return Key{}, fmt.Errorf("key %s: %w", sig.KeyID, ErrRevoked)
	case !ok:
		return Key{}, fmt.Errorf("key %s: %w", sig.KeyID, ErrUntrusted)
	case s.builds[sig.BuildID]:
		return Key{}, fmt.Errorf("build %s: %w", sig.BuildID, ErrRevoked)
	case s.signatures[sig.Signature()]:
		return Key{}, fmt.Errorf("signature %.16s…: %w", sig.Signature(), ErrRevoked)
	}
	return k, nil
}
