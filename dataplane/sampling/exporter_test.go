package sampling

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"godwit/dataplane/header"
	"godwit/fib"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	begin  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	flows  = Collector{Name: "flows", Protocol: SFlow, Address: addr("192.0.2.9"), Port: 6343, Source: addr("192.0.2.1")}
	flows6 = Collector{Name: "flows6", Protocol: SFlow, Address: addr("2001:db8::9"), Port: 6343, Source: addr("2001:db8::1")}
	psamp  = Collector{Name: "psamp", Protocol: IPFIX, Address: addr("192.0.2.10"), Port: 4739, Source: addr("192.0.2.1")}
)

const (
	in  = fib.InterfaceID(1<<16 | 7)
	out = fib.InterfaceID(1<<16 | 40000)
)

func exporter(agent netip.Addr, collectors ...Collector) *Exporter {
	e := NewExporter(begin.Add(-time.Minute))
	e.Set(Config{Agent: agent, SubAgent: 3, Header: 128, Counters: 20 * time.Second, Templates: time.Minute, Collectors: collectors,
		Selectors: []Selector{{in, "red-up", 100}}})
	return e
}

// frame is a packet of the size in an Ethernet frame, TCP if it is IPv4, UDP if it is IPv6.
func frame(vlan uint16, src, dst string, n int) []byte {
	f := make([]byte, 18)
	typ := uint16(header.TypeIPv4)
	if addr(src).Is6() {
		typ = header.TypeIPv6
	}
	l2 := 14
	if vlan != 0 {
		header.PutEthernet(f, [6]byte{2, 1}, [6]byte{2, 2}, header.TypeVLAN)
		f[14], f[15], f[16], f[17] = byte(vlan>>8)|3<<5, byte(vlan), byte(typ>>8), byte(typ)
		l2 = 18
	} else {
		header.PutEthernet(f, [6]byte{2, 1}, [6]byte{2, 2}, typ)
	}
	ports := []byte{0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12}
	if typ == header.TypeIPv4 {
		b := make([]byte, header.IPv4Len+n)
		header.PutIPv4(b, len(b), 1, 0, 0xb8, 64, header.ProtoTCP, addr(src), addr(dst))
		copy(b[header.IPv4Len:], ports)
		return append(f[:l2], b...)
	}
	u := header.UDP{Src: addr(src), Dst: addr(dst), SrcPort: 40000, DstPort: 443, TOS: 0xb8, TTL: 64}
	return append(f[:l2], u.Append(nil, make([]byte, n-header.UDPLen))...)
}

func sample(f []byte) *Sample {
	s := &Sample{Interface: in, Rate: 100, Length: uint32(len(f)), Pool: 12345, Lost: 6, Time: begin, Header: f[:min(len(f), HeaderMax)], Packet: Decode(f)}
	s.Way = Way{Kind: Forwarded, VRF: 5, Out: out, OutVLAN: 200, NextHop: addr("10.9.0.2"), SrcLen: 24, DstLen: 16}
	if s.Packet.Src.Is6() {
		s.Way.NextHop = addr("fe80::2")
	}
	return s
}

func sflow(t *testing.T, b []byte) *layers.SFlowDatagram {
	t.Helper()
	d := &layers.SFlowDatagram{}
	if err := d.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return d
}

// TestSFlow has gopacket read what was written.
func TestSFlow(t *testing.T) {
	for _, agent := range []string{"192.0.2.1", "2001:db8::1"} {
		e := exporter(addr(agent), flows, flows6)
		f4, f6 := frame(100, "10.0.0.2", "10.9.0.5", 300), frame(0, "2001:db8:1::2", "2001:db8:9::5", 20)
		e.Sample(begin, sample(f4))
		e.Sample(begin, sample(f6))
		if !e.Due(begin) || e.Due(begin) {
			t.Error("counters are not due once")
		}
		e.Tell(begin, []Counters{{Interface: in, Name: "red-up", Admin: true, Up: true, Speed: 1e9, RxBytes: 1 << 40, RxPackets: 7, RxDrops: 3, TxBytes: 9, TxPkts: 8}})
		list := e.Flush(begin)
		if len(list) != 2 || *list[0].To != flows || *list[1].To != flows6 || !bytes.Equal(list[0].Payload, list[1].Payload) {
			t.Fatalf("datagrams %+v", list)
		}
		d := sflow(t, list[0].Payload)
		if d.DatagramVersion != 5 || d.AgentAddress.String() != agent || d.SubAgentID != 3 || d.SequenceNumber != 1 || d.AgentUptime != 60000 ||
			d.SampleCount != 3 || len(d.FlowSamples) != 2 || len(d.CounterSamples) != 1 {
			t.Errorf("datagram %+v", d)
		}
		wantFlow(t, &d.FlowSamples[0], 1, f4, 3, "10.9.0.2")
		wantFlow(t, &d.FlowSamples[1], 2, f6, 3, "fe80::2")
		wantCounters(t, &d.CounterSamples[0])
		if more := e.Flush(begin); len(more) != 0 {
			t.Errorf("%d datagrams with nothing in them", len(more))
		}
	}
}

