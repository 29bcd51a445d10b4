package ip

import (
	"godwit/dataplane/ethernet"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/punt"
)

// Drop reasons of ip4-input and ip6-input; not each has all.
const (
	dropTruncated = iota
	dropVersion
	dropHeaderLen
	dropChecksum
	dropBadOptions
	dropSourceRoute
	dropMartianSource
	dropMartianDest
	dropSpoofed
	dropLinkGroup
	dropGroup
	dropLinkLocal
	dropBadHost
)

var inputReasons = []graph.DropReason{
	{Name: "truncated", Help: "frame shorter than the packet's length says"},
	{Name: "bad-version", Help: "the version field does not match the EtherType"},
	{Name: "bad-header-length", Help: "header length below the minimum or above the total length"},
	{Name: "bad-checksum", Help: "wrong IPv4 header checksum"},
	{Name: "bad-options", Help: "malformed IPv4 options"},
	{Name: "source-route", Help: "IPv4 source route option (RFC 7126, 4.3 and 4.4)"},
	{Name: "martian-source", Help: "source that can't be one: multicast, loopback, unspecified, reserved"},
	{Name: "martian-destination", Help: "destination that can't be one: loopback, unspecified, reserved"},
	{Name: "own-source", Help: "the router's own address as source, from outside: spoofed, or a loop"},
	{Name: "link-group", Help: "unicast packet in a multicast or broadcast frame (RFC 1812, 5.3.4)"},
	{Name: "multicast", Help: "multicast beyond the link: not routed"},
	{Name: "link-local", Help: "IPv6 link-local destination that is not the router's: not forwarded"},
	{Name: "bad-host-packet", Help: "malformed packet from the router's own host stack"},
}

// Classes of the first octet of an IPv4 address.
const (
	badSource = 1 << iota // can't be a source
	badDest               // can't be a destination
	group                 // multicast
)

func octetClasses() (t [256]uint8) {
	t[0] = badSource | badDest
	t[127] = badSource | badDest
	for i := 224; i < 240; i++ {
		t[i] = badSource | group
	}
	for i := 240; i < 256; i++ {
		t[i] = badSource | badDest
	}
	return t
}

// Input is the node ip4-input or ip6-input: it validates packets, gives the
// host stack what is for the link's group, and collects the rest in Valid for
// the lookup.
type Input struct {
	// Set by the pipeline between vectors.
	Table  *ethernet.Table
	Locals *Locals

	Valid graph.Vector             // owned by the caller after Process
	Addr4 [graph.VectorSize]uint32 // destinations of Valid
	Addr6 [graph.VectorSize][2]uint64

	name   string
	ip6    bool
	octets [256]uint8
	drop   graph.Dropper
	gate   *punt.Gate
}

// NewInput4 makes a worker's ip4-input.
func NewInput4(gate *punt.Gate, counts *graph.Counts, pool *graph.Pool) *Input {
	return newInput("ip4-input", false, gate, counts, pool)
}

// NewInput6 makes a worker's ip6-input.
func NewInput6(gate *punt.Gate, counts *graph.Counts, pool *graph.Pool) *Input {
	return newInput("ip6-input", true, gate, counts, pool)
}

func newInput(name string, ip6 bool, gate *punt.Gate, counts *graph.Counts, pool *graph.Pool) *Input {
	return &Input{name: name, ip6: ip6, octets: octetClasses(), gate: gate,
		drop: graph.Dropper{Drops: graph.NewDrops(name, inputReasons), Counts: counts, Pool: pool}}
}

// Name is the node's name.
func (n *Input) Name() string { return n.name }

// Nexts are the nodes that follow.
func (n *Input) Nexts() []string { return []string{n.name[:3] + "-lookup", "punt"} }

// Drops are the node's drop counters.
func (n *Input) Drops() *graph.Drops { return n.drop.Drops }

// Process takes all packets of v; those for the lookup are in Valid.
func (n *Input) Process(v *graph.Vector) {
	n.Valid.N = 0
	for _, p := range v.P[:v.N] {
		var reason int
		if n.ip6 {
			reason = n.one6(p)
		} else {
			reason = n.one4(p)
		}
		if reason >= 0 {
			n.drop.Drop(p, reason)
		}
	}
	v.N = 0
}

const passed = -1 // not a drop

// one4 handles one IPv4 packet; it returns the reason to drop it, or passed.
func (n *Input) one4(p *graph.Packet) int {
	h := header.IPv4(p.Data[p.L3:])
	if len(h) < header.IPv4Len {
		return dropTruncated
	}
	if h[0] != 0x45 {
		if reason := unusual4(h); reason != passed {
			return reason
		}
	}
	tl := h.TotalLen()
	switch {
	case tl > len(h):
		return dropTruncated
	case tl < header.IPv4Len:
		return dropHeaderLen
	case !h.ChecksumOK():
		return dropChecksum
	}
	p.Data = p.Data[:int(p.L3)+tl] // without link-layer padding
	if h[0] != 0x45 {
		sourceRoute, ok := h.Options()
		switch {
		case !ok:
			return dropBadOptions
		case sourceRoute:
			return dropSourceRoute
		}
	}
	if p.Flags&graph.FromHost == 0 {
		if n.octets[h[12]]&badSource != 0 {
			if h.Src32() != 0 || h.Dst32() != ^uint32(0) { // DHCP clients have no address
				return dropMartianSource
			}
		} else if n.Locals.Own4(p.VRF, h.Src32()) {
			return dropSpoofed
		}
	}
	if class := n.octets[h[16]]; class != 0 || p.Flags&graph.LinkGroup != 0 {
		return n.group4(p, h, class)
	}
	n.Addr4[n.Valid.N] = h.Dst32()
	n.Valid.Push(p)
	return passed
}

// unusual4 checks version and header length of a packet that may have options.
func unusual4(h header.IPv4) int {
	switch {
	case h[0]>>4 != 4:
		return dropVersion
	case h.HeaderLen() < header.IPv4Len || h.HeaderLen() > h.TotalLen():
		return dropHeaderLen
	case h.HeaderLen() > len(h):
		return dropTruncated
	}
	return passed
}

// group4 handles what is not, or was not received as, plain unicast.
func (n *Input) group4(p *graph.Packet, h header.IPv4, class uint8) int {
	dst := h.Dst32()
	in := n.Table.Slot(p.InSlot)
	switch {
	case p.Flags&graph.FromHost != 0 || in == nil:
		return dropBadHost // the host stack sends its multicast through a TAP
	case dst == ^uint32(0), p.Flags&graph.LinkGroup != 0 && in.IsBroadcast(dst), dst>>8 == 0xe00000:
		n.gate.Punt(p, punt.Meta{Reason: punt.ToGroup, Class: punt.Multicast})
		return passed
	case class&badDest != 0:
		return dropMartianDest
	case class&group != 0:
		return dropGroup
	}
	return dropLinkGroup
}
