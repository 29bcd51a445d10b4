package elfsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// DetachedSuffix is what the file of a detached signature has behind its
// subject's name.
const DetachedSuffix = ".sig"

// SignDetached returns a detached signature of the data.
func SignDetached(data []byte, h Header, key ed25519.PrivateKey) ([]byte, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("sign: larger than %d bytes", MaxFileSize)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("sign: key has no Ed25519 public part")
	}
	var err error
	if h.KeyID, err = KeyIDOf(pub); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if h.BuildID == "" {
		sum := sha256.Sum256(data)
		h.BuildID = hex.EncodeToString(sum[:20])
	}
	if err := h.Check(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	s := Signed{size: int64(len(data)), block: h.encode()}
	msg, err := s.message(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	copy(s.block[offSignature:], ed25519.Sign(key, msg))
	return s.block, nil
}

// ParseDetached decodes a detached signature of a file of the size; Verify
// then takes the file.
func ParseDetached(block []byte, size int64) (*Signed, error) {
	if size < 0 || size > MaxFileSize {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrFormat, size, MaxFileSize)
	}
	h, err := decodeHeader(block)
	if err != nil {
		return nil, err
	}
	return &Signed{Header: h, sig: [sigSize]byte(block[offSignature:]), size: size, block: bytes.Clone(block)}, nil
}

// digestDetached is SHA-256 over the file and the block, its signature zero.
func digestDetached(r io.ReaderAt, size int64, block []byte) ([]byte, error) {
	h := sha256.New()
	if err := hashFile(h, r, size, -1); err != nil {
		return nil, err
	}
	head := bytes.Clone(block)
	clear(head[offSignature:])
	h.Write(head)
	return h.Sum(nil), nil
}

// SignFileDetached signs the file in and writes the signature to out.
func SignFileDetached(in, out string, h Header, key ed25519.PrivateKey) error {
	data, err := ReadSmallFile(in, MaxFileSize)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	block, err := SignDetached(data, h, key)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	return ReplaceFile(out, block, 0o644)
}

// ParseFileDetached decodes the signature in the file sig of the file path.
func ParseFileDetached(path, sig string) (*Signed, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	block, err := ReadSmallFile(sig, sectionSize)
	if err != nil {
		return nil, err
	}
	s, err := ParseDetached(block, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sig, err)
	}
	return s, nil
}

// VerifyFileDetached checks the signature in the file sig against the file path
// and the key that find returns for it.
func VerifyFileDetached(path, sig string, find func(*Signed) (ed25519.PublicKey, error)) (*Signed, error) {
	block, err := ReadSmallFile(sig, sectionSize)
	if err != nil {
		return nil, err
	}
	var s *Signed
	err = withFile(path, func(f *os.File, size int64) (err error) {
		if s, err = ParseDetached(block, size); err != nil {
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
