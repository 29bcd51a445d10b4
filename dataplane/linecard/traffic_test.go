package linecard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/fib"
)

// send sends frames out of a host's eth0.
func (r *rig) send(ns string, frames ...[]byte) {
	r.t.Helper()
	must(r.t, r.lab.Do(ns, func() error {
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: nic.Index}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// udp4 is a frame, tagged if vlan is not 0, of UDP without checksum.
func udp4(dst string, vlan uint16, from, to netip.Addr, payload string) []byte {
	mac, _ := net.ParseMAC(dst)
	f := append([]byte(mac), 2, 0, 0, 0, 0, 0x77)
	if vlan != 0 {
		f = binary.BigEndian.AppendUint16(append(f, 0x81, 0), vlan)
	}
	f = append(f, 8, 0)
	h := []byte{0x45, 0, 0, byte(28 + len(payload)), 0, 1, 0, 0, 64, 17, 0, 0}
	h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	f = append(f, h...)
	f = append(f, 0x10, 0, 0x20, 0, 0, byte(8+len(payload)), 0, 0)
	return append(f, payload...)
}

func TestTaggedTrafficStaysInItsVRF(t *testing.T) {
	r := cabled(t)
	cfg := oneCard(r)
	cfg.VRFs = append(cfg.VRFs, wire.VRFConfig{ID: blue, Name: "blue"})
	// The same addresses again, in blue, tagged, on the same ports.
	for i, name := range []string{"left5", "right6"} {
		c := cfg.Interfaces[i]
		c.ID, c.Name, c.VLAN, c.VRF, c.TAP = ifaceID(1, 10+i), name, uint16(5+i), blue, ""
		cfg.Interfaces = append(cfg.Interfaces, c)
	}
	h2 := netip.MustParseAddr("10.2.0.2")
	cfg.Neighbors = []wire.StaticNeighbor{{Interface: ifaceID(1, 11), Address: h2, MAC: "02:00:00:00:00:99"}}
	r.setUp(cfg)
	r.program(1, append(connected(blue, ifaceID(1, 10), "10.1.0.1/24", 21), connected(blue, ifaceID(1, 11), "10.2.0.1/24", 23)...)...)
	get[wire.CaptureRequest](r, 1, wire.StartCapture, wire.CaptureRequest{Interface: ifaceID(1, 11)})
	mac := r.port(portID(1, 1)).MAC
	r.send("h1", udp4(mac, 5, netip.MustParseAddr("10.1.0.2"), h2, "blue"))
	var out []byte
	eventually(t, "frame out of the tagged interface", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, b := range r.frames {
			if bytes.Contains(b, []byte("blue")) {
				out = b[captureHeader:]
				return true
			}
		}
		return false
	})
	if !bytes.Equal(out[:6], []byte{2, 0, 0, 0, 0, 0x99}) || out[12] != 0x81 || out[15] != 6 || out[26] != 63 || checksum(out[18:38]) != 0 {
		t.Errorf("frame % x", out)
	}
	for _, p := range get[wire.PortList](r, 1, wire.GetPorts, struct{}{}).Ports {
		red, blue := p.Interfaces[0].Counters, p.Interfaces[1].Counters
		if p.ID == portID(1, 2) && blue.TxPackets == 0 || p.ID == portID(1, 1) && (blue.RxPackets != 1 || red.RxPackets != 0) {
			t.Errorf("port %s: red %+v, blue %+v", p.Device, red, blue)
		}
	}
	// A tag that nobody has is a named drop.
	r.send("h1", udp4(mac, 99, netip.MustParseAddr("10.1.0.2"), h2, "nowhere"))
	eventually(t, "named drop", func() bool { return r.drop(1, "ethernet-input", "unknown-vlan") == 1 })
}

func TestIPv6(t *testing.T) {
	r := newRig(t, "h1", "h2")
	cfg := oneCard(r)
	cfg.VRFs[0].TUN = ""
	for i, h := range []string{"h1", "h2"} {
		dev, tap := fmt.Sprintf("p%d", i+1), cfg.Interfaces[i].TAP
		must(t, r.lab.Veth("rtr", dev, h, "eth0", 1))
		must(t, r.lab.IP("red", "tuntap", "add", "dev", tap, "mode", "tap"))
		for ns, d := range map[string]string{h: "eth0", "red": tap} {
			must(t, r.lab.Sysctl(ns, "net/ipv6/conf/"+d+"/disable_ipv6", "0"))
			must(t, r.lab.Sysctl(ns, "net/ipv6/conf/"+d+"/accept_dad", "0"))
			must(t, r.lab.Sysctl(ns, "net/ipv6/conf/"+d+"/accept_ra", "0"))
		}
		must(t, r.lab.IP(h, "addr", "add", fmt.Sprintf("2001:db8:%d::2/64", i+1), "dev", "eth0", "nodad"))
		must(t, r.lab.IP(h, "route", "add", "default", "via", fmt.Sprintf("2001:db8:%d::1", i+1)))
		cfg.Interfaces[i].Addresses = prefixes(fmt.Sprintf("2001:db8:%d::1/64", i+1), fmt.Sprintf("fe80::%d/64", i+1))
	}
	r.start(1)
	r.configure(cfg)
	for i := range cfg.Interfaces {
		tap := cfg.Interfaces[i].TAP
		r.setMAC("red", tap, portID(1, i+1))
		must(t, r.lab.IP("red", "link", "set", tap, "up"))
		for _, a := range cfg.Interfaces[i].Addresses {
			must(t, r.lab.IP("red", "addr", "add", a.String(), "dev", tap, "nodad"))
		}
		r.program(1, connected(red, ifaceID(1, i+1), cfg.Interfaces[i].Addresses[0].String(), fib.GroupID(1+2*i))...)
	}
	r.ping("h1", "2001:db8:2::2")
	r.ping("h1", "2001:db8:1::1")
	r.ping("red", "2001:db8:2::2")
	r.ping("h1", "fe80::1%eth0")
}

func TestStaticNeighborOfALatePort(t *testing.T) {
	r := newRig(t, "h1", "h2")
	r.host("h1", "p1", "10.1.0.2/24", "10.1.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	cfg := oneCard(r)
	cfg.Neighbors = []wire.StaticNeighbor{
		{Interface: ifaceID(1, 2), Address: netip.MustParseAddr("10.2.0.2"), MAC: "02:00:00:00:00:42"},
		{Interface: ifaceID(1, 2), Address: netip.MustParseAddr("10.2.0.3"), MAC: "nonsense"},
	}
	problems := strings.Join(get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems, "\n")
	if !strings.Contains(problems, "p2: no such device") || !strings.Contains(problems, `bad MAC address "nonsense"`) {
		t.Errorf("problems: %s", problems)
	}
	must(t, r.lab.Veth("rtr", "p2", "h2", "eth0", 1))
	must(t, r.lab.IP("h2", "link", "set", "eth0", "address", "02:00:00:00:00:42"))
	must(t, r.lab.IP("h2", "addr", "add", "10.2.0.2/24", "dev", "eth0"))
	must(t, r.lab.IP("h2", "route", "add", "default", "via", "10.2.0.1"))
	eventually(t, "port up", func() bool { return r.port(portID(1, 2)).Up })
	n := get[wire.NeighborList](r, 1, wire.GetNeighbors, wire.NeighborQuery{Interface: ifaceID(1, 2)}).Neighbors
	if len(n) != 1 || n[0].State != "permanent" || n[0].MAC != "02:00:00:00:00:42" || n[0].VRF != red {
		t.Errorf("neighbours %+v", n)
	}
	r.setMAC("red", "left", portID(1, 1))
	r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 1), connected(red, ifaceID(1, 2), "10.2.0.1/24", 3)...)...)
	r.ping("h1", "10.2.0.2")
}

