package linecard

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
)

// jumboCard is a card between two hosts, all with an MTU of 9,000.
func jumboCard(t *testing.T, express bool) (*rig, wire.CardConfig) {
	t.Helper()
	r := newRig(t, "h1", "h2")
	cfg := oneCard(r)
	for i, h := range []string{"h1", "h2"} {
		dev := fmt.Sprintf("p%d", i+1)
		r.host(h, dev, fmt.Sprintf("10.%d.0.2/24", i+1), fmt.Sprintf("10.%d.0.1", i+1))
		must(t, r.lab.Exec(h, "ethtool", "-K", "eth0", "gro", "on"))
		must(t, r.lab.IP(h, "link", "set", "eth0", "mtu", "9000"))
		must(t, r.lab.IP("rtr", "link", "set", dev, "mtu", "9000"))
		cfg.Interfaces[i].MTU, cfg.Ports[i].Express = 9000, express
	}
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	for _, tap := range []string{"left", "right"} {
		must(t, r.lab.IP("red", "link", "set", tap, "mtu", "9000"))
	}
	r.start(1)
	r.setUp(cfg)
	r.ping("h1", "10.2.0.2") // neighbours are known from here on
	if express {
		r.expressIs(1, "on")
		r.expressIs(2, "on")
	}
	return r, cfg
}

// TestJumboFrames sends packets of 9,000 bytes through the card, to it and from it, by both paths.
func TestJumboFrames(t *testing.T) {
	for _, express := range []bool{false, true} {
		t.Run(map[bool]string{false: "workers", true: "express"}[express], func(t *testing.T) {
			r, _ := jumboCard(t, express)
			in := r.status(1).Interfaces[0].Counters
			r.ping("h1", "10.2.0.2", "-s", "8972", "-M", "do")
			out := r.status(1).Interfaces[0].Counters
			if n := out.RxBytes - in.RxBytes; n < 3*9014 || (out.Express-in.Express > 0) != express {
				t.Errorf("%d bytes counted, %d packets went express", n, out.Express-in.Express)
			}
			r.ping("h1", "10.1.0.1", "-s", "8972", "-M", "do") // the router itself
			r.ping("red", "10.2.0.2", "-s", "8972", "-M", "do")
			r.transfer("h1", "h2", "10.2.0.2", 8<<20)
			r.iperf("h1", "h2", "10.2.0.2")
		})
	}
}

// iperf sends 64 MB of TCP.
func (r *rig) iperf(from, to, addr string) {
	r.t.Helper()
	server := exec.Command("ip", "netns", "exec", r.lab.Netns(to), "iperf3", "-s", "-1", "-B", addr)
	must(r.t, server.Start())
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	eventually(r.t, "an iperf3 transfer", func() bool { // until the server listens
		out, err := r.output(from, "iperf3", "-c", addr, "-n", "64M", "-J", "--connect-timeout", "1000")
		return err == nil && strings.Contains(out, `"sum_received"`)
	})
	select {
	case err := <-ended:
		must(r.t, err)
	case <-time.After(20 * time.Second):
		_ = server.Process.Kill()
		r.t.Error("the iperf3 server does not end")
	}
}

// TestMTUMatrix sends packets around the MTU of the way out, with and without DF: they
// pass, are fragmented, or the sender is told the MTU. The way back is the smaller one.
func TestMTUMatrix(t *testing.T) {
	const headers = 28 // IPv4 and ICMP
	for _, express := range []bool{false, true} {
		t.Run(map[bool]string{false: "workers", true: "express"}[express], func(t *testing.T) {
			r, cfg := jumboCard(t, express)
			for _, mtu := range []int{9000, 4000, 1500, 576} {
				cfg.Interfaces[1].MTU = mtu
				r.configure(cfg)
				must(t, r.lab.IP("h2", "link", "set", "eth0", "mtu", fmt.Sprint(mtu)))
				for _, size := range []int{mtu - 1, mtu, mtu + 1, 8999, 9000} {
					if size > 9000 {
						continue
					}
					must(t, r.lab.IP("h1", "route", "flush", "cache"))
					payload := fmt.Sprint(size - headers)
					r.ping("h1", "10.2.0.2", "-s", payload, "-M", "dont")
					if size <= mtu {
						r.ping("h1", "10.2.0.2", "-s", payload, "-M", "do")
						continue
					}
					out, err := r.output("h1", "ping", "-c", "1", "-W", "2", "-s", payload, "-M", "do", "10.2.0.2")
					if err == nil || !strings.Contains(out, fmt.Sprintf("mtu = %d", mtu)) && !strings.Contains(out, fmt.Sprintf("mtu=%d", mtu)) {
						t.Errorf("%d bytes with DF over an MTU of %d: %v\n%s", size, mtu, err, out)
					}
				}
			}
		})
	}
}

func TestMTUAboveAll(t *testing.T) {
	a := &Agent{opt: Options{Card: 1}}
	for mtu, ok := range map[int]bool{1500: true, 9000: true, 9001: false} {
		cfg := wire.CardConfig{Card: 1, Interfaces: []wire.InterfaceConfig{{ID: ifaceID(1, 1), Name: "left", Port: portID(1, 1), MTU: mtu}}}
		if err := a.check(&cfg); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "interface left: MTU 9001 is above 9000") {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
}
