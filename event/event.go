// Package event is the asynchronous event core: one Loop per process runs
// every handler, one at a time, in strict priority order.
//
//	goroutines ── Post ──▶ ┌ critical   ┐
//	timers     ── fire ──▶ │ high       │──▶ one goroutine runs handlers
//	readers    ── Post ──▶ │ normal     │    (1 per Loop)
//	                       └ background ┘
//
// Promises: handlers of one loop never run concurrently; events of one handler
// run in the order they were posted; Post may be called from any goroutine, from
// handlers too, and blocks only in a class whose Policy is Block; after
// Timer.Cancel and Source.Close have returned nothing of them runs; every queue
// has a bound.
package event

import (
	"errors"
	"fmt"
)

// Class is a priority class. A waiting event of a higher class runs before one
// of a lower class, unless that has starved for StarveBound.
type Class uint8

// The priority classes, highest first.
const (
	Critical   Class = iota // link and peer loss, supervision
	High                    // protocol timers, sessions
	Normal                  // route updates, requests
	Background              // statistics, ageing
	numClasses
)

var classNames = [...]string{"critical", "high", "normal", "background"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Errors of Post.
var (
	ErrStopped = errors.New("event loop stopped")
	ErrFull    = errors.New("event queue full")
)
