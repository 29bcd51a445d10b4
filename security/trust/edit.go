package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"godwit/security/elfsig"
)

// AddKey puts the public key in the file path into the store in the directory,
// which is made if it is not there, under the label. roles, comma-separated,
// are what it may sign; empty: all. allowDevelopment changes the store's policy.
func AddKey(dir, path, label, roles string, allowDevelopment bool) (elfsig.KeyID, error) {
	data, err := elfsig.ReadSmallFile(path, maxKeyFile)
	if err != nil {
		return elfsig.KeyID{}, fmt.Errorf("trust key: %w", err)
	}
	pub, err := elfsig.DecodePublicKey(data)
	if err != nil {
		return elfsig.KeyID{}, fmt.Errorf("trust key: %s: %w", path, err)
	}
	name := label + keySuffix
	if !isKeyFile(name) {
		return elfsig.KeyID{}, fmt.Errorf("trust key: label %q: want letters, digits, '-', '_' and '.'", label)
	}
	id, err := elfsig.KeyIDOf(pub)
	if err != nil {
		return elfsig.KeyID{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return id, fmt.Errorf("trust key: %w", err)
	}
	return id, edit(dir, func(files map[string][]byte) error {
		if _, there := files[name]; there {
			return fmt.Errorf("%s is there already", name)
		}
		files[name] = data
		if roles != "" {
			files[PolicyFile] = appendLine(files[PolicyFile], "roles "+label+" "+roles)
		}
		if allowDevelopment {
			files[PolicyFile] = appendLine(files[PolicyFile], "allow development")
		}
		return nil
	})
}

// Revoke adds a key, a build or a signature to the store's revocations.
func Revoke(dir, kind, value string) error {
	return edit(dir, func(files map[string][]byte) error {
		files[RevokedFile] = appendLine(files[RevokedFile], kind+" "+strings.ToLower(value))
		return nil
	})
}

func appendLine(data []byte, line string) []byte {
	if n := len(data); n > 0 && data[n-1] != '\n' {
		data = append(data, '\n')
	}
	return append(data, line+"\n"...)
}

// edit changes a store's files; what would make a store that cannot be read is
// not written.
func edit(dir string, change func(map[string][]byte) error) error {
	old, err := readFiles(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".trust-*")
	if err != nil {
		return fmt.Errorf("change trust store: %w", err)
	}
	defer os.RemoveAll(tmp)
	files := map[string][]byte{}
	for name, data := range old {
		files[name] = data[:len(data):len(data)]
	}
	if err := change(files); err != nil {
		return fmt.Errorf("change trust store: %w", err)
	}
	var errs []error
	for name, data := range files {
		errs = append(errs, os.WriteFile(filepath.Join(tmp, name), data, 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("change trust store: %w", err)
	}
	if _, err := Load(tmp, nil); err != nil {
		return fmt.Errorf("change trust store: %w", err)
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), syncDir(tmp), exchange(tmp, dir), syncDir(filepath.Dir(dir))); err != nil {
		return fmt.Errorf("change trust store: %w", err)
	}
	return nil
}
