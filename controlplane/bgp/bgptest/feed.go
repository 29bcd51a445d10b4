package bgptest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// PrefixFile is the file with the real Internet table that comes with the bart
// module: 901,899 IPv4 and 160,147 IPv6 prefixes.
func PrefixFile() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		return "", fmt.Errorf("find module bart: %w", err)
	}
	return filepath.Join(string(bytes.TrimSpace(out)), "internal", "tests", "testdata", "prefixes.txt.gz"), nil
}

// Prefixes reads the first max4 IPv4 and max6 IPv6 prefixes of the real table,
// in the order of the file; negative: all.
func Prefixes(max4, max6 int) (v4, v6 []netip.Prefix, err error) {
	name, err := PrefixFile()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read prefixes: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("read prefixes: %w", err)
	}
	for in := bufio.NewScanner(z); in.Scan(); {
		p, err := netip.ParsePrefix(strings.TrimSpace(in.Text()))
		if err != nil {
			return nil, nil, fmt.Errorf("read prefixes: %w", err)
		}
		switch {
		case p.Addr().Is4() && (max4 < 0 || len(v4) < max4):
			v4 = append(v4, p.Masked())
		case p.Addr().Is6() && (max6 < 0 || len(v6) < max6):
			v6 = append(v6, p.Masked())
		}
	}
	return v4, v6, nil
}

// Table makes BIRD static routes with realistic attributes: runs of 1 to 9
// prefixes (5 in the mean) share an AS path of 1 to 8 hops and 0 to 3
// communities. The seed makes it reproducible.
type Table struct {
	Seed     uint64
	PerGroup int // mean prefixes to an attribute set; 0: 5
}

// Write writes one BIRD `route` statement a prefix, to stand inside a static
// protocol.
func (t Table) Write(w io.Writer, prefixes []netip.Prefix) error {
	mean := t.PerGroup
	if mean == 0 {
		mean = 5
	}
	r := rand.New(rand.NewPCG(t.Seed, 1))
	out := bufio.NewWriterSize(w, 1<<20)
	var attrs string
	left := 0
	for _, p := range prefixes {
		if left == 0 {
			left = 1 + r.IntN(2*mean-1)
			attrs = randomAttributes(r)
		}
		left--
		if _, err := fmt.Fprintf(out, "route %v blackhole { %s };\n", p, attrs); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func randomAttributes(r *rand.Rand) string {
	var b strings.Builder
	hops := 1 + min(r.IntN(5)+r.IntN(4), 7)
	as := make([]uint32, hops)
	for i := range as {
		as[i] = 1000 + r.Uint32N(60000) // documentation and private ranges are not avoided: nothing leaves the namespaces
	}
	for i := range as { // BIRD prepends: the last of the path first
		fmt.Fprintf(&b, "bgp_path.prepend(%d); ", as[len(as)-1-i])
	}
	for range r.IntN(4) {
		fmt.Fprintf(&b, "bgp_community.add((%d,%d)); ", as[0], r.IntN(5000))
	}
	b.WriteString("bgp_origin = ORIGIN_IGP;")
	return b.String()
}
