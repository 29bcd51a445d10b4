package linecard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/dataplane/worker"
	"godwit/fib"
)

// capture is a running capture of one interface.
type capture struct {
	to *session.Session
	worker.Capture
}

// captureBacklog is how many bytes may wait for a capture's reader; beyond it
// frames are dropped and counted, so that a capture never holds up FIBAcks.
const captureBacklog = 1 << 20

// captureHeader precedes the frame in a CaptureFrame message.
const captureHeader = 13

var errCapturing = errors.New("a capture is running on this session")

func (a *Agent) startCapture(s *session.Session, r wire.CaptureRequest) error {
	if a.ifaces[r.Interface] == nil {
		return fmt.Errorf("capture interface %#x: no such interface", uint32(r.Interface))
	}
	if most := max(a.cfg.CaptureMax, 1); a.captures[r.Interface] == nil && len(a.captures) >= most {
		return fmt.Errorf("capture interface %#x: %d captures are running", uint32(r.Interface), len(a.captures))
	}
	for id, c := range a.captures {
		// CaptureFrame does not name its interface.
		if c.to == s || id == r.Interface {
			return errCapturing
		}
	}
	list, err := compile(r.Rules)
	if err != nil {
		return fmt.Errorf("capture interface %#x: %w", uint32(r.Interface), err)
	}
	a.captures[r.Interface] = &capture{s, worker.Capture{Snap: r.Snap, Filter: list}}
	a.setCaptures()
	return nil
}

func (a *Agent) stopCapture(s *session.Session, r wire.CaptureRequest) error {
	c := a.captures[r.Interface]
	if c == nil || c.to != s {
		return fmt.Errorf("stop capture of interface %#x: none is running", uint32(r.Interface))
	}
	a.drainCaptures()
	delete(a.captures, r.Interface)
	a.setCaptures()
	return nil
}

// endCaptures ends the captures of a session that is gone.
func (a *Agent) endCaptures(s *session.Session) {
	for id, c := range a.captures {
		if c.to == s {
			delete(a.captures, id)
		}
	}
	a.setCaptures()
}

// setCaptures tells the workers.
func (a *Agent) setCaptures() {
	if a.plane == nil {
		return
	}
	set := make(map[fib.InterfaceID]worker.Capture)
	for id, c := range a.captures {
		set[id] = c.Capture
	}
	a.plane.captures.Set(set)
	a.applyExpress() // before the first frame is missed, or when none is any more
}

// wakeCaptures runs on workers: it queues a drain unless one is queued.
func (a *Agent) wakeCaptures() {
	if a.draining.captures.CompareAndSwap(false, true) && a.punts.Post(a.drainCaptures) != nil {
		a.draining.captures.Store(false)
	}
}

func (a *Agent) drainCaptures() {
	a.draining.captures.Store(false)
	if a.plane == nil {
		return
	}
	for range drainMost {
		var m worker.Captured
		n, ok := a.plane.captures.Take(&m, a.frame)
		if !ok {
			return
		}
		a.sendCaptured(m, a.frame[:n])
	}
	a.wakeCaptures()
}

func (a *Agent) sendCaptured(m worker.Captured, frame []byte) {
	c := a.captures[m.Interface]
	if c == nil {
		return // of a capture that has just ended
	}
	if c.to.Queued() > captureBacklog {
		a.capLost++
		return
	}
	if c.to.Send(wire.CaptureFrame, captureBody(m, frame)) != nil {
		a.capLost++
	}
}

// captureBody is the body of a CaptureFrame message.
func captureBody(m worker.Captured, frame []byte) []byte {
	b := make([]byte, captureHeader, captureHeader+len(frame))
	binary.BigEndian.PutUint64(b, uint64(m.Time))
	binary.BigEndian.PutUint32(b[8:], uint32(m.Length))
	b[12] = byte(m.Direction)
	return append(b, frame...)
}
