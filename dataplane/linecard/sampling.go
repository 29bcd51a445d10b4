package linecard

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/dataplane/header"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/sampling"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

// samples is the card's exporter of sampled frames. It is the loop's.
type samples struct {
	cfg      *wire.SamplingConfig
	exporter *sampling.Exporter
	taken    map[fib.InterfaceID]*taken
	pools    map[fib.InterfaceID]uint64 // of this round
	lost     uint64                     // of workers that are no more
	unsent   uint64
	ident    uint16 // of IPv4
	failed   bool   // the express path's samples can't be read: said once
}

// taken counts what was sampled on an interface.
type taken struct{ samples, express uint64 }

// Limits of one round of the exporter, which has one each tick: samples of each
// worker and of the express path before others have their turn, and before the next tick.
const (
	samplesSlice = 128
	samplesRound = 2048
)

// The exporter's datagrams: an ordinary TTL, source ports of its own.
const (
	exportTTL   = 64
	portOfSFlow = 6343
	portOfIPFIX = 4739
)

func newSamples() *samples {
	return &samples{exporter: sampling.NewExporter(time.Now()), taken: make(map[fib.InterfaceID]*taken)}
}

// checkSampling refuses what the exporter could not work with.
func checkSampling(c *wire.SamplingConfig) error {
	if c == nil {
		return nil
	}
	if !c.Agent.IsValid() || c.Header < header.EthernetLen || c.Header > sampling.HeaderMax || c.Templates <= 0 {
		return fmt.Errorf("sampling: agent %v, %d bytes, templates each %v", c.Agent, c.Header, c.Templates)
	}
	for _, k := range c.Collectors {
		if _, err := sampling.ParseProtocol(k.Protocol); err != nil {
			return err
		}
		if !k.Address.IsValid() || k.Port == 0 || !k.Source.IsValid() || k.Source.Is4() != k.Address.Is4() {
			return fmt.Errorf("collector %s: from %v to %v, port %d", k.Name, k.Source, k.Address, k.Port)
		}
	}
	return nil
}

// sampleRate is the rate of an interface, 0 while nobody is told.
func (a *Agent) sampleRate(c *wire.InterfaceConfig) uint32 {
	if a.cfg.Sampling == nil || len(a.cfg.Sampling.Collectors) == 0 {
		return 0
	}
	return min(c.Sample, sampling.RateMax)
}

// setSampling follows the configuration.
func (a *Agent) setSampling() {
	s := a.samples
	s.cfg = a.cfg.Sampling
	c := sampling.Config{SubAgent: uint32(a.opt.Card)}
	on := make(map[fib.InterfaceID]bool)
	for i := range a.cfg.Interfaces {
		f := &a.cfg.Interfaces[i]
		if rate := a.sampleRate(f); rate != 0 {
			on[f.ID] = true
			c.Selectors = append(c.Selectors, sampling.Selector{Interface: f.ID, Name: f.Name, Rate: rate})
			if s.taken[f.ID] == nil {
				s.taken[f.ID] = new(taken)
			}
		}
	}
	for id := range s.taken {
		if !on[id] {
			delete(s.taken, id)
		}
	}
	if s.cfg != nil {
		c.Agent, c.Header, c.Counters, c.Templates = s.cfg.Agent, s.cfg.Header, s.cfg.Counters, s.cfg.Templates
		for _, k := range s.cfg.Collectors {
			p, _ := sampling.ParseProtocol(k.Protocol) // checkSampling has refused others
			c.Collectors = append(c.Collectors, sampling.Collector{Name: k.Name, Protocol: p, VRF: k.VRF, Address: k.Address, Port: k.Port, Source: k.Source})
		}
	}
	s.exporter.Set(c)
}

// drainSamples tells of what was sampled since the last tick, in slices.
func (a *Agent) drainSamples() {
	if a.plane == nil {
		return
	}
	a.samples.pools = make(map[fib.InterfaceID]uint64)
	a.sliceSamples(samplesRound)
}

