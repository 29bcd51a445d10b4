package patricia_test

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gaissmai/bart"

	"godwit/fib"
	"godwit/fib/fibtest"
	"godwit/fib/patricia"
)

// realPrefixes is the Internet table in the test data of bart.
func realPrefixes(t *testing.T) (out []netip.Prefix) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "internal/tests/testdata/prefixes.txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	line := 0
	for lines := bufio.NewScanner(z); lines.Scan(); line++ {
		if patricia.RaceDetector && line%80 != 0 {
			continue
		}
		out = append(out, netip.MustParsePrefix(lines.Text()))
	}
	return out
}

// The full table against bart: two million addresses with all routes, and
// again after half of them were deleted; then nothing is left. With the race detector a
// part of the table and of the addresses.
func TestFullTableAgainstBart(t *testing.T) {
	prefixes := realPrefixes(t)
	for name, trees := range map[string]patricia.Trees{"ordered": patricia.Ordered, "kentik": patricia.Kentik} {
		t.Run(name, func(t *testing.T) { againstBart(t, prefixes, trees) })
	}
}

func againstBart(t *testing.T, all []netip.Prefix, trees patricia.Trees) {
	prefixes, lookups := slices.Clone(all), 1<<21
	r := fibtest.Rand(t)
	r.Shuffle(len(prefixes), func(i, j int) { prefixes[i], prefixes[j] = prefixes[j], prefixes[i] })
	if patricia.RaceDetector {
		lookups = 1 << 14
	}
	tb, _ := newTablesWith(t, trees)
	var other bart.Fast[uint32]
	const groups = 3000
	seq := uint64(1)
	var changes []fib.Change
	for id := range fib.GroupID(groups) {
		changes = append(changes, group(id+1)) // gets index id+1: indices are dense
	}
	flush := func() {
		mustApply(t, tb, 1, seq, false, changes...)
		seq++
		changes = changes[:0]
	}
	flush()
	for i, p := range prefixes {
		g := uint32(1 + i%groups)
		other.Insert(p, g)
		changes = append(changes, fib.Change{Op: fib.SetRoute, Route: fib.Route{Prefix: p, Group: fib.GroupID(g)}})
		if len(changes) == 2000 {
			flush()
		}
	}
	flush()
	s := tb.Stats().VRFs[0]
	if s.Routes4+s.Routes6 != len(prefixes) || s.Bytes > 64<<20 {
		t.Errorf("%d prefixes: %+v", len(prefixes), s)
	}
	if !patricia.RaceDetector && (s.Routes4 != 901899 || s.Routes6 != 160147) {
		t.Errorf("full table: %+v", s)
	}
	compare := func() {
		for range lookups {
			p := prefixes[r.IntN(len(prefixes))]
			b := p.Addr().As16()
			binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])^r.Uint32()>>(r.IntN(32)))
			a := netip.AddrFrom16(b)
			var got uint32
			if p.Addr().Is4() {
				a = a.Unmap()
				got = tb.Lookup4(0, binary.BigEndian.Uint32(b[12:]))
			} else {
				binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^r.Uint64()>>(16+r.IntN(48)))
				a = netip.AddrFrom16(b)
				got = tb.Lookup6(0, binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:]))
			}
			if want, _ := other.Lookup(a); got != want {
				t.Fatalf("%v: group %d, want %d", a, got, want)
			}
		}
	}
	compare()
	remove := func(part []netip.Prefix) {
		for _, p := range part {
			other.Delete(p)
			changes = append(changes, fib.Change{Op: fib.DeleteRoute, Route: fib.Route{Prefix: p}})
			if len(changes) == 2000 {
				flush()
			}
		}
		flush()
	}
	remove(prefixes[:len(prefixes)/2])
	compare()
	remove(prefixes[len(prefixes)/2:])
	if s := tb.Stats(); len(s.VRFs) != 0 || tb.Lookup4(0, 0x08080808) != 0 {
		t.Errorf("after deleting all: %+v", s)
	}
}
