package neigh

import (
	"fmt"
	"net/netip"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
)

// source picks the address to ask from: one whose prefix holds the target,
// or else the first of the family; for IPv6 the link-local one first.
func source(in *ethernet.Entry, target netip.Addr) (best netip.Addr) {
	for _, p := range in.Addresses {
		a := p.Addr()
		switch {
		case a.Is4() != target.Is4():
		case a.Is6() && a.IsLinkLocalUnicast():
			return a
		case p.Contains(target) && a.Is4():
			return a
		case !best.IsValid():
			best = a
		}
	}
	return best
}

func owns(in *ethernet.Entry, a netip.Addr) bool {
	for _, p := range in.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

func onLink(in *ethernet.Entry, a netip.Addr) bool {
	for _, p := range in.Addresses {
		if p.Contains(a) {
			return true
		}
	}
	return a.Is6() && a.IsLinkLocalUnicast()
}

func arpFrame(in *ethernet.Entry, dst header.MAC, op uint16, sender netip.Addr, tmac header.MAC, target netip.Addr) []byte {
	f := make([]byte, 60) // the shortest frame without its check sequence
	header.PutEthernet(f, dst, in.MAC, header.TypeARP)
	header.PutARP(f[header.EthernetLen:], op, in.MAC, sender, tmac, target)
	return f
}

func (t *Table) arpRequest(in *ethernet.Entry, target netip.Addr, unicast header.MAC) {
	from := source(in, target)
	if !from.IsValid() {
		return
	}
	dst := header.Broadcast
	if unicast != (header.MAC{}) {
		dst = unicast
	}
	t.transmit(in.ID, arpFrame(in, dst, header.ARPRequest, from, unicast, target))
}

// Probe asks whether another station has an own address: a probe of RFC 5227, 2.1.1, or
// the solicitation of RFC 4862, 5.4.2. The answer is a conflict, which is reported.
// The router does not wait for it: its addresses are configured, and work at once.
func (t *Table) Probe(in *ethernet.Entry, a netip.Addr) {
	if !in.Up {
		return
	}
	if a.Is4() {
		t.transmit(in.ID, arpFrame(in, header.Broadcast, header.ARPRequest, netip.IPv4Unspecified(), header.MAC{}, a))
		return
	}
	t.transmit(in.ID, probeFrame(in, a))
}

// Announce sends a gratuitous ARP (RFC 5227, 2.3) or an unsolicited
// neighbour advertisement (RFC 4861, 7.2.6) for an own address.
func (t *Table) Announce(in *ethernet.Entry, a netip.Addr) {
	if !in.Up {
		return
	}
	if a.Is4() {
		t.transmit(in.ID, arpFrame(in, header.Broadcast, header.ARPRequest, a, header.MAC{}, a))
		return
	}
	t.advertise(in, a, allNodes, header.MulticastMAC(allNodes), header.NAFlagRouter|header.NAFlagOverride)
}

// ARP handles an ARP packet. It reports whether the host stack wants a copy:
// what is an answer, or news of a neighbour.
func (t *Table) ARP(now time.Time, in *ethernet.Entry, b []byte) bool {
	a := header.ARP(b)
	if !a.IsValid() || !header.Unicast(a.SenderMAC()) {
		t.drops.Add(dropARPInvalid)
		return false
	}
	sender, target := a.Sender(), a.Target()
	switch {
	case owns(in, sender):
		t.drops.Add(dropARPSpoof)
		t.conflict(now, in, sender, a.SenderMAC())
		return false
	case sender.IsUnspecified(): // a probe (RFC 5227, 2.1.1): answered, not learned
		if a.Op() == header.ARPRequest && owns(in, target) {
			t.transmit(in.ID, arpFrame(in, a.SenderMAC(), header.ARPReply, target, a.SenderMAC(), sender))
		}
		return false
	case sender.IsMulticast() || sender.As4()[0] == 127 || isBroadcast(in, sender):
		t.drops.Add(dropARPInvalid)
		return false
	}
	e := t.entries[KeyOf(in.ID, sender)]
	if e == nil && !onLink(in, sender) {
		t.drops.Add(dropARPOffLink)
		return false
	}
	forUs := owns(in, target)
	if e == nil && forUs && (a.Op() == header.ARPRequest || t.takeAsked(now, KeyOf(in.ID, sender))) {
		e = t.find(now, KeyOf(in.ID, sender), false)
	}
	if e != nil {
		t.learn(now, e, a.SenderMAC(), forUs && a.Op() == header.ARPReply)
	}
	if a.Op() == header.ARPRequest && (forUs || t.proxies(in, sender, target)) {
		t.transmit(in.ID, arpFrame(in, a.SenderMAC(), header.ARPReply, target, a.SenderMAC(), sender))
		return false
	}
	return forUs || sender == target
}

// proxies tells that the interface answers for an address elsewhere (RFC 1027): one that
// packets from here would be sent to through another interface.
func (t *Table) proxies(in *ethernet.Entry, sender, target netip.Addr) bool {
	return in.ProxyARP && sender != target && t.elsewhere != nil && !isBroadcast(in, target) && t.elsewhere(in, target)
}

func isBroadcast(in *ethernet.Entry, a netip.Addr) bool {
	b := a.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return n == ^uint32(0) || in.IsBroadcast(n)
}

// learn takes a link-layer address heard of; answer: it answers our question.
func (t *Table) learn(now time.Time, e *entry, mac header.MAC, answer bool) {
	switch {
	case e.state == Permanent:
	case answer:
		t.resolved(now, e, mac, Reachable)
	case e.adj.rewrite.Load() == nil || e.mac != mac:
		t.resolved(now, e, mac, Stale)
	}
}

// conflict reports another station that uses our address, and defends it (RFC 5227, 2.4 b).
func (t *Table) conflict(now time.Time, in *ethernet.Entry, a netip.Addr, mac header.MAC) {
	t.conflicts[KeyOf(in.ID, a)] = Conflict{Interface: in.ID, VRF: in.VRF, Address: a, MAC: mac, Last: now}
	l := t.link(in.ID)
	if !l.defended.IsZero() && now.Sub(l.defended) < defendPause {
		return
	}
	l.defended = now
	t.out = append(t.out, Output{Kind: Notice, Interface: in.ID,
		Text: fmt.Sprintf("address conflict on %s: %v is also claimed by %02x:%02x:%02x:%02x:%02x:%02x",
			in.Name, a, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])})
	t.Announce(in, a)
}
