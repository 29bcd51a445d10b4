// Package health ties the event loop of a module's process to its supervisor:
// the loop reports that it lives, what hangs in it and how it does.
//
//	loop ── timer, 1 s ──▶ "alive" ─┐
//	watchdog (1 goroutine) "stuck" ─┼─▶ pipe ─▶ supervisor: restarts a process
//	                                │           whose loop is silent
//	warnings (1 goroutine) ─────────┴─▶ log
//
// The pipe is a descriptor that the supervisor passes; its number is in the
// environment variable FDVariable. Without it (a person started the process)
// there is only the log. Nothing blocks: what the pipe does not take is dropped.
package health

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"godwit/cluster/wire"
	"godwit/event"
)

// FDVariable names the environment variable with the pipe's descriptor.
const FDVariable = "GODWIT_LIVENESS_FD"

const (
	// Period is the time between two reports.
	Period = time.Second
	// StuckAfter is how long a handler may run before its stack is dumped: long
	// after anything that is only slow.
	StuckAfter = 5 * time.Second
	// warnPeriod is the time between two warnings about a handler.
	warnPeriod = 10 * time.Second
)

// Report is one line in the pipe.
type Report struct {
	Stuck string        `json:"stuck,omitempty"` // handler; empty: the loop lives
	For   time.Duration `json:"for_ns,omitempty"`
}

// Attach makes the loop report to the supervisor and to the log until the loop
// ends or the result is closed. The loop need not run yet.
func Attach(l *event.Loop, log *slog.Logger) (io.Closer, error) {
	return attachWith(l, log, Period, StuckAfter)
}

func attachWith(l *event.Loop, log *slog.Logger, period, stuckAfter time.Duration) (io.Closer, error) {
	a := &attached{}
	if err := a.open(os.Getenv(FDVariable)); err != nil {
		return nil, err
	}
	if a.pipe != nil {
		h := l.Handler("liveness", event.High)
		if err := h.Post(func() { a.send(Report{}) }); err != nil {
			return nil, errors.Join(fmt.Errorf("report liveness: %w", err), a.pipe.Close())
		}
		a.timer = h.Every(period, func() { a.send(Report{}) })
	}
	a.watch = l.Watch(stuckAfter, func(s event.Stuck) {
		log.Error("handler is stuck", "loop", s.Loop, "handler", s.Handler, "for", s.For.Round(time.Millisecond), "stack", string(s.Stack))
		a.send(Report{Stuck: s.Handler, For: s.For})
	})
	a.warn = l.Warn(warnPeriod, func(w event.Warning) {
		log.Warn("handler is "+w.Kind.String(), "loop", w.Loop, "handler", w.Handler, "class", w.Class.String(),
			"times", w.Count, "worst", w.Worst.Round(time.Microsecond))
	})
	return a, nil
}

// ExitStuck is the exit status of a process that ended itself because its loop
// hung (EX_SOFTWARE of sysexits.h).
const ExitStuck = 70

// stuckTurns is how often EndStuck looks again before it is sure: when the
// machine itself stood still, the handler goes on now.
const stuckTurns = 8

// EndStuck calls exit when a handler of the loop runs for longer than limit, and
// goes on to: for the process that nobody watches, so that its parent starts it
// again. Before, it logs the stacks of all goroutines.
func EndStuck(l *event.Loop, limit time.Duration, log *slog.Logger, exit func()) *event.Source {
	return l.Watch(limit, func(s event.Stuck) {
		tick := time.NewTicker(limit / stuckTurns / 4)
		defer tick.Stop()
		for range stuckTurns {
			select {
			case <-tick.C:
			case <-l.Done():
				return
			}
			if now := l.Stats(); now.Running != s.Handler || now.Since < s.For {
				return // it came to its end
			}
		}
		log.Error("the event loop hangs: ending this process", "loop", s.Loop, "handler", s.Handler,
			"for", l.Stats().Since.Round(time.Millisecond), "stack", string(s.Stack), "all", string(s.All))
		exit()
	})
}

type attached struct {
	pipe        *os.File // nil: no supervisor
	raw         syscall.RawConn
	timer       *event.Timer
	watch, warn *event.Source
}

func (a *attached) open(number string) error {
	if number == "" {
		return nil
	}
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return fmt.Errorf("%s=%q: want the number of a descriptor", FDVariable, number)
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("descriptor %d of %s: %w", fd, FDVariable, err)
	}
	a.pipe = os.NewFile(uintptr(fd), "liveness")
	if a.raw, err = a.pipe.SyscallConn(); err != nil {
		return errors.Join(fmt.Errorf("descriptor %d of %s: %w", fd, FDVariable, err), a.pipe.Close())
	}
	return nil
}

// send writes a report if the pipe takes it now: a supervisor that does not read
// must not stop the loop.
func (a *attached) send(r Report) {
	if a.pipe == nil {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // a string and a number
	}
	_ = a.raw.Write(func(fd uintptr) bool {
		_, _ = syscall.Write(int(fd), append(line, '\n')) // shorter than PIPE_BUF: whole or not at all
		return true
	})
}

// Close ends the reports.
func (a *attached) Close() error {
	a.watch.Close()
	a.warn.Close()
	if a.pipe == nil {
		return nil
	}
	a.timer.Cancel()
	return a.pipe.Close()
}

// maxReport bounds a line of a module that may be broken, in bytes.
const maxReport = 4096

// Reader returns a function that blocks for the next report of a process; for
// event.Feed. It ends with io.EOF when the process has.
func Reader(r io.Reader) func() (Report, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 512), maxReport)
	return func() (Report, error) {
		var rep Report
		if !sc.Scan() {
			return rep, errors.Join(sc.Err(), io.EOF)
		}
		if err := json.Unmarshal(sc.Bytes(), &rep); err != nil {
			return rep, fmt.Errorf("read liveness report: %w", err)
		}
		return rep, nil
	}
}

// Answer answers the requests about the event loop that every process takes. It
// reports whether the kind was one of them.
func Answer(l *event.Loop, k wire.Kind) (reply any, ok bool) {
	switch k {
	case wire.GetEvents:
		return l.Stats(), true
	case wire.GetTrace:
		return wire.TraceList{Events: l.Trace()}, true
	case wire.ClearEvents:
		l.Clear()
		return struct{}{}, true
	}
	return nil, false
}
