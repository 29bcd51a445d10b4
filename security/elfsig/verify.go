package elfsig

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of Parse and Verify.
var (
	ErrUnsigned     = errors.New("no signature section " + SectionName)
	ErrBadSignature = errors.New("signature does not match the file")
	ErrNotYetValid  = errors.New("signature not valid yet")
	ErrExpired      = errors.New("signature expired")
)

// Contexts separate these signatures from each other and from all other uses of
// a key. They are of one length.
const (
	contextELF      = "godwit-elfsig-2\n"
	contextDetached = "godwit-detach-2\n"
)

// Signed is a signature found in a file. It says nothing about trust until
// Verify has succeeded.
type Signed struct {
	Header
	Dynamic bool // the file asks for an interpreter: not a static executable

	sig   [sigSize]byte
	off   int64  // of the 64 signature bytes
	size  int64  // of the file
	block []byte // of a detached signature: its bytes; else nil
}

// Parse finds and decodes the signature of a file of the size.
func Parse(r io.ReaderAt, size int64) (*Signed, error) {
	f, err := parseELF(r, size)
	if err != nil {
		return nil, err
	}
	i, err := f.signature()
	if err != nil {
		return nil, err
	}
	if i < 0 {
		return nil, ErrUnsigned
	}
	sec := f.sections[i]
	b := make([]byte, sectionSize)
	if err := readAt(r, b, sec.off); err != nil {
		return nil, err
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	return &Signed{
		Header: h, Dynamic: f.dynamic(),
		sig: [sigSize]byte(b[offSignature:]), off: int64(sec.off) + offSignature, size: size,
	}, nil
}

// Signature returns the 64 signature bytes as hexadecimal text.
func (s *Signed) Signature() string { return hex.EncodeToString(s.sig[:]) }

// Verify reads the whole file once and checks it against the key. The file
// must not change between Parse and Verify.
func (s *Signed) Verify(r io.ReaderAt, key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("verify: key of %d bytes", len(key))
	}
	msg, err := s.message(r)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, msg, s.sig[:]) {
		return ErrBadSignature
	}
	return nil
}

// CheckTime tells whether the signature is within its validity.
func (s *Signed) CheckTime(now time.Time) error {
	if !s.NotBefore.IsZero() && now.Before(s.NotBefore) {
		return fmt.Errorf("%w: not before %s", ErrNotYetValid, s.NotBefore.Format(time.RFC3339))
	}
	if !s.NotAfter.IsZero() && now.After(s.NotAfter) {
		return fmt.Errorf("%w: not after %s", ErrExpired, s.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// message returns what is signed.
func (s *Signed) message(r io.ReaderAt) ([]byte, error) {
	if s.block == nil {
		sum, err := digest(r, s.size, s.off)
		return append([]byte(contextELF), sum...), err
	}
	sum, err := digestDetached(r, s.size, s.block)
	return append([]byte(contextDetached), sum...), err
}

// digestChunk is how much of the file is in memory while it is hashed: it fits
// the second-level cache.
const digestChunk = 256 << 10

// digest is SHA-256 over the file with the signature's bytes at off taken as zero.
func digest(r io.ReaderAt, size, off int64) ([]byte, error) {
	h := sha256.New()
	if err := hashFile(h, r, size, off); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// hashFile writes the file into h, the 64 bytes at off as zero; off < 0: none.
func hashFile(h io.Writer, r io.ReaderAt, size, off int64) error {
	buf := make([]byte, min(digestChunk, size))
	for pos := int64(0); pos < size; {
		b := buf[:min(int64(len(buf)), size-pos)]
		if err := readAt(r, b, uint64(pos)); err != nil {
			return err
		}
		from, to := max(off, pos), min(off+sigSize, pos+int64(len(b)))
		if off >= 0 && from < to {
			clear(b[from-pos : to-pos])
		}
		if _, err := h.Write(b); err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return nil
}
