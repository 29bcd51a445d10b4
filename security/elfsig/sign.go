package elfsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Sign returns the file's bytes with a signature; data is not changed. A file
// that has a signature section keeps its layout, its old signature is replaced.
func Sign(data []byte, h Header, key ed25519.PrivateKey) ([]byte, error) {
	f, err := parseELF(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("sign: key has no Ed25519 public part")
	}
	if h.KeyID, err = KeyIDOf(pub); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if h.BuildID == "" {
		h.BuildID = f.buildID(data)
	}
	if err := h.Check(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	out, off, err := f.withSection(data)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	copy(out[off:], h.encode())
	signed := Signed{off: off + offSignature, size: int64(len(out))}
	msg, err := signed.message(bytes.NewReader(out))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	copy(out[off+offSignature:], ed25519.Sign(key, msg))
	return out, nil
}

// withSection returns a copy of the file that has the section, and its offset.
// The new section, a new name table and a new section header table go to the
// end of the file; no byte that a segment loads moves.
func (f *image) withSection(data []byte) ([]byte, int64, error) {
	i, err := f.signature()
	if err != nil {
		return nil, 0, err
	}
	if i >= 0 {
		return bytes.Clone(data), int64(f.sections[i].off), nil
	}
	if len(f.sections) >= maxSections || len(f.names)+len(SectionName)+1 > maxNameTable {
		return nil, 0, fmt.Errorf("%w: no room for one more section", ErrELF)
	}
	out := pad(bytes.Clone(data))
	off := len(out)
	out = append(out, make([]byte, sectionSize)...)

	namesOff := len(out)
	out = append(append(append(out, f.names...), SectionName...), 0)
	namesSize := len(out) - namesOff
	out = pad(out)

	table := len(out)
	out = append(out, data[f.shoff:f.shoff+uint64(len(f.sections))*shdrSize]...)
	strtab := out[table+f.shstrndx*shdrSize:]
	le.PutUint64(strtab[24:], uint64(namesOff))
	le.PutUint64(strtab[32:], uint64(namesSize))

	sh := make([]byte, shdrSize)
	le.PutUint32(sh, uint32(len(f.names)))
	le.PutUint32(sh[4:], shtProgbits)
	le.PutUint64(sh[24:], uint64(off))
	le.PutUint64(sh[32:], sectionSize)
	le.PutUint64(sh[48:], 8) // alignment
	out = append(out, sh...)

	le.PutUint64(out[40:], uint64(table))
	le.PutUint16(out[60:], uint16(len(f.sections)+1))
	if len(out) > MaxFileSize {
		return nil, 0, fmt.Errorf("%w: larger than %d bytes", ErrELF, MaxFileSize)
	}
	return out, int64(off), nil
}

func pad(b []byte) []byte {
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// buildID is the GNU build id of the file (the note that linkers write), or the
// first 20 bytes of SHA-256 over it.
func (f *image) buildID(data []byte) string {
	for _, s := range f.sections {
		if s.name != ".note.gnu.build-id" || s.typ != shtNote || s.size > 256 {
			continue
		}
		b := data[s.off : s.off+s.size]
		// Note: name size, descriptor size, type, name "GNU\0", descriptor.
		if len(b) < 16 || le.Uint32(b) != 4 || string(b[12:16]) != "GNU\x00" {
			continue
		}
		if n := le.Uint32(b[4:]); n > 0 && n <= fieldSize/2 && int(n) <= len(b)-16 {
			return hex.EncodeToString(b[16 : 16+n])
		}
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:20])
}
