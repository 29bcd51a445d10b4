package pipeline

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/express"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// Options are the settings of a State; the zero value will do.
type Options struct {
	HashSeed uint64                     // of the flow hash: differs from router to router, or flows polarise
	Policers [punt.NumClasses]punt.Rate // zero: punt.Default
	Limits   neigh.Limits               // zero: neigh.DefaultLimits
}

// State is what the workers of a card share, with each other and with the
// control side. The control goroutine writes it; SlowPath and the hooks run there.
type State struct {
	card     fib.CardID
	seed     uint64
	view     atomic.Pointer[view]
	policers *punt.Policers
	groups   *ip.Groups
	neigh    *neigh.Table
	slots    *ethernet.Slots
	now      time.Time // the control side's, as last told
	express  *express.Tables
}

// view is what changes rarely: replaced as a whole, never changed.
type view struct {
	table  *ethernet.Table
	locals *ip.Locals
	fib    ip.FIB
	hash   *ip.HashPlan
}

// noFIB has no routes.
type noFIB struct{}

func (noFIB) LookupBatch4(_ fib.VRF, addrs []uint32, groups []uint32)    { clear(groups[:len(addrs)]) }
func (noFIB) LookupBatch6(_ fib.VRF, addrs [][2]uint64, groups []uint32) { clear(groups[:len(addrs)]) }

// NewState makes the state of a card without interfaces and routes.
func NewState(card fib.CardID, o Options) *State {
	if o.Limits == (neigh.Limits{}) {
		o.Limits = neigh.DefaultLimits
	}
	s := &State{card: card, seed: o.HashSeed, policers: punt.NewPolicers(o.Policers), slots: ethernet.NewSlots()}
	s.neigh = neigh.New(o.Limits)
	s.groups = ip.NewGroups(card, s.neigh)
	s.neigh.Elsewhere(s.elsewhere)
	none, _ := ethernet.NewTable(card, nil, s.slots) // an empty list has no error
	s.view.Store(&view{none, ip.NewLocals(none), noFIB{}, ip.NewHashPlan(nil)})
	return s
}

// elsewhere tells that packets from the interface to an IPv4 address would leave through
// another interface: proxy ARP answers for it.
func (s *State) elsewhere(in *ethernet.Entry, to netip.Addr) bool {
	var groups [1]uint32
	b := to.As4()
	s.view.Load().fib.LookupBatch4(in.VRF, []uint32{binary.BigEndian.Uint32(b[:])}, groups[:])
	g := s.groups.Get(groups[0])
	if groups[0] == 0 || g == nil || g.Kind != fib.Forward {
		return false
	}
	members, _ := s.groups.Members(groups[0])
	for _, m := range members {
		if m.Out == in.ID {
			return false
		}
	}
	return true
}

// Switches counts the groups that the card itself has taken members from, or given back.
func (s *State) Switches() uint64 { return s.groups.Switches() }

// Card is the card's number.
func (s *State) Card() fib.CardID { return s.card }

// SetFIB gives the tables to look up in. The worker holds its Reader online
// while it calls the Pipeline.
func (s *State) SetFIB(f ip.FIB) {
	v := *s.view.Load()
	v.fib = f
	s.view.Store(&v)
}

// SetHash says what the flow hash looks at; VRFs that are not named hash the 5-tuple.
func (s *State) SetHash(fields map[fib.VRF]fib.HashFields) {
	v := *s.view.Load()
	v.hash = ip.NewHashPlan(fields)
	s.view.Store(&v)
	s.tellExpress(&v)
}

// SetExpress starts the mirror of the express path: it has all there is, and follows.
func (s *State) SetExpress(t *express.Tables) {
	s.express = t
	s.tellExpress(s.view.Load())
	s.neigh.SetMirror(t)
	s.groups.SetMirror(t.Group)
}

func (s *State) tellExpress(v *view) {
	if s.express != nil {
		s.express.Interfaces(v.table, v.hash)
	}
}

// InterfaceSlot is the dense number of an interface of this card, 0 if it is not there.
func (s *State) InterfaceSlot(id fib.InterfaceID) uint16 {
	if e := s.view.Load().table.Out(id); e != nil {
		return e.Slot
	}
	return 0
}

// InterfaceOf is the inverse of InterfaceSlot, 0 if it is not there.
func (s *State) InterfaceOf(slot uint16) fib.InterfaceID {
	if e := s.view.Load().table.Slot(slot); e != nil {
		return e.ID
	}
	return 0
}

// VRFOf is the VRF of an interface of this card.
func (s *State) VRFOf(id fib.InterfaceID) (vrf fib.VRF, ok bool) {
	if e := s.view.Load().table.Out(id); e != nil {
		return e.VRF, true
	}
	return 0, false
}

// PortSlot is the dense number of a port that has an interface.
func (s *State) PortSlot(id fib.PortID) (slot uint16, ok bool) {
	for i, p := range s.view.Load().table.Ports {
		if p == id {
			return uint16(i), true
		}
	}
	return 0, false
}

// setInterfaces replaces the interfaces.
func (s *State) setInterfaces(list []Interface) (*ethernet.Table, error) {
	t, err := ethernet.NewTable(s.card, list, s.slots)
	if err != nil {
		return nil, err
	}
	s.groups.SetInterfaces(t) // first: other members take over
	s.neigh.SetInterfaces(s.now, t)
	v := *s.view.Load()
	v.table, v.locals = t, ip.NewLocals(t)
	s.view.Store(&v)
	s.tellExpress(&v)
	return t, nil
}

// GroupSet is patricia's hook: the group's gateways are resolved from now on.
func (s *State) GroupSet(index uint32, g fib.Group) { s.groups.Set(s.now, index, g) }

// GroupFree is patricia's hook.
func (s *State) GroupFree(index uint32) { s.groups.Free(s.now, index) }

// Demux finds the interface of a port and tag (0: untagged); 0 if there is none.
func (s *State) Demux(port fib.PortID, vlan uint16) fib.InterfaceID {
	if port.Card() != s.card {
		return 0
	}
	if e := s.view.Load().table.Demux(port, vlan); e != nil {
		return e.ID
	}
	return 0
}

// PuntStats counts what the policers passed and stopped. Any goroutine.
func (s *State) PuntStats() []punt.ClassStats { return s.policers.Stats() }
