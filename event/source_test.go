package event

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func recvWithin[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("timed out waiting for " + what)
		panic("unreachable")
	}
}

func TestSignal(t *testing.T) {
	l := start(t, WithBound(Critical, 0))
	got := make(chan os.Signal, 10)
	s := l.Signal(l.Handler("signals", Critical), func(sig os.Signal) { got <- sig }, syscall.SIGUSR1, syscall.SIGUSR2)
	for _, sig := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGUSR1} {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		if g := recvWithin(t, got, "a signal"); g != sig {
			t.Errorf("got %v, want %v", g, sig)
		}
	}
	s.Close()
	s.Close()
}

func TestChild(t *testing.T) {
	l := start(t)
	h := l.Handler("children", Critical)
	type exit struct {
		status syscall.WaitStatus
		err    error
	}
	exits := make(chan exit, 10)
	watch := func(cmd *exec.Cmd) *Source {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s, err := l.Child(h, cmd.Process.Pid, func(st syscall.WaitStatus, err error) { exits <- exit{st, err} })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	watch(exec.Command("sh", "-c", "exit 7"))
	if e := recvWithin(t, exits, "the exit"); e.err != nil || e.status.ExitStatus() != 7 {
		t.Errorf("exit %v, %v", e.status, e.err)
	}
	cmd := exec.Command("sleep", "100")
	watch(cmd)
	if err := syscall.Kill(cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := recvWithin(t, exits, "the death"); e.err != nil || e.status.Signal() != syscall.SIGKILL {
		t.Errorf("exit %v, %v", e.status, e.err)
	}
	cmd = exec.Command("sleep", "100")
	watch(cmd).Close() // forgotten
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if len(exits) != 0 {
		t.Error("a forgotten child was reported")
	}
	if _, err := l.Child(h, 1<<30, nil); err == nil {
		t.Error("watched a process that does not exist")
	}
}

func TestReadable(t *testing.T) {
	l := start(t)
	h := l.Handler("fd", Normal)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	got := make(chan string, 100)
	s, err := l.Readable(h, near.(*net.UnixConn), func() {
		b := make([]byte, 1) // leaves the rest: level-triggered
		n, err := near.Read(b)
		if err != nil {
			return
		}
		got <- string(b[:n])
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"abc", "d"} {
		if _, err := far.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for _, want := range text {
			if g := recvWithin(t, got, "a byte"); g != string(want) {
				t.Errorf("got %q, want %q", g, want)
			}
		}
	}
	s.Close()
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := near.Read(b); err != nil || b[0] != 'x' {
		t.Errorf("after Close the file is not usable: %v", err)
	}
	far.Close()
}

func TestSourcesEndWithTheLoop(t *testing.T) {
	l := New("l")
	h := l.Handler("h", Normal)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := l.Readable(h, r, func() {}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Child(h, cmd.Process.Pid, func(syscall.WaitStatus, error) {}); err != nil {
		t.Fatal(err)
	}
	l.Signal(h, func(os.Signal) {}, syscall.SIGUSR1)
	l.Stop() // goleak sees what stays
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
