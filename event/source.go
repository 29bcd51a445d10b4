package event

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Source feeds a loop with events from outside until it is closed or the loop
// ends. Sources come and go while the loop runs. Each has a goroutine that waits.
type Source struct {
	loop   *Loop
	kind   string   // "signal", "child", "netlink", …
	name   string   // of what it watches
	h      *Handler // nil: it only observes the loop
	since  time.Time
	events atomic.Uint64 // posted
	lost   atomic.Uint64 // refused by a full queue, or lost before they came
	once   sync.Once
	closed chan struct{}
	// forgotten: closed by its user, not by its own end
	forgotten atomic.Bool
	full      atomic.Bool // an event waits that tells of lost ones
	stop      func()
	wg        sync.WaitGroup
}

// newSource runs feed on a goroutine; stop makes feed return.
func (l *Loop) newSource(kind, name string, h *Handler, stop func(), feed func(*Source)) *Source {
	s := &Source{loop: l, kind: kind, name: name, h: h, since: time.Now(), closed: make(chan struct{}), stop: stop}
	l.sourceMu.Lock()
	l.sources = append(l.sources, s)
	l.sourceMu.Unlock()
	s.wg.Go(func() {
		feed(s)
		s.end()
	})
	select {
	case <-l.done: // it may not have seen this source
		s.end()
	default:
	}
	return s
}

// post queues f as an event of the source, which is void once the source is
// closed. forced events are few and not to be lost.
func (s *Source) post(f func(), forced bool) error {
	err := s.h.post(func() {
		if !s.forgotten.Load() {
			f()
		}
	}, forced)
	if err == nil {
		s.events.Add(1)
	} else {
		s.lost.Add(1)
	}
	return err
}

// Close ends the source: none of its events runs once Close has returned. Only
// where an event of the source calls it does Close not wait for that one.
func (s *Source) Close() {
	s.forgotten.Store(true)
	s.end()
	s.wg.Wait()
	if s.h != nil {
		s.loop.settle(s.h)
	}
}

func (s *Source) end() {
	s.once.Do(func() {
		close(s.closed)
		s.stop()
		s.loop.sourceMu.Lock()
		defer s.loop.sourceMu.Unlock()
		if i := slices.Index(s.loop.sources, s); i >= 0 {
			s.loop.sources = slices.Delete(s.loop.sources, i, i+1)
		}
	})
}

// Source runs wait on a goroutine: for what waits for the outside by itself, posts
// through h and ends by its own means. It shows among the sources as long as it and
// the loop run; Count counts what came.
func (h *Handler) Source(kind, name string, wait func(*Source)) *Source {
	return h.loop.newSource(kind, name, h, func() {}, wait)
}

// Count counts an event of a source made by Handler.Source.
func (s *Source) Count() { s.events.Add(1) }

// Signal runs f as an event of h for each of the signals that comes. Signals
// that come faster than f runs are merged, as the kernel does.
func (l *Loop) Signal(h *Handler, f func(os.Signal), sigs ...os.Signal) *Source {
	c := make(chan os.Signal, len(sigs)+1)
	signal.Notify(c, sigs...)
	names := make([]string, len(sigs))
	for i, sig := range sigs {
		names[i] = sig.String()
	}
	return l.newSource("signal", strings.Join(names, ", "), h, func() { signal.Stop(c) }, func(s *Source) {
		for {
			select {
			case sig := <-c:
				_ = s.post(func() { f(sig) }, true)
			case <-s.closed:
				return
			}
		}
	})
}

// Child runs f once as an event of h when the child process pid has ended, and
// reaps it: nobody else may wait for it. Close forgets the child.
func (l *Loop) Child(h *Handler, pid int, f func(syscall.WaitStatus, error)) (*Source, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return l.newSource("child", strconv.Itoa(pid), h, func() { file.Close() }, func(s *Source) {
		var status syscall.WaitStatus
		var got int
		var waitErr error
		err := raw.Read(func(uintptr) bool {
			got, waitErr = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
			return got != 0 || (waitErr != nil && !errors.Is(waitErr, syscall.EINTR))
		})
		if err == nil {
			_ = s.post(func() { f(status, waitErr) }, true)
		}
	}), nil
}

// Pollable is what Readable watches: *os.File of pipes and devices, sockets.
type Pollable interface {
	syscall.Conn
	SetReadDeadline(time.Time) error
}

// Readable runs f as an event of h whenever c has something to read or has
// ended, and again while that is so. Close c after the source.
func (l *Loop) Readable(h *Handler, c Pollable, f func()) (*Source, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("watch file: %w", err)
	}
	stop := func() { _ = c.SetReadDeadline(time.Unix(1, 0)) } // breaks the wait
	return l.newSource("readable", nameOf(c), h, stop, func(s *Source) {
		defer c.SetReadDeadline(time.Time{})
		ran := make(chan struct{}, 1)
		for raw.Read(readable) == nil {
			if s.post(func() { f(); ran <- struct{}{} }, true) != nil {
				return
			}
			select {
			case <-ran:
			case <-s.closed:
				return
			}
		}
	}), nil
}

// readable asks the kernel: Go's poller tells of changes only.
func readable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
}

func nameOf(c any) string {
	if f, ok := c.(interface{ Name() string }); ok {
		return f.Name()
	}
	return fmt.Sprintf("%T", c)
}
