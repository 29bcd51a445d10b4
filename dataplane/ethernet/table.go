package ethernet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"godwit/dataplane/header"
	"godwit/dataplane/sampling"
	"godwit/fib"
)

// Entry is an interface as the nodes use it. Immutable.
type Entry struct {
	Interface
	Slot      uint16 // dense number on this card, from 1; the same as long as the process lives
	PortSlot  uint16 // dense number of the port
	mac       uint64
	Broadcast []uint32    // directed broadcast and network addresses of the connected IPv4 prefixes
	LinkLocal [][2]uint64 // own fe80:: addresses
}

// OwnLinkLocal tells that the address is a link-local one of the interface.
func (e *Entry) OwnLinkLocal(hi, lo uint64) bool {
	for _, a := range e.LinkLocal {
		if a == [2]uint64{hi, lo} {
			return true
		}
	}
	return false
}

// IsBroadcast tells that the address is a directed broadcast of a connected prefix.
func (e *Entry) IsBroadcast(addr uint32) bool {
	for _, b := range e.Broadcast {
		if b == addr {
			return true
		}
	}
	return false
}

// Slots gives interfaces and ports dense numbers that they keep. The control
// goroutine uses it.
type Slots struct {
	interfaces map[fib.InterfaceID]uint16
	ports      map[fib.PortID]uint16
}

// NewSlots makes a register without numbers.
func NewSlots() *Slots {
	return &Slots{make(map[fib.InterfaceID]uint16), make(map[fib.PortID]uint16)}
}

func (s *Slots) interfaceSlot(id fib.InterfaceID) uint16 {
	n, ok := s.interfaces[id]
	if !ok {
		n = uint16(len(s.interfaces) + 1) // 65,535 IDs on a card: it can't overflow
		s.interfaces[id] = n
	}
	return n
}

func (s *Slots) portSlot(id fib.PortID) uint16 {
	n, ok := s.ports[id]
	if !ok {
		n = uint16(len(s.ports))
		s.ports[id] = n
	}
	return n
}

// portEntry is what demultiplexes the frames of one port.
type portEntry struct {
	untagged *Entry
	vlans    *[4096]*Entry // nil: no tagged interface
}

// Table finds interfaces. It is immutable: a change makes a new one.
type Table struct {
	ports  [256]*[256]*portEntry // by port number on the card
	outs   [256]*[256]*Entry     // by interface number on the card
	card   fib.CardID
	bySlot []*Entry // nil where the interface is gone
	byID   map[fib.InterfaceID]*Entry
	Ports  []fib.PortID // by port slot
	// Sampled tells that frames of some interface are sampled.
	Sampled bool
	// GuardsIn and GuardsOut tell that some interface has a policy.
	GuardsIn, GuardsOut bool
}

// NewTable makes the table of a card's interfaces.
func NewTable(card fib.CardID, list []Interface, slots *Slots) (*Table, error) {
	t := &Table{card: card, byID: make(map[fib.InterfaceID]*Entry, len(list))}
	for i := range list {
		if err := t.add(card, &list[i], slots); err != nil {
			return nil, fmt.Errorf("add interface %s: %w", list[i].Name, err)
		}
	}
	t.bySlot = make([]*Entry, len(slots.interfaces)+1)
	for _, e := range t.byID {
		t.bySlot[e.Slot] = e
	}
	t.Ports = make([]fib.PortID, len(slots.ports))
	for id, n := range slots.ports {
		t.Ports[n] = id
	}
	return t, nil
}

