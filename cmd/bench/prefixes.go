package main

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

	"encoding/binary"
)

// fullTable returns the prefixes of the real Internet table, in random order
// (the same each time): test data of the module github.com/gaissmai/bart.
func fullTable() (v4, v6 []netip.Prefix, err error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("find real prefixes: %w", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "internal/tests/testdata/prefixes.txt.gz"))
	if err != nil {
		return nil, nil, fmt.Errorf("open real prefixes: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("read real prefixes: %w", err)
	}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		p, err := netip.ParsePrefix(lines.Text())
		if err != nil {
			return nil, nil, fmt.Errorf("read real prefixes: %w", err)
		}
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("read real prefixes: %w", err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(v4), func(i, j int) { v4[i], v4[j] = v4[j], v4[i] })
	r.Shuffle(len(v6), func(i, j int) { v6[i], v6[j] = v6[j], v6[i] })
	return v4, v6, nil
}

// moreSpecifics extends real prefixes to n: halves of them that are not there.
func moreSpecifics(real []netip.Prefix, n int) []netip.Prefix {
	have := make(map[netip.Prefix]bool, n)
	for _, p := range real {
		have[p] = true
	}
	out := append([]netip.Prefix(nil), real...)
	for _, p := range real {
		if len(out) >= n {
			break
		}
		if p.Bits() >= p.Addr().BitLen() {
			continue
		}
		if q := netip.PrefixFrom(p.Addr(), p.Bits()+1); !have[q] {
			have[q] = true
			out = append(out, q)
		}
	}
	return out[:min(n, len(out))]
}

// addresses are the same random addresses in the forms that tables take.
type addresses struct {
	addrs []netip.Addr
	v4    []uint32
	v6    [][2]uint64
}

// announced picks n addresses inside the prefixes: each prefix is as likely.
func announced(prefixes []netip.Prefix, n int) (a addresses) {
	r := rand.New(rand.NewPCG(2, 2))
	for range n {
		p := prefixes[r.IntN(len(prefixes))]
		b := p.Addr().As16()
		skip := 128 - p.Addr().BitLen() + p.Bits()
		for i := range b {
			keep := byte(0xff) << max(0, min(8, 8*i+8-skip))
			if 8*i >= skip {
				keep = 0
			}
			b[i] = b[i]&keep | byte(r.Uint32())&^keep
		}
		ip := netip.AddrFrom16(b)
		if p.Addr().Is4() {
			ip = ip.Unmap()
			a.v4 = append(a.v4, binary.BigEndian.Uint32(b[12:]))
		} else {
			a.v6 = append(a.v6, [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])})
		}
		a.addrs = append(a.addrs, ip)
	}
	return a
}
