package elfsig

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// SectionName is the ELF section that holds the signature.
const SectionName = ".godwit.sig"

// Layout of the section; see the package comment.
const (
	sectionSize   = 1024
	formatVersion = 2
	magic         = "GODWITSG"

	offKeyID     = 16
	offNotBefore = 24
	offNotAfter  = 32
	offCaps      = 40
	offRole      = 48
	offName      = 80
	offVersion   = 144
	offMin       = 208
	offBuildID   = 272
	offReserved  = 336
	offSignature = 960

	roleSize  = 32
	fieldSize = 64
	sigSize   = 64
)

// KeyID names a key: the first 8 bytes of SHA-256 over its SubjectPublicKeyInfo.
type KeyID [8]byte

func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// ParseKeyID reads the 16 hexadecimal digits that String prints.
func ParseKeyID(s string) (KeyID, error) {
	var k KeyID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("key id %q: want %d hexadecimal digits", s, 2*len(k))
	}
	copy(k[:], b)
	return k, nil
}

// Header is what the signer says of the module. It is covered by the signature.
type Header struct {
	KeyID        KeyID     // set by Sign
	Role         string    // the slot the module may fill ("router", "linecard", "bgp"), or what a file is ("config")
	Name         string    // "godwit-linecard"
	Version      string    // semantic version
	MinVersion   string    // oldest version that may run once this one has; empty: no floor
	BuildID      string    // identifies the build; empty: Sign takes it from the file
	NotBefore    time.Time // zero: no bound
	NotAfter     time.Time // zero: no bound
	Capabilities Caps      // Linux capabilities the module needs
}

// ErrFormat is the root of all errors about a malformed signature section.
var ErrFormat = errors.New("malformed signature section")

// Check tells whether the header can be signed.
func (h *Header) Check() error {
	if err := checkWord("role", h.Role, roleSize, true); err != nil {
		return err
	}
	if err := checkWord("name", h.Name, fieldSize, true); err != nil {
		return err
	}
	if err := checkWord("build id", h.BuildID, fieldSize, false); err != nil {
		return err
	}
	if err := checkVersion("version", h.Version); err != nil {
		return err
	}
	if h.MinVersion != "" {
		if err := checkVersion("minimum version", h.MinVersion); err != nil {
			return err
		}
		if CompareVersions(h.MinVersion, h.Version) > 0 {
			return fmt.Errorf("minimum version %s is above version %s", h.MinVersion, h.Version)
		}
	}
	if h.NotBefore.Unix() < 0 && !h.NotBefore.IsZero() || h.NotAfter.Unix() < 0 && !h.NotAfter.IsZero() {
		return errors.New("validity: date before 1970")
	}
	if !h.NotBefore.IsZero() && !h.NotAfter.IsZero() && h.NotAfter.Before(h.NotBefore) {
		return errors.New("validity: ends before it begins")
	}
	return nil
}

// checkWord allows lower-case letters, digits and "-._", so that a header can
// be printed, logged and used as a file name as it is.
func checkWord(what, s string, size int, required bool) error {
	if s == "" && required {
		return fmt.Errorf("%s: empty", what)
	}
	if len(s) > size {
		return fmt.Errorf("%s: longer than %d bytes", what, size)
	}
	for i := range len(s) {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '.' || c == '_')
		if !ok {
			return fmt.Errorf("%s %q: want lower-case letters, digits, '-', '.' and '_'", what, s)
		}
	}
	return nil
}

func checkVersion(what, s string) error {
	if len(s) > fieldSize {
		return fmt.Errorf("%s: longer than %d bytes", what, fieldSize)
	}
	if _, err := parseVersion(s); err != nil {
		return fmt.Errorf("%s %w", what, err)
	}
	return nil
}

// encode lays the header out; the signature's bytes stay zero.
func (h *Header) encode() []byte {
	b := make([]byte, sectionSize)
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], formatVersion)
	binary.LittleEndian.PutUint16(b[10:], sectionSize)
	copy(b[offKeyID:], h.KeyID[:])
	binary.LittleEndian.PutUint64(b[offNotBefore:], unixOrZero(h.NotBefore))
	binary.LittleEndian.PutUint64(b[offNotAfter:], unixOrZero(h.NotAfter))
	binary.LittleEndian.PutUint64(b[offCaps:], uint64(h.Capabilities))
	copy(b[offRole:offName], h.Role)
	copy(b[offName:offVersion], h.Name)
	copy(b[offVersion:offMin], h.Version)
	copy(b[offMin:offBuildID], h.MinVersion)
	copy(b[offBuildID:offReserved], h.BuildID)
	return b
}

func unixOrZero(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

// decodeHeader reads a section's contents; only what encode writes is accepted.
func decodeHeader(b []byte) (Header, error) {
	var h Header
	if len(b) != sectionSize {
		return h, fmt.Errorf("%w: %d bytes, want %d", ErrFormat, len(b), sectionSize)
	}
	if string(b[:8]) != magic {
		return h, fmt.Errorf("%w: bad magic", ErrFormat)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != formatVersion {
		return h, fmt.Errorf("%w: format version %d, this program knows %d", ErrFormat, v, formatVersion)
	}
	copy(h.KeyID[:], b[offKeyID:])
	h.Capabilities = Caps(binary.LittleEndian.Uint64(b[offCaps:]))
	var err error
	if h.NotBefore, err = dateField(b[offNotBefore:]); err != nil {
		return h, err
	}
	if h.NotAfter, err = dateField(b[offNotAfter:]); err != nil {
		return h, err
	}
	h.Role = textField(b[offRole:offName])
	h.Name = textField(b[offName:offVersion])
	h.Version = textField(b[offVersion:offMin])
	h.MinVersion = textField(b[offMin:offBuildID])
	h.BuildID = textField(b[offBuildID:offReserved])
	if err := h.Check(); err != nil {
		return h, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	// One value, one encoding: stray bytes in padding, flags and reserved space.
	if !bytes.Equal(h.encode()[:offSignature], b[:offSignature]) {
		return h, fmt.Errorf("%w: bytes that should be zero are not", ErrFormat)
	}
	return h, nil
}

// maxDate is the year 9999 in seconds: later dates do not print.
const maxDate = 253402300799

func dateField(b []byte) (time.Time, error) {
	s := binary.LittleEndian.Uint64(b)
	if s == 0 {
		return time.Time{}, nil
	}
	if s > maxDate {
		return time.Time{}, fmt.Errorf("%w: date after the year 9999", ErrFormat)
	}
	return time.Unix(int64(s), 0).UTC(), nil
}

func textField(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
