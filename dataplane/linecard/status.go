package linecard

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"

	"godwit/cluster/bus"
	"godwit/cluster/wire"
	"godwit/dataplane/graph"
	"godwit/dataplane/hostif"
	"godwit/dataplane/netdev"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/worker"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

func isClosed(err error) bool {
	return errors.Is(err, bus.ErrClosed) || errors.Is(err, bus.ErrPeerGone)
}

func macString(mac []byte) string { return net.HardwareAddr(mac).String() }

// pipe is the worker's pipeline.
func pipe(w *worker.Worker) *pipeline.Pipeline { return w.Pipe().(*pipeline.Pipeline) }

// interfaceCounters sums over the workers.
func (a *Agent) interfaceCounters() map[fib.InterfaceID]wire.Counters {
	sum := make(map[fib.InterfaceID]wire.Counters)
	if a.plane == nil {
		return sum
	}
	for _, w := range a.plane.workers {
		pipe(w).Counters(func(id fib.InterfaceID, c pipeline.Counters) {
			t := sum[id]
			t.RxPackets += c.RxPackets
			t.RxBytes += c.RxBytes
			t.TxPackets += c.TxPackets
			t.TxBytes += c.TxBytes
			t.Drops += c.Drops
			t.Punts += c.Punts
			sum[id] = t
		})
	}
	for id, t := range sum {
		sum[id] = addTraffic(t, a.expressTraffic(id))
	}
	return sum
}

func (p *port) counters() netdev.Counters {
	var sum netdev.Counters
	for _, s := range p.shares {
		if s != nil {
			sum.Add(s.Counters())
		}
	}
	return sum
}

// portStatus is one port as it is.
func (a *Agent) portStatus(p *port, counters map[fib.InterfaceID]wire.Counters) wire.PortStatus {
	s := wire.PortStatus{ID: p.cfg.ID, Device: p.cfg.Device, Up: p.up(), Reason: p.problem, Interfaces: []wire.InterfaceStatus{}}
	if len(p.link.MAC) > 0 {
		s.MAC = p.link.MAC.String()
	}
	if p.dev != nil {
		s.Mode, s.Reason, s.Queues = p.dev.info()
		s.Express, s.ExpressReason = p.expressWord, p.expressReason
		if !p.link.Carrier {
			s.Reason = "no carrier"
		}
	}
	n := p.counters()
	s.Counters = wire.Counters{RxPackets: n.RxPackets, RxBytes: n.RxBytes, TxPackets: n.TxPackets, TxBytes: n.TxBytes}
	for _, d := range n.Drops {
		s.Counters.Drops += d
	}
	for _, c := range a.cfg.Interfaces {
		i := a.ifaces[c.ID]
		if i == nil || c.Port != p.cfg.ID {
			continue
		}
		n := counters[c.ID]
		if counters != nil {
			t := a.expressTraffic(c.ID)
			t.Drops = 0 // the interface's has them
			s.Counters = addTraffic(s.Counters, t)
		}
		s.Counters.Drops += n.Drops
		s.Counters.Punts += n.Punts
		s.Interfaces = append(s.Interfaces, wire.InterfaceStatus{
			ID: c.ID, Name: c.Name, VLAN: c.VLAN, VRF: c.VRF, Up: a.interfaceUp(i), Counters: n,
		})
	}
	return s
}

func (a *Agent) portList() wire.PortList {
	list := wire.PortList{Card: a.opt.Card, Ports: []wire.PortStatus{}}
	counters := a.interfaceCounters()
	for _, c := range a.cfg.Ports {
		if p := a.ports[c.ID]; p != nil {
			list.Ports = append(list.Ports, a.portStatus(p, counters))
		}
	}
	return list
}

// dropList joins the drops of nodes, workers, ports, fabric, policers and host
// interfaces.
func (a *Agent) dropList() wire.DropList {
	lists := [][]graph.DropCount{a.slow.Drops()}
	if a.plane != nil {
		for _, w := range a.plane.workers {
			lists = append(lists, pipe(w).Drops(), w.Drops())
		}
		lists = append(lists, a.plane.fabricDrops())
		lists = append(lists, []graph.DropCount{{Node: "capture", Reason: "slow-reader",
			Help: "not captured: the reader does not keep up", Count: a.capLost + a.plane.captures.Lost()}})
	}
	lists = append(lists, []graph.DropCount{
		{Node: "sampling", Reason: "too-many", Help: "samples not told: more than the card tells of in a second", Count: a.samplesLost()},
		{Node: "sampling", Reason: "unsent", Help: "datagrams to collectors that found no room on the way out", Count: a.samples.unsent}})
	lists = append(lists, a.policerDrops(), a.portDrops(), a.hostDrops(), a.bfd.drops.Append(nil), a.expressDrops())
	out := wire.DropList{Card: a.opt.Card, Drops: []wire.Drop{}}
	for _, d := range graph.MergeDrops(lists...) {
		out.Drops = append(out.Drops, wire.Drop{Node: d.Node, Reason: d.Reason, Count: d.Count, Help: d.Help})
	}
	return out
}

