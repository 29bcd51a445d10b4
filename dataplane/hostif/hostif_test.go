package hostif

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// namespace makes a network namespace for the test.
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("gwt-hostif-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	return name
}

// in runs a command inside the namespace.
func in(t *testing.T, ns string, args ...string) string {
	t.Helper()
	return run(t, append([]string{"ip", "netns", "exec", ns}, args...)...)
}

// collector keeps what a reader delivers.
type collector struct {
	mu     sync.Mutex
	frames [][]byte
	lost   error
}

func (c *collector) receive(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, bytes.Clone(b))
}

func (c *collector) gone(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = err
}

func (c *collector) find(match func([]byte) bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if match(f) {
			return f
		}
	}
	return nil
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func open(t *testing.T, kind Kind, ns, name string) (*Device, *collector) {
	t.Helper()
	c := &collector{}
	d, err := Open(kind, "/run/netns/"+ns, name, c.receive, c.gone)
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// l4Valid verifies the checksums of an IPv4 packet and of the UDP in it.
func l4Valid(p []byte) bool {
	if len(p) < 28 || checksum(p[:20], 0) != 0 || p[26] == 0 && p[27] == 0 {
		return false
	}
	pseudo := uint32(17) + uint32(len(p)-20)
	for i := 12; i < 20; i += 2 {
		pseudo += uint32(p[i])<<8 | uint32(p[i+1])
	}
	return checksum(p[20:], pseudo) == 0
}

func tap(t *testing.T, ns string) {
	in(t, ns, "ip", "tuntap", "add", "dev", "eth7", "mode", "tap")
	in(t, ns, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth7")
	in(t, ns, "ip", "link", "set", "eth7", "up")
	in(t, ns, "ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "eth7")
}

// sendUDP sends a datagram from the namespace.
func sendUDP(t *testing.T, ns, to, payload string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(to)
	cmd := exec.Command("ip", "netns", "exec", ns, "socat", "-b", "40000", "-u", "-", "UDP-SENDTO:"+host+":"+port)
	cmd.Stdin = strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send: %v\n%s", err, out)
	}
}

func TestTAPCarriesCompleteChecksums(t *testing.T) {
	ns := namespace(t)
	tap(t, ns)
	d, c := open(t, TAP, ns, "eth7")
	defer d.Close()
	if err := d.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	var frame []byte
	eventually(t, "UDP frame", func() bool {
		sendUDP(t, ns, "192.0.2.9:7777", "to the wire")
		frame = c.find(func(f []byte) bool { return bytes.Contains(f, []byte("to the wire")) })
		return frame != nil
	})
	if frame[12] != 8 || frame[13] != 0 || !l4Valid(frame[14:]) {
		t.Errorf("frame % x: not IPv4 with valid checksums", frame)
	}
	if s := d.Stats(); s.RxPackets == 0 || s.RxBytes < uint64(len(frame)) {
		t.Errorf("stats %+v", s)
	}
}

// arpRequest asks for 192.0.2.1 as 192.0.2.9.
func arpRequest() []byte {
	return append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1}, make([]byte, 18)...)
}

func TestTAPWriteReachesTheStack(t *testing.T) {
	ns := namespace(t)
	tap(t, ns)
	d, c := open(t, TAP, ns, "eth7")
	defer d.Close()
	if err := d.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	// The stack may drop its answers until it has noticed the carrier: ask again.
	eventually(t, "ARP reply", func() bool {
		if !d.Write(arpRequest()) {
			t.Fatal("write refused")
		}
		return c.find(func(f []byte) bool { return len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 }) != nil
	})
}

func TestCarrier(t *testing.T) {
	ns := namespace(t)
	tap(t, ns)
	d, _ := open(t, TAP, ns, "eth7")
	state := func() string { return strings.TrimSpace(in(t, ns, "cat", "/sys/class/net/eth7/carrier")) }
	for _, up := range []bool{true, false, true} {
		if err := d.SetCarrier(up); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: "1", false: "0"}[up]
		eventually(t, "carrier "+want, func() bool { return state() == want })
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// Whoever dies takes the carrier along, and the device stays.
	eventually(t, "carrier lost at close", func() bool { return state() == "0" })
	d, _ = open(t, TAP, ns, "eth7")
	if err := d.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "carrier back", func() bool { return state() == "1" })
	d.Close()
}