func wantFlow(t *testing.T, s *layers.SFlowFlowSample, seq uint32, f []byte, records int, hop string) {
	t.Helper()
	if s.Format != layers.SFlowTypeExpandedFlowSample || s.SequenceNumber != seq || uint32(s.SourceIDIndex) != uint32(in) || s.SamplingRate != 100 ||
		s.SamplePool != 12345 || s.Dropped != 6 || s.InputInterface != uint32(in) || s.OutputInterface != uint32(out) || s.OutputInterfaceFormat != 0 || len(s.Records) != records {
		t.Errorf("sample %+v", s)
	}
	for _, r := range s.Records {
		switch r := r.(type) {
		case layers.SFlowRawPacketFlowRecord:
			if r.HeaderProtocol != 1 || int(r.FrameLength) != len(f)+4 || r.PayloadRemoved != 4 || int(r.HeaderLength) != min(len(f), 128) ||
				!bytes.Equal(r.Header.Data()[:r.HeaderLength], f[:min(len(f), 128)]) {
				t.Errorf("header %+v", r)
			}
		case layers.SFlowExtendedSwitchFlowRecord:
			if p := Decode(f); r.IncomingVLAN != uint32(p.VLAN) || r.IncomingVLANPriority != uint32(p.Priority) || r.OutgoingVLAN != 200 {
				t.Errorf("switch %+v", r)
			}
		case layers.SFlowExtendedRouterFlowRecord:
			if r.NextHop.String() != hop || r.NextHopSourceMask != 24 || r.NextHopDestinationMask != 16 {
				t.Errorf("router %+v", r)
			}
		default:
			t.Errorf("record %T", r)
		}
	}
}

func wantCounters(t *testing.T, s *layers.SFlowCounterSample) {
	t.Helper()
	if s.SequenceNumber != 1 || uint32(s.SourceIDIndex) != uint32(in) || len(s.Records) != 2 {
		t.Fatalf("counters %+v", s)
	}
	g, ok := s.Records[0].(layers.SFlowGenericInterfaceCounters)
	if !ok || g.IfIndex != uint32(in) || g.IfType != 6 || g.IfSpeed != 1e9 || g.IfDirection != 1 || g.IfStatus != 3 || g.IfInOctets != 1<<40 ||
		g.IfInUcastPkts != 7 || g.IfInDiscards != 3 || g.IfOutOctets != 9 || g.IfOutUcastPkts != 8 {
		t.Errorf("counters %+v", s.Records[0])
	}
	if n, ok := s.Records[1].(layers.SFlowPORTNAME); !ok || n.Str != "red-up" {
		t.Errorf("name %+v", s.Records[1])
	}
}

// TestWays: what became of a packet is told as sFlow has it.
func TestWays(t *testing.T) {
	for kind, want := range map[WayKind][2]uint32{
		Unknown: {0, 0}, Forwarded: {0, uint32(out)}, Local: {0, 0x3fffffff}, NoRoute: {1, 0}, Dropped: {1, 256},
	} {
		e := exporter(flows.Source, flows)
		s := sample(frame(0, "10.0.0.2", "10.9.0.5", 20))
		s.Way.Kind, s.Way.OutVLAN = kind, 0
		e.Sample(begin, s)
		d := sflow(t, e.Flush(begin)[0].Payload)
		if got := d.FlowSamples[0]; got.OutputInterfaceFormat != want[0] || got.OutputInterface != want[1] {
			t.Errorf("way %d: output %d/%d, want %v", kind, got.OutputInterfaceFormat, got.OutputInterface, want)
		}
	}
}

