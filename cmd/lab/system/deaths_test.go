package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
)

// killed kills a module under a stream of pings, waits until it is back, and
// returns how many pings were lost.
func killed(t *testing.T, module string) (lost int) {
	t.Helper()
	shared.converged(t)
	old, err := shared.pid(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	cust := shared.node("cust-red")
	name := "ping-" + module
	p, err := cust.Start(name, "ping", "-n", "-i", "0.01", "-W", "1", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	defer cust.Forget(name)
	defer p.Kill()
	answers(t, p, 20)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		now, err := shared.pid(ctx, module)
		if err == nil && now == old {
			err = fmt.Errorf("%s was not restarted", module)
		}
		return err
	})
	shared.converged(t)
	answers(t, p, 20)
	_ = p.Signal(syscall.SIGINT)
	<-p.Done()
	lost, last := unanswered(p.Output())
	if last == 0 {
		t.Fatalf("ping had no answer:\n%s", p.Output())
	}
	t.Logf("%d of %d pings lost", lost, last)
	return lost
}

// unanswered counts the pings without an answer among those before the last answered one. Ping's own
// count has those, too, that were on their way when the signal came.
func unanswered(output string) (lost, last int) {
	answered := map[int]bool{}
	for line := range strings.Lines(output) {
		_, rest, ok := strings.Cut(line, "icmp_seq=")
		var seq int
		if n, _ := fmt.Sscanf(rest, "%d", &seq); ok && n == 1 && strings.Contains(line, "bytes from") {
			answered[seq], last = true, max(last, seq)
		}
	}
	return last - len(answered), last
}

func TestUnanswered(t *testing.T) {
	const output = `PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.
64 bytes from 192.0.2.1: icmp_seq=1 ttl=62 time=0.2 ms
64 bytes from 192.0.2.1: icmp_seq=3 ttl=62 time=0.2 ms
From 10.0.0.1 icmp_seq=4 Destination Host Unreachable
64 bytes from 192.0.2.1: icmp_seq=3 ttl=62 time=0.2 ms (DUP!)
64 bytes from 192.0.2.1: icmp_seq=5 ttl=62 time=0.2 ms

--- 192.0.2.1 ping statistics ---
6 packets transmitted, 3 received, 50% packet loss, time 50ms
`
	if lost, last := unanswered(output); lost != 2 || last != 5 {
		t.Errorf("%d of %d", lost, last)
	}
}

func answers(t *testing.T, p *topology.Proc, n int) {
	t.Helper()
	seen := strings.Count(p.Output(), "bytes from")
	eventually(t, 30*time.Second, func(context.Context) error {
		if got := strings.Count(p.Output(), "bytes from"); got < seen+n {
			return fmt.Errorf("%d answers, waiting for %d", got-seen, n)
		}
		return nil
	})
}

func TestSpeakerDiesAndNoPacketIsLost(t *testing.T) {
	if lost := killed(t, "bgp-red"); lost > 0 {
		t.Errorf("%d pings lost", lost)
	}
}

func TestRoutingEngineDiesAndNoPacketIsLost(t *testing.T) {
	if lost := killed(t, "router"); lost > 0 {
		t.Errorf("%d pings lost", lost)
	}
}

func TestLineCardDiesAndTheOthersPortsGoOn(t *testing.T) {
	shared.converged(t)
	// Between the two upstreams of red nothing needs card 2.
	up := shared.node("up-a")
	p, err := up.Start("ping-side", "ping", "-n", "-i", "0.01", "-W", "1", "-I", "10.0.0.2", "10.0.2.2")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Forget("ping-side")
	defer p.Kill()
	answers(t, p, 20)
	killed(t, "linecard-2") // its own ports pause: that is expected here
	_ = p.Signal(syscall.SIGINT)
	<-p.Done()
	if !strings.Contains(p.Output(), " 0% packet loss") {
		t.Errorf("card 1 lost packets while card 2 was dead:\n%s", tail(p.Output(), 3))
	}
}

