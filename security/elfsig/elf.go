package elfsig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrELF is the root of all errors about files that are not the ELF we take.
var ErrELF = errors.New("not a well-formed 64-bit little-endian ELF executable")

// Bounds of what a file may ask us to read.
const (
	MaxFileSize  = 256 << 20 // bytes
	maxSections  = 4096
	maxSegments  = 512
	maxNameTable = 1 << 20 // bytes of section names
)

// Sizes and numbers of ELF-64 (System V ABI, chapter 4 and 5).
const (
	ehdrSize = 64
	shdrSize = 64
	phdrSize = 56

	typeExec = 2
	typeDyn  = 3

	shtNull     = 0
	shtProgbits = 1
	shtStrtab   = 3
	shtNote     = 7
	shtNobits   = 8

	ptLoad   = 1
	ptInterp = 3
)

// section is one entry of the section header table.
type section struct {
	nameOff   uint32
	typ       uint32
	flags     uint64
	off, size uint64
	name      string
}

// segment is one entry of the program header table.
type segment struct {
	typ         uint32
	off, filesz uint64
}

// image is the structure of a file whose offsets have all been checked.
type image struct {
	shoff    uint64
	shstrndx int
	sections []section
	segments []segment
	names    []byte // the section name table
}

var le = binary.LittleEndian

// parseELF reads and checks the headers. It reads at most about 1.4 MB.
func parseELF(r io.ReaderAt, size int64) (*image, error) {
	if size < ehdrSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrELF, size)
	}
	if size > MaxFileSize {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrELF, MaxFileSize)
	}
	eh := make([]byte, ehdrSize)
	if err := readAt(r, eh, 0); err != nil {
		return nil, err
	}
	if err := checkEhdr(eh); err != nil {
		return nil, err
	}
	f := &image{shoff: le.Uint64(eh[40:]), shstrndx: int(le.Uint16(eh[62:]))}
	if err := f.readSegments(r, size, eh); err != nil {
		return nil, err
	}
	if err := f.readSections(r, size, int(le.Uint16(eh[60:]))); err != nil {
		return nil, err
	}
	return f, nil
}

func checkEhdr(eh []byte) error {
	switch {
	case string(eh[:4]) != "\x7fELF":
		return fmt.Errorf("%w: bad magic", ErrELF)
	case eh[4] != 2:
		return fmt.Errorf("%w: class %d", ErrELF, eh[4])
	case eh[5] != 1:
		return fmt.Errorf("%w: byte order %d", ErrELF, eh[5])
	case eh[6] != 1 || le.Uint32(eh[20:]) != 1:
		return fmt.Errorf("%w: version", ErrELF)
	}
	if t := le.Uint16(eh[16:]); t != typeExec && t != typeDyn {
		return fmt.Errorf("%w: type %d", ErrELF, t)
	}
	if n := le.Uint16(eh[52:]); n != ehdrSize {
		return fmt.Errorf("%w: header size %d", ErrELF, n)
	}
	if n := le.Uint16(eh[54:]); n != phdrSize {
		return fmt.Errorf("%w: program header size %d", ErrELF, n)
	}
	if n := le.Uint16(eh[58:]); n != shdrSize {
		return fmt.Errorf("%w: section header size %d", ErrELF, n)
	}
	return nil
}

func (f *image) readSegments(r io.ReaderAt, size int64, eh []byte) error {
	n, off := int(le.Uint16(eh[56:])), le.Uint64(eh[32:])
	if n == 0 || n > maxSegments {
		return fmt.Errorf("%w: %d program headers", ErrELF, n)
	}
	if !inside(off, uint64(n)*phdrSize, size) {
		return fmt.Errorf("%w: program headers outside the file", ErrELF)
	}
	b := make([]byte, n*phdrSize)
	if err := readAt(r, b, off); err != nil {
		return err
	}
	for ; len(b) > 0; b = b[phdrSize:] {
		s := segment{typ: le.Uint32(b), off: le.Uint64(b[8:]), filesz: le.Uint64(b[32:])}
		if !inside(s.off, s.filesz, size) {
			return fmt.Errorf("%w: segment outside the file", ErrELF)
		}
		f.segments = append(f.segments, s)
	}
	return nil
}

