package sampling

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// sFlow version 5 (sflow.org/sflow_version_5.txt): XDR, so everything is in words of 32 bits.

// Formats of samples and records of the enterprise 0.
const (
	sampleFlow     = 3 // expanded: interface numbers of 32 bits
	sampleCounters = 4
	recordHeader   = 1
	recordSwitch   = 1001
	recordRouter   = 1002
	recordPorts    = 1 // of counters: generic interface
	recordPortName = 1005
)

const (
	headerEthernet  = 1 // header_protocol
	fcs             = 4 // bytes of the frame's checksum, which a port does not give us
	noInterface     = 0x3fffffff
	formatIndex     = 0
	formatDiscarded = 1
	netUnreachable  = 0   // reason of a discard: an ICMP code
	discarded       = 256 // reason: not known
	typeEthernet    = 6   // ifType
	unknownCount    = 0xffffffff
)

func word(b []byte, v uint32) []byte   { return binary.BigEndian.AppendUint32(b, v) }
func double(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// opaque appends bytes with their length, padded to whole words.
func opaque(b, v []byte) []byte {
	b = append(word(b, uint32(len(v))), v...)
	return append(b, make([]byte, -len(v)&3)...)
}

func address(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		return append(word(b, 1), a.AsSlice()...)
	case a.Is6():
		return append(word(b, 2), a.AsSlice()...)
	}
	return word(b, 0)
}

// sized fills in the length word in front of what was appended since at.
func sized(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return b
}

// flowSample appends an expanded flow sample.
func (e *Exporter) flowSample(b []byte, seq uint32, s *Sample) []byte {
	b = word(word(b, sampleFlow), 0)
	begin := len(b)
	b = word(word(word(b, seq), 0), uint32(s.Interface)) // source: ifIndex
	b = word(word(word(b, s.Rate), uint32(s.Pool)), uint32(s.Lost))
	b = word(word(b, formatIndex), uint32(s.Interface))
	switch s.Way.Kind {
	case Forwarded:
		b = word(word(b, formatIndex), uint32(s.Way.Out))
	case Local:
		b = word(word(b, formatIndex), noInterface)
	case NoRoute:
		b = word(word(b, formatDiscarded), netUnreachable)
	case Dropped:
		b = word(word(b, formatDiscarded), discarded)
	default:
		b = word(word(b, formatIndex), 0)
	}
	records := len(b)
	b = word(b, 1)
	b = e.headerRecord(b, s)
	if s.Packet.Tagged || s.Way.OutVLAN != 0 {
		b[records+3]++
		b = word(word(b, recordSwitch), 16)
		b = word(word(b, uint32(s.Packet.VLAN)), uint32(s.Packet.Priority))
		b = word(word(b, uint32(s.Way.OutVLAN)), uint32(s.Packet.Priority))
	}
	if s.Way.Kind == Forwarded {
		b[records+3]++
		b = word(word(b, recordRouter), 0)
		at := len(b)
		b = address(b, s.Way.NextHop)
		b = word(word(b, uint32(s.Way.SrcLen)), uint32(s.Way.DstLen))
		b = sized(b, at)
	}
	return sized(b, begin)
}

func (e *Exporter) headerRecord(b []byte, s *Sample) []byte {
	b = word(word(b, recordHeader), 0)
	at := len(b)
	b = word(word(word(b, headerEthernet), s.Length+fcs), fcs)
	b = opaque(b, s.Header[:min(len(s.Header), e.cfg.Header)])
	return sized(b, at)
}

// counterSample appends an expanded counter sample.
func counterSample(b []byte, seq uint32, c *Counters) []byte {
	b = word(word(b, sampleCounters), 0)
	begin := len(b)
	b = word(word(word(b, seq), 0), uint32(c.Interface))
	b = word(b, 2)
	b = word(word(b, recordPorts), 0)
	at := len(b)
	b = word(word(b, uint32(c.Interface)), typeEthernet)
	status := uint32(0)
	if c.Admin {
		status |= 1
	}
	if c.Up {
		status |= 2
	}
	b = word(word(double(b, c.Speed), 1), status) // full duplex
	b = word(double(b, c.RxBytes), uint32(c.RxPackets))
	b = word(word(b, unknownCount), unknownCount) // multicast, broadcast: in the packets
	b = word(word(word(b, uint32(c.RxDrops)), unknownCount), unknownCount)
	b = word(double(b, c.TxBytes), uint32(c.TxPkts))
	b = word(word(word(word(b, unknownCount), unknownCount), unknownCount), unknownCount)
	b = sized(word(b, 0), at)
	b = word(word(b, recordPortName), 0)
	at = len(b)
	return sized(sized(opaque(b, []byte(c.Name)), at), begin)
}

// addSFlow puts a sample into the datagram under way.
func (e *Exporter) addSFlow(now time.Time, t *stream, sample []byte) {
	if len(t.buf) > 0 && len(t.buf)+len(sample) > t.most {
		e.end(now, t)
	}
	if len(t.buf) == 0 {
		t.seq++
		t.buf = make([]byte, 0, t.most)
		t.buf = address(word(t.buf, 5), e.cfg.Agent)
		t.buf = word(word(t.buf, e.cfg.SubAgent), t.seq)
		t.buf = word(word(t.buf, uint32(now.Sub(e.start).Milliseconds())), 0) // the number of samples: see endSFlow
	}
	t.buf = append(t.buf, sample...)
	t.records++
}

func endSFlow(t *stream) {
	at := 8 + 4 + 12
	if t.buf[7] == 2 { // the agent has an IPv6 address
		at += 12
	}
	binary.BigEndian.PutUint32(t.buf[at:], t.records)
}
