package express

import (
	"sync/atomic"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/ip"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

// AddPort takes the memory of a port; its On is 0 until SetOn.
func (t *Tables) AddPort(id fib.PortID, mem *Port) {
	t.ports[id] = &port{mem: mem, now: make(map[uint16]Interface)}
	t.demux()
}

// RemovePort forgets a port whose program is gone.
func (t *Tables) RemovePort(id fib.PortID) {
	p := t.ports[id]
	if p == nil {
		return
	}
	for tag := range p.now {
		t.ifaces.retire(p.mem.VLAN[tag])
	}
	delete(t.ports, id)
}

// SetOn lets a port's frames go the express way, or not.
func (t *Tables) SetOn(id fib.PortID, on bool) {
	if p := t.ports[id]; p != nil {
		v := uint32(0)
		if on {
			v = 1
		}
		atomic.StoreUint32(&p.mem.On, v)
	}
}

// Interfaces follows the interface table and the choice of hash fields. The
// neighbours have been told before.
func (t *Tables) Interfaces(table *ethernet.Table, hash *ip.HashPlan) {
	t.ifTable, t.hash = table, hash
	t.setLocals()
	t.demux()
	for a, x := range t.adjOf { // broadcast addresses may have changed
		if x.rw != nil {
			t.enter(a, x)
		}
	}
}

// demux makes the ports' tags lead to the interfaces.
func (t *Tables) demux() {
	want := make(map[fib.PortID]map[uint16]Interface, len(t.ports))
	for id := range t.ports {
		want[id] = make(map[uint16]Interface)
	}
	for e := range t.ifTable.All {
		if w := want[e.Port]; w != nil && e.Up && e.Slot < Interfaces && e.VRF < 1<<16 {
			w[e.VLAN] = Interface{Slot: uint32(e.Slot), VRF: uint32(e.VRF), Hash: uint32(t.hash.Fields(e.VRF)), Sample: e.Sample, MAC: e.MAC}
		}
	}
	for id, p := range t.ports {
		t.setPort(p, want[id])
	}
}

func (t *Tables) setPort(p *port, want map[uint16]Interface) {
	for tag := range p.now {
		if _, stays := want[tag]; !stays {
			t.ifaces.retire(atomic.SwapUint32(&p.mem.VLAN[tag], 0))
			delete(p.now, tag)
		}
	}
	for tag, w := range want {
		if p.now[tag] == w {
			continue
		}
		i := t.ifaces.get()
		if i != 0 {
			t.st.Interface[i] = w
			p.now[tag] = w
		} else {
			t.short = true
			delete(p.now, tag)
		}
		t.ifaces.retire(atomic.SwapUint32(&p.mem.VLAN[tag], i))
	}
}

// setLocals follows the own addresses: bits of the filter and entries are made
// before what goes is removed.
func (t *Tables) setLocals() {
	want := make(map[Address]struct{})
	var filter [filterWords]uint64
	for e := range t.ifTable.All {
		for _, p := range e.Addresses {
			k := neigh.KeyOf(0, p.Addr())
			want[Address{Scope: uint32(e.VRF), Hi: k.Hi, Lo: k.Lo}] = struct{}{}
			h := ip.LocalHash(e.VRF, p.Addr()) >> 48
			filter[h>>6] |= 1 << (h & 63)
		}
	}
	for a := range want {
		if _, known := t.locals[a]; !known {
			if err := t.kernel.SetLocal(a); err != nil {
				t.failed++
			}
		}
	}
	for i, w := range filter {
		atomic.StoreUint64(&t.st.Filter[i], t.st.Filter[i]|w)
	}
	for a := range t.locals {
		if _, stays := want[a]; !stays {
			if err := t.kernel.DeleteLocal(a); err != nil {
				t.failed++
			}
		}
	}
	for i, w := range filter {
		atomic.StoreUint64(&t.st.Filter[i], w)
	}
	t.locals = want
}

// Write is compiled.Mirror's: it stores words of the lookup tables in their order.
func (t *Tables) Write(first uint32, words []uint32) {
	for len(words) > 0 {
		at := first % SegmentWords
		n := min(uint32(len(words)), SegmentWords-at)
		if seg := t.kernel.Segment(int(first / SegmentWords)); seg != nil {
			for i, w := range words[:n] {
				atomic.StoreUint32(&seg[at+uint32(i)], w)
			}
		}
		first += n
		words = words[n:]
	}
	t.grace.Kick()
}
