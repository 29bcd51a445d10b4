package fdstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a store and a client of it, served by a goroutine that stands for the loop.
type pair struct {
	t      *testing.T
	store  *Store
	line   *Line
	client *Client
	mu     sync.Mutex // the loop's turn
	stop   chan struct{}
	done   chan struct{}
}

func newPair(t *testing.T, s *Store) *pair {
	t.Helper()
	l, theirs, err := s.NewLine()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(theirs.Fd())) // what a child inherits
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(fd)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, store: s, line: l, client: c, stop: make(chan struct{}), done: make(chan struct{})}
	go p.serve()
	t.Cleanup(p.close)
	return p
}

func (p *pair) serve() {
	defer close(p.done)
	raw, err := p.line.File().SyscallConn()
	if err != nil {
		p.t.Error(err)
		return
	}
	for {
		if raw.Read(func(fd uintptr) bool {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0
		}) != nil {
			return
		}
		p.mu.Lock()
		err := p.line.Serve()
		p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.t.Error(err)
			}
			return
		}
	}
}

func (p *pair) close() {
	if err := p.client.Close(); err != nil {
		p.t.Error(err)
	}
	<-p.done
	if err := p.line.Close(); err != nil {
		p.t.Error(err)
	}
}

// file makes an open file with content; its path is gone.
func file(t *testing.T, content string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("kept", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, []byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

func content(t *testing.T, fd int) string {
	t.Helper()
	b := make([]byte, 64)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func open(t *testing.T) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

func (p *pair) keep(name, text string) {
	p.t.Helper()
	fd := file(p.t, text)
	if err := p.client.Keep(name, fd); err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) expect(want map[string]string) {
	p.t.Helper()
	kept, err := p.client.List()
	if err != nil {
		p.t.Fatal(err)
	}
	if len(kept) != len(want) {
		p.t.Errorf("%d kept, want %d", len(kept), len(want))
	}
	for name, fd := range kept {
		if got := content(p.t, fd); got != want[name] {
			p.t.Errorf("%s is %q, want %q", name, got, want[name])
		}
	}
}

// TestKeptForTheNext: what one process gave, the next gets; what was dropped or replaced is closed.
func TestKeptForTheNext(t *testing.T) {
	before := open(t)
	s := NewStore()
	t.Run("first", func(t *testing.T) {
		p := newPair(t, s)
		p.expect(nil)
		p.keep("a", "1")
		p.keep("b", "2")
		p.keep("b", "3")
		p.keep("c", "4")
		if err := errors.Join(p.client.Drop("c"), p.client.Drop("never")); err != nil {
			t.Fatal(err)
		}
		p.expect(map[string]string{"a": "1", "b": "3"})
	})
	t.Run("second", func(t *testing.T) {
		p := newPair(t, s)
		p.expect(map[string]string{"a": "1", "b": "3"})
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(s.Names()) != 0 {
		t.Errorf("left: %v", s.Names())
	}
	if now := open(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}

// TestLastWords: what a process sent right before it was killed is kept.
func TestLastWords(t *testing.T) {
	s := NewStore()
	l, theirs, err := s.NewLine()
	if err != nil {
		t.Fatal(err)
	}
	fd := file(t, "last")
	if err := errors.Join(unix.Sendmsg(int(theirs.Fd()), []byte("Kword"), unix.UnixRights(fd), nil, 0), unix.Close(fd), theirs.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if len(s.Names()) != 1 || content(t, s.fds["word"]) != "last" {
		t.Errorf("kept %v", s.Names())
	}
}

// TestFull: the store has its bounds, and says so; a full one is listed whole.
func TestFull(t *testing.T) {
	s := NewStore()
	p := newPair(t, s)
	for i := range MaxKept {
		p.keep(strings.Repeat("n", MaxName-4)+strconv.Itoa(1000+i), "x")
	}
	fd := file(t, "too much")
	if err := p.client.Keep("more", fd); err == nil || !strings.Contains(err.Error(), "kept already") {
		t.Errorf("one more: %v", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	kept, err := p.client.List()
	if err != nil || len(kept) != MaxKept {
		t.Errorf("%d listed, %v", len(kept), err)
	}
	for _, fd := range kept {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", strings.Repeat("n", MaxName+1)} {
		if p.client.Keep(name, 0) == nil || p.client.Drop(name) == nil {
			t.Errorf("a name of %d bytes was taken", len(name))
		}
	}
	if err := p.client.Keep("bad", 1<<20); err == nil {
		t.Error("a descriptor that is none was kept")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	t.Setenv(Variable, "")
	if _, err := Open(); !errors.Is(err, ErrNone) {
		t.Errorf("nobody keeps: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, bad := range []string{"x", "1", "-4", "9999", fmt.Sprint(r.Fd())} {
		t.Setenv(Variable, bad)
		if c, err := Open(); err == nil || c != nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestClosed: a client whose supervisor is gone fails, and at once.
func TestClosed(t *testing.T) {
	s := NewStore()
	l, theirs, err := s.NewLine()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(theirs.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(); err == nil {
		t.Error("an answer from nobody")
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if c.Drop("x") == nil {
		t.Error("a closed client answers")
	}
}

// FuzzRequests: whatever a module sends, the store answers it or says what is wrong, leaks
// no descriptor and keeps to its bounds.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("Kname"), uint8(1))
	f.Add([]byte("Kname"), uint8(3))
	f.Add([]byte("Dname"), uint8(0))
	f.Add([]byte("L"), uint8(0))
	f.Add([]byte("Lx"), uint8(1))
	f.Add([]byte{}, uint8(1))
	f.Add([]byte("K"+strings.Repeat("x", 200)), uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, fds uint8) {
		before := open(t)
		s := NewStore()
		l, theirs, err := s.NewLine()
		if err != nil {
			t.Fatal(err)
		}
		var list []int
		for range fds % 8 {
			list = append(list, 0)
		}
		var oob []byte
		if len(list) > 0 {
			oob = unix.UnixRights(list...)
		}
		if err := unix.Sendmsg(int(theirs.Fd()), b, oob, nil, unix.MSG_DONTWAIT); err == nil {
			if err := l.Serve(); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		if len(s.Names()) > 1 {
			t.Errorf("kept %v", s.Names())
		}
		if err := errors.Join(theirs.Close(), l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if now := open(t); now != before {
			t.Errorf("%d descriptors are open, %d were", now, before)
		}
	})
}

// FuzzAnswers: a client takes no nonsense for an answer.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("d"), false)
	f.Add([]byte("ename"), true)
	f.Add([]byte("ename"), false)
	f.Add([]byte("xreason"), false)
	f.Add([]byte("x"), true)
	f.Fuzz(func(t *testing.T, b []byte, rights bool) {
		before := open(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewClient(fds[1])
		if err != nil {
			t.Fatal(err)
		}
		var oob []byte
		if rights {
			oob = unix.UnixRights(0)
		}
		_ = unix.Sendmsg(fds[0], b, oob, nil, unix.MSG_DONTWAIT) // a long one is refused
		if err := unix.Shutdown(fds[0], unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		kept, err := c.List()
		if (err == nil) != (string(b) == "d" && !rights) || len(kept) > 0 {
			t.Errorf("%q: %v, %v", b, kept, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if now := open(t); now != before+1 {
			t.Errorf("%d descriptors are open, %d were", now-1, before)
		}
	})
}
