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

// settler waits for the end of an event.
type settler struct {
	n     uint64 // of the event
	ended chan struct{}
}

// settle waits until the event of h that runs now, if any, has ended. What was
// made void before does not run afterwards: the loop says that an event runs
// before it asks whether it is void. On the loop it does not wait.
func (l *Loop) settle(h *Handler) {
	now := l.running()
	if now.h != h || l.onLoop() {
		return
	}
	w := settler{now.n, make(chan struct{})}
	l.settleMu.Lock()
	l.settling = append(l.settling, w)
	l.waiters.Store(int32(len(l.settling)))
	l.settleMu.Unlock()
	if l.diary.ended() < w.n { // else the loop may have gone on before it saw us
		<-w.ended
		return
	}
	l.settleMu.Lock()
	defer l.settleMu.Unlock()
	if i := slices.Index(l.settling, w); i >= 0 {
		l.settling = slices.Delete(l.settling, i, i+1)
		l.waiters.Store(int32(len(l.settling)))
	}
}

// settled tells those who wait for one of the first n events that it has ended.
func (l *Loop) settled(n uint64) {
	l.settleMu.Lock()
	defer l.settleMu.Unlock()
	l.settling = slices.DeleteFunc(l.settling, func(w settler) bool {
		if w.n <= n {
			close(w.ended)
		}
		return w.n <= n
	})
	l.waiters.Store(int32(len(l.settling)))
}
