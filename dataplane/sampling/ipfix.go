package sampling

import (
	"encoding/binary"
	"net/netip"
	"time"

	"godwit/dataplane/header"
)

// IPFIX (RFC 7011) with the elements of packet sampling (RFC 5477).

// Sets.
const (
	setTemplates = 2
	setOptions   = 3
	setIPv4      = 256
	setIPv6      = 257
	setOther     = 258 // frames that are not IP
	setSelectors = 259 // options: how each interface is sampled (RFC 5476, 6.5.2)
)

// Information elements (IANA registry "ipfix").
const (
	ieOctets       = 1
	iePackets      = 2
	ieProtocol     = 4
	ieTOS          = 5
	ieTCPFlags     = 6
	ieSrcPort      = 7
	ieSrc4         = 8
	ieSrcLen4      = 9
	ieIngress      = 10
	ieDstPort      = 11
	ieDst4         = 12
	ieDstLen4      = 13
	ieEgress       = 14
	ieNextHop4     = 15
	ieSrc6         = 27
	ieDst6         = 28
	ieSrcLen6      = 29
	ieDstLen6      = 30
	ieVLAN         = 58
	ieNextHop6     = 62
	ieName         = 82
	ieStart        = 152 // milliseconds since 1970
	ieEnd          = 153
	ieIngressVRF   = 234
	ieSelector     = 302
	ieAlgorithm    = 304
	ieSamplingSize = 309
	iePopulation   = 310
	ieFrameSize    = 312
	ieSection      = 315 // the frame's first bytes
	variable       = 0xffff
)

const algorithmNofN = 3 // random n out of N (RFC 5475, 5.2.2.1)

type element struct{ id, size uint16 }

var (
	keys = []element{{ieSelector, 8}, {ieIngress, 4}, {ieEgress, 4}, {ieIngressVRF, 4}, {ieStart, 8}, {ieEnd, 8},
		{ieOctets, 8}, {iePackets, 8}, {ieVLAN, 2}, {ieFrameSize, 2}}
	transport = []element{{ieProtocol, 1}, {ieTOS, 1}, {ieTCPFlags, 1}, {ieSrcPort, 2}, {ieDstPort, 2}}
	section   = []element{{ieSection, variable}}
	templates = map[uint16][]element{
		setIPv4:  concat(keys, transport, []element{{ieSrc4, 4}, {ieDst4, 4}, {ieNextHop4, 4}, {ieSrcLen4, 1}, {ieDstLen4, 1}}, section),
		setIPv6:  concat(keys, transport, []element{{ieSrc6, 16}, {ieDst6, 16}, {ieNextHop6, 16}, {ieSrcLen6, 1}, {ieDstLen6, 1}}, section),
		setOther: concat(keys, section),
	}
	selectors = []element{{ieSelector, 8}, {ieAlgorithm, 2}, {ieSamplingSize, 4}, {iePopulation, 4}, {ieIngress, 4}, {ieName, variable}}
)

func concat(lists ...[]element) (all []element) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func half(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }

// varied appends bytes with a length of one or three bytes (RFC 7011, 7).
func varied(b, v []byte) []byte {
	if len(v) < 255 {
		b = append(b, byte(len(v)))
	} else {
		b = half(append(b, 255), uint16(len(v)))
	}
	return append(b, v...)
}

func (e *Exporter) templatesDue(now time.Time, t *stream) bool {
	return t.template.IsZero() || now.Sub(t.template) >= e.cfg.Templates
}