func TestForwardingGoesOnWhileTheRoutingEngineIsDead(t *testing.T) {
	shared.converged(t)
	pid, err := shared.pid(t.Context(), "router")
	if err != nil {
		t.Fatal(err)
	}
	// Stopped, not killed: it is not restarted, and can do nothing.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	out, err := try(t, shared.node("cust-red"), "ping -n -q -c 100 -i 0.01 -W 1 192.0.2.1")
	if cerr := syscall.Kill(pid, syscall.SIGCONT); cerr != nil {
		t.Fatal(cerr)
	}
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		t.Errorf("%v\n%s", err, out)
	}
	shared.converged(t)
}

func TestGarbageOnTheBusHarmsNobody(t *testing.T) {
	shared.converged(t)
	sh(t, shared.r1, `/usr/bin/python3 - <<'X'
import glob, os, socket, stat
for path in [%q] + glob.glob(%q):
    if not stat.S_ISSOCK(os.stat(path).st_mode): continue
    for n, kind in [(n, k) for n in (0, 1, 7, 25, 100, 5000) for k in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM)]:
        s = socket.socket(socket.AF_UNIX, kind)
        try:
            s.connect(path)
            s.send(os.urandom(n) if n else b"")
        except OSError: pass
        s.close()
X`, filepath.Join(shared.r1.RunDir(), "bus.sock"), filepath.Join(shared.r1.RunDir(), "bus", "*"))
	before, err := shared.client.Modules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sh(t, shared.node("cust-red"), "ping -n -c 5 -i 0.05 -W 1 192.0.2.1")
	shared.converged(t)
	after, err := shared.client.Modules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range after.Modules {
		if m.State != "running" || m.PID != before.Modules[i].PID {
			t.Errorf("%s: %+v", m.Name, m)
		}
	}
}

// TestAlteredModuleDoesNotStart runs a router whose line card has one flipped byte.
func TestAlteredModuleDoesNotStart(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"godwitd", "godwit", "godwit-router", "godwit-linecard", "godwit-bgp"} {
		data, err := os.ReadFile(filepath.Join(binaries(), name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "godwit-linecard" {
			data[len(data)/2] ^= 1
		}
		if err := os.WriteFile(filepath.Join(bin, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r, err := newRig(t.Context(), "../../../configs/lab/small.yaml", "gwa", bin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		ms, err := r.client.Modules(ctx)
		if err != nil {
			return err
		}
		for _, m := range ms.Modules {
			if m.Name == "linecard-1" && m.State == "refused" && m.Reason != "" && m.PID == 0 {
				return nil
			}
		}
		return fmt.Errorf("modules: %+v", ms.Modules)
	})
	if log := r.r1.Proc("godwitd").Output(); !strings.Contains(log, "godwit-linecard") || !strings.Contains(log, "signature") {
		t.Errorf("the log does not say why:\n%s", tail(log, 20))
	}
}

func TestCleanShutdownLeavesNothing(t *testing.T) {
	r, err := newRig(t.Context(), "../../../configs/lab/small.yaml", "gwc", "")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		pids = nil
		ms, err := r.client.Modules(ctx)
		if err != nil {
			return err
		}
		for _, m := range ms.Modules {
			if m.State != "running" {
				return fmt.Errorf("%s is %s", m.Name, m.State)
			}
			pids = append(pids, m.PID)
		}
		if len(pids) < 3 {
			return fmt.Errorf("%d modules", len(pids))
		}
		_, err = r.node("left").Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", "198.51.100.2")
		return err
	})
	run, d := r.r1.RunDir(), r.r1.Proc("godwitd")
	if err := d.Stop(20 * time.Second); err != nil || d.Err() != nil {
		t.Errorf("stop: %v, exit: %v\n%s", err, d.Err(), tail(d.Output(), 20))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is left", pid)
		}
	}
	if left, _ := filepath.Glob("/run/netns/" + r.r1.Instance() + "-*"); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	_ = filepath.WalkDir(run, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("file left: %s", p)
		}
		return nil
	})
	if err := r.close(); err != nil {
		t.Error(err)
	}
}
