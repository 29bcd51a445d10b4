package event

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
)

// goid is the number of the calling goroutine, from the first line of its stack
// ("goroutine 12 [running]:"): some 1 µs, so only where a wait is at stake.
func goid() uint64 {
	var buf [48]byte
	line := buf[:runtime.Stack(buf[:], false)]
	line = bytes.TrimPrefix(line, []byte("goroutine "))
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		line = line[:i]
	}
	id, _ := strconv.ParseUint(string(line), 10, 64)
	return id
}

// onLoop tells whether the caller runs as an event of the loop.
func (l *Loop) onLoop() bool {
	id := goid()
	return id != 0 && (id == l.runner.Load() || id == l.routine.Load())
}

// running returns the handler whose event runs, or nil.
func (l *Loop) running() *Handler {
	if l.started.Load() == 0 {
		return nil
	}
	return l.current.Load()
}

// settle waits until the event of h that runs now, if any, has ended. What was
// made void before does not run afterwards: the loop says that an event runs
// before it asks whether it is void. On the loop it does not wait.
func (l *Loop) settle(h *Handler) {
	if l.running() != h || l.onLoop() {
		return
	}
	ended := make(chan struct{})
	l.settleMu.Lock()
	l.settling = append(l.settling, ended)
	l.waiters.Store(int32(len(l.settling)))
	l.settleMu.Unlock()
	if l.running() == h { // else it may have ended before it saw us
		<-ended
		return
	}
	l.settleMu.Lock()
	defer l.settleMu.Unlock()
	if i := slices.Index(l.settling, ended); i >= 0 {
		l.settling = slices.Delete(l.settling, i, i+1)
		l.waiters.Store(int32(len(l.settling)))
	}
}

// settled tells those who wait that the event has ended.
func (l *Loop) settled() {
	l.settleMu.Lock()
	defer l.settleMu.Unlock()
	for _, ended := range l.settling {
		close(ended)
	}
	l.settling = nil
	l.waiters.Store(0)
}
