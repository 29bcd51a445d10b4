package fwdlab

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// FullTable reads the IPv4 prefixes of a full Internet table: the test data of
// a module that go.mod names.
func FullTable() ([]netip.Prefix, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		return nil, fmt.Errorf("find full table: %w", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "internal/tests/testdata/prefixes.txt.gz"))
	if err != nil {
		return nil, fmt.Errorf("open full table: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read full table: %w", err)
	}
	var list []netip.Prefix
	sc := bufio.NewScanner(z)
	for sc.Scan() {
		p, err := netip.ParsePrefix(sc.Text())
		if err != nil {
			return nil, fmt.Errorf("read full table: %w", err)
		}
		if p.Addr().Is4() {
			list = append(list, p.Masked())
		}
	}
	return list, sc.Err()
}

// Targets picks n addresses, each at random inside a random one of the
// prefixes, and none that a router must not forward.
func Targets(prefixes []netip.Prefix, n int, seed uint64) []netip.Addr {
	rng := rand.New(rand.NewPCG(seed, 0))
	list := make([]netip.Addr, 0, n)
	for len(list) < n {
		p := prefixes[rng.IntN(len(prefixes))]
		a := p.Addr().As4()
		host := rng.Uint32()
		if p.Bits() > 0 {
			host &= 1<<(32-p.Bits()) - 1
		}
		for i := range a {
			a[i] |= byte(host >> (24 - 8*i))
		}
		addr := netip.AddrFrom4(a)
		if a[0] == 0 || a[0] == 127 || a[0] >= 224 || InNet.Contains(addr) || OutNet.Contains(addr) {
			continue
		}
		list = append(list, addr)
	}
	return list
}
