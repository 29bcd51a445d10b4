package system

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostile frames: each is sent several times from cust-red; the reason must
// show in "show drops" of card 2.
var hostile = []struct {
	name  string
	frame string // scapy, with r = the router's MAC
}{
	{"short IPv4 header", `Ether(dst=r,type=0x0800)/bytes([0x45,0,0,20,0,0])`},
	{"bad version", `Ether(dst=r,type=0x0800)/bytes([0x65]+[0]*40)`},
	{"header length below five words", `Ether(dst=r)/IP(src="10.0.1.2",dst="192.0.2.1",ihl=4)/ICMP()`},
	{"total length beyond the frame", `Ether(dst=r)/IP(src="10.0.1.2",dst="192.0.2.1",len=900)/ICMP()`},
	{"bad IPv4 checksum", `Ether(dst=r)/IP(src="10.0.1.2",dst="192.0.2.1",chksum=0x1234)/ICMP()`},
	{"TTL 0", `Ether(dst=r)/IP(src="10.0.1.2",dst="192.0.2.1",ttl=0)/ICMP()`},
	{"loopback source", `Ether(dst=r)/IP(src="127.0.0.1",dst="192.0.2.1")/ICMP()`},
	{"multicast source", `Ether(dst=r)/IP(src="224.0.0.9",dst="192.0.2.1")/ICMP()`},
	{"own address as source", `Ether(dst=r)/IP(src="10.0.1.1",dst="192.0.2.1")/ICMP()`},
	{"source routing", `Ether(dst=r)/IP(src="10.0.1.2",dst="192.0.2.1",options=[IPOption_LSRR(routers=["10.0.0.2"])])/ICMP()`},
	{"short IPv6 header", `Ether(dst=r,type=0x86dd)/bytes([0x60]+[0]*20)`},
	{"IPv6 payload beyond the frame", `Ether(dst=r)/IPv6(src="2001:db8:1::2",dst="2001:db8:a::1",plen=900)/ICMPv6EchoRequest()`},
	{"IPv6 loopback source", `Ether(dst=r)/IPv6(src="::1",dst="2001:db8:a::1")/ICMPv6EchoRequest()`},
	{"unknown ethertype", `Ether(dst=r,type=0x9999)/b"x"*60`},
	{"unknown VLAN", `Ether(dst=r)/Dot1Q(vlan=77)/IP(src="10.0.1.2",dst="192.0.2.1")/ICMP()`},
	{"another station's MAC", `Ether(dst="02:de:ad:be:ef:00")/IP(src="10.0.1.2",dst="192.0.2.1")/ICMP()`},
	{"short ARP", `Ether(dst=r,type=0x0806)/bytes([0,1,8,0,6])`},
	{"ARP that claims the router's address", `Ether(dst="ff:ff:ff:ff:ff:ff")/ARP(op=2,psrc="10.0.1.1",pdst="10.0.1.1",hwsrc="02:de:ad:be:ef:00")`},
}

// drops sums up card 2's named drops.
func drops(ctx context.Context) (map[string]uint64, error) {
	d, err := shared.client.Drops(ctx, 2)
	if err != nil {
		return nil, err
	}
	named := map[string]uint64{}
	for _, c := range d.Cards {
		for _, x := range c.Drops {
			named[x.Node+"/"+x.Reason] += x.Count
		}
	}
	return named, nil
}

func TestHostileFramesAreNamedDropsAndHarmNobody(t *testing.T) {
	shared.converged(t)
	cust, up := shared.node("cust-red"), shared.node("up-a")
	sh(t, cust, "ping -n -c 2 -i 0.05 -W 1 192.0.2.1")
	mac := strings.TrimSpace(sh(t, cust, "ip neigh show 10.0.1.1 dev eth0 | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p'"))
	stop := sniff(t, up, "eth0", "icmp or icmp6")
	const copies = 5
	for _, h := range hostile {
		before, err := drops(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sh(t, cust, `/usr/bin/python3 -W ignore -c '
from scapy.all import *
r = %q
sendp(%s, iface="eth0", count=%d, verbose=0)'`, mac, h.frame, copies)
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			after, err := drops(ctx)
			if err != nil {
				return err
			}
			for name, n := range after {
				if n >= before[name]+copies {
					t.Logf("%-40s %s", h.name, name)
					return nil
				}
			}
			return fmt.Errorf("%s: no named drop counted %d frames", h.name, copies)
		})
	}
	sh(t, cust, "ping -n -c 5 -i 0.05 -W 1 192.0.2.1")
	if n := packets(t, stop(), "icmp.type == 8 && !(ip.src == 10.0.1.2)"); n > 0 {
		t.Errorf("%d hostile packets were forwarded", n)
	}
	// The router's own address is still the router's.
	if again := strings.TrimSpace(sh(t, cust, "ip neigh flush all; ping -n -c 1 -W 1 10.0.1.1 >/dev/null; ip neigh show 10.0.1.1 dev eth0 | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p'")); again != mac {
		t.Errorf("10.0.1.1 moved from %s to %s", mac, again)
	}
	shared.converged(t)
}

// TestICMPErrorsDoNotLoop answers the router's errors with errors.
func TestICMPErrorsDoNotLoop(t *testing.T) {
	shared.converged(t)
	cust := shared.node("cust-red")
	stop := sniff(t, cust, "eth0", "icmp")
	sh(t, cust, `/usr/bin/python3 -W ignore -c '
from scapy.all import *
inner = IP(src="10.0.1.1",dst="10.0.1.2")/ICMP(type=3,code=1)/IP(src="10.0.1.2",dst="240.0.0.1")/UDP()
for dst in ("100.99.0.1", "10.0.1.77", "203.0.113.130"):
    send(IP(src="10.0.1.2",dst=dst,ttl=1)/ICMP(type=3,code=1)/inner[IP].payload, verbose=0)
    send(IP(src="10.0.1.2",dst=dst)/ICMP(type=11)/inner[IP].payload, verbose=0)'`)
	sh(t, cust, "ping -n -c 2 -i 0.05 -W 1 192.0.2.1")
	if n := packets(t, stop(), "(icmp.type == 3 || icmp.type == 11) && ip.dst == 10.0.1.2"); n > 0 {
		t.Errorf("%d errors about errors", n)
	}
}