// begin opens a message, with templates if it is time.
func (e *Exporter) begin(now time.Time, t *stream) {
	if len(t.buf) > 0 {
		return
	}
	t.buf = make([]byte, 0, t.most)
	t.buf = half(half(t.buf, 10), 0) // the length, export time and sequence: see endIPFIX
	t.buf = word(word(word(t.buf, 0), 0), e.cfg.SubAgent)
	t.set = 0
	if !e.templatesDue(now, t) {
		return
	}
	t.template = now
	t.open(setTemplates)
	for _, id := range []uint16{setIPv4, setIPv6, setOther} {
		t.buf = appendElements(half(half(t.buf, id), uint16(len(templates[id]))), templates[id])
	}
	t.open(setOptions)
	t.buf = half(half(half(t.buf, setSelectors), uint16(len(selectors))), 1) // one scope field
	t.buf = appendElements(t.buf, selectors)
	for i := range e.cfg.Selectors {
		e.addSelector(now, t, &e.cfg.Selectors[i])
	}
}

func appendElements(b []byte, list []element) []byte {
	for _, x := range list {
		b = half(half(b, x.id), x.size)
	}
	return b
}

// open begins a set, unless it is open.
func (t *stream) open(id uint16) {
	if t.set != 0 && t.setID == id {
		return
	}
	t.close()
	t.set, t.setID = len(t.buf), id
	t.buf = half(half(t.buf, id), 0)
}

func (t *stream) close() {
	if t.set != 0 {
		binary.BigEndian.PutUint16(t.buf[t.set+2:], uint16(len(t.buf)-t.set))
		t.set = 0
	}
}

// add appends a record to the set.
func (e *Exporter) add(now time.Time, t *stream, set uint16, record []byte) {
	if len(t.buf) > 0 && len(t.buf)+4+len(record) > t.most {
		e.end(now, t)
	}
	e.begin(now, t)
	t.open(set)
	t.buf = append(t.buf, record...)
	t.records++
}

func (e *Exporter) addSelector(now time.Time, t *stream, s *Selector) {
	var b []byte
	b = half(double(b, uint64(s.Interface)), algorithmNofN)
	b = word(word(word(b, 1), s.Rate), uint32(s.Interface))
	e.add(now, t, setSelectors, varied(b, []byte(s.Name)))
}

// addIPFIX puts a sampled frame into the message under way.
func (e *Exporter) addIPFIX(now time.Time, t *stream, s *Sample) {
	p, w := &s.Packet, &s.Way
	set := uint16(setOther)
	switch {
	case p.Src.Is4():
		set = setIPv4
	case p.Src.Is6():
		set = setIPv6
	}
	out := uint32(0)
	if w.Kind == Forwarded {
		out = uint32(w.Out)
	}
	ms := uint64(s.Time.UnixMilli())
	octets := uint64(p.Length) // of the IP packet, or if it is none of the frame's payload
	if set == setOther {
		octets = uint64(s.Length) - min(header.EthernetLen, uint64(s.Length))
	}
	b := word(word(double(e.scratch[:0], uint64(s.Interface)), uint32(s.Interface)), out)
	b = double(double(word(b, uint32(w.VRF)), ms), ms)
	b = half(half(double(double(b, octets), 1), p.VLAN), uint16(min(s.Length, 65535)))
	if set != setOther {
		b = append(b, p.Protocol, p.TOS, p.TCPFlags)
		b = half(half(b, p.SrcPort), p.DstPort)
		b = append(append(b, p.Src.AsSlice()...), p.Dst.AsSlice()...)
		next := w.NextHop
		if !next.IsValid() || next.Is4() != p.Src.Is4() {
			next = netip.IPv6Unspecified()
			if set == setIPv4 {
				next = netip.IPv4Unspecified()
			}
		}
		b = append(append(b, next.AsSlice()...), w.SrcLen, w.DstLen)
	}
	b = varied(b, s.Header[:min(len(s.Header), e.cfg.Header)])
	e.scratch = b
	e.add(now, t, set, b)
}

// endIPFIX fills in what was not known at the beginning.
func endIPFIX(now time.Time, t *stream) {
	t.close()
	binary.BigEndian.PutUint16(t.buf[2:], uint16(len(t.buf)))
	binary.BigEndian.PutUint32(t.buf[4:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(t.buf[8:], t.seq) // records before this message
	t.seq += t.records
}
