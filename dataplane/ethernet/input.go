// Package ethernet takes frames apart: Ethernet II and one 802.1Q tag, to the
// interface of port and tag, and by EtherType to the next node. It owns the
// interface table.
package ethernet

import (
	"encoding/binary"

	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/punt"
	"godwit/dataplane/sampling"
)

// Drop reasons of ethernet-input.
const (
	dropRunt = iota
	dropUnknownPort
	dropUnknownVLAN
	dropDoubleTag
	dropDown
	dropWrongMAC
	dropBadSource
	dropUnknownType
)

var inputReasons = []graph.DropReason{
	{Name: "runt", Help: "frame shorter than its Ethernet header or tag"},
	{Name: "unknown-port", Help: "no interface is configured on the port"},
	{Name: "unknown-vlan", Help: "no interface has the frame's 802.1Q tag, or none is untagged"},
	{Name: "double-tag", Help: "more than one VLAN tag, or an 802.1ad tag"},
	{Name: "interface-down", Help: "the interface is administratively down"},
	{Name: "wrong-mac", Help: "unicast frame for another station: flooding by a switch, or a stale neighbour entry there"},
	{Name: "bad-source-mac", Help: "source MAC address is a group address, or the interface's own: a loop?"},
	{Name: "unknown-ethertype", Help: "neither IPv4, IPv6 nor ARP: LLDP or spanning tree, perhaps"},
}

// Input is the node ethernet-input. It sorts a vector into IP4 and IP6 (valid
// until the next Process, owned by the caller) and punts ARP.
type Input struct {
	Table    *Table // set by the pipeline between vectors
	IP4, IP6 graph.Vector

	drop    graph.Dropper
	gate    *punt.Gate
	sampler *sampling.Sampler
}

// NewInput makes a worker's node.
func NewInput(gate *punt.Gate, sampler *sampling.Sampler, counts *graph.Counts, pool *graph.Pool) *Input {
	return &Input{gate: gate, sampler: sampler, drop: graph.Dropper{Drops: graph.NewDrops("ethernet-input", inputReasons), Counts: counts, Pool: pool}}
}

// Name is the node's name.
func (n *Input) Name() string { return "ethernet-input" }

// Nexts are the nodes that follow.
func (n *Input) Nexts() []string { return []string{"ip4-guard", "ip6-guard", "punt"} }

// Drops are the node's drop counters.
func (n *Input) Drops() *graph.Drops { return n.drop.Drops }

// Process empties v. Frames of one interface come in runs: they are counted so.
func (n *Input) Process(v *graph.Vector) {
	n.IP4.N, n.IP6.N = 0, 0
	var run *Entry
	packets, bytes := 0, 0
	for _, p := range v.P[:v.N] {
		in, typ, reason := n.find(p)
		if reason != passed {
			n.drop.Drop(p, reason)
			continue
		}
		if in != run {
			if run != nil {
				n.drop.Counts.RxRun(run.Slot, packets, bytes)
			}
			run, packets, bytes = in, 0, 0
		}
		packets++
		bytes += len(p.Data)
		if in.Sample != 0 {
			n.sampler.Frame(in.Slot, in.ID, in.Sample, n.gate.Now, p.Data)
		}
		p.In, p.InSlot, p.VRF = in.ID, in.Slot, in.VRF
		if typ == header.TypeIPv4 && in.Up && in.fromNeighbor(p.Data) {
			n.IP4.Push(p)
			continue
		}
		n.receive(p, in, header.Ethernet(p.Data), typ)
	}
	if run != nil {
		n.drop.Counts.RxRun(run.Slot, packets, bytes)
	}
	v.N = 0
}

const passed = -1 // not a drop

// find finds the frame's interface and EtherType, or the reason to drop it.
func (n *Input) find(p *graph.Packet) (*Entry, uint16, int) {
	e := header.Ethernet(p.Data)
	p.In, p.Out, p.InSlot, p.Flags, p.L3 = 0, 0, 0, 0, header.EthernetLen
	if !e.IsValid() {
		return nil, 0, dropRunt
	}
	port := n.Table.port(p.Port)
	if port == nil {
		return nil, 0, dropUnknownPort
	}
	in, typ := port.untagged, e.Type()
	if typ == header.TypeVLAN || typ == header.TypeQinQ {
		var reason int
		if in, typ, reason = port.tag(p, typ); reason != passed {
			return nil, 0, reason
		}
	}
	if in == nil {
		return nil, 0, dropUnknownVLAN
	}
	return in, typ, passed
}

// fromNeighbor tells that the frame is for the interface's own MAC, from
// another unicast one: what nearly all frames are.
func (in *Entry) fromNeighbor(f []byte) bool {
	b := (*[header.EthernetLen]byte)(f)
	return binary.BigEndian.Uint64(b[0:8])>>16 == in.mac && b[6]&1 == 0 &&
		binary.BigEndian.Uint64(b[4:12])&(1<<48-1) != in.mac
}

// tag takes an 802.1Q tag off: interface and EtherType, or the reason to drop.
func (port *portEntry) tag(p *graph.Packet, typ uint16) (*Entry, uint16, int) {
	if typ == header.TypeQinQ {
		return nil, 0, dropDoubleTag
	}
	if len(p.Data) < header.EthernetLen+header.VLANLen {
		return nil, 0, dropRunt
	}
	vid := binary.BigEndian.Uint16(p.Data[14:]) & 0xfff
	typ = binary.BigEndian.Uint16(p.Data[16:])
	if typ == header.TypeVLAN || typ == header.TypeQinQ {
		return nil, 0, dropDoubleTag
	}
	p.L3 = header.EthernetLen + header.VLANLen
	if vid == 0 { // priority tag only
		return port.untagged, typ, passed
	}
	if port.vlans == nil {
		return nil, 0, dropUnknownVLAN
	}
	return port.vlans[vid], typ, passed
}

// receive checks the MAC addresses and sorts by EtherType.
func (n *Input) receive(p *graph.Packet, in *Entry, e header.Ethernet, typ uint16) {
	if !in.Up {
		n.drop.Drop(p, dropDown)
		return
	}
	if e.Dst48() != in.mac {
		if !e.Group() {
			n.drop.Drop(p, dropWrongMAC)
			return
		}
		p.Flags = graph.LinkGroup
	}
	if e[6]&1 != 0 || binary.BigEndian.Uint64(e[4:12])&(1<<48-1) == in.mac {
		n.drop.Drop(p, dropBadSource)
		return
	}
	switch typ {
	case header.TypeIPv4:
		n.IP4.Push(p)
	case header.TypeIPv6:
		n.IP6.Push(p)
	case header.TypeARP:
		n.gate.Punt(p, punt.Meta{Reason: punt.ToARP, Class: punt.ARP})
	default:
		n.drop.Drop(p, dropUnknownType)
	}
}
