package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed dpdk/fib.c
var dpdkSource []byte

// dpdk is a process that looks the same addresses up in DPDK's tables.
type dpdk struct {
	dir    string
	cmd    *exec.Cmd
	ask    io.WriteCloser
	answer *bufio.Scanner
	stderr bytes.Buffer
}

// newDPDK builds the helper and fills its table. It needs gcc and the Debian
// packages librte-fib23 and librte-mempool-ring23 (8 small ones with what they
// need; not libdpdk-dev).
func newDPDK(prefixes []netip.Prefix, a *addresses) (*dpdk, error) {
	dir, err := os.MkdirTemp("", "godwit-bench-dpdk-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	d := &dpdk{dir: dir}
	if err := d.start(prefixes, a); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dpdk) start(prefixes []netip.Prefix, a *addresses) error {
	source, program, data := filepath.Join(d.dir, "fib.c"), filepath.Join(d.dir, "fib"), filepath.Join(d.dir, "data")
	if err := os.WriteFile(source, dpdkSource, 0o600); err != nil {
		return fmt.Errorf("write source: %w", err)
	}
	out, err := exec.Command("gcc", "-O2", "-o", program, source, "-l:librte_fib.so.23", "-l:librte_eal.so.23",
		"-Wl,--no-as-needed", "-l:librte_mempool_ring.so.23").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build against DPDK (apt-get install gcc librte-fib23 librte-mempool-ring23): %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.WriteFile(data, dpdkData(prefixes, a), 0o600); err != nil {
		return fmt.Errorf("write prefixes: %w", err)
	}
	d.cmd = exec.Command(program, data)
	d.cmd.Stderr = &d.stderr
	if d.ask, err = d.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	d.answer = bufio.NewScanner(stdout)
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return fmt.Errorf("start helper: %w", err)
	}
	_, _, err = d.round()
	return err
}

// dpdkData is the file that fib.c describes.
func dpdkData(prefixes []netip.Prefix, a *addresses) []byte {
	family := uint32(4)
	if prefixes[0].Addr().Is6() {
		family = 6
	}
	word := binary.NativeEndian.AppendUint32
	b := word(word(word(nil, family), uint32(len(prefixes))), uint32(len(a.addrs)))
	addr := func(ip netip.Addr) {
		var full [16]byte
		copy(full[:], ip.AsSlice())
		b = append(b, full[:]...)
	}
	for i, p := range prefixes {
		addr(p.Addr())
		b = word(word(b, uint32(p.Bits())), uint32(1+i%fibGroups))
	}
	for _, ip := range a.addrs {
		addr(ip)
	}
	return b
}

// round looks all addresses up, in bulks of 64; vector is 0 where the processor
// has no such lookup.
func (d *dpdk) round() (scalar, vector float64, err error) {
	if _, err := io.WriteString(d.ask, "\n"); err != nil {
		return 0, 0, fmt.Errorf("ask helper: %w: %s", err, d.stderr.Bytes())
	}
	if !d.answer.Scan() {
		return 0, 0, fmt.Errorf("helper ended: %w", errors.Join(d.answer.Err(), d.wait()))
	}
	if _, err := fmt.Sscan(d.answer.Text(), &scalar, &vector); err != nil {
		return 0, 0, fmt.Errorf("helper said %q: %w", d.answer.Text(), err)
	}
	return scalar, vector, nil
}

// wait ends the helper.
func (d *dpdk) wait() error {
	if d.cmd == nil {
		return nil
	}
	cmd := d.cmd
	d.cmd = nil
	err := errors.Join(d.ask.Close(), cmd.Wait())
	if err != nil {
		return fmt.Errorf("run helper: %w: %s", err, bytes.TrimSpace(d.stderr.Bytes()))
	}
	return nil
}

func (d *dpdk) close() error { return errors.Join(d.wait(), os.RemoveAll(d.dir)) }
