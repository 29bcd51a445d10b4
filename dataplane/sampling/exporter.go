package sampling

import (
	"fmt"
	"net/netip"
	"time"

	"godwit/fib"
)

// Protocol is how a collector is told.
type Protocol uint8

// The protocols.
const (
	SFlow Protocol = iota + 1
	IPFIX
)

func (p Protocol) String() string {
	switch p {
	case SFlow:
		return "sflow"
	case IPFIX:
		return "ipfix"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ParseProtocol is the inverse of String.
func ParseProtocol(s string) (Protocol, error) {
	for p := SFlow; p <= IPFIX; p++ {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no sampling protocol %q", s)
}

// Collector is whom to tell.
type Collector struct {
	Name     string
	Protocol Protocol
	VRF      fib.VRF
	Address  netip.Addr
	Port     uint16
	Source   netip.Addr
}

// Config is what an Exporter does.
type Config struct {
	Agent      netip.Addr // the router, for collectors
	SubAgent   uint32     // the card
	Header     int        // bytes of a frame that are told; 14 to HeaderMax
	Counters   time.Duration
	Templates  time.Duration // between templates of IPFIX
	Collectors []Collector
	Selectors  []Selector // what is sampled, for IPFIX
}

// Selector is an interface that is sampled.
type Selector struct {
	Interface fib.InterfaceID
	Name      string
	Rate      uint32
}

// Way is what became of a sampled packet, by the card's tables.
type Way struct {
	Kind           WayKind
	VRF            fib.VRF
	Out            fib.InterfaceID // Forwarded
	OutVLAN        uint16
	NextHop        netip.Addr // Forwarded; the destination itself on a link
	SrcLen, DstLen uint8      // of the routes
}

// WayKind tells the ways apart.
type WayKind uint8

// The ways.
const (
	Unknown WayKind = iota // not IP, or not to be told
	Forwarded
	Local   // for the router itself
	NoRoute // dropped, the sender is told
	Dropped
)

// Sample is a sampled frame with what is known about it.
type Sample struct {
	Interface fib.InterfaceID
	Rate      uint32
	Length    uint32 // of the frame
	Pool      uint64 // frames that could have been sampled on the interface
	Lost      uint64 // samples that were not told, on the card
	Time      time.Time
	Header    []byte // begins with the Ethernet header
	Packet    Packet
	Way       Way
}

// Counters are the counters of an interface.
type Counters struct {
	Interface                                    fib.InterfaceID
	Name                                         string
	Admin, Up                                    bool
	Speed                                        uint64 // bit/s; 0: not known
	RxBytes, RxPackets, RxDrops, TxBytes, TxPkts uint64
}

// Datagram is the payload of one UDP datagram for a collector.
type Datagram struct {
	To      *Collector
	Payload []byte
}

// Stats is what was told to one collector.
type Stats struct {
	Collector
	Datagrams, Bytes, Samples, Counters uint64
}

// The longest payloads: sFlow's own recommendation, and what fits the smallest MTU of IPv6.
const (
	payload4 = 1400
	payload6 = 1232
)

// stream is what one collector gets.
type stream struct {
	Stats
	most     int
	buf      []byte // the datagram under way; empty: none
	records  uint32 // in it
	seq      uint32 // sFlow: datagrams, IPFIX: records
	set      int    // IPFIX: offset of the open set, 0: none
	setID    uint16
	template time.Time // when they were last sent
}

// source is what sFlow counts for an interface.
type source struct{ samples, counters uint32 }

// Exporter makes datagrams of samples and counters.
type Exporter struct {
	cfg     Config
	start   time.Time
	streams []*stream
	sources map[fib.InterfaceID]*source
	ready   []Datagram
	counted time.Time
	scratch []byte
}

// NewExporter makes one that tells nobody.
func NewExporter(start time.Time) *Exporter {
	return &Exporter{start: start, counted: start, sources: make(map[fib.InterfaceID]*source)}
}

// Set changes the configuration. Collectors that stay go on with their numbers.
func (e *Exporter) Set(c Config) {
	old := e.streams
	e.cfg, e.streams = c, nil
	for _, k := range c.Collectors {
		s := &stream{Stats: Stats{Collector: k}, most: payload4}
		if k.Address.Is6() {
			s.most = payload6
		}
		for _, o := range old {
			if o.Collector == k {
				s = o
			}
		}
		s.template = time.Time{} // what is sampled may have changed
		e.streams = append(e.streams, s)
	}
}

// On tells that there is somebody to tell.
func (e *Exporter) On() bool { return len(e.streams) > 0 }

func (e *Exporter) source(id fib.InterfaceID) *source {
	s := e.sources[id]
	if s == nil {
		s = new(source)
		e.sources[id] = s
	}
	return s
}

// Sample tells all collectors of a frame.
func (e *Exporter) Sample(now time.Time, s *Sample) {
	src := e.source(s.Interface)
	src.samples++
	for _, t := range e.streams {
		t.Samples++
		if t.Protocol == SFlow {
			e.scratch = e.flowSample(e.scratch[:0], src.samples, s)
			e.addSFlow(now, t, e.scratch)
			continue
		}
		e.addIPFIX(now, t, s)
	}
}

// Due tells that counters are to be told now.
func (e *Exporter) Due(now time.Time) bool {
	if e.cfg.Counters == 0 || now.Sub(e.counted) < e.cfg.Counters {
		return false
	}
	for _, t := range e.streams {
		if t.Protocol == SFlow {
			e.counted = now
			return true
		}
	}
	return false
}

// Tell tells the collectors that take them of counters.
func (e *Exporter) Tell(now time.Time, list []Counters) {
	for i := range list {
		src := e.source(list[i].Interface)
		src.counters++
		e.scratch = counterSample(e.scratch[:0], src.counters, &list[i])
		for _, t := range e.streams {
			if t.Protocol == SFlow {
				t.Counters++
				e.addSFlow(now, t, e.scratch)
			}
		}
	}
}

// Flush ends the datagrams under way, and returns all that are to be sent. They are the caller's.
func (e *Exporter) Flush(now time.Time) []Datagram {
	for _, t := range e.streams {
		if t.Protocol == IPFIX && e.templatesDue(now, t) {
			e.begin(now, t) // also while nothing is sampled: who listens learns what will come
		}
		e.end(now, t)
	}
	done := e.ready
	e.ready = nil
	return done
}

func (e *Exporter) end(now time.Time, t *stream) {
	if len(t.buf) == 0 {
		return
	}
	if t.Protocol == SFlow {
		endSFlow(t)
	} else {
		endIPFIX(now, t)
	}
	t.Datagrams++
	t.Bytes += uint64(len(t.buf))
	e.ready = append(e.ready, Datagram{&t.Collector, t.buf})
	t.buf, t.records = nil, 0
}

// Stats tells what every collector was told.
func (e *Exporter) Stats() []Stats {
	var list []Stats
	for _, t := range e.streams {
		list = append(list, t.Stats)
	}
	return list
}
