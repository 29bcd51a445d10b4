// Package trust holds which keys may sign modules.
//
// A store is a directory:
//
//	NAME.pem   a public key (Ed25519, SubjectPublicKeyInfo); NAME is its label
//	policy     optional: what keys may be used for
//	revoked    optional: what is refused although a trusted key signed it
//	store.sig  optional: signature of the store by the root key
//
// Lines of "policy"; '#' begins a comment:
//
//	roles NAME ROLE,ROLE      NAME.pem signs these roles only (else all)
//	allow development         keys that are marked as development keys count
//	file sha256:HEX           a file with this fs-verity digest may be executed beside the modules
//
// Each line of "revoked" is a kind, a space and hexadecimal text:
//
//	key 0123456789abcdef      a key, by its id
//	build 5f1c…               a build, by its id
//	signature 9a…             one signature, by its 128 digits
//
// A router that has a root key takes a store only with the root's signature
// over all its other files, and no store of a lower version than it has had
// (see Floors). Install replaces a store in one step.
//
// It fails closed: Load returns no store when anything in the directory cannot
// be read and understood, and revocations are in before a key can be found. All
// files are read once, through one descriptor of the directory; what is parsed
// is what the signature was checked over. A Store does not change; any
// goroutine may use it.
package trust

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godwit/security/elfsig"
)

// Files of a store that are not keys.
const (
	RevokedFile   = "revoked"
	PolicyFile    = "policy"
	SignatureFile = "store.sig"
)

// Errors of Check and Load.
var (
	ErrStore       = errors.New("trust store")
	ErrUntrusted   = errors.New("key not trusted")
	ErrRevoked     = errors.New("revoked")
	ErrKeyRole     = errors.New("key may not sign this role")
	ErrDevelopment = errors.New("development key, which this store does not allow")
)

// Key is a trusted public key.
type Key struct {
	ID          elfsig.KeyID
	Label       string   // file name without ".pem"
	Roles       []string // it may sign; empty: all
	Development bool     // marked as such
	Public      ed25519.PublicKey
}

// Store is a set of trusted keys and revocations.
type Store struct {
	files       map[string][]byte
	version     string // signed; empty: the store has no signature that was checked
	keys        map[elfsig.KeyID]Key
	development bool // development keys count
	revokedKey  map[elfsig.KeyID]bool
	builds      map[string]bool
	signatures  map[string]bool
	digests     []Digest
}

// Digest is a fs-verity file digest (SHA-256), as "fsverity measure" prints it.
type Digest [sha256.Size]byte

// Load reads the store in the directory. With a root key the store must be
// signed by it; without, a signature is not looked at.
func Load(dir string, root ed25519.PublicKey) (*Store, error) {
	s, err := load(dir, root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return s, nil
}

func load(dir string, root ed25519.PublicKey) (*Store, error) {
	files, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		files: files, keys: map[elfsig.KeyID]Key{}, revokedKey: map[elfsig.KeyID]bool{},
		builds: map[string]bool{}, signatures: map[string]bool{},
	}
	if root != nil {
		if s.version, err = checkSignature(files, root); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, SignatureFile, err)
		}
	}
	if err := lines(files[RevokedFile], s.revoke); err != nil {
		return nil, fmt.Errorf("%s/%s:%w", dir, RevokedFile, err)
	}
	roles := map[string][]string{}
	if err := lines(files[PolicyFile], func(w []string) error { return s.policy(w, roles) }); err != nil {
		return nil, fmt.Errorf("%s/%s:%w", dir, PolicyFile, err)
	}
	for _, name := range sorted(files) {
		if label, ok := strings.CutSuffix(name, keySuffix); ok {
			if err := s.addKey(label, files[name], roles[label]); err != nil {
				return nil, fmt.Errorf("%s/%s: %w", dir, name, err)
			}
			delete(roles, label)
		}
	}
	for label := range roles {
		return nil, fmt.Errorf("%s/%s: roles of %q, which is no key", dir, PolicyFile, label)
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("%s: no key (want NAME.pem)", dir)
	}
	return s, nil
}

func (s *Store) addKey(label string, data []byte, roles []string) error {
	pub, err := elfsig.DecodePublicKey(data)
	if err != nil {
		return err
	}
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		return err
	}
	if other, dup := s.keys[id]; dup {
		return fmt.Errorf("the same key as %s.pem", other.Label)
	}
	s.keys[id] = Key{ID: id, Label: label, Roles: roles, Development: elfsig.IsDevelopment(data), Public: pub}
	return nil
}

// lines calls f with the words of each line that has any.
func lines(data []byte, f func(words []string) error) error {
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if err := f(words); err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf(" %w", err)
	}
	return nil
}

func (s *Store) policy(words []string, roles map[string][]string) error {
	switch {
	case len(words) == 2 && words[0] == "allow" && words[1] == "development":
		s.development = true
	case len(words) == 3 && words[0] == "roles":
		if _, twice := roles[words[1]]; twice {
			return fmt.Errorf("roles of %q twice", words[1])
		}
		for r := range strings.SplitSeq(words[2], ",") {
			if r == "" {
				return errors.New("empty role")
			}
			roles[words[1]] = append(roles[words[1]], r)
		}
	case len(words) == 2 && words[0] == "file":
		text, ok := strings.CutPrefix(words[1], "sha256:")
		raw, err := hex.DecodeString(text)
		if !ok || err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("%q: want sha256: and %d hexadecimal digits", words[1], 2*sha256.Size)
		}
		s.digests = append(s.digests, Digest(raw))
	default:
		return fmt.Errorf("%q: want \"file sha256:HEX\", \"roles NAME ROLE,ROLE\" or \"allow development\"", strings.Join(words, " "))
	}
	return nil
}

func (s *Store) revoke(words []string) error {
	if len(words) != 2 {
		return errors.New("want a kind and hexadecimal text")
	}
	kind, value := words[0], strings.ToLower(words[1])
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

// Version is the version that the root key signed; empty: Load got no root key.
func (s *Store) Version() string { return s.version }

// AllowsDevelopment tells whether development keys count.
func (s *Store) AllowsDevelopment() bool { return s.development }

// Digests returns the files that may be executed beside the modules where the
// kernel enforces, and can read digests.
func (s *Store) Digests() []Digest { return s.digests }

// Revocations returns how many keys, builds and signatures are revoked.
func (s *Store) Revocations() int { return len(s.revokedKey) + len(s.builds) + len(s.signatures) }

// Revoked tells whether a key is.
func (s *Store) Revoked(id elfsig.KeyID) bool { return s.revokedKey[id] }

// Keys returns all keys of the store by label, the revoked ones too.
func (s *Store) Keys() []Key {
	var keys []Key
	for _, k := range s.keys {
		keys = append(keys, k)
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
	case k.Development && !s.development:
		return Key{}, fmt.Errorf("key %s (%s): %w", sig.KeyID, k.Label, ErrDevelopment)
	case len(k.Roles) > 0 && !slices.Contains(k.Roles, sig.Role):
		return Key{}, fmt.Errorf("key %s (%s), role %q: %w", sig.KeyID, k.Label, sig.Role, ErrKeyRole)
	case s.builds[sig.BuildID]:
		return Key{}, fmt.Errorf("build %s: %w", sig.BuildID, ErrRevoked)
	case s.signatures[sig.Signature()]:
		return Key{}, fmt.Errorf("signature %.16s…: %w", sig.Signature(), ErrRevoked)
	}
	return k, nil
}