func TestFabricIsRetried(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "fabric")
	must(t, os.WriteFile(dir, nil, 0o600)) // in the way
	r.start(1)
	cfg := wire.CardConfig{Card: 1, Workers: 1, Cards: []fib.CardID{1, 2}}
	if p := get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems; len(p) != 1 || !strings.Contains(p[0], "fabric") {
		t.Errorf("problems %q", p)
	}
	must(t, os.Remove(dir))
	eventually(t, "fabric", func() bool { return len(get[wire.CardResult](r, 1, wire.SetCard, cfg).Problems) == 0 })
	for _, name := range []string{"1-2", "2-1", "1-2.bell", "2-1.bell"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	cfg.Cards = []fib.CardID{1}
	r.configure(cfg)
}

func TestLargeFrames(t *testing.T) {
	r := newRig(t, "h1", "h2")
	cfg := oneCard(r)
	for i, h := range []string{"h1", "h2"} {
		dev := fmt.Sprintf("p%d", i+1)
		r.host(h, dev, fmt.Sprintf("10.%d.0.2/24", i+1), fmt.Sprintf("10.%d.0.1", i+1))
		must(t, r.lab.IP(h, "link", "set", "eth0", "mtu", "3000"))
		must(t, r.lab.IP("rtr", "link", "set", dev, "mtu", "3000"))
		cfg.Interfaces[i].MTU = 3000
	}
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	r.setUp(cfg)
	r.ping("h1", "10.2.0.2", "-s", "2900", "-M", "do")
	// Larger than the way out: the sender is told.
	cfg.Interfaces[1].MTU = 1500
	r.configure(cfg)
	out, err := r.output("h1", "ping", "-c", "3", "-i", "0.2", "-W", "1", "-s", "2900", "-M", "do", "10.2.0.2")
	if err == nil || !strings.Contains(out, "mtu = 1500") && !strings.Contains(out, "mtu=1500") {
		t.Errorf("%v\n%s", err, out)
	}
	r.ping("h1", "10.2.0.2", "-s", "1400", "-M", "do")
}
