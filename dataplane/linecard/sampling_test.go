package linecard

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/fib"
)

// listen receives UDP datagrams in a namespace until the test ends.
func (r *rig) listen(ns string, port int) func() [][]byte {
	r.t.Helper()
	var c *net.UDPConn
	must(r.t, r.lab.Do(ns, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}))
	var mu sync.Mutex
	var got [][]byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			got = append(got, bytes.Clone(b[:n]))
			mu.Unlock()
		}
	}()
	r.t.Cleanup(func() { c.Close(); <-done })
	return func() [][]byte { mu.Lock(); defer mu.Unlock(); return got }
}

// sniff receives frames on a device of a namespace until the test ends.
func (r *rig) sniff(ns, device string) func() [][]byte {
	r.t.Helper()
	fd := -1
	must(r.t, r.lab.Do(ns, func() error {
		nic, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		const all = 0x0300 // ETH_P_ALL, in network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: nic.Index})
	}))
	r.t.Cleanup(func() { unix.Close(fd) })
	var got [][]byte
	return func() [][]byte {
		b := make([]byte, 2000)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return got
			}
			got = append(got, bytes.Clone(b[:n]))
		}
	}
}

func samplingOf(r *rig) (wire.SamplingStatus, wire.SampledInterface) {
	s := get[wire.SamplingStatus](r, 1, wire.GetSampling, struct{}{})
	if len(s.Interfaces) != 1 {
		return s, wire.SampledInterface{}
	}
	return s, s.Interfaces[0]
}

