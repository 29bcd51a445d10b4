package worker

import (
	"sync/atomic"

	"godwit/dataplane/filter"
	"godwit/dataplane/graph"
	"godwit/fib"
)

// Mirror copies frames of interfaces to a port. It is not changed while workers have it, but
// its counters, which any goroutine reads.
type Mirror struct {
	Port    fib.PortID
	In, Out map[fib.PortID]map[fib.InterfaceID]bool // whose frames, by the port they are on
	Snap    int                                     // bytes kept, 0: all
	Filter  *filter.List                            // what it permits; nil: all

	matched, frames, bytes, dropped atomic.Uint64
}

// MirrorStats are a mirror's counters.
type MirrorStats struct {
	Matched uint64 // frames that were to be copied
	Frames  uint64 // copies given to the port
	Bytes   uint64
	Dropped uint64 // no buffer was to spare
}

// Stats reads the counters.
func (m *Mirror) Stats() MirrorStats {
	return MirrorStats{m.matched.Load(), m.frames.Load(), m.bytes.Load(), m.dropped.Load()}
}

// Mirrors are those of a card, shared by its workers. Without one they cost a load a vector; with
// some, a search in a map for each vector of a port, and for each frame of a port that is mirrored.
type Mirrors struct {
	demux func(port fib.PortID, vlan uint16) fib.InterfaceID
	ports atomic.Pointer[map[fib.PortID]*mirrored] // never changed
}

// mirrored are the mirrors of a port's interfaces.
type mirrored struct{ in, out []*Mirror }

// NewMirrors makes none. demux finds the ingress interface of a frame.
func NewMirrors(demux func(fib.PortID, uint16) fib.InterfaceID) *Mirrors {
	return &Mirrors{demux: demux}
}

// Set replaces all mirrors.
func (s *Mirrors) Set(list []*Mirror) {
	if len(list) == 0 {
		s.ports.Store(nil)
		return
	}
	ports := make(map[fib.PortID]*mirrored)
	at := func(id fib.PortID) *mirrored {
		if ports[id] == nil {
			ports[id] = new(mirrored)
		}
		return ports[id]
	}
	for _, m := range list {
		for id := range m.In {
			at(id).in = append(at(id).in, m)
		}
		for id := range m.Out {
			at(id).out = append(at(id).out, m)
		}
	}
	s.ports.Store(&ports)
}

// mirror copies the frames of v, received on a port or about to leave it.
func (w *Worker) mirror(v *graph.Vector, id fib.PortID, dir Direction) {
	if w.mirrors == nil {
		return
	}
	ports := w.mirrors.ports.Load()
	if ports == nil {
		return
	}
	of := (*ports)[id]
	if of == nil {
		return
	}
	list := of.in
	if dir == Out {
		list = of.out
	}
	for _, m := range list {
		interfaces := m.In[id]
		if dir == Out {
			interfaces = m.Out[id]
		}
		w.copies.N = 0
		for _, p := range v.P[:v.N] {
			ifc := p.Out
			if dir == In {
				ifc = w.mirrors.demux(id, vlan(p.Data))
			}
			if interfaces[ifc] && m.wants(p.Data, &w.key) {
				w.copyFor(m, p.Data)
			}
		}
		if w.copies.N > 0 {
			w.transmit(m.Port, &w.copies)
		}
	}
}

func (m *Mirror) wants(frame []byte, k *filter.Key) bool {
	if m.Filter == nil {
		return true
	}
	k.Frame(frame)
	return m.Filter.Permits(m.Filter.Match(k))
}

// copyFor copies a frame, if a buffer is to spare: forwarding comes first.
func (w *Worker) copyFor(m *Mirror, frame []byte) {
	m.matched.Add(1)
	if m.Snap > 0 && len(frame) > m.Snap {
		frame = frame[:m.Snap]
	}
	var p *graph.Packet
	if w.pool.Free() >= w.pool.Size()/spareShare {
		p = w.pool.GetFor(len(frame))
	}
	if p == nil {
		m.dropped.Add(1)
		return
	}
	p.Data = append(p.Data, frame...)
	clean(p)
	m.frames.Add(1)
	m.bytes.Add(uint64(len(p.Data)))
	w.copies.Push(p)
}

// spareShare: below one of so many free buffers nothing is copied.
const spareShare = 8
