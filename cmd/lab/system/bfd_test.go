package system

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"godwit/controlplane/mgmt"
)

// The neighbours of the BFD lab.
var bfdPeers = []string{"10.0.1.2", "2001:db8:1::2", "10.0.2.2", "10.0.3.2", "2001:db8:3::2", "10.0.4.2", "10.0.5.2"}

// bfdRig is the lab of configs/lab/bfd.yaml.
type bfdRig struct {
	*rig
	t *testing.T
}

// session asks for one session.
func (b *bfdRig) session(ctx context.Context, peer string) (mgmt.BFDSession, error) {
	v, err := b.client.BFD(ctx, "red")
	if err != nil {
		return mgmt.BFDSession{}, err
	}
	for _, s := range v.Sessions {
		if s.Peer.String() == peer {
			return s, nil
		}
	}
	return mgmt.BFDSession{}, fmt.Errorf("no session with %s", peer)
}

// until polls until the session is as wanted.
func (b *bfdRig) until(t *testing.T, peer, what string, ok func(s *mgmt.BFDSession) bool) (found mgmt.BFDSession) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		s, err := b.session(ctx, peer)
		if err == nil && !ok(&s) {
			err = fmt.Errorf("session with %s is not %s: %s/%s failed=%v tx=%v rx=%v detection=%v (%s, %s)", peer, what, s.State, s.Remote, s.Failed, s.Tx, s.Rx, s.Detection, s.Diag, s.RemoteDiag)
		}
		found = s
		return err
	})
	return found
}

func isUp(s *mgmt.BFDSession) bool     { return s.State == "up" && s.Remote == "up" }
func isFailed(s *mgmt.BFDSession) bool { return s.State != "up" && s.Failed }

// peerState polls until BGP says this of a neighbour.
func (b *bfdRig) bgpIs(t *testing.T, peer, what string, ok func(state, reason string) bool) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		v, err := b.client.BGP(ctx, "red")
		if err != nil {
			return err
		}
		for _, p := range v.Speakers[0].Peers {
			if p.Address.String() == peer && !ok(p.State, p.LastError) {
				return fmt.Errorf("BGP with %s is %s (%s), not %s", peer, p.State, p.LastError, what)
			}
		}
		return nil
	})
}

func established(state, _ string) bool { return state == "established" }

// hops polls until a prefix has these gateways.
func (b *bfdRig) hops(t *testing.T, prefix string, want ...string) {
	t.Helper()
	eventually(t, convergeTime, func(ctx context.Context) error {
		got, err := b.gateways(ctx, "red", 1, prefix)
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			err = fmt.Errorf("%s goes to %v, want %v", prefix, got, want)
		}
		return err
	})
}

// silence drops every IP packet of a host, as a path does that fails silently:
// the link stays up, ARP works. The function it returns ends that.
func (b *bfdRig) silence(t *testing.T, host string) (end func()) {
	t.Helper()
	h := b.node(host)
	sh(t, h, `nft -f - <<'X'
table inet cut {
  chain in { type filter hook prerouting priority -300; policy drop; }
  chain out { type filter hook output priority -300; policy drop; }
}
X`)
	done := false
	end = func() {
		if !done {
			done = true
			_, _ = h.Exec(context.Background(), "nft", "delete", "table", "inet", "cut")
		}
	}
	t.Cleanup(end)
	return end
}

