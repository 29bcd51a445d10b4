package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

// sniff captures on a host's device until stop is called, which returns the
// file. The file is kept when the test fails.
func sniff(t *testing.T, h *topology.Host, device, filter string) (stop func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "godwit-pcap-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, strings.ReplaceAll(h.Name, "/", "-")+"-"+device+".pcap")
	name := "tcpdump-" + device + "-" + filepath.Base(dir)
	p, err := h.Start(name, "tcpdump", "-n", "-U", "--immediate-mode", "-i", device, "-w", file, filter)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(context.Context) error {
		if !strings.Contains(p.Output(), "listening on") {
			return fmt.Errorf("tcpdump: %s", p.Output())
		}
		return nil
	})
	t.Cleanup(func() {
		h.Forget(name)
		if t.Failed() {
			t.Logf("capture kept: %s", file)
			return
		}
		os.RemoveAll(dir)
	})
	return func() string {
		if err := p.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
		return file
	}
}

// packets counts what a capture holds for a display filter.
func packets(t *testing.T, file, filter string) int {
	t.Helper()
	out := sh(t, shared.r1, "tshark -n -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -r %s -Y '%s' 2>/dev/null", file, filter)
	return strings.Count(out, "\n")
}

// clean fails the test if a capture holds a malformed packet or a bad checksum.
// 0xffff is the other zero of one's complement (RFC 1071): hosts send it now and
// then, tshark calls it bad.
func clean(t *testing.T, file string) {
	t.Helper()
	bad := `_ws.malformed || ip.checksum.status == "Bad" || (tcp.checksum.status == "Bad" && tcp.checksum != 0xffff) || (udp.checksum.status == "Bad" && udp.checksum != 0xffff) || icmp.checksum.status == "Bad" || icmpv6.checksum.status == "Bad"`
	if n := packets(t, file, bad); n > 0 {
		t.Errorf("%d malformed packets or bad checksums in %s", n, file)
	}
	if packets(t, file, "frame") == 0 {
		t.Errorf("%s is empty", file)
	}
}

func TestPingThroughBothFamilies(t *testing.T) {
	shared.converged(t)
	stop := sniff(t, shared.node("up-a"), "eth0", "icmp or icmp6")
	cust := shared.node("cust-red")
	sh(t, cust, "ping -n -c 5 -i 0.05 -W 1 192.0.2.1")
	sh(t, cust, "ping -n -c 5 -i 0.05 -W 1 2001:db8:a::1")
	sh(t, cust, "ping -n -c 3 -i 0.05 -W 1 10.0.1.1 && ping -n -c 3 -i 0.05 -W 1 10.0.0.1")
	sh(t, cust, "ping -n -c 3 -i 0.05 -W 1 2001:db8:1::1 && ping -n -c 3 -i 0.05 -W 1 2001:db8::1")
	clean(t, stop())
}

func TestPingFromTheHostStack(t *testing.T) {
	shared.converged(t)
	for _, dst := range []string{"10.0.1.2", "192.0.2.1", "2001:db8:1::2", "2001:db8:a::1"} {
		out := shared.cli(t, "ping vrf red "+dst+" count 3 interval 50ms")
		if !strings.Contains(out, "3 received") {
			t.Errorf("ping %s:\n%s", dst, out)
		}
	}
	if out, err := shared.r1.CLI(t.Context(), "ping", "vrf", "red", "203.0.113.65", "count", "2", "interval", "50ms", "timeout", "300ms"); err == nil {
		t.Errorf("a blackhole answered:\n%s", out)
	}
}

