package event

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Source feeds a loop with events from outside until it is closed or the loop
// ends. Each has a goroutine that waits and one that ends it with the loop.
type Source struct {
	once   sync.Once
	closed chan struct{}
	stop   func()
	wg     sync.WaitGroup
}

// newSource runs feed on a goroutine; stop makes feed return.
func newSource(l *Loop, stop func(), feed func(*Source)) *Source {
	s := &Source{closed: make(chan struct{}), stop: stop}
	s.wg.Go(func() {
		feed(s)
		s.end()
	})
	go s.closeWith(l)
	return s
}

// closeWith closes the source when the loop ends.
func (s *Source) closeWith(l *Loop) {
	select {
	case <-l.done:
		s.Close()
	case <-s.closed:
	}
}

// Close ends the source. Events that wait already still run.
func (s *Source) Close() {
	s.end()
	s.wg.Wait()
}

func (s *Source) end() {
	s.once.Do(func() {
		close(s.closed)
		s.stop()
	})
}

// Signal runs f as an event of h for each of the signals that comes. Signals
// that come faster than f runs are merged, as the kernel does.
func (l *Loop) Signal(h *Handler, f func(os.Signal), sigs ...os.Signal) *Source {
	c := make(chan os.Signal, len(sigs)+1)
	signal.Notify(c, sigs...)
	return newSource(l, func() { signal.Stop(c) }, func(s *Source) {
		for {
			select {
			case sig := <-c:
				_ = h.post(func() { f(sig) }, true) // few, and not to be lost
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
	return newSource(l, func() { file.Close() }, func(*Source) {
		var status syscall.WaitStatus
		var got int
		var waitErr error
		err := raw.Read(func(uintptr) bool {
			got, waitErr = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
			return got != 0 || (waitErr != nil && !errors.Is(waitErr, syscall.EINTR))
		})
		if err == nil {
			_ = h.post(func() { f(status, waitErr) }, true)
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
	return newSource(l, stop, func(s *Source) {
		defer c.SetReadDeadline(time.Time{})
		ran := make(chan struct{}, 1)
		for raw.Read(readable) == nil {
			if h.post(func() { f(); ran <- struct{}{} }, true) != nil {
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