// apply changes the router's configuration by replacing text.
func (b *bfdRig) apply(t *testing.T, oldnew ...string) {
	t.Helper()
	text, err := os.ReadFile("../../../configs/lab/bfd-r1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(oldnew...).Replace(string(text))
	if changed == string(text) && len(oldnew) > 0 {
		t.Fatalf("nothing to replace: %q", oldnew)
	}
	file := filepath.Join(t.TempDir(), "r1.yaml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	b.cli(t, "apply "+file)
}

// bird changes a BIRD's configuration by replacing text.
func (b *bfdRig) bird(t *testing.T, host string, oldnew ...string) {
	t.Helper()
	h := b.node(host)
	for _, n := range b.lab.Top.Nodes {
		if n.Name == host {
			if err := os.WriteFile(filepath.Join(h.Dir, "bird.conf"), []byte(strings.NewReplacer(oldnew...).Replace(n.Bird)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := h.Birdc(t.Context(), "configure"); err != nil || !strings.Contains(out, "Reconfigur") {
		t.Fatalf("%s %v", out, err)
	}
}

func TestBFD(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := newRig(ctx, "../../../configs/lab/bfd.yaml", "gwb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the router's log:\n%s", tail(r.r1.Proc("godwitd").Output(), 80))
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	b := &bfdRig{r, t}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bfdRig)
	}{
		{"up and negotiated", bfdUp}, {"silent cut", bfdCut}, {"static routes", bfdStatic}, {"admin down", bfdAdminDown},
		{"authentication", bfdAuth}, {"forged", bfdForged}, {"echo", bfdEcho}, {"deaths", bfdDeaths},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, b) }) {
			break
		}
	}
}

// bfdUp: sessions with BIRD and FRR, IPv4 and IPv6, one hop and two, with a key;
// both ends agree on the timers.
func bfdUp(t *testing.T, b *bfdRig) {
	sh(t, b.node("a"), "sysctl -qw net.ipv4.ip_forward=1") // to m
	for _, peer := range bfdPeers {
		b.until(t, peer, "up", isUp)
	}
	ms := time.Millisecond
	for peer, want := range map[string][3]time.Duration{ // tx, rx, detection
		"10.0.1.2":      {50 * ms, 50 * ms, 150 * ms},
		"10.0.3.2":      {60 * ms, 80 * ms, 320 * ms},
		"2001:db8:3::2": {100 * ms, 100 * ms, 300 * ms},
		"10.0.4.2":      {100 * ms, 100 * ms, 500 * ms},
		"10.0.5.2":      {100 * ms, 100 * ms, 300 * ms},
	} {
		b.until(t, peer, "negotiated", func(s *mgmt.BFDSession) bool { return s.Tx == want[0] && s.Rx == want[1] && s.Detection == want[2] })
	}
	b.bgpIs(t, "10.0.1.2", "established", established)
	b.bgpIs(t, "10.0.2.2", "established", established)
	b.hops(t, "192.0.2.0/24", "10.0.1.2", "10.0.2.2")
	b.hops(t, "198.51.100.0/24", "10.0.3.2")
	out, err := b.node("f").VtyshBFD(t.Context(), "show bfd peers json")
	if err != nil {
		t.Fatal(err)
	}
	var peers []struct {
		Peer           string
		Status         string
		RemoteReceive  int `json:"remote-receive-interval"`
		RemoteTransmit int `json:"remote-transmit-interval"`
		RemoteMult     int `json:"remote-detect-multiplier"`
	}
	if err := json.Unmarshal([]byte(out), &peers); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := false
	for _, p := range peers {
		if p.Peer == "10.0.3.1" {
			found = p.Status == "up" && p.RemoteReceive == 70 && p.RemoteTransmit == 50 && p.RemoteMult == 3
		}
	}
	if !found {
		t.Errorf("FRR sees %+v", peers)
	}
	out, err = b.node("m").Birdc(t.Context(), "show", "bfd", "sessions")
	if err != nil || !strings.Contains(out, "10.0.1.1") || !strings.Contains(out, "Up") {
		t.Errorf("BIRD sees %v\n%s", err, out)
	}
	text := b.cli(t, "show bfd")
	for _, want := range []string{"10.0.5.2", "several hops", "static 198.51.100.0/24", "150ms", "USED BY"} {
		if !strings.Contains(text, want) {
			t.Errorf("show bfd lacks %q:\n%s", want, text)
		}
	}
}

// bfdCut: a path that fails silently is left at once, BGP ends long before its
// hold time of 90 s, and all comes back.
func bfdCut(t *testing.T, b *bfdRig) {
	cust := b.node("cust")
	sh(t, cust, "ping -n -c 3 -i 0.05 -W 1 192.0.2.1")
	heal := b.silence(t, "a")
	s := b.until(t, "10.0.1.2", "failed", isFailed)
	if s.Diag != "detection time expired" {
		t.Errorf("diag %q", s.Diag)
	}
	b.until(t, "2001:db8:1::2", "failed", isFailed)
	b.until(t, "10.0.5.2", "failed", isFailed)
	b.bgpIs(t, "10.0.1.2", "ended by BFD", func(state, reason string) bool { return state != "established" && reason == "BFD down" })
	b.hops(t, "192.0.2.0/24", "10.0.2.2")
	sh(t, cust, "ping -n -c 20 -i 0.02 -W 1 192.0.2.1")
	heal()
	for _, peer := range []string{"10.0.1.2", "2001:db8:1::2", "10.0.5.2"} {
		b.until(t, peer, "up again", isUp)
	}
	b.bgpIs(t, "10.0.1.2", "established", established)
	b.hops(t, "192.0.2.0/24", "10.0.1.2", "10.0.2.2")
	if s := b.until(t, "10.0.2.2", "up", isUp); s.Flaps != 0 {
		t.Errorf("the other neighbor flapped %d times", s.Flaps)
	}
}

// bfdStatic: a static route leaves a next hop whose session is down, here to one
// of another distance, and returns.
func bfdStatic(t *testing.T, b *bfdRig) {
	p := b.node("f").Proc("bfdd")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.until(t, "10.0.3.2", "failed", isFailed)
	b.hops(t, "198.51.100.0/24", "10.0.2.2")
	b.hops(t, "2001:db8:99::/48")
	sh(t, b.node("cust"), "ping -n -c 3 -i 0.05 -W 1 198.51.100.1")
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.until(t, "10.0.3.2", "up again", isUp)
	b.hops(t, "198.51.100.0/24", "10.0.3.2")
	b.hops(t, "2001:db8:99::/48", "2001:db8:3::2")
}

// bfdAdminDown: an administrator's word is no failure, on either side.
func bfdAdminDown(t *testing.T, b *bfdRig) {
	f := b.node("f")
	tell := func(line string) {
		t.Helper()
		if out, err := f.VtyshBFD(t.Context(), "configure", "bfd", "peer 10.0.3.1 local-address 10.0.3.2", line); err != nil {
			t.Fatalf("%s %v", out, err)
		}
	}
	tell("shutdown")
	s := b.until(t, "10.0.3.2", "down by the neighbor's administrator", func(s *mgmt.BFDSession) bool { return s.State == "down" && s.Remote == "admin-down" })
	if s.Failed || s.Diag != "neighbor signaled session down" {
		t.Errorf("failed=%v, %s", s.Failed, s.Diag)
	}
	b.hops(t, "198.51.100.0/24", "10.0.3.2")
	tell("no shutdown")
	b.until(t, "10.0.3.2", "up again", isUp)

	before := b.until(t, "10.0.1.2", "up", isUp)
	b.apply(t, "export: local, bfd: {interval: 50ms, echo: 50ms}", "export: local, bfd: {interval: 50ms, shutdown: true}")
	b.until(t, "10.0.1.2", "administratively down", func(s *mgmt.BFDSession) bool { return s.State == "admin-down" && s.Remote == "down" })
	eventually(t, convergeTime, func(ctx context.Context) error {
		out, err := b.node("a").Birdc(ctx, "show", "bfd", "sessions")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "10.0.1.1 ") && strings.Contains(line, "Up") && strings.Contains(line, "eth0") {
				return fmt.Errorf("BIRD sees\n%s", out)
			}
		}
		return err
	})
	b.bgpIs(t, "10.0.1.2", "established", established) // on our side nothing has failed
	b.apply(t)
	after := b.until(t, "10.0.1.2", "up again", isUp)
	if after.Discriminator != before.Discriminator || after.Failed {
		t.Errorf("before %+v, after %+v", before.BFDStatus, after.BFDStatus)
	}
	b.hops(t, "192.0.2.0/24", "10.0.1.2", "10.0.2.2")
}

