package elfsig

import (
	"bytes"
	"crypto/ed25519"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tiny is a static ELF executable in the smallest form that has all parts: two
// segments, a text section, a build id note and the section name table.
func tiny() []byte {
	const names = "\x00.text\x00.note.gnu.build-id\x00.shstrtab\x00"
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typeExec)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], 0x400000+64+2*56)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 2)
	le.PutUint16(b[58:], shdrSize)
	text := 64 + 2*56
	note := text + 16
	strs := note + 36
	phdr := func(typ uint32, flags uint32, off, size int) {
		p := make([]byte, phdrSize)
		le.PutUint32(p, typ)
		le.PutUint32(p[4:], flags)
		le.PutUint64(p[8:], uint64(off))
		le.PutUint64(p[16:], uint64(0x400000+off))
		le.PutUint64(p[24:], uint64(0x400000+off))
		le.PutUint64(p[32:], uint64(size))
		le.PutUint64(p[40:], uint64(size))
		le.PutUint64(p[48:], 4096)
		b = append(b, p...)
	}
	phdr(ptLoad, 5, 0, note)
	phdr(4, 4, note, 36)
	// exit(7): mov $60,%eax; mov $7,%edi; syscall
	b = append(b, 0xb8, 60, 0, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90, 0x90, 0x90)
	n := make([]byte, 16, 36)
	le.PutUint32(n, 4)
	le.PutUint32(n[4:], 20)
	le.PutUint32(n[8:], 3)
	copy(n[12:], "GNU\x00")
	for i := range 20 {
		n = append(n, byte(i))
	}
	b = append(append(b, n...), names...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	table := len(b)
	shdr := func(name string, typ uint32, flags uint64, off, size int) {
		s := make([]byte, shdrSize)
		le.PutUint32(s, uint32(strings.Index(names, name+"\x00")))
		le.PutUint32(s[4:], typ)
		le.PutUint64(s[8:], flags)
		le.PutUint64(s[24:], uint64(off))
		le.PutUint64(s[32:], uint64(size))
		b = append(b, s...)
	}
	shdr("", shtNull, 0, 0, 0)
	shdr(".text", shtProgbits, 6, text, 16)
	shdr(".note.gnu.build-id", shtNote, 2, note, 36)
	shdr(".shstrtab", shtStrtab, 0, strs, len(names))
	le.PutUint64(b[40:], uint64(table))
	le.PutUint16(b[60:], 4)
	le.PutUint16(b[62:], 3)
	return b
}

func testKey(t testing.TB) (ed25519.PrivateKey, ed25519.PublicKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte("a seed of thirty-two bytes, fix."))
	return key, key.Public().(ed25519.PublicKey)
}

func testHeader() Header {
	return Header{
		Role: "linecard", Name: "godwit-linecard", Version: "1.2.3-rc.1+g0", MinVersion: "1.0.0",
		NotBefore: time.Unix(1_700_000_000, 0).UTC(), NotAfter: time.Unix(1_900_000_000, 0).UTC(), Capabilities: 1<<12 | 1<<39,
	}
}

