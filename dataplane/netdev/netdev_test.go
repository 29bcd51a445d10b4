package netdev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 5 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	l, err := netlab.New("gwt-netdev", "r", "h")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// plainVeth makes p0 in r with its peer h0 in h, as the kernel makes them.
func plainVeth(t *testing.T, l *netlab.Lab) {
	t.Helper()
	must(t, netlab.Run("ip", "link", "add", "p0", "netns", l.Netns("r"), "address", "02:00:00:00:00:01",
		"numrxqueues", "3", "numtxqueues", "3", "type", "veth", "peer", "name", "h0", "netns", l.Netns("h")))
}

func TestQueues(t *testing.T) {
	l := newLab(t)
	plainVeth(t, l)
	must(t, l.Do("r", func() error {
		if err := l.Exec("r", "ethtool", "-L", "p0", "rx", "2", "tx", "2"); err != nil {
			return err
		}
		if n, err := Queues("p0"); n != 2 || err != nil {
			return fmt.Errorf("veth has %d queues, %v; want 2", n, err)
		}
		if n, err := Queues("lo"); n != 1 || err != nil {
			return fmt.Errorf("lo has %d queues, %v; want 1", n, err)
		}
		if _, err := Queues("none"); !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("queues of no device: %v", err)
		}
		if _, err := Queues("a-name-that-is-too-long"); !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("queues of a long name: %v", err)
		}
		return nil
	}))
}

// TestWatch follows a link through its life.
func TestWatch(t *testing.T) {
	l := newLab(t)
	var w *Watcher
	must(t, l.Do("r", func() (err error) { w, err = NewWatcher(); return err }))
	events := make(chan Link, 64)
	ended := make(chan error, 1)
	go func() {
		for {
			links, err := w.Next()
			if err != nil {
				ended <- err
				return
			}
			for _, l := range links {
				events <- l
			}
		}
	}()
	until := func(what string, cond func(Link) bool) {
		t.Helper()
		timeout := time.After(deadline)
		for {
			select {
			case e := <-events:
				if e.Name == "p0" && cond(e) {
					return
				}
			case <-timeout:
				t.Fatalf("not told: %s", what)
			}
		}
	}
	plainVeth(t, l)
	until("new", func(e Link) bool {
		return !e.Up && !e.Carrier && e.MTU == 1500 && e.MAC.String() == "02:00:00:00:00:01"
	})
	must(t, l.IP("r", "link", "set", "p0", "up"))
	until("up, no carrier", func(e Link) bool { return e.Up && !e.Carrier })
	must(t, l.IP("h", "link", "set", "h0", "up"))
	until("carrier", func(e Link) bool { return e.Carrier })
	must(t, l.IP("r", "link", "set", "p0", "mtu", "9000"))
	until("MTU", func(e Link) bool { return e.MTU == 9000 })
	must(t, l.IP("r", "link", "set", "p0", "address", "02:00:00:00:00:99"))
	until("MAC", func(e Link) bool { return e.MAC.String() == "02:00:00:00:00:99" })
	must(t, l.IP("h", "link", "set", "h0", "down"))
	until("carrier lost", func(e Link) bool { return e.Up && !e.Carrier })
	must(t, l.IP("r", "link", "del", "p0"))
	until("gone", func(e Link) bool { return e.Gone && !e.Carrier })
	must(t, w.Close())
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

func TestGet(t *testing.T) {
	l := newLab(t)
	plainVeth(t, l)
	must(t, l.Do("r", func() error {
		got, err := Get("p0")
		if err != nil || got.Name != "p0" || got.Index == 0 || got.MTU != 1500 || got.Gone {
			return fmt.Errorf("got %+v, %v", got, err)
		}
		if _, err := Get("p1"); !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("get p1: %v", err)
		}
		return nil
	}))
}

// features reads the offloads of a device, as ethtool prints them.
func features(t *testing.T, l *netlab.Lab, dev string) string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", l.Netns("r"), "ethtool", "-k", dev).Output()
	must(t, err)
	return string(out)
}