func TestTTLGoesDownByOneAndExpires(t *testing.T) {
	shared.converged(t)
	stop := sniff(t, shared.node("up-a"), "eth0", "icmp[icmptype] == icmp-echo")
	cust := shared.node("cust-red")
	sh(t, cust, "ping -n -c 2 -i 0.05 -t 17 192.0.2.1")
	out, err := try(t, cust, "ping -n -c 1 -W 2 -t 1 192.0.2.1")
	if err == nil || !strings.Contains(out, "10.0.1.1") || !strings.Contains(out, "Time to live exceeded") {
		t.Errorf("TTL 1: %v\n%s", err, out)
	}
	out, err = try(t, cust, "ping -n -c 1 -W 2 -t 1 2001:db8:a::1")
	if err == nil || !strings.Contains(out, "2001:db8:1::1") || !strings.Contains(out, "Hop limit") {
		t.Errorf("hop limit 1: %v\n%s", err, out)
	}
	file := stop()
	if n := packets(t, file, "ip.ttl == 16"); n != 2 {
		t.Errorf("%d packets with TTL 16, want 2", n)
	}
	if out := sh(t, cust, "traceroute -n -q 1 -w 1 192.0.2.1"); !strings.Contains(out, "1  10.0.1.1") || !strings.Contains(out, "2  192.0.2.1") {
		t.Errorf("traceroute:\n%s", out)
	}
}

func TestPathMTU(t *testing.T) {
	shared.converged(t)
	cust := shared.node("cust-red")
	stop := sniff(t, shared.node("up-a"), "eth0", "ip or ip6")
	out, err := try(t, cust, "ping -n -c 1 -W 2 -M do -s 1450 192.0.2.1")
	if err == nil || !strings.Contains(out, "mtu = 1400") && !strings.Contains(out, "mtu=1400") {
		t.Errorf("DF: %v\n%s", err, out)
	}
	out, _ = try(t, cust, "ping -n -c 1 -W 2 -M do -s 1440 2001:db8:a::1")
	if !strings.Contains(out, "mtu=1400") && !strings.Contains(out, "mtu = 1400") {
		t.Errorf("packet too big:\n%s", out)
	}
	sh(t, cust, "ip route flush cache; ping -n -c 2 -i 0.05 -W 2 -M dont -s 1450 192.0.2.1") // fragmented by the router
	sh(t, cust, "ping -n -c 2 -i 0.05 -W 2 -M do -s 1372 192.0.2.1")
	clean(t, stop())
}

func TestTCPIsCarriedWholeWithValidChecksums(t *testing.T) {
	shared.converged(t)
	lab := filepath.Join(binaries(), "lab")
	up, cust := shared.node("up-a"), shared.node("cust-red")
	for _, addr := range []string{"192.0.2.1:8080", "[2001:db8:a::1]:8080"} {
		name := "http-" + strings.NewReplacer(":", "-", "[", "", "]", "", ".", "-").Replace(addr)
		p, err := up.Start(name, lab, "http", addr, "up-a")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func(context.Context) error {
			if !strings.Contains(p.Output(), "listening") {
				return fmt.Errorf("web server: %s", p.Output())
			}
			return nil
		})
		stop := sniff(t, cust, "eth0", "tcp port 8080")
		if out := sh(t, cust, "%s get http://%s/3", lab, addr); !strings.Contains(out, "3145728 bytes") {
			t.Error(out)
		}
		clean(t, stop())
		if err := p.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
		up.Forget(name)
	}
}

func TestECMPSpreadsFlowsAndKeepsThem(t *testing.T) {
	shared.converged(t)
	a := sniff(t, shared.node("up-a"), "eth0", "udp and dst 198.51.100.1")
	b := sniff(t, shared.node("up-b"), "eth0", "udp and dst 198.51.100.1")
	// 300 flows of 2 packets each.
	sh(t, shared.node("cust-red"), `/usr/bin/python3 -c '
import socket, time
for i in range(300):
    if i %% 20 == 19: time.sleep(0.005)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.0.1.2", 20000+i))
    for j in range(2): s.sendto(b"flow %%d" %% i, ("198.51.100.1", 9))
    s.close()
'`)
	sh(t, shared.node("cust-red"), "ping -n -c 2 -i 0.2 192.0.2.1") // behind the flows, on the same way
	fa, fb := a(), b()
	na, nb := packets(t, fa, "udp"), packets(t, fb, "udp")
	if na+nb != 600 || na < 180 || nb < 180 {
		t.Errorf("%d and %d packets of 600", na, nb)
	}
	if na%2 != 0 || nb%2 != 0 {
		t.Errorf("a flow was split: %d and %d packets", na, nb)
	}
	clean(t, fa)
	clean(t, fb)
}