// bfdAuth: every type of RFC 5880 with BIRD; a wrong key ends the session.
func bfdAuth(t *testing.T, b *bfdRig) {
	const birdAuth, ourAuth = `authentication meticulous keyed sha1; password "secret" { id 3; };`, "auth: {type: meticulous-sha1, key-id: 3, key: secret}"
	for ours, theirs := range map[string]string{
		"simple": "simple", "md5": "keyed md5", "meticulous-md5": "meticulous keyed md5", "sha1": "keyed sha1",
	} {
		b.bird(t, "k", birdAuth, `authentication `+theirs+`; password "other" { id 4; };`)
		b.apply(t, ourAuth, "auth: {type: "+ours+", key-id: 4, key: other}")
		b.until(t, "10.0.4.2", "up with "+ours, func(s *mgmt.BFDSession) bool { return isUp(s) && s.Auth == ours && s.Tx == 100*time.Millisecond })
	}
	b.apply(t)
	b.bird(t, "k", birdAuth, `authentication meticulous keyed sha1; password "wrong" { id 3; };`)
	b.until(t, "10.0.4.2", "down for the wrong key", func(s *mgmt.BFDSession) bool { return s.State == "down" && s.Refused > 0 })
	b.hops(t, "203.0.113.0/24")
	b.bird(t, "k")
	b.until(t, "10.0.4.2", "up again", isUp)
	b.hops(t, "203.0.113.0/24", "10.0.4.2")
}

// send is a Python program that sends datagrams from a host.
const send = `/usr/bin/python3 -c '
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.0.1.2", 0))
def send(ttl, port, data):
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.sendto(data, ("10.0.1.1", port))
def packet(state, my, your, mult=3, length=24, vers=1):
    return struct.pack(">BBBBIIIII", vers << 5, state << 6, mult, length, my, your, 50000, 50000, 0)
%s
'`

