package fdstore

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Store is what is kept for one module.
type Store struct{ fds map[string]int }

// NewStore makes an empty one.
func NewStore() *Store { return &Store{fds: make(map[string]int)} }

// Names lists what is kept.
func (s *Store) Names() []string { return slices.Sorted(maps.Keys(s.fds)) }

// Close lets go of everything.
func (s *Store) Close() error {
	var errs []error
	for name, fd := range s.fds {
		errs = append(errs, unix.Close(fd))
		delete(s.fds, name)
	}
	return errors.Join(errs...)
}

func (s *Store) keep(name string, fd int) error {
	old, had := s.fds[name]
	if !had && len(s.fds) >= MaxKept {
		return errors.Join(fmt.Errorf("keep %s: %d descriptors are kept already", name, len(s.fds)), unix.Close(fd))
	}
	s.fds[name] = fd
	if had {
		return unix.Close(old)
	}
	return nil
}

func (s *Store) drop(name string) error {
	fd, ok := s.fds[name]
	if !ok {
		return nil // it is not there: what was asked for
	}
	delete(s.fds, name)
	return unix.Close(fd)
}

// Line is the supervisor's end of the socket to one process of a module.
type Line struct {
	store *Store
	file  *os.File // polled; nobody blocks in it
	fd    int
}

// NewLine makes a socket for a process that shall be started: it inherits the
// second result, which the caller closes then.
func (s *Store) NewLine() (*Line, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket for descriptors: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "fdstore")
	if err := errors.Join(unix.SetNonblock(fds[0], true), unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make socket for descriptors: %w", err), unix.Close(fds[0]), theirs.Close())
	}
	return &Line{s, os.NewFile(uintptr(fds[0]), "fdstore"), fds[0]}, theirs, nil
}

// Serve answers all requests that wait. io.EOF: the process has ended, or
// closed its end.
func (l *Line) Serve() error {
	for {
		buf, oob := make([]byte, 1+MaxName+1), make([]byte, unix.CmsgSpace(4*4))
		n, oobn, flags, _, err := unix.Recvmsg(l.fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNRESET):
			return io.EOF
		case err != nil:
			return fmt.Errorf("read request for descriptors: %w", err)
		}
		fds, err := descriptors(oob[:oobn])
		if n == 0 && len(fds) == 0 && err == nil {
			return io.EOF
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			err = errors.Join(err, errors.New("request is too long"))
		}
		if err := l.handle(buf[:n], fds, err); err != nil {
			return err
		}
	}
}

// handle takes one request; its descriptors are kept or closed.
func (l *Line) handle(b []byte, fds []int, err error) error {
	want := 0
	if len(b) > 0 && b[0] == opKeep {
		want = 1
	}
	switch {
	case err != nil:
	case len(b) == 0 || len(b) > 1+MaxName || len(fds) != want:
		err = errors.New("malformed request")
	case b[0] == opKeep && len(b) > 1:
		return l.answer(l.store.keep(string(b[1:]), fds[0]))
	case b[0] == opDrop && len(b) > 1:
		return l.answer(l.store.drop(string(b[1:])))
	case b[0] == opList && len(b) == 1:
		return l.list()
	default:
		err = errors.New("unknown request")
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return l.answer(err)
}

func (l *Line) list() error {
	for _, name := range l.store.Names() {
		if err := l.send(append([]byte{answerEntry}, name...), unix.UnixRights(l.store.fds[name])); err != nil {
			return err
		}
	}
	return l.answer(nil)
}

func (l *Line) answer(err error) error {
	if err != nil {
		text := err.Error()
		return l.send(append([]byte{answerError}, text[:min(len(text), maxText)]...), nil)
	}
	return l.send([]byte{answerDone}, nil)
}

// send fails if the process does not read: it is told nothing more.
func (l *Line) send(b, oob []byte) error {
	err := unix.Sendmsg(l.fd, b, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) {
		return nil // Serve tells of the end
	}
	if err != nil {
		return fmt.Errorf("answer request for descriptors: %w", err)
	}
	return nil
}

// File is what an event loop polls.
func (l *Line) File() *os.File { return l.file }

// Close ends the line, not the store. What still waits is served before.
func (l *Line) Close() error {
	err := l.Serve()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, l.file.Close())
}

// descriptors takes them out of a control message.
func descriptors(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read control message: %w", err)
	}
	for i := range list {
		if list[i].Header.Level != unix.SOL_SOCKET || list[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			return fds, fmt.Errorf("read control message: %w", err)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}