func TestRedNeverAppearsInBlue(t *testing.T) {
	shared.converged(t)
	blueUp := sniff(t, shared.node("up-c"), "eth0", "icmp or udp")
	blueCust := sniff(t, shared.node("cust-blue"), "eth0", "icmp or udp")
	redUp := sniff(t, shared.node("up-a"), "eth0", "icmp")
	red := shared.node("cust-red")
	sh(t, red, "ping -n -c 20 -i 0.02 -p c0ffee -s 120 192.0.2.1")
	sh(t, red, "ping -n -c 5 -i 0.02 -p c0ffee -s 120 10.0.0.2")
	try(t, red, "ping -n -c 3 -i 0.02 -W 1 -p c0ffee 10.0.1.77") // nobody there, in either VRF
	secret := "frame contains c0:ff:ee:c0:ff:ee"
	if n := packets(t, redUp(), secret); n < 25 {
		t.Errorf("only %d of red's packets seen in red", n)
	}
	for _, stop := range []func() string{blueUp, blueCust} {
		if n := packets(t, stop(), secret); n > 0 {
			t.Errorf("%d packets of red in blue", n)
		}
	}
}

func TestStaticBlackholeRejectAndUnreachable(t *testing.T) {
	shared.converged(t)
	cust := shared.node("cust-red")
	sh(t, cust, "ping -n -c 2 -i 0.05 -W 1 203.0.113.1")
	out, err := try(t, cust, "ping -n -c 2 -i 0.05 -W 1 203.0.113.65")
	if err == nil || strings.Contains(out, "From") {
		t.Errorf("a blackhole is silent: %v\n%s", err, out)
	}
	out, err = try(t, cust, "ping -n -c 1 -W 1 203.0.113.129")
	if err == nil || !strings.Contains(out, "From 10.0.1.1") || !strings.Contains(out, "filtered") && !strings.Contains(out, "prohibited") {
		t.Errorf("reject: %v\n%s", err, out)
	}
	out, err = try(t, cust, "ping -n -c 1 -W 2 240.1.2.3 || ping -n -c 1 -W 2 100.99.0.1")
	if err == nil || !strings.Contains(out, "Net Unreachable") {
		t.Errorf("no route: %v\n%s", err, out)
	}
	out, err = try(t, cust, "ping -n -c 1 -W 6 10.0.0.99") // on a link of card 1, nobody there
	if err == nil || !strings.Contains(out, "Host Unreachable") {
		t.Errorf("unresolvable neighbour: %v\n%s", err, out)
	}
}

func TestServersOfTwoHostStacksShareAnAddress(t *testing.T) {
	shared.converged(t)
	lab := filepath.Join(binaries(), "lab")
	for _, vrf := range []string{"red", "blue"} {
		h := shared.r1.VRF(vrf)
		p, err := h.Start("http-host-"+vrf, lab, "http", "10.0.1.1:80", "host of "+vrf)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Kill()
		eventually(t, 10*time.Second, func(context.Context) error {
			if !strings.Contains(p.Output(), "listening") {
				return fmt.Errorf("web server: %s", p.Output())
			}
			return nil
		})
	}
	for _, vrf := range []string{"red", "blue"} {
		if out := sh(t, shared.node("cust-"+vrf), "%s get http://10.0.1.1/1", lab); !strings.Contains(out, "host of "+vrf) {
			t.Errorf("cust-%s got %s", vrf, out)
		}
	}
}

func TestCaptureIsAPcapOfWhatPassed(t *testing.T) {
	shared.converged(t)
	file := filepath.Join(t.TempDir(), "red-cust.pcap")
	p, err := shared.r1.Start("capture", filepath.Join(binaries(), "godwit"), "--run-dir", shared.r1.RunDir(), "capture", "interface", "red-cust", "count", "10", "write", file)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.r1.Forget("capture")
	eventually(t, 10*time.Second, func(context.Context) error {
		sh(t, shared.node("cust-red"), "ping -n -c 5 -i 0.02 -W 1 192.0.2.1")
		select {
		case <-p.Done():
			return p.Err()
		default:
			return fmt.Errorf("the capture has not ended")
		}
	})
	if n := packets(t, file, "icmp.type == 8 || icmp.type == 0"); n < 8 {
		t.Errorf("%d echo packets of 10", n)
	}
	clean(t, file)
}
