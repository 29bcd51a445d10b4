package topology

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// tableFile is the full Internet table (901,899 IPv4 and 160,147 IPv6
// prefixes) in the test data of a module that the project requires anyway.
const tableFile = "internal/tests/testdata/prefixes.txt.gz"

var table = sync.OnceValues(loadTable)

// Table returns the real Internet table, IPv4 and IPv6, in the file's order.
func Table() (v4, v6 []netip.Prefix, err error) {
	t, err := table()
	return t[0], t[1], err
}

func loadTable() (t [2][]netip.Prefix, err error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		return t, fmt.Errorf("find the Internet table: %w", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), tableFile))
	if err != nil {
		return t, fmt.Errorf("find the Internet table: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return t, fmt.Errorf("read the Internet table: %w", err)
	}
	s := bufio.NewScanner(z)
	for s.Scan() {
		p, err := netip.ParsePrefix(strings.TrimSpace(s.Text()))
		if err != nil {
			return t, fmt.Errorf("read the Internet table: %w", err)
		}
		if p.Addr().Is4() {
			t[0] = append(t[0], p)
		} else {
			t[1] = append(t[1], p)
		}
	}
	return t, s.Err()
}

// Prefixes are the prefixes of a feed.
func (f Feed) Prefixes() (v4, v6 []netip.Prefix, err error) {
	v4, v6, err = Table()
	if err != nil {
		return nil, nil, err
	}
	if v4, err = cut(v4, f.Skip, f.Count4); err != nil {
		return nil, nil, err
	}
	v6, err = cut(v6, f.Skip, f.Count6)
	return v4, v6, err
}

func cut(ps []netip.Prefix, skip, n int) ([]netip.Prefix, error) {
	if n == 0 {
		return nil, nil
	}
	if skip+n > len(ps) {
		return nil, fmt.Errorf("feed of %d prefixes behind %d: the table has %d", n, skip, len(ps))
	}
	return ps[skip : skip+n], nil
}

// prefixesPerPath: a real table has about five prefixes to a set of attributes.
const prefixesPerPath = 5

// birdFeed writes static protocols whose routes carry made-up AS paths.
func birdFeed(f Feed, b *strings.Builder) error {
	v4, v6, err := f.Prefixes()
	if err != nil {
		return err
	}
	for i, ps := range [][]netip.Prefix{v4, v6} {
		if len(ps) == 0 {
			continue
		}
		family := []string{"ipv4", "ipv6"}[i]
		fmt.Fprintf(b, "protocol static feed_%s {\n %s;\n", family, family)
		for j, p := range ps {
			n := uint32(j / prefixesPerPath)
			fmt.Fprintf(b, " route %v blackhole { bgp_path.prepend(%d); bgp_path.prepend(%d); };\n", p, f.AS+n%40000, f.AS+n/40000)
		}
		b.WriteString("}\n")
	}
	return nil
}

// frrFeed writes network statements, to stand inside "router bgp".
func frrFeed(f Feed, b *strings.Builder) error {
	v4, v6, err := f.Prefixes()
	if err != nil {
		return err
	}
	for i, ps := range [][]netip.Prefix{v4, v6} {
		if len(ps) == 0 {
			continue
		}
		fmt.Fprintf(b, " address-family %s unicast\n", []string{"ipv4", "ipv6"}[i])
		for _, p := range ps {
			fmt.Fprintf(b, "  network %v\n", p)
		}
		b.WriteString(" exit-address-family\n")
	}
	return nil
}