// sliceSamples does a slice, and has the rest done behind what waits on the loop.
func (a *Agent) sliceSamples(left int) {
	if a.plane == nil {
		return
	}
	n := 0
	for _, w := range a.plane.workers {
		n = max(n, a.ringSamples(pipe(w).Samples()))
	}
	n = max(n, a.expressSamples())
	left -= samplesSlice
	if n == samplesSlice && left > 0 && a.punts.Post(func() { a.sliceSamples(left) }) == nil {
		return
	}
	now := time.Now()
	if a.samples.exporter.On() {
		if a.samples.exporter.Due(now) {
			a.samples.exporter.Tell(now, a.countersToTell())
		}
		a.sendSamples(a.samples.exporter.Flush(now))
	}
}

// ringSamples takes a slice of a worker's samples.
func (a *Agent) ringSamples(r *sampling.Ring) (n int) {
	if r == nil {
		return 0
	}
	now := a.now()
	for ; n < samplesSlice; n++ {
		t := r.Peek()
		if t == nil {
			break
		}
		a.sampled(t.Interface, t.Rate, t.Length, time.Duration(now-t.Time), t.Header[:t.N])
		r.Pop()
	}
	return n
}

// expressSamples takes a slice of the express path's.
func (a *Agent) expressSamples() int {
	if a.express == nil || len(a.samples.taken) == 0 {
		return 0
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	n, err := a.express.x.Samples(samplesSlice, func(s *xdp.Sample) {
		id := a.state.InterfaceOf(s.Slot)
		if t := a.samples.taken[id]; t != nil {
			t.express++
		}
		a.sampled(id, s.Rate, s.Length, time.Duration(ts.Nano()-s.Time), s.Header)
	})
	if err != nil && !a.samples.failed {
		a.samples.failed = true
		a.log.Error("samples of the express path are lost", "error", err)
	}
	return n
}

// sampled tells of one frame.
func (a *Agent) sampled(id fib.InterfaceID, rate, length uint32, age time.Duration, frame []byte) {
	t := a.samples.taken[id]
	if t == nil || !a.samples.exporter.On() {
		return // it was sampled a moment ago
	}
	t.samples++
	now := time.Now()
	s := sampling.Sample{Interface: id, Rate: rate, Length: length, Time: now.Add(-age), Header: frame, Packet: sampling.Decode(frame),
		Pool: a.samplePool(id), Lost: a.samplesLost()}
	s.Way = a.sampledWay(id, &s.Packet)
	a.samples.exporter.Sample(now, &s)
}

// samplePool is how many frames the interface has received, as of this round.
func (a *Agent) samplePool(id fib.InterfaceID) uint64 {
	n, ok := a.samples.pools[id]
	if !ok {
		n = a.received(id)
		a.samples.pools[id] = n
	}
	return n
}

func (a *Agent) received(id fib.InterfaceID) uint64 {
	n := a.expressTraffic(id).RxPackets
	if a.plane != nil {
		slot := a.state.InterfaceSlot(id)
		for _, w := range a.plane.workers {
			n += pipe(w).CountersOf(slot).RxPackets
		}
	}
	return n
}

// samplesLost counts the samples that found no room.
func (a *Agent) samplesLost() uint64 {
	n := a.samples.lost
	if a.plane != nil {
		for _, w := range a.plane.workers {
			if r := pipe(w).Samples(); r != nil {
				n += r.Lost()
			}
		}
	}
	if a.express != nil {
		n += a.express.x.SamplesLost()
	}
	return n
}

// sampledWay asks the tables where a packet goes, or went: they may have changed since.
func (a *Agent) sampledWay(id fib.InterfaceID, p *sampling.Packet) (w sampling.Way) {
	vrf, ok := a.state.VRFOf(id)
	w.VRF = vrf
	if !ok || !p.Src.IsValid() {
		return w
	}
	t := a.slow.Trace(pipeline.Flow{VRF: vrf, From: p.Src, To: p.Dst, Protocol: p.Protocol, SrcPort: p.SrcPort, DstPort: p.DstPort})
	switch {
	case t.Out != 0:
		w.Kind, w.Out, w.NextHop = sampling.Forwarded, t.Out, t.NextHop
		w.OutVLAN = a.vlanOf(t.Out)
	case t.Local || t.Result == "local":
		w.Kind = sampling.Local
	case t.Result == "no-route":
		w.Kind = sampling.NoRoute
	default:
		w.Kind = sampling.Dropped
	}
	if r, _, ok := a.tables.Find(vrf, p.Src); ok {
		w.SrcLen = uint8(r.Prefix.Bits())
	}
	if r, _, ok := a.tables.Find(vrf, p.Dst); ok {
		w.DstLen = uint8(r.Prefix.Bits())
	}
	return w
}

// vlanOf is the tag of an interface of this card.
func (a *Agent) vlanOf(id fib.InterfaceID) uint16 {
	if i := a.ifaces[id]; i != nil {
		return i.cfg.VLAN
	}
	return 0
}

// countersToTell are those of the sampled interfaces.
func (a *Agent) countersToTell() (list []sampling.Counters) {
	all := a.interfaceCounters()
	for i := range a.cfg.Interfaces {
		f := &a.cfg.Interfaces[i]
		if a.samples.taken[f.ID] == nil {
			continue
		}
		c := all[f.ID]
		k := sampling.Counters{Interface: f.ID, Name: f.Name, Admin: !f.Down, RxBytes: c.RxBytes, RxPackets: c.RxPackets,
			RxDrops: c.Drops, TxBytes: c.TxBytes, TxPkts: c.TxPackets}
		if x := a.ifaces[f.ID]; x != nil {
			k.Up = a.interfaceUp(x)
		}
		list = append(list, k)
	}
	return list
}

// sendSamples sends datagrams as the router's own: looked up in the collector's VRF. A
// collector that can't be reached costs what other packets to nowhere cost.
func (a *Agent) sendSamples(list []sampling.Datagram) {
	w := a.entry.Load()
	for _, d := range list {
		u := header.UDP{Src: d.To.Source, Dst: d.To.Address, SrcPort: portOfSFlow, DstPort: d.To.Port, TTL: exportTTL, ID: a.samples.ident}
		if d.To.Protocol == sampling.IPFIX {
			u.SrcPort = portOfIPFIX
		}
		a.samples.ident++
		if w == nil || !w.Host(d.To.VRF, 0, u.Append(nil, d.Payload), false) {
			a.samples.unsent++
		}
	}
}

// samplingStatus answers GetSampling.
func (a *Agent) samplingStatus() wire.SamplingStatus {
	out := wire.SamplingStatus{Card: a.opt.Card, Interfaces: []wire.SampledInterface{}, Collectors: []wire.CollectorStatus{},
		Lost: a.samplesLost(), Unsent: a.samples.unsent}
	for i := range a.cfg.Interfaces {
		f := &a.cfg.Interfaces[i]
		if t := a.samples.taken[f.ID]; t != nil {
			out.Interfaces = append(out.Interfaces, wire.SampledInterface{ID: f.ID, Rate: a.sampleRate(f), Samples: t.samples, Pool: a.received(f.ID), Express: t.express})
		}
	}
	for _, k := range a.samples.exporter.Stats() {
		out.Collectors = append(out.Collectors, wire.CollectorStatus{
			SampleCollector: wire.SampleCollector{Name: k.Name, Protocol: k.Protocol.String(), VRF: k.VRF, Address: k.Address, Port: k.Port, Source: k.Source},
			Datagrams:       k.Datagrams, Bytes: k.Bytes, Samples: k.Samples, Counters: k.Counters})
	}
	return out
}

// keepLost remembers what the workers lost that are about to go.
func (a *Agent) keepLost(p *plane) {
	for _, w := range p.workers {
		if r := pipe(w).Samples(); r != nil {
			a.samples.lost += r.Lost()
		}
	}
}
