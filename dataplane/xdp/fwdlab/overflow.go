package fwdlab

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Overflows counts the packets that found the ring of a veth full on an XDP redirect: from the generator to
// the router, which did not take them in time, and from the router's express path to the sink.
func (l *Lab) Overflows() (sum uint64, err error) {
	for _, d := range []struct{ ns, dev string }{{Gen, l.gen}, {Router, l.Out}} {
		var out []byte
		err := l.Do(d.ns, func() (err error) {
			out, err = exec.Command("ethtool", "-S", d.dev).Output()
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("count overflows of %s: %w", d.dev, err)
		}
		n, err := xmitErrors(out)
		if err != nil {
			return 0, fmt.Errorf("count overflows of %s: %w", d.dev, err)
		}
		sum += n
	}
	return sum, nil
}

// xmitErrors sums what ethtool -S says of the queues.
func xmitErrors(text []byte) (sum uint64, err error) {
	found := false
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(s.Text()), ": ")
		if !strings.HasPrefix(key, "tx_queue_") || !strings.HasSuffix(key, "_xdp_xmit_errors") {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, fmt.Errorf("no such counter in %q", text)
	}
	return sum, nil
}
