package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
)

// featuresRig starts the network of configs/lab/features.yaml and waits until it forwards.
func featuresRig(t *testing.T) *rig {
	t.Helper()
	r := ownRig(t, "../../../configs/lab/features.yaml", "gwf")
	src := r.node("src")
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			_, err := src.Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", to)
			return err
		})
	}
	return r
}

// TestFeatures runs in one router, step by step.
func TestFeatures(t *testing.T) {
	r := featuresRig(t)
	t.Run("sampling", func(t *testing.T) { r.checkSampling(t) })
	t.Run("mirror", func(t *testing.T) { r.checkMirror(t) })
	t.Run("capture with a filter", func(t *testing.T) { r.checkFilteredCapture(t) })
	t.Run("filters", func(t *testing.T) { r.checkFilters(t) })
	if log := r.r1.Proc("godwitd").Output(); strings.Contains(log, "configure line card") {
		t.Error("a line card refused its configuration")
	}
}

// collect starts a collector of nfdump's, which writes its files when it ends.
func collect(t *testing.T, h *topology.Host, program string, port int) (stop func(filter string) int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "godwit-flows-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := h.Start(program, program, "-l", dir, "-p", strconv.Itoa(port), "-t", "60")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		if out, err := h.Exec(ctx, "ss", "-Hlun", "sport", "=", strconv.Itoa(port)); err != nil || out == "" {
			return fmt.Errorf("%s does not listen: %s %w", program, p.Output(), err)
		}
		return nil
	})
	stopped := false
	return func(filter string) int {
		if !stopped {
			if err := p.Stop(10 * time.Second); err != nil {
				t.Errorf("%s: %v\n%s", program, err, p.Output())
			}
			h.Forget(program)
			stopped = true
		}
		files, _ := filepath.Glob(filepath.Join(dir, "nfcapd.*"))
		n := 0
		for _, f := range files {
			out := sh(t, h, "nfdump -q -r %s -o 'fmt:%%sa %%da' '%s'", f, filter)
			n += strings.Count(strings.TrimSpace(out)+"\n", "\n")
			if strings.TrimSpace(out) == "" || strings.Contains(out, "No matching flows") {
				n--
			}
		}
		return n
	}
}

// checkSampling has real collectors take sFlow and IPFIX from both paths.
func (r *rig) checkSampling(t *testing.T) {
	src, col := r.node("src"), r.node("col")
	file := sniff(t, col, "eth0", "udp port 6343 or udp port 4739")
	flows := collect(t, col, "sfcapd", 6343)
	psamp := collect(t, col, "nfcapd", 4739)
	var samples uint64
	// Both families at a time, for longer than templates take to be sent again: nfcapd waits for them.
	sh(t, src, "ping -n -q -c 200 -i 0.02 10.2.0.2 & ping -n -q -c 200 -i 0.02 2001:db8:2::2 && wait $!")
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		v, err := r.client.Sampling(ctx)
		if err != nil || len(v.Cards) != 1 || len(v.Cards[0].Interfaces) != 2 || len(v.Cards[0].Collectors) != 2 {
			return fmt.Errorf("%+v %w", v, err)
		}
		c := v.Cards[0]
		samples = c.Interfaces[0].Samples + c.Interfaces[1].Samples
		if samples < 90 || c.Lost+c.Unsent != 0 {
			return fmt.Errorf("%+v", c)
		}
		for _, k := range c.Collectors {
			if k.Samples != samples || k.Datagrams == 0 {
				return fmt.Errorf("%d samples, told %+v", samples, k)
			}
		}
		return nil
	})
	if out := r.cli(t, "show sampling"); !strings.Contains(out, "sflow") || !strings.Contains(out, "10.3.0.2 port 4739") || !strings.Contains(out, "5 ") {
		t.Errorf("show sampling:\n%s", out)
	}
	pcap := file()
	for filter, least := range map[string]int{
		"sflow": 2, `sflow && ip.addr == 10.2.0.2`: 1, `sflow && ipv6.addr == 2001:db8:2::2`: 1,
		"cflow.version == 10": 2, "cflow.template_id == 256": 1, "cflow.srcaddr == 10.1.0.2 && cflow.dstaddr == 10.2.0.2": 1,
		"cflow.dstaddrv6 == 2001:db8:2::2": 0,
	} {
		if n := packets(t, pcap, filter); n < least {
			t.Errorf("%d packets %s", n, filter)
		}
	}
	// Of 400 requests and as many answers, one of five.
	for name, stop := range map[string]func(string) int{"sfcapd": flows, "nfcapd": psamp} {
		n4, n6 := stop("proto icmp and net 10.2.0.0/24"), stop("proto icmp6 and net 2001:db8:2::/64")
		t.Logf("%s has %d flows of IPv4 and %d of IPv6 of %d samples", name, n4, n6, samples)
		if n4 < 15 || n6 < 15 {
			t.Errorf("%s has %d flows of IPv4 and %d of IPv6", name, n4, n6)
		}
	}
}