// TestSampling: one of N frames of both ways is told to a collector behind the router; one that
// can't be reached harms nobody.
func TestSampling(t *testing.T) {
	r, cfg := expressCard(t)
	got := r.listen("h2", 6343)
	h2 := netip.MustParseAddr("10.2.0.2")
	cfg.Sampling = &wire.SamplingConfig{Agent: netip.MustParseAddr("10.1.0.1"), Header: 64, Templates: time.Minute, Counters: time.Second, Collectors: []wire.SampleCollector{
		{Name: "a", Protocol: "sflow", VRF: red, Address: h2, Port: 6343, Source: netip.MustParseAddr("10.2.0.1")},
		{Name: "gone", Protocol: "ipfix", VRF: red, Address: netip.MustParseAddr("10.2.0.99"), Port: 4739, Source: netip.MustParseAddr("10.2.0.1")},
		{Name: "nowhere", Protocol: "sflow", VRF: red, Address: netip.MustParseAddr("203.0.113.1"), Port: 6343, Source: netip.MustParseAddr("10.2.0.1")},
	}}
	cfg.Interfaces[0].Sample = 4
	r.configure(cfg)
	const n = 200
	r.flow(n)
	_, before := samplingOf(r)
	cfg.Ports[0].Express = false
	r.configure(cfg)
	r.expressIs(1, "off")
	r.flow(n)
	var last wire.SampledInterface
	flows, counters := 0, 0
	eventually(t, "samples at the collector", func() bool {
		flows, counters = 0, 0
		for _, b := range got() {
			d := &layers.SFlowDatagram{}
			if err := d.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
				t.Fatalf("%v: %x", err, b)
			}
			flows += len(d.FlowSamples)
			counters += len(d.CounterSamples)
			for _, s := range d.FlowSamples {
				wantFlowSample(t, &s)
			}
		}
		_, last = samplingOf(r)
		return last.Samples > before.Samples+n/8 && uint64(flows) == last.Samples && counters > 0
	})
	if before.Express < n/8 || last.Express > last.Samples-n/8 || last.Pool < 2*n || last.Samples > n {
		t.Errorf("first %+v, then %+v", before, last)
	}
	s, _ := samplingOf(r)
	if len(s.Collectors) != 3 || s.Collectors[0].Samples != last.Samples || s.Collectors[1].Datagrams == 0 || s.Unsent != 0 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	r.ping("h1", "10.2.0.2")
	// Off again, and wrong configurations are refused whole.
	cfg.Sampling = nil
	r.configure(cfg)
	if s, _ := samplingOf(r); len(s.Interfaces) != 0 || len(s.Collectors) != 0 {
		t.Errorf("after the end: %+v", s)
	}
	for _, bad := range []wire.SamplingConfig{{}, {Agent: h2, Header: 64, Templates: 1, Collectors: []wire.SampleCollector{{Protocol: "netflow"}}},
		{Agent: h2, Header: 64, Templates: 1, Collectors: []wire.SampleCollector{{Protocol: "sflow", Address: h2, Port: 1, Source: netip.IPv6Loopback()}}}} {
		cfg.Sampling = &bad
		if _, err := ask[wire.CardResult](r, 1, wire.SetCard, cfg); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func wantFlowSample(t *testing.T, s *layers.SFlowFlowSample) {
	t.Helper()
	raw, ok := s.Records[0].(layers.SFlowRawPacketFlowRecord)
	if !ok || s.SamplingRate != 4 || s.InputInterface != uint32(ifaceID(1, 1)) {
		t.Fatalf("sample %+v", s)
	}
	if !bytes.Contains(raw.Header.Data(), []byte("express")) {
		return // ARP, or what the hosts say by themselves
	}
	if s.OutputInterface != uint32(ifaceID(1, 2)) || s.OutputInterfaceFormat != 0 {
		t.Errorf("output %d", s.OutputInterface)
	}
	if x, ok := s.Records[1].(layers.SFlowExtendedRouterFlowRecord); !ok || x.NextHop.String() != "10.2.0.2" || x.NextHopSourceMask != 24 || x.NextHopDestinationMask != 24 {
		t.Errorf("router %+v", s.Records[1])
	}
}

// TestMirror: frames of a mirrored interface take the workers' way and are copied to a port.
func TestMirror(t *testing.T) {
	r, cfg := expressCard(t)
	must(t, r.lab.Veth("rtr", "p3", "h2", "eth1", 1))
	got := r.sniff("h2", "eth1")
	udp := uint8(17)
	cfg.Ports = append(cfg.Ports, wire.PortConfig{ID: portID(1, 3), Device: "p3", Mode: "auto"})
	cfg.Mirrors = []wire.MirrorConfig{{Name: "span", Interfaces: []fib.InterfaceID{ifaceID(1, 1)}, In: true, Port: portID(1, 3), Rules: []wire.FilterRule{
		{Destination: netip.MustParsePrefix("10.2.0.0/24"), Protocol: &udp, DstPorts: []wire.PortRange{{First: 0x2000, Last: 0x2000}}}}}}
	r.configure(cfg)
	r.expressIs(1, "transmit")
	if p := r.status(1); p.ExpressReason != "mirrored" {
		t.Errorf("port %+v", p)
	}
	in, _ := r.flow(20)
	if in.Express != 0 {
		t.Errorf("counted %+v", in)
	}
	r.ping("h1", "10.2.0.2") // not copied: no UDP
	want := udp4(r.status(1).MAC, 0, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2"), "express")
	copies := 0
	eventually(t, "copies", func() bool {
		copies = 0
		for _, f := range got() {
			if bytes.HasPrefix(f, want) {
				copies++
			} else if len(f) > 34 && f[12] == 8 && f[23] == 1 {
				t.Fatalf("copied % x", f)
			}
		}
		return copies == 20
	})
	list := get[wire.MirrorList](r, 1, wire.GetMirrors, struct{}{})
	if m := list.Mirrors[0]; len(list.Mirrors) != 1 || m.Name != "span" || m.Device != "p3" || !m.Up || m.Frames != 20 || m.Matched != 20 || m.Dropped != 0 {
		t.Errorf("%+v", list)
	}
	cfg.Mirrors, cfg.Ports = nil, cfg.Ports[:2]
	r.configure(cfg)
	r.expressIs(1, "on")
	for _, m := range []wire.MirrorConfig{{Name: "x", Port: portID(1, 9)}, {Name: "x", Port: portID(1, 2)}} {
		cfg.Mirrors = []wire.MirrorConfig{m}
		if _, err := ask[wire.CardResult](r, 1, wire.SetCard, cfg); err == nil {
			t.Errorf("%+v was accepted", m)
		}
	}
	r.filteredCapture()
}

// filteredCapture: only what fits is captured.
func (r *rig) filteredCapture() {
	t := r.t
	udp := uint8(17)
	get[wire.CaptureRequest](r, 1, wire.StartCapture, wire.CaptureRequest{Interface: ifaceID(1, 1), Rules: []wire.FilterRule{{Protocol: &udp}}})
	r.ping("h1", "10.2.0.2")
	r.flow(5)
	eventually(t, "captured frames", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, f := range r.frames {
			if f[captureHeader+23] != 17 {
				t.Fatalf("captured % x", f)
			}
		}
		return len(r.frames) == 5
	})
	bad := wire.CaptureRequest{Interface: ifaceID(1, 2), Rules: []wire.FilterRule{{Family: 5}}}
	if _, err := ask[wire.CaptureRequest](r, 1, wire.StartCapture, bad); err == nil {
		t.Error("a bad filter was accepted")
	}
}
