package elfsig

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ReadPrivateKeyFile reads a private key; nobody but its owner may be able to
// read the file. passphrase is asked for when the key is encrypted; nil: none.
func ReadPrivateKeyFile(path string, passphrase func() (string, error)) (ed25519.PrivateKey, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("private key %s: mode %04o lets others read it; run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	data, err := ReadSmallFile(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	secret := ""
	if IsEncrypted(data) && passphrase != nil {
		if secret, err = passphrase(); err != nil {
			return nil, fmt.Errorf("passphrase of %s: %w", path, err)
		}
	}
	key, err := DecodePrivateKey(data, secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadPublicKeyFile reads a public key.
func ReadPublicKeyFile(path string) (ed25519.PublicKey, error) {
	data, err := ReadSmallFile(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	key, err := DecodePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadSmallFile reads a regular file of at most limit bytes.
func ReadSmallFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
	}
	return data, nil
}

// SignFile signs the file in and writes the result to out, which may be the
// same: the new file replaces the old one whole or not at all, mode kept.
func SignFile(in, out string, h Header, key ed25519.PrivateKey) error {
	st, err := os.Stat(in)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	data, err := ReadSmallFile(in, MaxFileSize)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signed, err := Sign(data, h, key)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	return ReplaceFile(out, signed, st.Mode().Perm())
}

// ReplaceFile writes a file whole or not at all.
func ReplaceFile(path string, data []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".sign-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(tmp.Name())))
		}
	}()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ParseFile finds and decodes the signature of a file, without checking it.
func ParseFile(path string) (*Signed, error) {
	var s *Signed
	err := withFile(path, func(f *os.File, size int64) (err error) {
		s, err = Parse(f, size)
		return err
	})
	return s, err
}

// VerifyFile checks the signature of a file against the key that find returns
// for it. It is a tool's check of a file on disk: to run the file, use
// package module, which verifies the bytes that it executes.
func VerifyFile(path string, find func(*Signed) (ed25519.PublicKey, error)) (*Signed, error) {
	var s *Signed
	err := withFile(path, func(f *os.File, size int64) (err error) {
		if s, err = Parse(f, size); err != nil {
			return err
		}
		key, err := find(s)
		if err != nil {
			return err
		}
		return s.Verify(f, key)
	})
	return s, err
}

func withFile(path string, do func(*os.File, int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	if err := do(f, st.Size()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
