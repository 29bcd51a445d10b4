package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"godwit/security/elfsig"
)

// Bounds of a store.
const (
	maxKeys     = 1024
	maxKeyFile  = 16 << 10 // bytes
	maxListFile = 16 << 20 // bytes of the revocation list and the policy
	keySuffix   = ".pem"
)

// ErrNoSignature is returned for a store that must be signed and is not.
var ErrNoSignature = errors.New("the store is not signed")

func sorted(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }

// maxReads bounds how often a store that is replaced while it is read is read again.
const maxReads = 10

// readFiles reads all files of a store: what one directory held, though the
// store may be replaced (and the old one removed) meanwhile.
func readFiles(dir string) (map[string][]byte, error) {
	for n := 1; ; n++ {
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		files, err := readDir(dir, d)
		replaced := isReplaced(dir, d)
		d.Close()
		if !replaced {
			return files, err
		}
		if n == maxReads {
			return nil, fmt.Errorf("%s: replaced again and again while it is read", dir)
		}
	}
}

// isReplaced tells whether the path is another directory than the open one now.
func isReplaced(dir string, d *os.File) bool {
	open, err := d.Stat()
	now, perr := os.Stat(dir)
	return err == nil && perr == nil && !os.SameFile(open, now)
}

func readDir(dir string, d *os.File) (map[string][]byte, error) {
	if err := checkMode(d); err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxKeys+3 {
		return nil, fmt.Errorf("%s: more than %d keys", dir, maxKeys)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		limit := int64(maxKeyFile)
		switch name := e.Name(); {
		case name == RevokedFile || name == PolicyFile:
			limit = maxListFile
		case name != SignatureFile && !isKeyFile(name):
			return nil, fmt.Errorf("%s/%s: want NAME.pem, %q, %q or %q", dir, name, RevokedFile, PolicyFile, SignatureFile)
		}
		if files[e.Name()], err = readFile(d, e.Name(), limit); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// isKeyFile: labels go into policies, manifests and logs as they are.
func isKeyFile(name string) bool {
	label, ok := strings.CutSuffix(name, keySuffix)
	return ok && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

func readFile(dir *os.File, name string, limit int64) ([]byte, error) {
	path := filepath.Join(dir.Name(), name)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := checkMode(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", path, limit)
	}
	return data, err
}

// checkMode refuses what anybody may write.
func checkMode(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%s: writable by everybody (mode %04o)", f.Name(), st.Mode().Perm())
	}
	return nil
}

// The signature of a store is a detached one, of role and name storeRole, over
// its manifest: a line "NAME BYTES SHA256" for each file but store.sig.
const storeRole = "trust"

func manifest(files map[string][]byte) []byte {
	var b bytes.Buffer
	for _, name := range sorted(files) {
		if name != SignatureFile {
			fmt.Fprintf(&b, "%s %d %x\n", name, len(files[name]), sha256.Sum256(files[name]))
		}
	}
	return b.Bytes()
}

// checkSignature returns the version that the root key signed.
func checkSignature(files map[string][]byte, root ed25519.PublicKey) (string, error) {
	block, ok := files[SignatureFile]
	if !ok {
		return "", ErrNoSignature
	}
	data := manifest(files)
	sig, err := elfsig.ParseDetached(block, int64(len(data)))
	if err != nil {
		return "", err
	}
	if sig.Role != storeRole || sig.Name != storeRole {
		return "", fmt.Errorf("signature of a %s, not of a trust store", sig.Role)
	}
	id, err := elfsig.KeyIDOf(root)
	if err != nil {
		return "", err
	}
	if sig.KeyID != id {
		return "", fmt.Errorf("signed with key %s, the root key is %s", sig.KeyID, id)
	}
	return sig.Version, sig.Verify(bytes.NewReader(data), root)
}

// Sign signs the store in the directory as a version, with the root key.
func Sign(dir, version string, root ed25519.PrivateKey) error {
	s, err := Load(dir, nil)
	if err != nil {
		return err
	}
	block, err := elfsig.SignDetached(manifest(s.files), elfsig.Header{Role: storeRole, Name: storeRole, Version: version}, root)
	if err != nil {
		return fmt.Errorf("sign trust store: %w", err)
	}
	return elfsig.ReplaceFile(filepath.Join(dir, SignatureFile), block, 0o644)
}

// Install replaces the store in the directory to by the one in from, in one
// step: a reader sees the old or the new one. With a root key the new one must
// be signed by it and not be older than the one that is there.
func Install(from, to string, root ed25519.PublicKey) (*Store, error) {
	s, err := Load(from, root)
	if err != nil {
		return nil, err
	}
	if old, err := Load(to, root); err == nil && root != nil && elfsig.CompareVersions(s.version, old.version) < 0 {
		return nil, fmt.Errorf("install trust store: version %s: %w: %s is there", s.version, ErrRollback, old.version)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(to), ".trust-*")
	if err != nil {
		return nil, fmt.Errorf("install trust store: %w", err)
	}
	defer os.RemoveAll(tmp) // then the old store
	for _, name := range sorted(s.files) {
		if err := elfsig.ReplaceFile(filepath.Join(tmp, name), s.files[name], 0o644); err != nil {
			return nil, fmt.Errorf("install trust store: %w", err)
		}
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), syncDir(tmp), exchange(tmp, to), syncDir(filepath.Dir(to))); err != nil {
		return nil, fmt.Errorf("install trust store: %w", err)
	}
	return s, nil
}

// exchange puts the directory from at to, and what was at to at from.
func exchange(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return fmt.Errorf("rename to %s: %w", to, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