// bfdForged: what a neighbour would not send is refused, counted and changes nothing.
func bfdForged(t *testing.T, b *bfdRig) {
	before := b.until(t, "10.0.1.2", "up", isUp)
	drops := func() map[string]uint64 {
		v, err := b.client.BFD(t.Context(), "red")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]uint64{}
		for _, d := range v.Cards[0].Drops {
			m[d.Reason] = d.Count
		}
		return m
	}
	was := drops()
	ours, theirs := before.Discriminator, before.RemoteDiscr
	sh(t, b.node("a"), send, fmt.Sprintf(`
for i in range(5):
    send(64, 3784, packet(1, %[2]d, %[1]d))       # from afar, with the right discriminators
    send(255, 3784, b"")
    send(255, 3784, b"short")
    send(255, 3784, packet(1, %[2]d, %[1]d, vers=0))
    send(255, 3784, packet(1, %[2]d, %[1]d, length=60))
    send(255, 3784, packet(1, %[2]d, %[1]d, mult=0))
    send(255, 3784, packet(1, 0, %[1]d))
    send(255, 3784, packet(3, %[2]d, 0))
    send(255, 3784, packet(1, %[2]d, (%[1]d + 1) & 0xffffffff))
    send(252, 4784, packet(1, %[2]d, 0))
    send(255, 3784, bytes(range(256)))
`, ours, theirs))
	eventually(t, 10*time.Second, func(context.Context) error {
		now := drops()
		for _, reason := range []string{"ttl", "short", "bad-version", "bad-length", "zero-multiplier", "zero-my-discriminator", "zero-your-discriminator", "no-session"} {
			if now[reason] < was[reason]+5 {
				return fmt.Errorf("%s: %d before, %d now", reason, was[reason], now[reason])
			}
		}
		return nil
	})
	if s := b.until(t, "10.0.1.2", "up", isUp); s.Flaps != before.Flaps {
		t.Errorf("a forged packet took the session down: %d flaps, %d before", s.Flaps, before.Flaps)
	}
	if text := b.cli(t, "show bfd counters"); !strings.Contains(text, "zero-multiplier") || !strings.Contains(text, "LATEST TIMER") {
		t.Errorf("show bfd counters:\n%s", text)
	}
}

// bfdEcho: an echo packet of a neighbour on the link comes back with one hop
// taken off; one from afar, or of a neighbour that may not, does not.
func bfdEcho(t *testing.T, b *bfdRig) {
	stop := sniff(t, b.node("a"), "eth0", "udp port 3785 and src 10.0.1.1")
	b.until(t, "10.0.1.2", "up", isUp)
	sh(t, b.node("a"), send, `
for i in range(3):
    send(255, 3785, b"echo %d" % i)
    send(64, 3785, b"from afar")
`)
	sh(t, b.node("a"), "ping -n -c 3 -i 0.1 -W 1 10.0.1.1") // behind them
	file := stop()
	if n := packets(t, file, `ip.ttl == 254 && ip.dst == 10.0.1.2 && frame contains "echo"`); n != 3 {
		t.Errorf("%d echo packets came back, want 3", n)
	}
	if n := packets(t, file, "udp"); n != 3 {
		t.Errorf("%d packets came back, want 3", n)
	}
	clean(t, file)
}

// bfdDeaths: sessions do not notice that the routing engine dies and comes back;
// the line card's death costs what it must, and no more.
func bfdDeaths(t *testing.T, b *bfdRig) {
	before := map[string]mgmt.BFDSession{}
	for _, peer := range bfdPeers {
		before[peer] = b.until(t, peer, "up", isUp)
	}
	kill := func(module string) {
		t.Helper()
		pid, err := b.pid(t.Context(), module)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, convergeTime, func(ctx context.Context) error {
			now, err := b.pid(ctx, module)
			if err == nil && now == pid {
				err = fmt.Errorf("%s still runs", module)
			}
			return err
		})
	}
	kill("router")
	for _, peer := range bfdPeers {
		s := b.until(t, peer, "up", isUp)
		if was := before[peer]; s.Flaps != was.Flaps || s.Discriminator != was.Discriminator || s.Sent < was.Sent {
			t.Errorf("%s: before %+v, after %+v", peer, was.BFDStatus, s.BFDStatus)
		}
	}
	b.bgpIs(t, "10.0.1.2", "established", established)
	b.hops(t, "198.51.100.0/24", "10.0.3.2")
	kill("linecard-1")
	for _, peer := range bfdPeers {
		s := b.until(t, peer, "up", isUp)
		if s.Discriminator == before[peer].Discriminator {
			t.Errorf("%s: a new card has the old discriminator", peer)
		}
	}
	b.hops(t, "198.51.100.0/24", "10.0.3.2")
	b.bgpIs(t, "10.0.2.2", "established", established)
}
