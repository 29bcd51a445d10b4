package worker

import (
	"maps"
	"sync/atomic"
	"time"

	"godwit/dataplane/filter"
	"godwit/dataplane/graph"
	"godwit/fib"
)

// Direction of a captured frame.
type Direction uint8

// The directions.
const (
	In Direction = iota
	Out
)

// Captured goes with a captured frame.
type Captured struct {
	Interface fib.InterfaceID
	Time      int64 // nanoseconds since 1970
	Length    int   // of the whole frame
	Direction Direction
}

// Capture is what is captured of an interface.
type Capture struct {
	Snap   int          // bytes of a frame, 0: all
	Filter *filter.List // what it permits; nil: all
}

// Captures says which interfaces are captured and holds the frames for the
// reader. Without a capture, it costs a worker one load a vector.
type Captures struct {
	demux  func(port fib.PortID, vlan uint16) fib.InterfaceID
	active atomic.Pointer[map[fib.InterfaceID]Capture] // the map is never changed
	frames *Queue[Captured]
	lost   atomic.Uint64
}

// NewCaptures makes captures with a queue of slots for frames of size bytes.
// demux finds the ingress interface of a frame.
func NewCaptures(slots, size int, demux func(fib.PortID, uint16) fib.InterfaceID, wake func()) *Captures {
	return &Captures{demux: demux, frames: NewQueue[Captured](slots, size, wake)}
}

// Set says which interfaces to capture.
func (c *Captures) Set(interfaces map[fib.InterfaceID]Capture) {
	if len(interfaces) == 0 {
		c.active.Store(nil)
		return
	}
	m := maps.Clone(interfaces)
	c.active.Store(&m)
}

// Take moves the oldest captured frame to buf; see Queue.Take.
func (c *Captures) Take(m *Captured, buf []byte) (int, bool) { return c.frames.Take(m, buf) }

// Size is the most bytes that are kept of a frame.
func (c *Captures) Size() int { return c.frames.Size() }

// Lost counts the frames that found the queue full.
func (c *Captures) Lost() uint64 { return c.lost.Load() }

func (w *Worker) capture(v *graph.Vector, id fib.PortID, dir Direction) {
	if w.caps == nil {
		return
	}
	set := w.caps.active.Load()
	if set == nil {
		return
	}
	now := time.Now().UnixNano()
	for _, p := range v.P[:v.N] {
		ifc := p.Out
		if dir == In {
			ifc = w.caps.demux(id, vlan(p.Data))
		}
		x, ok := (*set)[ifc]
		if !ok {
			continue
		}
		if x.Filter != nil {
			w.key.Frame(p.Data)
			if !x.Filter.Permits(x.Filter.Match(&w.key)) {
				continue
			}
		}
		w.caps.keep(Captured{Interface: ifc, Time: now, Length: len(p.Data), Direction: dir}, p.Data, x.Snap)
	}
}

func (c *Captures) keep(m Captured, frame []byte, snap int) {
	if snap > 0 && len(frame) > snap {
		frame = frame[:snap]
	}
	if len(frame) > c.frames.Size() {
		frame = frame[:c.frames.Size()]
	}
	if !c.frames.Push(m, frame) {
		c.lost.Add(1)
	}
}

// vlan is the 802.1Q tag of a frame, 0 for none.
func vlan(frame []byte) uint16 {
	if len(frame) < 16 || frame[12] != 0x81 || frame[13] != 0 {
		return 0
	}
	return (uint16(frame[14])<<8 | uint16(frame[15])) & 0xfff
}