func TestTUNQueues(t *testing.T) {
	ns := namespace(t)
	in(t, ns, "ip", "tuntap", "add", "dev", "vrf0", "mode", "tun", "multi_queue")
	in(t, ns, "ip", "link", "set", "vrf0", "up")
	in(t, ns, "ip", "link", "set", "lo", "up")
	in(t, ns, "ip", "addr", "add", "198.51.100.1/32", "dev", "lo")
	in(t, ns, "ip", "route", "add", "default", "dev", "vrf0", "src", "198.51.100.1")
	d1, c1 := open(t, TUN, ns, "vrf0")
	defer d1.Close()
	d2, c2 := open(t, TUN, ns, "vrf0")
	defer d2.Close()
	sendUDP(t, ns, "203.0.113.5:53", "off link")
	has := func(f []byte) bool { return f[0] == 0x45 && bytes.Contains(f, []byte("off link")) }
	var p []byte
	eventually(t, "packet on one of the queues", func() bool {
		if p = c1.find(has); p == nil {
			p = c2.find(has)
		}
		return p != nil
	})
	if !l4Valid(p) {
		t.Errorf("packet % x has bad checksums", p)
	}
}

func TestTooLongIsCounted(t *testing.T) {
	ns := namespace(t)
	in(t, ns, "ip", "tuntap", "add", "dev", "vrf0", "mode", "tun")
	in(t, ns, "ip", "link", "set", "vrf0", "mtu", "40000", "up")
	in(t, ns, "ip", "addr", "add", "198.51.100.1/32", "dev", "vrf0")
	in(t, ns, "ip", "route", "add", "default", "dev", "vrf0")
	d, c := open(t, TUN, ns, "vrf0")
	defer d.Close()
	sendUDP(t, ns, "203.0.113.5:53", strings.Repeat("x", 30000))
	eventually(t, "drop", func() bool { return d.Stats().TooLong > 0 })
	if c.find(func(f []byte) bool { return len(f) > maxFrame }) != nil {
		t.Error("a cut packet was delivered")
	}
}

func TestMissing(t *testing.T) {
	c := &collector{}
	if _, err := Open(TAP, "/run/netns/gwt-hostif-none", "eth7", c.receive, c.gone); !errors.Is(err, ErrMissing) {
		t.Errorf("missing namespace: %v", err)
	}
	ns := namespace(t)
	if _, err := Open(TAP, "/run/netns/"+ns, "eth7", c.receive, c.gone); !errors.Is(err, ErrMissing) {
		t.Errorf("missing device: %v", err)
	}
	if out := in(t, ns, "ip", "-br", "link"); strings.Contains(out, "eth7") {
		t.Errorf("a device was made: %s", out)
	}
	for _, bad := range []string{"", "a-name-that-is-too-long"} {
		if _, err := Open(TAP, "/run/netns/"+ns, bad, c.receive, c.gone); err == nil {
			t.Errorf("name %q accepted", bad)
		}
	}
	if _, err := Open(TAP, "/proc/self/status", "eth7", c.receive, c.gone); err == nil {
		t.Error("a file that is no namespace accepted")
	}
}

func TestBusyAndStolen(t *testing.T) {
	ns := namespace(t)
	tap(t, ns)
	d, c := open(t, TAP, ns, "eth7")
	defer d.Close()
	if _, err := Open(TAP, "/run/netns/"+ns, "eth7", c.receive, c.gone); err == nil {
		t.Error("a TAP with one queue was attached twice")
	}
	in(t, ns, "ip", "link", "del", "eth7")
	eventually(t, "loss of the device reported", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.lost != nil
	})
	if d.Write(arpRequest()) || d.Stats().TxErrors != 1 {
		t.Error("write to a deleted device accepted")
	}
}

func TestCloseWaitsForReceive(t *testing.T) {
	ns := namespace(t)
	tap(t, ns)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d, err := Open(TAP, "/run/netns/"+ns, "eth7", func([]byte) {
		once.Do(func() { close(entered); <-release })
	}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	d.SetCarrier(true)
	eventually(t, "receive called", func() bool {
		d.Write(arpRequest())
		select {
		case <-entered:
			return true
		default:
			return false
		}
	})
	closed := make(chan struct{})
	go func() { d.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("Close returned while receive ran")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-closed
}