// TestDatagramsAreBounded: no datagram is longer than fits, and no sample is left out.
func TestDatagramsAreBounded(t *testing.T) {
	psamp6 := psamp
	psamp6.Address = addr("2001:db8::10")
	e := exporter(flows.Source, flows, flows6, psamp, psamp6)
	const n = 1000
	records := make(map[Protocol]uint32)
	seq := make(map[Collector]uint32)
	got := make(map[Collector]int)
	take := func(list []Datagram) {
		for _, d := range list {
			most := payload4
			if d.To.Address.Is6() {
				most = payload6
			}
			if len(d.Payload) > most {
				t.Fatalf("%d bytes to %v", len(d.Payload), d.To.Address)
			}
			if d.To.Protocol == SFlow {
				x := sflow(t, d.Payload)
				if seq[*d.To]++; x.SequenceNumber != seq[*d.To] {
					t.Fatalf("datagram %d, want %d", x.SequenceNumber, seq[*d.To])
				}
				got[*d.To] += len(x.FlowSamples)
				continue
			}
			m := readIPFIX(t, d.Payload)
			if m.seq != seq[*d.To] {
				t.Fatalf("message says %d records before it, want %d", m.seq, seq[*d.To])
			}
			seq[*d.To] += uint32(m.records)
			got[*d.To] += m.samples
		}
	}
	now := begin
	for i := range n {
		f := frame(uint16(i%2*50), "10.0.0.2", "10.9.0.5", i%400+20)
		if i%3 == 0 {
			f = frame(0, "2001:db8:1::2", "2001:db8:9::5", i%400+8)
		} else if i%7 == 0 {
			f = append(f[:12], 0x88, 0xb5, 1, 2, 3)
		}
		e.Sample(now, sample(f))
		if i%50 == 0 {
			now = now.Add(10 * time.Second)
			take(e.Flush(now))
		}
	}
	take(e.Flush(now))
	for c, k := range got {
		if k != n {
			t.Errorf("%s: %d of %d samples told", c.Name, k, n)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d collectors (%v)", len(got), records)
	}
	for _, s := range e.Stats() {
		if s.Samples != n || s.Datagrams == 0 || s.Bytes == 0 {
			t.Errorf("stats %+v", s)
		}
	}
}

// message is an IPFIX message, read with the templates that it may have.
type message struct {
	seq                        uint32
	records, samples, template int
}

// readIPFIX is a reader of its own, by RFC 7011.
func readIPFIX(t *testing.T, b []byte) (m message) {
	t.Helper()
	u16 := func(at int) int { return int(b[at])<<8 | int(b[at+1]) }
	if u16(0) != 10 || u16(2) != len(b) {
		t.Fatalf("message %x", b[:16])
	}
	m.seq = uint32(u16(8))<<16 | uint32(u16(10))
	for at := 16; at < len(b); {
		set, end := u16(at), at+u16(at+2)
		if end > len(b) || end <= at+4 {
			t.Fatalf("set %d from %d to %d of %d", set, at, end, len(b))
		}
		at += 4
		list, data := templates[uint16(set)], set != 2 && set != 3
		if set == setSelectors {
			list = selectors
		}
		if !data {
			m.template++
			at = end
		}
		for at < end {
			for _, x := range list {
				if x.size != variable {
					at += int(x.size)
				} else if n := int(b[at]); n < 255 {
					at += 1 + n
				} else {
					at += 3 + u16(at+1)
				}
			}
			m.records++
			if set != setSelectors {
				m.samples++
			}
		}
		if at != end {
			t.Fatalf("set %d ends at %d, want %d", set, at, end)
		}
	}
	return m
}

// TestTemplates: they come first, again after their time, and when what is sampled changes.
func TestTemplates(t *testing.T) {
	e := exporter(psamp.Source, psamp)
	got := func(now time.Time) (n int) {
		for _, d := range e.Flush(now) {
			n += readIPFIX(t, d.Payload).template
		}
		return n
	}
	for i, c := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {time.Second, 0}, {59 * time.Second, 0}, {60 * time.Second, 2}, {61 * time.Second, 0}} {
		if n := got(begin.Add(c.after)); n != c.want {
			t.Errorf("%d: %d sets of templates after %v, want %d", i, n, c.after, c.want)
		}
	}
	c := e.cfg
	c.Selectors = nil
	e.Set(c)
	if n := got(begin.Add(62 * time.Second)); n != 2 {
		t.Errorf("%d sets of templates after a change", n)
	}
}

// tshark reads datagrams as they are on the wire.
func tshark(t *testing.T, list []Datagram, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "export.pcap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		u := header.UDP{Src: d.To.Source, Dst: d.To.Address, SrcPort: d.To.Port, DstPort: d.To.Port, TTL: 64}
		b := u.Append(nil, d.Payload)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: begin, CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", append([]string{"-r", file, "-o", "udp.check_checksum:TRUE"}, args...)...)
	var fault strings.Builder
	cmd.Stderr = &fault
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark (see tools/deps.sh): %v: %s", err, fault.String())
	}
	return string(text)
}

