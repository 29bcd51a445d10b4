package program

import (
	"os"
	"sync/atomic"
	"syscall"

	"godwit/event"
)

// StopOnSignals ends the loop at SIGTERM and SIGINT. The result tells whether it
// was one of them.
func StopOnSignals(l *event.Loop) (asked func() bool) {
	var came atomic.Bool
	l.Signal(l.Handler("signals", event.Critical), func(os.Signal) {
		came.Store(true)
		l.Stop()
	}, syscall.SIGTERM, syscall.SIGINT)
	return came.Load
}