func (p *plane) fabricDrops() []graph.DropCount {
	var corrupt, long, stale uint64
	for _, c := range p.consumers {
		s := c.Stats()
		corrupt += s.Corrupt
		long += s.TooLong
		stale += s.Stale
	}
	return []graph.DropCount{
		{Node: "fabric", Reason: "corrupt", Help: "a slot made no sense: its card has crashed while it wrote", Count: corrupt},
		{Node: "fabric", Reason: "too-long", Help: "longer than a buffer of this card", Count: long},
		{Node: "fabric", Reason: "stale", Help: "waited while this card was restarted", Count: stale},
	}
}

func (a *Agent) policerDrops() []graph.DropCount {
	var list []graph.DropCount
	for _, s := range a.state.PuntStats() {
		list = append(list, graph.DropCount{Node: "punt", Reason: s.Class.String() + "-policed",
			Help: "above the rate for the router's own traffic of this class", Count: s.Policed})
	}
	return list
}

var portHelp = [netdev.NumReasons]string{
	netdev.RxInvalid:  "descriptor outside its buffer",
	netdev.RxTooLong:  "frame larger than a buffer",
	netdev.RxRingFull: "the worker did not read in time",
	netdev.RxNoBuffer: "no free buffer to receive into",
	netdev.RxNoSocket: "the queue has no worker",
	netdev.RxOther:    "refused by the kernel",
	netdev.TxRingFull: "the port did not send in time",
	netdev.TxTooLong:  "frame larger than the link's MTU",
	netdev.TxTooShort: "frame without an Ethernet header",
	netdev.TxInvalid:  "descriptor refused by the kernel",
	netdev.TxGone:     "the device is gone",
	netdev.TxOther:    "refused by the kernel",
}

func (a *Agent) portDrops() []graph.DropCount {
	var list []graph.DropCount
	for _, c := range a.cfg.Ports {
		p := a.ports[c.ID]
		if p == nil {
			continue
		}
		n := p.counters()
		if d, ok := p.dev.(*xdpDevice); ok {
			n.Drops[netdev.RxNoSocket] += d.NoSocket()
		}
		for r, count := range n.Drops {
			list = append(list, graph.DropCount{Node: "port " + c.Device, Reason: netdev.Reason(r).String(), Help: portHelp[r], Count: count})
		}
	}
	return list
}

func (a *Agent) hostDrops() []graph.DropCount {
	refused := graph.DropCount{Node: "host", Reason: "refused", Help: "the host stack does not take the frame: its TAP is down"}
	long := graph.DropCount{Node: "host", Reason: "too-long", Help: "from the host stack, longer than any buffer"}
	add := func(d *hostif.Device) {
		if d != nil {
			s := d.Stats()
			refused.Count += s.TxErrors
			long.Count += s.TooLong
		}
	}
	for _, i := range a.ifaces {
		add(i.tap)
	}
	for _, v := range a.vrfs {
		add(v.tun)
	}
	return []graph.DropCount{refused, long}
}

// fibPage is how many routes a reply has unless the query says otherwise.
const fibPage = 10_000

func (a *Agent) fibList(q wire.FIBQuery) wire.FIBList {
	list := wire.FIBList{Entries: []wire.FIBEntry{}}
	counted := make(map[uint32]xdp.Count) // each group once
	entry := func(p netip.Prefix, index uint32) wire.FIBEntry {
		n, ok := counted[index]
		if !ok {
			n = a.express.routed(index)
			counted[index] = n
		}
		g := a.tables.Group(index)
		return wire.FIBEntry{Prefix: p, Group: uint32(g.ID), Kind: g.Kind.String(), NextHops: g.NextHops, ExpressPackets: n.Packets, ExpressBytes: n.Bytes}
	}
	if q.Address.IsValid() {
		if p, index, ok := a.tables.Longest(q.VRF, q.Address); ok {
			list.Entries = append(list.Entries, entry(p, index))
		}
		return list
	}
	limit := q.Limit
	if limit <= 0 || limit > fibPage {
		limit = fibPage
	}
	a.tables.Walk(q.VRF, q.Prefix, q.After, func(p netip.Prefix, index uint32) bool {
		if len(list.Entries) == limit {
			list.More = true
			return false
		}
		list.Entries = append(list.Entries, entry(p, index))
		return true
	})
	return list
}

func (a *Agent) fibStats() wire.FIBStats {
	t := a.tables.Stats()
	s := wire.FIBStats{Card: a.opt.Card, Epoch: a.fibs.Epoch(), Seq: t.Seq, Groups: t.Groups, VRFs: []wire.FIBVRFStats{},
		GroupSum: a.tables.GroupSum(), Neighbors: a.slow.NeighborCount(), Switches: a.state.Switches(), Casts: a.fibs.Casts()}
	if a.downloads.casts != nil {
		a.downloads.casts.Count(&s.Casts)
	}
	if a.plane != nil {
		for _, w := range a.plane.workers {
			n := w.Stats()
			cores, urgent := w.Thread()
			s.Workers = append(s.Workers, wire.WorkerStatus{Cores: cores, Urgent: urgent, Packets: n.Packets, Sleeps: n.Sleeps})
		}
	}
	for _, v := range t.VRFs {
		s.VRFs = append(s.VRFs, wire.FIBVRFStats{VRF: v.VRF, Routes4: v.Routes4, Routes6: v.Routes6, Bytes: v.Bytes, Sum: a.tables.Digest(v.VRF).Sum})
	}
	slices.SortFunc(s.VRFs, func(x, y wire.FIBVRFStats) int { return cmp.Compare(x.VRF, y.VRF) })
	return s
}