// TestTshark has Wireshark's dissectors read both protocols. A message has one set of samples here: behind a
// frame section, which it dissects in place, Wireshark 4.0 takes the frame's addresses for the message's, and finds no more templates.
func TestTshark(t *testing.T) {
	e := exporter(flows.Source, flows, psamp)
	e.Sample(begin, sample(frame(100, "10.0.0.2", "10.9.0.5", 60)))
	list := e.Flush(begin)
	e.Sample(begin, sample(frame(0, "2001:db8:1::2", "2001:db8:9::5", 20)))
	list = append(list, e.Flush(begin)...)
	e.Sample(begin, sample([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x88, 0xb5, 1, 2}))
	e.Tell(begin, []Counters{{Interface: in, Name: "red-up", RxPackets: 7}})
	list = append(list, e.Flush(begin)...)
	if bad := tshark(t, list, "-Y", `_ws.malformed || _ws.expert.severity >= "Warning" || udp.checksum.status == 0`, "-V"); bad != "" {
		t.Errorf("faults:\n%s", bad)
	}
	all := tshark(t, list, "-V")
	for _, want := range []string{
		"Agent address: 192.0.2.1", "Expanded flow sample", "Sampling rate: 1 out of 100 packets", "Raw packet header", "Extended router data",
		"Next hop: 10.9.0.2", "Incoming 802.1Q VLAN: 100", "Generic interface counters", fmt.Sprintf("Interface index: %d", in),
		"Observation Domain Id: 3", "SrcAddr: 10.0.0.2", "DstAddr: 10.9.0.5", "SrcAddr: 2001:db8:1::2", "DstPort: 443",
		fmt.Sprintf("InputInt: %d", in), fmt.Sprintf("OutputInt: %d", out), "Selector Algorithm: Random n-out-of-N Sampling", "Sampling Population: 100", "NextHop: 10.9.0.2",
		"Octets: 80", "Vlan Id: 100", "IfName: red-up",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(all)
	}
}

// TestDecode reads what frames begin with, cut off anywhere.
func TestDecode(t *testing.T) {
	f := frame(100, "10.0.0.2", "10.9.0.5", 40)
	p := Decode(f)
	want := Packet{Tagged: true, VLAN: 100, Priority: 3, Type: header.TypeIPv4, L3: 18, Src: addr("10.0.0.2"), Dst: addr("10.9.0.5"), Protocol: 6,
		TOS: 0xb8, Length: 60, SrcPort: 40000, DstPort: 443, TCPFlags: 0x12}
	if p != want {
		t.Errorf("got %+v", p)
	}
	for n := range f {
		got := Decode(f[:n])
		if got.Src.IsValid() != (n >= 38) || (got.DstPort != 0) != (n >= 42) {
			t.Errorf("%d bytes: %+v", n, got)
		}
	}
	ext := frame(0, "2001:db8::1", "2001:db8::2", 40)
	ext[14+6] = header.ProtoHopByHop
	copy(ext[54:], []byte{header.ProtoFragment, 0, 0, 0, 0, 0, 0, 0, header.ProtoUDP, 0, 0, 1, 0, 0, 0, 9, 0, 53, 0, 54})
	if p := Decode(ext); p.Protocol != header.ProtoUDP || p.SrcPort != 53 || p.DstPort != 54 {
		t.Errorf("first fragment %+v", p)
	}
	ext[54+11] = 8 // offset 1
	if p := Decode(ext); p.Protocol != header.ProtoUDP || p.DstPort != 0 {
		t.Errorf("later fragment %+v", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(frame(100, "10.0.0.2", "10.9.0.5", 40))
	f.Add(frame(0, "2001:db8::1", "2001:db8::2", 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sample(slices.Clone(b))
		e := exporter(flows.Source, flows, psamp)
		e.Sample(begin, s)
		for _, d := range e.Flush(begin) {
			if d.To.Protocol == SFlow {
				if x := sflow(t, d.Payload); len(x.FlowSamples) != 1 {
					t.Fatalf("%d samples", len(x.FlowSamples))
				}
			} else if m := readIPFIX(t, d.Payload); m.samples != 1 {
				t.Fatalf("%d samples", m.samples)
			}
		}
	})
}
