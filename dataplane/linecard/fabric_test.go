package linecard

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// half is card n of two: one port, one interface in red.
func half(r *rig, n int) wire.CardConfig {
	name := []string{"left", "right"}[n-1]
	return wire.CardConfig{
		Card: fib.CardID(n), Workers: 1, Cards: []fib.CardID{1, 2}, CaptureMax: 4,
		VRFs:  []wire.VRFConfig{{ID: red, Name: "red", NetNS: r.netns("red"), TUN: "vrf0"}},
		Ports: []wire.PortConfig{{ID: portID(n, 1), Device: fmt.Sprintf("p%d", n), Mode: "auto"}},
		Interfaces: []wire.InterfaceConfig{{
			ID: ifaceID(n, 1), Name: name, Port: portID(n, 1), VRF: red, MTU: 1500,
			Addresses: prefixes(fmt.Sprintf("10.%d.0.1/24", n)), TAP: name,
		}},
	}
}

func (r *rig) bringUp(n int) {
	r.t.Helper()
	r.configure(half(r, n))
	r.setMAC("red", []string{"left", "right"}[n-1], portID(n, 1))
	r.program(fib.CardID(n), append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 1), connected(red, ifaceID(2, 1), "10.2.0.1/24", 3)...)...)
}

// twoCards is h1 ── card 1 ══ card 2 ── h2.
func twoCards(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, "h1", "h2")
	r.host("h1", "p1", "10.1.0.2/24", "10.1.0.1")
	r.host("h2", "p2", "10.2.0.2/24", "10.2.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	for n := 1; n <= 2; n++ {
		r.start(fib.CardID(n))
		r.bringUp(n)
	}
	return r
}

func TestTwoCardsExchangePackets(t *testing.T) {
	r := twoCards(t)
	r.ping("h1", "10.2.0.2")
	r.ping("h2", "10.1.0.1") // the router's address on the other card
	r.ping("red", "10.1.0.2")
	r.ping("red", "10.2.0.2")
	r.transfer("h1", "h2", "10.2.0.2", 4<<20)
	for n := 1; n <= 2; n++ {
		if d := r.drop(fib.CardID(n), "fabric", "corrupt"); d != 0 {
			t.Errorf("card %d: %d corrupt slots", n, d)
		}
	}
}

// transfer moves bytes over TCP from one host to another and checks them.
func (r *rig) transfer(from, to, addr string, n int) {
	r.t.Helper()
	var l net.Listener
	must(r.t, r.lab.Do(to, func() (err error) {
		l, err = net.Listen("tcp4", addr+":0")
		return err
	}))
	defer l.Close()
	got := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		buf, total := make([]byte, 65536), 0
		for {
			k, err := c.Read(buf)
			for i, b := range buf[:k] {
				if b != byte((total+i)*7) {
					got <- -2
					return
				}
			}
			total += k
			if err != nil {
				got <- total
				return
			}
		}
	}()
	start := time.Now()
	must(r.t, r.lab.Do(from, func() error {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		_, err = c.Write(b)
		return err
	}))
	if k := <-got; k != n {
		r.t.Fatalf("%d of %d bytes arrived", k, n)
	}
	r.t.Logf("%d bytes of TCP in %v", n, time.Since(start))
}

func TestKilledCardLeavesTheOtherWorking(t *testing.T) {
	r := twoCards(t)
	// A second host on card 1, so that card 1 has something of its own to do.
	must(t, r.lab.IP("h1", "addr", "add", "10.1.0.3/24", "dev", "eth0"))
	r.ping("h1", "10.2.0.2")
	for range 2 {
		lost := r.flood("h1", "10.1.0.1", func() {
			r.kill(2)
			if out, err := r.output("h1", "ping", "-c", "2", "-i", "0.05", "-W", "1", "10.2.0.2"); err == nil {
				t.Errorf("a dead card answers: %s", out)
			}
			r.start(2)
			r.seq[2] = 0
			r.bringUp(2)
			r.ping("h1", "10.2.0.2")
		})
		if lost > 1 {
			t.Errorf("card 1 lost %d packets while card 2 died", lost)
		}
	}
	for _, from := range []string{"h1", "h2"} {
		r.ping(from, map[string]string{"h1": "10.2.0.2", "h2": "10.1.0.2"}[from])
	}
}