func TestTake(t *testing.T) {
	l := newLab(t)
	plainVeth(t, l)
	must(t, l.Sysctl("r", "net/ipv6/conf/p0/disable_ipv6", "0"))
	must(t, l.IP("r", "addr", "add", "192.0.2.1/24", "dev", "p0"))
	must(t, l.IP("r", "addr", "add", "192.0.2.2/24", "dev", "p0"))
	must(t, l.IP("r", "addr", "add", "2001:db8::1/64", "dev", "p0", "nodad"))
	must(t, l.IP("r", "addr", "add", "198.51.100.1/24", "dev", "lo"))
	must(t, l.Exec("r", "ethtool", "-K", "p0", "gro", "on"))
	before := features(t, l, "p0")
	var h *Hold
	must(t, l.Do("r", func() (err error) { h, err = Take("p0", HoldOptions{Promiscuous: true}); return err }))

	show := func(args ...string) string {
		out, err := exec.Command("ip", append([]string{"-n", l.Netns("r")}, args...)...).Output()
		must(t, err)
		return string(out)
	}
	if out := show("addr", "show", "dev", "p0"); strings.Contains(out, "inet") {
		t.Errorf("addresses left:\n%s", out)
	}
	if out := show("addr", "show", "dev", "lo"); !strings.Contains(out, "198.51.100.1") {
		t.Errorf("address of another device removed:\n%s", out)
	}
	if out := show("-d", "link", "show", "dev", "p0"); !strings.Contains(out, ",UP") ||
		!strings.Contains(out, "promiscuity 1") || !strings.Contains(out, "allmulti 1") {
		t.Errorf("link:\n%s", out)
	}
	for _, f := range []string{
		"tx-checksumming", "tx-tcp-segmentation", "generic-segmentation-offload",
		"generic-receive-offload", "rx-vlan-offload", "tx-vlan-offload",
	} {
		if !strings.Contains(features(t, l, "p0"), f+": off") {
			t.Errorf("%s is not off:\n%s", f, features(t, l, "p0"))
		}
	}
	must(t, l.Do("r", h.Release))
	if after := features(t, l, "p0"); after != before {
		t.Errorf("offloads after release:\n%s\nbefore:\n%s", after, before)
	}
	if out := show("-d", "link", "show", "dev", "p0"); !strings.Contains(out, "promiscuity 0") {
		t.Errorf("still promiscuous:\n%s", out)
	}
}

func TestTakeGone(t *testing.T) {
	l := newLab(t)
	plainVeth(t, l)
	var h *Hold
	must(t, l.Do("r", func() (err error) {
		if _, err := Take("p7", HoldOptions{}); !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("take no device: %v", err)
		}
		h, err = Take("p0", HoldOptions{})
		return err
	}))
	must(t, l.IP("r", "link", "del", "p0"))
	must(t, l.Do("r", h.Release))
}

func TestCounters(t *testing.T) {
	var l Live
	l.Received(2, 120)
	l.Sent(3, 180)
	l.Drop(TxTooLong, 4)
	c := l.Read()
	c.Add(l.Read())
	if c.RxPackets != 4 || c.RxBytes != 240 || c.TxPackets != 6 || c.TxBytes != 360 || c.Drops[TxTooLong] != 8 {
		t.Errorf("counters %+v", c)
	}
	seen := map[string]bool{}
	for r := range NumReasons {
		if seen[r.String()] || r.String() == "" {
			t.Errorf("reason %d has name %q", r, r)
		}
		seen[r.String()] = true
	}
	if NumReasons.String() != fmt.Sprintf("reason(%d)", NumReasons) {
		t.Errorf("unknown reason %q", NumReasons)
	}
}

func FuzzParseLinks(f *testing.F) {
	msg := make([]byte, 48)
	msg[0], msg[4] = 48, unix.RTM_NEWLINK
	copy(msg[32:], []byte{7, 0, unix.IFLA_IFNAME, 0, 'p', '0', 0, 0, 8, 0, unix.IFLA_MTU, 0, 0xdc, 5, 0, 0})
	if links, err := parseLinks(msg); err != nil || len(links) != 1 || links[0].Name != "p0" || links[0].MTU != 1500 {
		f.Fatalf("parsed %+v, %v", links, err)
	}
	f.Add(msg)
	f.Add(msg[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		links, err := parseLinks(b)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("error %v", err)
		}
		if len(links) > len(b)/unix.SizeofNlMsghdr {
			t.Errorf("%d links from %d bytes", len(links), len(b))
		}
		deletions(b, 1)
	})
}
