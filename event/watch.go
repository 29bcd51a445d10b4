package event

import (
	"bytes"
	"fmt"
	"runtime"
	"time"
)

// Stuck tells of a handler that does not end.
type Stuck struct {
	Loop    string
	Handler string
	For     time.Duration
	Stack   []byte // of the handler's goroutine
	All     []byte // of all goroutines, cut at 1 MiB
}

// maxStack bounds the stack dump of a stuck handler.
const maxStack = 1 << 20

// Watch calls report, from a goroutine of its own, when a handler runs for
// longer than limit: once a run. It ends with the loop, or by Close.
func (l *Loop) Watch(limit time.Duration, report func(Stuck)) *Source {
	reported := uint64(0)
	return l.observe("watchdog", max(limit/4, time.Millisecond), func() {
		now := l.running()
		d := time.Duration(l.clock.mono() - now.begin)
		if now.h == nil || d < limit || now.n == reported {
			return
		}
		reported = now.n
		all := make([]byte, maxStack)
		all = all[:runtime.Stack(all, true)]
		report(Stuck{Loop: l.name, Handler: now.h.name, For: d, Stack: stackOf(all, l.routine.Load(), l.runner.Load()), All: all})
	})
}

// stackOf finds the stacks of goroutines in a dump of all.
func stackOf(all []byte, ids ...uint64) []byte {
	var found [][]byte
	for _, block := range bytes.Split(all, []byte("\n\n")) {
		for _, id := range ids {
			if bytes.HasPrefix(block, fmt.Appendf(nil, "goroutine %d [", id)) {
				found = append(found, block)
			}
		}
	}
	return bytes.Join(found, []byte("\n\n"))
}

// observe calls look each period, on a goroutine of its own.
func (l *Loop) observe(kind string, period time.Duration, look func()) *Source {
	return l.newSource(kind, l.name, nil, func() {}, func(s *Source) {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-s.closed:
				return
			}
		}
	})
}

// WarningKind is what a Warning is about.
type WarningKind uint8

// The kinds of warnings.
const (
	Slow    WarningKind = iota // runs longer than SlowAfter
	Starved                    // waits longer than StarvedAfter
	Late                       // starts behind the handler's deadline
	numWarnings
)

func (k WarningKind) String() string {
	return [...]string{"slow", "starved", "late"}[k]
}

// Warning sums up what went wrong with a handler since the last one.
type Warning struct {
	Loop    string
	Handler string
	Class   Class
	Kind    WarningKind
	Count   uint64
	Worst   time.Duration // run or wait
}

// warnCount is what the next Warning will tell.
type warnCount struct {
	count uint64
	worst int64
}

func (w *warnCount) add(ns int64) {
	w.count++
	w.worst = max(w.worst, ns)
}

// Warn calls f, from a goroutine of its own, for each handler that was slow,
// starved or late during the last period: at most one Warning a handler, kind
// and period, whatever happens. It ends with the loop, or by Close.
func (l *Loop) Warn(period time.Duration, f func(Warning)) *Source {
	return l.observe("warnings", period, func() {
		for _, w := range l.warnings() {
			f(w)
		}
	})
}

// warnings takes what there is to warn of.
func (l *Loop) warnings() []Warning {
	var list []Warning
	l.handlerMu.Lock()
	defer l.handlerMu.Unlock()
	l.statMu.Lock()
	defer l.statMu.Unlock()
	l.fold()
	for _, h := range l.order {
		for k := range h.warn {
			if w := &h.warn[k]; w.count > 0 {
				list = append(list, Warning{
					Loop: l.name, Handler: h.name, Class: h.class, Kind: WarningKind(k), Count: w.count, Worst: time.Duration(w.worst),
				})
				*w = warnCount{}
			}
		}
	}
	return list
}