func TestGarbageInARingIsCountedAndHeals(t *testing.T) {
	r := twoCards(t)
	r.ping("h1", "10.2.0.2")
	rng := rand.New(rand.NewPCG(1, 2))
	for _, ring := range []string{"1-2", "2-1"} {
		f, err := os.OpenFile(filepath.Join(r.dir, "fabric", ring), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		for range 5 {
			junk := make([]byte, 8<<10) // indices, flags and the first slots
			for i := range junk {
				junk[i] = byte(rng.Uint32())
			}
			if _, err := f.WriteAt(junk, 0); err != nil {
				t.Fatal(err)
			}
			r.ping("h1", "10.2.0.2")
		}
	}
	if n := r.drop(1, "fabric", "corrupt") + r.drop(2, "fabric", "corrupt"); n == 0 {
		t.Error("no corrupt slot was counted")
	}
}

// idleShare is the part of a core that a process uses while nothing happens.
func idleShare(t *testing.T, pid int, d time.Duration) float64 {
	t.Helper()
	ticks := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(t, err)
		var u, s int
		fmt.Sscanf(strings.Join(strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))[11:13], " "), "%d %d", &u, &s)
		return u + s
	}
	before, start := ticks(), time.Now()
	eventually(t, "time to pass", func() bool { return time.Since(start) >= d })
	return float64(ticks()-before) / 100 / time.Since(start).Seconds()
}

func TestIdleCardSleeps(t *testing.T) {
	r := twoCards(t)
	r.ping("h1", "10.2.0.2")
	share := idleShare(t, r.cards[1].cmd.Process.Pid, 2*time.Second)
	t.Logf("an idle card uses %.1f %% of a core", 100*share)
	if share > 0.05 && !raceEnabled {
		t.Errorf("an idle card uses %.1f %% of a core", 100*share)
	}
}

func TestECMPOverTwoCards(t *testing.T) {
	r := twoCards(t)
	for i := 1; i <= 2; i++ {
		must(t, r.lab.IP(fmt.Sprintf("h%d", i), "addr", "add", "192.0.2.1/32", "dev", "lo"))
	}
	group := fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 9, NextHops: []fib.NextHop{
		{Interface: ifaceID(1, 1), Gateway: netip.MustParseAddr("10.1.0.2")},
		{Interface: ifaceID(2, 1), Gateway: netip.MustParseAddr("10.2.0.2")},
	}}}
	route := fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Group: 9}}
	r.program(1, group, route)
	r.program(2, group, route)
	must(t, r.lab.IP("red", "route", "replace", "default", "dev", "vrf0", "metric", "4096", "src", "10.1.0.1"))
	seen := func(i int) int {
		out, err := exec.Command("ip", "netns", "exec", r.lab.Netns(fmt.Sprintf("h%d", i)), "cat", "/proc/net/snmp").CombinedOutput()
		must(t, err)
		for _, line := range strings.Split(string(out), "\n") {
			if f := strings.Fields(line); len(f) > 5 && f[0] == "Udp:" && f[2] != "NoPorts" {
				var n int
				fmt.Sscan(f[2], &n)
				return n
			}
		}
		t.Fatal("no UDP figures")
		return 0
	}
	must(t, r.lab.Do("red", func() error {
		for port := range 64 {
			c, err := net.Dial("udp4", fmt.Sprintf("192.0.2.1:%d", 20000+port))
			if err != nil {
				return err
			}
			c.Write([]byte("flow"))
			c.Close()
		}
		return nil
	}))
	eventually(t, "flows on both cards", func() bool { return seen(1)+seen(2) >= 60 })
	if a, b := seen(1), seen(2); a < 12 || b < 12 {
		t.Errorf("64 flows: %d and %d", a, b)
	}
}