// serveWeb starts a web server on 10.2.0.2:8080, with the program that also asks it.
func serveWeb(t *testing.T, h *topology.Host) (lab string) {
	t.Helper()
	lab = filepath.Join(binaries(), "lab")
	p, err := h.Start("http", lab, "http", "10.2.0.2:8080", "dst")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(context.Context) error {
		if !strings.Contains(p.Output(), "listening") {
			return fmt.Errorf("web server: %s", p.Output())
		}
		return nil
	})
	return lab
}

// checkMirror: what the ACL permits of a mirrored interface, both ways, and nothing else.
func (r *rig) checkMirror(t *testing.T) {
	src, dst, span := r.node("src"), r.node("dst"), r.node("span")
	stop := sniff(t, span, "eth0", "")
	lab := serveWeb(t, dst)
	defer dst.Forget("http")
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		_, err := src.Exec(ctx, lab, "get", "http://10.2.0.2:8080/1")
		return err
	})
	sh(t, src, "ping -n -q -c 3 -i 0.05 10.2.0.2")
	var m mgmt.Mirror
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		v, err := r.client.Mirrors(ctx)
		if err != nil || len(v.Mirrors) != 1 || v.Mirrors[0].Frames < 4 || !v.Mirrors[0].Up {
			return fmt.Errorf("%+v %w", v, err)
		}
		m = v.Mirrors[0]
		return nil
	})
	file := stop()
	to, other := packets(t, file, "tcp.dstport == 8080"), packets(t, file, "!(tcp.dstport == 8080) && (icmp || tcp)")
	if to < 4 || other != 0 || m.Dropped != 0 {
		t.Errorf("%d requests, %d others copied; %+v", to, other, m)
	}
	if out := r.cli(t, "show mirror"); !strings.Contains(out, "sp0") || !strings.Contains(out, "web") {
		t.Errorf("show mirror:\n%s", out)
	}
	if out := r.cli(t, "show interfaces src"); !strings.Contains(out, "mirrored") {
		t.Errorf("show interfaces src:\n%s", out)
	}
}

// checkFilteredCapture writes a pcap with what fits.
func (r *rig) checkFilteredCapture(t *testing.T) {
	src := r.node("src")
	file := filepath.Join(t.TempDir(), "out.pcap")
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		_, err := r.r1.CLI(ctx, "capture", "interface", "src", "source", "10.1.0.2", "protocol", "icmp", "count", "5", "write", file)
		done <- err
	}()
	for {
		sh(t, src, "ping -n -q -c 1 -W 2 10.2.0.2 && ping -n -q -c 1 -W 2 2001:db8:2::2")
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatal("the capture does not end")
		default:
			continue
		}
		break
	}
	if n, all := packets(t, file, "icmp.type == 8 && ip.src == 10.1.0.2"), packets(t, file, "frame"); n != 5 || all != 5 {
		t.Errorf("%d packets, %d that fit", all, n)
	}
}