func (t *Table) add(card fib.CardID, in *Interface, slots *Slots) error {
	switch {
	case in.ID.Card() != card || in.Port.Card() != card || in.ID&0xffff == 0:
		return fmt.Errorf("interface %#x on port %#x is not of card %d", uint32(in.ID), uint32(in.Port), card)
	case in.VLAN > 4094:
		return fmt.Errorf("VLAN %d out of range", in.VLAN)
	case in.MTU < 68 || in.MTU > 65535:
		return fmt.Errorf("MTU %d out of range", in.MTU)
	case !header.Unicast(in.MAC):
		return fmt.Errorf("MAC %x is not a unicast address", in.MAC)
	case in.Sample > sampling.RateMax:
		return fmt.Errorf("samples one of %d frames: at most %d", in.Sample, sampling.RateMax)
	case t.byID[in.ID] != nil:
		return fmt.Errorf("id %#x is also %s", uint32(in.ID), t.byID[in.ID].Name)
	}
	e := &Entry{Interface: *in, Slot: slots.interfaceSlot(in.ID), PortSlot: slots.portSlot(in.Port), mac: header.MAC48(in.MAC)}
	e.Addresses = append([]netip.Prefix(nil), in.Addresses...)
	e.learnAddresses()
	p := t.makePort(in.Port)
	at := &p.untagged
	if in.VLAN != 0 {
		if p.vlans == nil {
			p.vlans = new([4096]*Entry)
		}
		at = &p.vlans[in.VLAN]
	}
	if *at != nil {
		return fmt.Errorf("VLAN %d of its port belongs to %s", in.VLAN, (*at).Name)
	}
	*at = e
	t.byID[in.ID] = e
	t.Sampled = t.Sampled || in.Sample != 0
	t.GuardsIn, t.GuardsOut = t.GuardsIn || in.Ingress != nil, t.GuardsOut || in.Egress != nil
	page := &t.outs[in.ID>>8&0xff]
	if *page == nil {
		*page = new([256]*Entry)
	}
	(*page)[in.ID&0xff] = e
	return nil
}

func (e *Entry) learnAddresses() {
	for _, p := range e.Addresses {
		a := p.Addr()
		switch {
		case a.Is4() && p.Bits() < 31:
			b := a.As4()
			mask := ^uint32(0) >> p.Bits()
			n := binary.BigEndian.Uint32(b[:])
			e.Broadcast = append(e.Broadcast, n|mask, n&^mask)
		case a.IsLinkLocalUnicast() && a.Is6():
			b := a.As16()
			e.LinkLocal = append(e.LinkLocal, [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])})
		}
	}
}

func (t *Table) makePort(id fib.PortID) *portEntry {
	page := &t.ports[id>>8&0xff]
	if *page == nil {
		*page = new([256]*portEntry)
	}
	p := &(*page)[id&0xff]
	if *p == nil {
		*p = new(portEntry)
	}
	return *p
}

// port finds a port of this card; nil if no interface is on it.
func (t *Table) port(id fib.PortID) *portEntry {
	page := t.ports[id>>8&0xff]
	if page == nil {
		return nil
	}
	return page[id&0xff]
}

// Demux finds the interface of a port and tag; nil if there is none.
func (t *Table) Demux(port fib.PortID, vlan uint16) *Entry {
	p := t.port(port)
	switch {
	case p == nil:
		return nil
	case vlan == 0:
		return p.untagged
	case p.vlans == nil || vlan > 4095:
		return nil
	}
	return p.vlans[vlan]
}

// Slot finds an interface by its slot; nil if it is gone.
func (t *Table) Slot(n uint16) *Entry {
	if int(n) >= len(t.bySlot) {
		return nil
	}
	return t.bySlot[n]
}

// Out finds an interface by its ID; nil if it is not there, or not of this card.
func (t *Table) Out(id fib.InterfaceID) *Entry {
	page := t.outs[id>>8&0xff]
	if page == nil || id.Card() != t.card {
		return nil
	}
	return page[id&0xff]
}

// Slots tells how many slots there are (the highest is one less).
func (t *Table) Slots() int { return len(t.bySlot) }

// All yields all interfaces in the order of their slots.
func (t *Table) All(yield func(*Entry) bool) {
	for _, e := range t.bySlot {
		if e != nil && !yield(e) {
			return
		}
	}
}
