package tipc

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestToleranceHolds: with the kernel's way of counting, a link that is silent
// is given up within the tolerance wished for, and not long before.
func TestToleranceHolds(t *testing.T) {
	for want := 75 * time.Millisecond; want <= 30*time.Second; want += 25 * time.Millisecond {
		told := kernelTolerance(want)
		interval := min(told/4, 500*time.Millisecond)
		latest := (told/interval + 2) * interval
		if latest > want || (latest < want*3/4 && want > 100*time.Millisecond) {
			t.Fatalf("%v: the kernel is told %v and gives up after %v", want, told, latest)
		}
	}
	if kernelTolerance(0) != kernelTolerance(DefaultTolerance) || kernelTolerance(time.Hour) != 29*time.Second || kernelTolerance(1) != 50*time.Millisecond {
		t.Errorf("%v, %v, %v", kernelTolerance(0), kernelTolerance(time.Hour), kernelTolerance(1))
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	write := func(text string, mode os.FileMode) {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{20, 28, 36} {
		write(strings.Repeat("5a", n)+"\n", 0o600)
		if key, err := ReadKey(file); err != nil || len(key) != n || key[0] != 0x5a {
			t.Errorf("%d bytes: %x, %v", n, key, err)
		}
	}
	for _, text := range []string{"", "5a", strings.Repeat("5a", 24), strings.Repeat("zz", 20), strings.Repeat("5a", 1000)} {
		write(text, 0o600)
		if _, err := ReadKey(file); err == nil || (len(text) > 2 && strings.Contains(err.Error(), text)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	write(strings.Repeat("5a", 20), 0o640)
	if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	for _, f := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := ReadKey(f); err == nil {
			t.Errorf("%s is a key", f)
		}
	}
}

func TestBearers(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for b, want := range map[Bearer]string{{Device: "eth1"}: "eth:eth1", {Local: four}: "udp:192.0.2.1", {Local: six}: "udp:2001.db8..1"} {
		if b.String() != want {
			t.Errorf("%q, want %q", b, want)
		}
	}
	local, remote, err := udpAddresses(Bearer{Local: four})
	if err != nil || len(local) != 128 || len(remote) != 128 || local[0] != unix.AF_INET || local[2] != 0x17 || local[3] != 0xe6 || local[4] != 192 || remote[4] != 228 {
		t.Errorf("%x, %x, %v", local[:8], remote[:8], err)
	}
	local, _, err = udpAddresses(Bearer{Local: six, Remote: netip.MustParseAddr("2001:db8::2")})
	if err != nil || local[0] != unix.AF_INET6 || local[8] != 0x20 || local[23] != 1 {
		t.Errorf("%x, %v", local[:24], err)
	}
	for _, b := range []Bearer{{}, {Local: four, Remote: six}} {
		if _, _, err := udpAddresses(b); err == nil {
			t.Errorf("%+v was taken", b)
		}
	}
	if err := setUp("nothing0"); err == nil {
		t.Error("a device that is not there")
	}
	if err := setUp("lo"); err != nil {
		t.Errorf("a device that is up: %v", err)
	}
}

func TestPeerOfALink(t *testing.T) {
	for name, want := range map[string]uint32{"1:eth0-2:eth1": 2, "1:eth0-1f:eth1": 31, "1:eth-0-2:eth-1": 2, "1:udp:10.9.9.1-2:udp:10.9.9.2": 2, "1:eth0-unknown:unknown": 0, "broadcast-link": 0, "": 0} {
		if got := peerOf(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}
