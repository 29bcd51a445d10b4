package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// FileOp says what happened to a file.
type FileOp uint32

// What happened to a file; more than one bit may be set. Changed is a write that
// was closed, or new attributes: whoever reads the file then reads all of it.
const (
	Changed    FileOp = unix.IN_CLOSE_WRITE | unix.IN_ATTRIB
	Created    FileOp = unix.IN_CREATE | unix.IN_MOVED_TO
	Removed    FileOp = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	Overflowed FileOp = unix.IN_Q_OVERFLOW // events were lost: look at everything
)

func (o FileOp) String() string {
	var words []string
	for _, w := range []struct {
		op   FileOp
		name string
	}{{Changed, "changed"}, {Created, "created"}, {Removed, "removed"}, {Overflowed, "overflowed"}} {
		if o&w.op != 0 {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, ",")
}

// FileEvent is one change.
type FileEvent struct {
	Dir  string // as given to Files, or the file itself
	Name string // of the file in the directory; empty: Dir itself
	Op   FileOp
}

// Files runs f as an event of h for each change of the files, or of the files in
// the directories, that paths name (inotify). Editors replace files instead of
// writing them: watch the directory where that matters.
func (l *Loop) Files(h *Handler, f func(FileEvent), paths ...string) (*Source, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	watched := make(map[int32]string, len(paths))
	for _, p := range paths {
		wd, err := unix.InotifyAddWatch(fd, p, uint32(Changed|Created|Removed))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch %s: %w", p, err), file.Close())
		}
		watched[int32(wd)] = p
	}
	return l.newSource("files", strings.Join(paths, ", "), h, func() { file.Close() }, func(s *Source) {
		buf := make([]byte, 64<<10)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			for _, ev := range parseInotify(buf[:n], watched) {
				if s.post(func() { f(ev) }, ev.Op&Overflowed != 0) != nil {
					s.overflow(h, func() { f(FileEvent{Op: Overflowed}) })
				}
			}
		}
	}), nil
}

// overflow tells once that events were refused; however many are, one waits.
func (s *Source) overflow(h *Handler, f func()) {
	if !s.full.CompareAndSwap(false, true) {
		return
	}
	if s.post(func() { s.full.Store(false); f() }, true) != nil {
		s.full.Store(false)
	}
}

// parseInotify decodes struct inotify_event (inotify(7)).
func parseInotify(b []byte, watched map[int32]string) []FileEvent {
	var list []FileEvent
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := FileOp(binary.NativeEndian.Uint32(b[4:]))
		n := binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		if uint64(n) > uint64(len(b)) {
			break
		}
		name := strings.TrimRight(string(b[:n]), "\x00")
		b = b[n:]
		if op := mask & (Changed | Created | Removed | Overflowed); op != 0 {
			list = append(list, FileEvent{Dir: watched[wd], Name: name, Op: op})
		}
	}
	return list
}