func (f *image) readSections(r io.ReaderAt, size int64, n int) error {
	if n == 0 || n > maxSections {
		return fmt.Errorf("%w: %d section headers", ErrELF, n)
	}
	if !inside(f.shoff, uint64(n)*shdrSize, size) {
		return fmt.Errorf("%w: section headers outside the file", ErrELF)
	}
	b := make([]byte, n*shdrSize)
	if err := readAt(r, b, f.shoff); err != nil {
		return err
	}
	for ; len(b) > 0; b = b[shdrSize:] {
		s := section{
			nameOff: le.Uint32(b), typ: le.Uint32(b[4:]), flags: le.Uint64(b[8:]),
			off: le.Uint64(b[24:]), size: le.Uint64(b[32:]),
		}
		if s.typ != shtNobits && s.typ != shtNull && !inside(s.off, s.size, size) {
			return fmt.Errorf("%w: section outside the file", ErrELF)
		}
		f.sections = append(f.sections, s)
	}
	return f.readNames(r)
}

func (f *image) readNames(r io.ReaderAt) error {
	if f.shstrndx == 0 || f.shstrndx >= len(f.sections) {
		return fmt.Errorf("%w: section name table %d of %d", ErrELF, f.shstrndx, len(f.sections))
	}
	t := f.sections[f.shstrndx]
	if t.typ != shtStrtab || t.size == 0 || t.size > maxNameTable {
		return fmt.Errorf("%w: section name table of type %d, %d bytes", ErrELF, t.typ, t.size)
	}
	f.names = make([]byte, t.size)
	if err := readAt(r, f.names, t.off); err != nil {
		return err
	}
	for i := range f.sections {
		s := &f.sections[i]
		name, ok := f.nameAt(s.nameOff)
		if !ok {
			return fmt.Errorf("%w: section %d without a name", ErrELF, i)
		}
		s.name = name
	}
	return nil
}

// maxName is the longest section name read, in bytes.
const maxName = 256

func (f *image) nameAt(off uint32) (string, bool) {
	if uint64(off) >= uint64(len(f.names)) {
		return "", false
	}
	b := f.names[off:]
	for i := 0; i < len(b) && i <= maxName; i++ {
		if b[i] == 0 {
			return string(b[:i]), true
		}
	}
	return "", false
}

// signature returns the index of the signature section, or -1.
func (f *image) signature() (int, error) {
	found := -1
	for i, s := range f.sections {
		if s.name != SectionName {
			continue
		}
		if found >= 0 {
			return -1, fmt.Errorf("%w: two sections named %s", ErrFormat, SectionName)
		}
		found = i
	}
	if found < 0 {
		return -1, nil
	}
	s := f.sections[found]
	if s.typ != shtProgbits || s.flags != 0 || s.size != sectionSize {
		return -1, fmt.Errorf("%w: type %d, flags %#x, %d bytes", ErrFormat, s.typ, s.flags, s.size)
	}
	for _, p := range f.segments {
		if p.typ == ptLoad && s.off < p.off+p.filesz && p.off < s.off+s.size {
			return -1, fmt.Errorf("%w: inside a loaded segment", ErrFormat)
		}
	}
	return found, nil
}

// dynamic tells whether the file asks for an interpreter.
func (f *image) dynamic() bool {
	for _, p := range f.segments {
		if p.typ == ptInterp {
			return true
		}
	}
	return false
}

// inside tells whether [off, off+n) lies in a file of the size, without overflow.
func inside(off, n uint64, size int64) bool {
	return off <= uint64(size) && n <= uint64(size)-off
}

func readAt(r io.ReaderAt, b []byte, off uint64) error {
	if n, err := r.ReadAt(b, int64(off)); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read at %d: %w", off, err)
	}
	return nil
}