func signed(t testing.TB) []byte {
	t.Helper()
	key, _ := testKey(t)
	out, err := Sign(tiny(), testHeader(), key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func check(data []byte, pub ed25519.PublicKey) error {
	s, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	return s.Verify(bytes.NewReader(data), pub)
}

func TestSignThenParse(t *testing.T) {
	_, pub := testKey(t)
	data := signed(t)
	if err := check(data, pub); err != nil {
		t.Fatal(err)
	}
	s, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := testHeader()
	want.KeyID, _ = KeyIDOf(pub)
	want.BuildID = "000102030405060708090a0b0c0d0e0f10111213" // the note in tiny
	if s.Header != want {
		t.Errorf("header is %+v, want %+v", s.Header, want)
	}
	if s.Dynamic {
		t.Error("a static file is said to be dynamic")
	}
}

// The whole file still runs and other readers of ELF agree with us.
func TestSignedFileRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny")
	if err := os.WriteFile(path, signed(t), 0o755); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := exec.Command(path).Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("signed program: %v, want exit status 7", err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sec := f.Section(SectionName)
	if sec == nil || sec.Size != sectionSize || f.Section(".text") == nil || f.Section(".shstrtab") == nil {
		t.Errorf("debug/elf sees sections %v", f.Sections)
	}
}

func TestSignTwiceKeepsLayout(t *testing.T) {
	key, pub := testKey(t)
	once := signed(t)
	h := testHeader()
	h.Version, h.MinVersion = "2.0.0", ""
	twice, err := Sign(once, h, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(once) != len(twice) {
		t.Errorf("signing again changed the size from %d to %d", len(once), len(twice))
	}
	if err := check(twice, pub); err != nil {
		t.Error(err)
	}
	again, err := Sign(twice, testHeader(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(once, again) {
		t.Error("the same header signs to other bytes")
	}
}

// Every single byte counts, whatever part of the file it is in.
func TestEveryByteIsCovered(t *testing.T) {
	_, pub := testKey(t)
	data := signed(t)
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			data[i] ^= bit
			if err := check(data, pub); err == nil {
				t.Errorf("byte %d of %d, bit %#x flipped: still verified", i, len(data), bit)
			}
			data[i] ^= bit
		}
	}
	if err := check(data, pub); err != nil {
		t.Fatalf("restored file: %v", err)
	}
}

func TestTruncatedAndExtended(t *testing.T) {
	_, pub := testKey(t)
	data := signed(t)
	for n := range len(data) {
		if err := check(data[:n], pub); err == nil {
			t.Errorf("first %d of %d bytes: verified", n, len(data))
		}
	}
	if err := check(append(bytes.Clone(data), 0), pub); !errors.Is(err, ErrBadSignature) {
		t.Errorf("one byte more: %v", err)
	}
	// The headers lie about the size: reads stop at an error.
	if s, err := Parse(bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	} else if err := s.Verify(bytes.NewReader(data[:len(data)-1]), pub); err == nil {
		t.Error("file shorter than its size: verified")
	}
}

func TestRefusals(t *testing.T) {
	key, pub := testKey(t)
	other, _ := GenerateKey()
	data := signed(t)
	sec := bytes.Index(data, []byte(magic))
	edit := func(f func(b []byte)) []byte {
		b := bytes.Clone(data)
		f(b)
		return b
	}
	table := int(le.Uint64(data[40:]))
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrELF},
		{"script", []byte("#!/bin/sh\necho this is long enough to hold an ELF header, but is none\n"), ErrELF},
		{"unsigned", tiny(), ErrUnsigned},
		{"32 bit", edit(func(b []byte) { b[4] = 1 }), ErrELF},
		{"big endian", edit(func(b []byte) { b[5] = 2 }), ErrELF},
		{"shared object type 1", edit(func(b []byte) { b[16] = 1 }), ErrELF},
		{"no sections", edit(func(b []byte) { le.PutUint16(b[60:], 0) }), ErrELF},
		{"65535 sections", edit(func(b []byte) { le.PutUint16(b[60:], 0xffff) }), ErrELF},
		{"section table beyond", edit(func(b []byte) { le.PutUint64(b[40:], 1<<63) }), ErrELF},
		{"section table wraps", edit(func(b []byte) { le.PutUint64(b[40:], ^uint64(0)-8) }), ErrELF},
		{"segment table beyond", edit(func(b []byte) { le.PutUint64(b[32:], 1<<40) }), ErrELF},
		{"name table index", edit(func(b []byte) { le.PutUint16(b[62:], 99) }), ErrELF},
		{"name beyond", edit(func(b []byte) { le.PutUint32(b[table+shdrSize:], 1<<31) }), ErrELF},
		{"section beyond", edit(func(b []byte) { le.PutUint64(b[table+shdrSize+32:], 1<<62) }), ErrELF},
		{"section size", edit(func(b []byte) { le.PutUint64(b[table+4*shdrSize+32:], 1000) }), ErrFormat},
		{"section loaded", edit(func(b []byte) { le.PutUint64(b[table+4*shdrSize+8:], 2) }), ErrFormat},
		{"section in a segment", edit(func(b []byte) { le.PutUint64(b[64+32:], uint64(len(b))) }), ErrFormat},
		{"two sections", edit(func(b []byte) { copy(b[table+shdrSize:], b[table+4*shdrSize:]) }), ErrFormat},
		{"format version", edit(func(b []byte) { b[sec+8] = 1 }), ErrFormat},
		{"flags", edit(func(b []byte) { b[sec+12] = 1 }), ErrFormat},
		{"reserved", edit(func(b []byte) { b[sec+700] = 1 }), ErrFormat},
		{"role with a slash", edit(func(b []byte) { copy(b[sec+offRole:], "../etc") }), ErrFormat},
		{"text behind the end", edit(func(b []byte) { b[sec+offRole+20] = 'x' }), ErrFormat},
		{"year 40000", edit(func(b []byte) { le.PutUint64(b[sec+offNotAfter:], 1_200_000_000_000) }), ErrFormat},
		{"signature of another file", edit(func(b []byte) {
			o, _ := Sign(append(tiny(), 0), testHeader(), key)
			copy(b[sec:], o[bytes.Index(o, []byte(magic)):][:sectionSize])
		}), ErrBadSignature},
		{"other key", func() []byte { b, _ := Sign(tiny(), testHeader(), other); return b }(), ErrBadSignature},
		{"zero signature", edit(func(b []byte) { clear(b[sec+offSignature:][:sigSize]) }), ErrBadSignature},
	} {
		if err := check(tt.data, pub); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	key, _ := testKey(t)
	for name, f := range map[string]func(h *Header){
		"no role":               func(h *Header) { h.Role = "" },
		"role with upper case":  func(h *Header) { h.Role = "Router" },
		"role too long":         func(h *Header) { h.Role = strings.Repeat("a", 33) },
		"name with space":       func(h *Header) { h.Name = "a b" },
		"hidden name":           func(h *Header) { h.Name = ".x" },
		"version":               func(h *Header) { h.Version = "1.2" },
		"long version":          func(h *Header) { h.Version = "1.2.3+" + strings.Repeat("a", 64) },
		"minimum":               func(h *Header) { h.MinVersion = "one" },
		"minimum above version": func(h *Header) { h.MinVersion = "1.2.3" },
		"ends before it begins": func(h *Header) { h.NotAfter = h.NotBefore.Add(-time.Second) },
		"before 1970":           func(h *Header) { h.NotBefore = time.Unix(-5, 0) },
	} {
		h := testHeader()
		f(&h)
		if _, err := Sign(tiny(), h, key); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := Sign([]byte("text"), testHeader(), key); !errors.Is(err, ErrELF) {
		t.Errorf("text file: %v", err)
	}
}

func TestCheckTime(t *testing.T) {
	data := signed(t)
	s, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   int64
		want error
	}{{1_699_999_999, ErrNotYetValid}, {1_700_000_000, nil}, {1_900_000_000, nil}, {1_900_000_001, ErrExpired}} {
		if err := s.CheckTime(time.Unix(tt.at, 0)); !errors.Is(err, tt.want) {
			t.Errorf("at %d: %v, want %v", tt.at, err, tt.want)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	// The order of semver.org, section 11, and malformed first.
	order := []string{
		"1.0", "0.9.9", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
	}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := CompareVersions(a, b); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
	if CompareVersions("1.0.0+a", "1.0.0+b") != 0 {
		t.Error("build metadata counts")
	}
	for _, bad := range []string{"", "1", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3-", "1.2.3-a..b", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.3-ä", "1.2.18446744073709551616"} {
		if _, err := parseVersion(bad); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
}

func TestCaps(t *testing.T) {
	c, err := ParseCaps("CAP_NET_ADMIN, net_raw,bpf")
	if err != nil || c != 1<<12|1<<13|1<<39 || c.String() != "net_admin,net_raw,bpf" {
		t.Errorf("caps %v (%#x): %v", c, uint64(c), err)
	}
	if _, err := ParseCaps("net_admin,fly"); err == nil {
		t.Error("unknown capability taken")
	}
	if s := Caps(1 << 63).String(); s != "63" {
		t.Errorf("unknown bit prints as %q", s)
	}
}

// The key files are those of openssl, and openssl verifies our signature.
func TestOpenSSL(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("genpkey", "-algorithm", "ed25519", "-out", file("o.key"))
	run("pkey", "-in", file("o.key"), "-pubout", "-out", file("o.pem"))
	if err := os.Chmod(file("o.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ReadPrivateKeyFile(file("o.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ReadPublicKeyFile(file("o.pem"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := Sign(tiny(), testHeader(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(data, pub); err != nil {
		t.Fatal(err)
	}
	s, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	// As the package comment says: digest of the file without the signature.
	clear(data[s.off : s.off+sigSize])
	write(t, file("zeroed"), data)
	out, err := exec.Command("openssl", "dgst", "-sha256", "-binary", file("zeroed")).Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, file("message"), append([]byte("godwit-elfsig-2\n"), out...))
	write(t, file("signature"), s.sig[:])
	run("pkeyutl", "-verify", "-pubin", "-inkey", file("o.pem"), "-rawin", "-in", file("message"), "-sigfile", file("signature"))

	private, err := EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := EncodePublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	for name, ours := range map[string][]byte{"o.key": private, "o.pem": public} {
		theirs, err := os.ReadFile(file(name))
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("%s: we write\n%s openssl writes\n%s %v", name, ours, theirs, err)
		}
	}
	// The key id is what a person computes with openssl.
	der, err := exec.Command("sh", "-c", "openssl pkey -pubin -in "+file("o.pem")+" -outform DER | openssl dgst -sha256 -binary").Output()
	if err != nil {
		t.Fatal(err)
	}
	if id, err := KeyIDOf(pub); err != nil || id.String() != hex.EncodeToString(der[:8]) {
		t.Errorf("key id %v, openssl says %x (%v)", id, der[:8], err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFilesRefused(t *testing.T) {
	key, pub := testKey(t)
	private, _ := EncodePrivateKey(key)
	public, _ := EncodePublicKey(pub)
	path := filepath.Join(t.TempDir(), "k")
	write(t, path, private)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivateKeyFile(path, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("private key that all may read: %v", err)
	}
	rsa, err := exec.Command("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("key"), "public": public, "two": append(bytes.Clone(private), private...),
		"cut": private[:len(private)-40], "long": append(bytes.Clone(private), make([]byte, maxKeyFile)...), "RSA": rsa,
	} {
		if _, err := DecodePrivateKey(data, "x"); err == nil {
			t.Errorf("%s: taken as a private key", name)
		}
	}
	if _, err := DecodePublicKey(private); err == nil {
		t.Error("private key taken as a public one")
	}
	if _, err := ParseKeyID("0123"); err == nil {
		t.Error("short key id taken")
	}
}

// A real program: every section in turn, one random byte of it flipped.
func TestEverySectionOfARealProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prog")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	key, pub := testKey(t)
	if err := SignFile(path, path, testHeader(), key); err != nil {
		t.Fatal(err)
	}
	find := func(*Signed) (ed25519.PublicKey, error) { return pub, nil }
	if _, err := VerifyFile(path, find); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).Output(); err != nil || string(out) != "hello\n" {
		t.Fatalf("signed program: %q, %v", out, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	flipped := 0
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS || s.FileSize == 0 {
			continue
		}
		at := s.Offset + rng.Uint64N(s.FileSize)
		bit := byte(1) << rng.IntN(8)
		data[at] ^= bit
		if err := check(data, pub); err == nil {
			t.Errorf("section %s, byte %d, bit %#x flipped: verified (seed %d)", s.Name, at, bit, seed)
		}
		data[at] ^= bit
		flipped++
	}
	if flipped < 15 {
		t.Errorf("only %d sections", flipped)
	}
}

// FuzzParse: hostile files end in an error or a signature that does not verify.
func FuzzParse(f *testing.F) {
	data := signed(f)
	f.Add(data)
	f.Add(tiny())
	f.Add([]byte("\x7fELF"))
	rng := rand.New(rand.NewPCG(1, 1))
	for range 32 { // headers with damage where the structure is
		b := bytes.Clone(data)
		for range 4 {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	_, pub := testKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if err := s.Verify(bytes.NewReader(b), pub); err == nil && !bytes.Equal(b, data) {
			t.Errorf("forged: %x", b)
		}
		// What parses can be signed again.
		key, _ := testKey(t)
		again, err := Sign(b, s.Header, key)
		if err != nil {
			t.Fatalf("sign what parsed: %v", err)
		}
		if err := check(again, pub); err != nil {
			t.Fatalf("verify what was signed: %v", err)
		}
	})
}

// A reader that counts: memory and reads stay bounded whatever the headers say.
func TestHostileHeadersReadLittle(t *testing.T) {
	data := signed(t)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 20_000 {
		b := bytes.Clone(data)
		for range 1 + rng.IntN(6) {
			b[rng.IntN(len(b))] ^= byte(1 + rng.UintN(255))
		}
		r := &countingReader{r: bytes.NewReader(b)}
		_, _ = Parse(r, MaxFileSize) // the size lies: reads beyond the end must fail, not hang
		if limit := int64(maxNameTable + maxSections*shdrSize + maxSegments*phdrSize + 4096); r.n > limit {
			t.Fatalf("case %d: %d bytes read, limit %d", i, r.n, limit)
		}
	}
}

type countingReader struct {
	r *bytes.Reader
	n int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	c.n += int64(len(p))
	return c.r.ReadAt(p, off)
}

func ExampleCaps_String() {
	c, _ := ParseCaps("net_raw,net_admin")
	fmt.Println(c)
	// Output: net_admin,net_raw
}
