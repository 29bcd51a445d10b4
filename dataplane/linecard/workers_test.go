package linecard

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"godwit/cluster/wire"
)

// Flows of TestTwoWorkers: bursts of all flows, each waiting for its end, so
// that no queue of the hosts overflows.
const (
	testFlows  = 16
	flowBurst  = 16
	flowBursts = 50
)

// TestTwoWorkers forwards many flows with two workers, each with a queue of
// every port, and then with a port of one queue, for which one hands frames over
// to the other: nothing is lost, every flow stays in order, all is counted.
func TestTwoWorkers(t *testing.T) {
	for _, queues := range []int{2, 1} {
		t.Run(fmt.Sprintf("%d queues out", queues), func(t *testing.T) {
			r := newRig(t, "h1", "h2")
			for i, q := range []int{2, queues} {
				h := fmt.Sprintf("h%d", i+1)
				must(t, r.lab.Veth("rtr", fmt.Sprintf("p%d", i+1), h, "eth0", q))
				must(t, r.lab.IP(h, "addr", "add", fmt.Sprintf("10.%d.0.2/24", i+1), "dev", "eth0"))
				must(t, r.lab.IP(h, "route", "add", "default", "via", fmt.Sprintf("10.%d.0.1", i+1)))
			}
			r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
			r.start(1)
			cfg := oneCard(r)
			cfg.Workers = 2
			r.setUp(cfg)
			r.ping("h1", "10.2.0.2") // neighbours are known from here on
			txPackets := func() uint64 {
				for _, p := range get[wire.PortList](r, 1, wire.GetPorts, struct{}{}).Ports {
					if p.ID == portID(1, 2) {
						return p.Interfaces[0].Counters.TxPackets
					}
				}
				return 0
			}
			before := txPackets()
			r.flows()
			const sent = testFlows * flowBurst * flowBursts
			eventually(t, "frames counted", func() bool {
				return txPackets()-before >= sent
			})
			for q, n := range r.received("p1") {
				if n < sent/testFlows {
					t.Errorf("queue %d got %d frames of %d", q, n, sent)
				}
			}
		})
	}
}

// flows sends numbered datagrams from h1 to h2 and checks their order.
func (r *rig) flows() {
	t := r.t
	t.Helper()
	var to *net.UDPConn
	must(t, r.lab.Do("h2", func() (err error) {
		to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 2, 0, 2), Port: 9000})
		return err
	}))
	defer to.Close()
	must(t, to.SetReadBuffer(4<<20))
	var from [testFlows]*net.UDPConn
	for i := range from {
		must(t, r.lab.Do("h1", func() (err error) {
			from[i], err = net.DialUDP("udp4", &net.UDPAddr{Port: 20000 + i}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.2.0.2:9000")))
			return err
		}))
		defer from[i].Close()
	}
	var next [testFlows]uint32
	buf := make([]byte, 64)
	for burst := range flowBursts {
		for n := range flowBurst {
			for i, c := range from {
				number := uint32(burst*flowBurst + n)
				if _, err := c.Write(binary.BigEndian.AppendUint32([]byte{byte(i)}, number)); err != nil {
					t.Fatal(err)
				}
			}
		}
		must(t, to.SetReadDeadline(time.Now().Add(10*time.Second)))
		for got := range testFlows * flowBurst {
			n, err := to.Read(buf)
			if err != nil || n != 5 {
				t.Fatalf("burst %d: %d datagrams came; %d bytes, %v", burst, got, n, err)
			}
			i, number := buf[0], binary.BigEndian.Uint32(buf[1:])
			if number != next[i] {
				t.Fatalf("flow %d: number %d, want %d", i, number, next[i])
			}
			next[i]++
		}
	}
}

var queueLine = regexp.MustCompile(`rx_queue_(\d+)_xdp_packets: (\d+)`)

// received is how many frames came in on each queue of a veth.
func (r *rig) received(dev string) map[int]int {
	r.t.Helper()
	out, err := r.output("rtr", "ethtool", "-S", dev)
	must(r.t, err)
	got := make(map[int]int)
	for _, m := range queueLine.FindAllStringSubmatch(out, -1) {
		q, _ := strconv.Atoi(m[1])
		got[q], _ = strconv.Atoi(m[2])
	}
	if len(got) != 2 {
		r.t.Fatalf("no statistics of 2 queues in %s", out)
	}
	return got
}