// reconfigure applies the rig's configuration with one text in place of another.
func (r *rig) reconfigure(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile("../../../configs/lab/features-r1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("the configuration has no %q", from)
	}
	if _, err := r.client.Apply(t.Context(), "features.yaml", []byte(strings.Replace(string(text), from, to, 1))); err != nil {
		t.Fatal(err)
	}
}

// checkFilters sends real packets through lists, source checks and policers.
func (r *rig) checkFilters(t *testing.T) {
	src, dst := r.node("src"), r.node("dst")
	r.reconfigure(t, "sampling: 5}\n  - {name: dst", "acl-in: edge, source-check: strict}\n  - {name: dst")
	eventually(t, 10*time.Second, func(context.Context) error {
		if out, err := try(t, src, "ping -n -q -c 1 -W 1 10.2.0.2"); err == nil {
			return fmt.Errorf("not denied yet: %s", out)
		}
		return nil
	})
	lab := serveWeb(t, dst)
	defer dst.Forget("http")
	sh(t, src, "%s get http://10.2.0.2:8080/1", lab)
	sh(t, src, "ping -n -q -c 2 -i 0.1 -W 2 2001:db8:2::2 && ping -n -q -c 2 -i 0.1 -W 2 10.1.0.1")
	// A source that is not on the link: the list would let it in, and the answer would come back.
	sh(t, src, "ip addr add 10.2.0.77/32 dev lo")
	if out, err := try(t, src, "ping -n -q -c 2 -i 0.1 -W 1 -I 10.2.0.77 10.1.0.1"); err == nil {
		t.Errorf("a spoofed source passes: %s", out)
	}
	sh(t, src, "ip addr del 10.2.0.77/32 dev lo")
	v, err := r.client.Guards(t.Context(), "edge")
	if err != nil || len(v.Cards) != 1 || len(v.Cards[0].Guards) != 1 {
		t.Fatalf("%+v %v", v, err)
	}
	if g := v.Cards[0].Guards[0]; g.Name != "src" || len(g.Hits) != 4 || g.Hits[0] == 0 || g.Hits[1] < 100 || g.Hits[2] < 2 || g.Hits[3] < 2 || g.Spoofed < 2 || len(g.Texts) != 4 {
		t.Errorf("%+v", g)
	}
	if out := r.cli(t, "show acl edge"); !strings.Contains(out, "deny icmp to 10.2.0.0/24 log") || !strings.Contains(out, "strict") {
		t.Errorf("show acl edge:\n%s", out)
	}
	if out := r.cli(t, "show interfaces src"); !strings.Contains(out, "access list") {
		t.Errorf("show interfaces src:\n%s", out)
	}
	if log := r.r1.Proc("godwitd").Output(); !strings.Contains(log, "packet denied") {
		t.Error("the log has no denied packet")
	}
	// 4 Mbit/s, and once 60,000 bytes: 400 packets of 1,028 bytes at once are too many.
	r.reconfigure(t, "sampling: 5}\n  - {name: dst", "policer-in: {rate: 4M, burst: 60k}}\n  - {name: dst")
	eventually(t, 10*time.Second, func(context.Context) error {
		if _, err := try(t, src, "ping -n -q -c 1 -W 1 10.2.0.2"); err != nil {
			return fmt.Errorf("still denied: %w", err)
		}
		return nil
	})
	_, _ = try(t, src, "ping -n -q -f -c 400 -l 400 -s 1000 -w 3 10.2.0.2")
	v, err = r.client.Guards(t.Context(), "")
	if err != nil || len(v.Cards) != 1 || len(v.Cards[0].Guards) != 1 || v.Cards[0].Guards[0].Policer == nil {
		t.Fatalf("%+v %v", v, err)
	}
	if p := v.Cards[0].Guards[0].Policer; p.Packets < 50 || p.DropPackets < 100 {
		t.Errorf("%+v", p)
	}
}
