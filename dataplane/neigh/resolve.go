package neigh

import (
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
	"godwit/fib"
)

// Resolve sends an IP packet to the neighbour, now or when it has answered.
// The packet is copied.
func (t *Table) Resolve(now time.Time, k Key, p Packet) {
	in := t.ifaces.Out(k.Interface)
	if in == nil || !in.Up {
		t.drops.Add(dropDown)
		return
	}
	e := t.entries[k]
	if e == nil {
		t.giveUp(t.link(k.Interface))
		if e = t.find(now, k, false); e == nil {
			return
		}
	}
	e.used = now
	if rw := e.adj.rewrite.Load(); rw != nil {
		t.send(e, p.Data)
		return
	}
	if e.state == FailedState {
		if e.pins > 0 && e.adj.Mode() == Failed && now.Sub(e.since) < failedLife {
			t.out = append(t.out, Output{Kind: Unreachable, Interface: e.adj.Interface, Packet: clonePacket(p)})
			return
		}
		t.enter(e, Incomplete, now)
		t.ask(now, e)
	}
	t.enqueue(e, p)
}

func clonePacket(p Packet) Packet {
	p.Data = append([]byte(nil), p.Data...)
	return p
}

func (t *Table) enqueue(e *entry, p Packet) {
	for t.queued >= t.limits.QueueTotal && t.oldest(t.link(e.adj.Interface), e) {
	}
	if len(e.queue) >= t.limits.Queue || t.queued >= t.limits.QueueTotal {
		t.drops.Add(dropQueueFull)
		e.adj.mode.Store(uint32(Hold))
		return
	}
	e.queue = append(e.queue, clonePacket(p))
	t.queued++
	if len(e.queue) == t.limits.Queue {
		e.adj.mode.Store(uint32(Hold))
	}
}

// send transmits an IP packet to a resolved neighbour.
func (t *Table) send(e *entry, packet []byte) {
	in := t.ifaces.Out(e.adj.Interface)
	if in == nil {
		return
	}
	f := make([]byte, header.EthernetLen+len(packet))
	typ := uint16(header.TypeIPv4)
	if packet[0]>>4 == 6 {
		typ = header.TypeIPv6
	}
	header.PutEthernet(f, e.mac, in.MAC, typ)
	copy(f[header.EthernetLen:], packet)
	t.transmit(in.ID, f)
}

func (t *Table) transmit(id fib.InterfaceID, frame []byte) {
	t.out = append(t.out, Output{Kind: Transmit, Interface: id, Frame: frame})
}

// resolved makes the neighbour usable with the address, in the given state.
func (t *Table) resolved(now time.Time, e *entry, mac header.MAC, s State) {
	changed := e.mac != mac || e.adj.rewrite.Load() == nil
	e.mac = mac
	t.enter(e, s, now)
	if changed {
		t.follow(e)
	}
	if e.adj.rewrite.Load() == nil {
		return // the interface is down
	}
	for _, p := range e.queue {
		t.send(e, p.Data)
	}
	t.unqueue(e)
}

// follow makes the adjacency follow the interface and the link-layer address.
func (t *Table) follow(e *entry) {
	in := t.ifaces.Out(e.adj.Interface)
	if in == nil || !in.Up {
		t.publish(e, nil)
		e.adj.mode.Store(uint32(Down))
		t.die(e, true)
		return
	}
	if e.mac == (header.MAC{}) || e.state == Incomplete || e.state == FailedState {
		if e.adj.Mode() == Down {
			e.adj.mode.Store(uint32(Ask))
		}
		return
	}
	t.publish(e, newRewrite(in, e.mac))
	e.adj.mode.Store(uint32(Ask))
	t.die(e, false)
}

func newRewrite(in *ethernet.Entry, mac header.MAC) *Rewrite {
	r := &Rewrite{Len: header.EthernetLen, MTU: in.MTU, PortSlot: in.PortSlot, Slot: in.Slot}
	put := func(b []byte, typ uint16) {
		header.PutEthernet(b, mac, in.MAC, typ)
		if in.VLAN != 0 {
			header.PutEthernet(b, mac, in.MAC, header.TypeVLAN)
			b[14], b[15], b[16], b[17] = byte(in.VLAN>>8), byte(in.VLAN), byte(typ>>8), byte(typ)
		}
	}
	if in.VLAN != 0 {
		r.Len += header.VLANLen
	}
	put(r.IP4[:], header.TypeIPv4)
	put(r.IP6[:], header.TypeIPv6)
	return r
}
