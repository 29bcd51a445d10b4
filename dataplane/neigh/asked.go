package neigh

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
	"godwit/fib"
)

// askedMost bounds the questions of the host stack that are remembered, askedLife how
// long: its retransmissions are a second apart.
const (
	askedMost = 1024
	askedLife = 3 * time.Second
)

// HostFrame looks at a frame that the host stack sends: the answer to its question is
// learned as if the question were ours.
func (t *Table) HostFrame(now time.Time, in *ethernet.Entry, frame []byte) {
	if len(frame) <= header.EthernetLen {
		return
	}
	target := hostQuestion(frame)
	if !target.IsValid() || owns(in, target) || !onLink(in, target) {
		return
	}
	if len(t.questions) >= askedMost {
		for k, at := range t.questions {
			if now.Sub(at) > askedLife {
				delete(t.questions, k)
			}
		}
	}
	if len(t.questions) < askedMost {
		t.questions[KeyOf(in.ID, target)] = now
	}
}

// Question tells that a frame of the host stack is an ARP request or a solicitation.
func Question(frame []byte) bool { return hostQuestion(frame).IsValid() }

// hostQuestion is whom a frame asks for.
func hostQuestion(frame []byte) netip.Addr {
	if len(frame) <= header.EthernetLen {
		return netip.Addr{}
	}
	body := frame[header.EthernetLen:]
	switch uint16(frame[12])<<8 | uint16(frame[13]) {
	case header.TypeARP:
		if a := header.ARP(body); a.IsValid() && a.Op() == header.ARPRequest && !a.Sender().IsUnspecified() && a.Sender() != a.Target() {
			return a.Target()
		}
	case header.TypeIPv6:
		h := header.IPv6(body)
		if !h.IsValid() || h.NextHeader() != header.ProtoICMPv6 || h.Src().IsUnspecified() {
			break
		}
		if m := header.ND(body[header.IPv6Len:h.TotalLen()]); m.IsValid() && m.Type() == header.NDNeighborSolicit {
			return m.Target()
		}
	}
	return netip.Addr{}
}

// takeAsked tells that the host stack has asked for a neighbour lately.
func (t *Table) takeAsked(now time.Time, k Key) bool {
	at, ok := t.questions[k]
	delete(t.questions, k)
	return ok && now.Sub(at) <= askedLife
}

// Conflict is another station's claim to an own address.
type Conflict struct {
	Interface fib.InterfaceID
	VRF       fib.VRF
	Address   netip.Addr
	MAC       header.MAC // of the other station
	Last      time.Time
}

// conflictLife is how long a claim is shown after it was last made.
const conflictLife = 10 * time.Minute

// Conflicts lists the claims of the last ten minutes, by interface and address.
func (t *Table) Conflicts(now time.Time) []Conflict {
	var list []Conflict
	for k, c := range t.conflicts {
		if in := t.ifaces.Out(k.Interface); in == nil || !owns(in, c.Address) || now.Sub(c.Last) > conflictLife {
			delete(t.conflicts, k)
			continue
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Address.Compare(b.Address))
	})
	return list
}
