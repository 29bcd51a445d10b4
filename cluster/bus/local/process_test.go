package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"godwit/cluster/bus"
)

const patience = 20 * time.Second

// childMain is the other process of these tests: it serves {500,1} with an
// echo until its standard input ends.
func childMain(dir string) {
	var opts []Option
	if d, err := time.ParseDuration(os.Getenv("GODWIT_BUS_TOLERANCE")); err == nil {
		opts = append(opts, Tolerance(d))
	}
	b, err := Join(dir, "child", opts...)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	l, err := b.Listen(bus.One(500, 1))
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for {
					m, err := c.Recv()
					if err != nil || c.Send(m) != nil {
						return
					}
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	b.Close()
	os.Exit(0)
}

// child starts another process on the bus and waits until it serves.
func child(t *testing.T, dir string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	cmd, line := spawn(t, dir, attr)
	if line != "ready" {
		t.Fatalf("child says %q", line)
	}
	return cmd
}

// spawn starts the process and returns its first line.
func spawn(t *testing.T, dir string, attr *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GODWIT_BUS_CHILD="+dir)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func dialService(t *testing.T, b bus.Bus) bus.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := b.Dial(ctx, bus.Service{Type: 500, Instance: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func echo(t *testing.T, c bus.Conn, text string) {
	t.Helper()
	if err := c.Send([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got, err := c.Recv()
	if err != nil || string(got) != text {
		t.Fatalf("echo of %q is %q, %v", text, got, err)
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatal("timed out: " + what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestKilledProcessIsNoticedAtOnce(t *testing.T) {
	n := newNetwork(t)
	b := n.Join(t, "parent")
	sub, err := b.Subscribe(bus.All(500))
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, n.dir, nil)
	up, err := sub.Next()
	if err != nil || !up.Up || up.Name != "child" {
		t.Fatalf("event %+v, %v", up, err)
	}
	names := n.server.Names()
	if len(names) != 1 || names[0].PID != cmd.Process.Pid || names[0].Name != "child" || names[0].Ref != up.Addr.Ref {
		t.Errorf("names %+v", names)
	}
	c := dialService(t, b)
	echo(t, c, "hello")
	begin := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("receive from a killed process: %v", err)
	}
	down, err := sub.Next()
	if err != nil || down.Up || down.Addr != up.Addr {
		t.Fatalf("event %+v, %v", down, err)
	}
	d := time.Since(begin)
	t.Logf("death to event: %v", d)
	if d > time.Second {
		t.Errorf("noticed after %v", d)
	}
	path := memberPath(n.dir, uint16(up.Addr.Ref>>16))
	eventually(t, "the dead process's socket is removed", func() bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestStoppedProcessDoesNotHangDial(t *testing.T) {
	n := newNetwork(t)
	b := n.Join(t, "parent")
	cmd := child(t, n.dir, nil)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of the child's threads stop", func() bool { return stopped(cmd.Process.Pid) })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Dial(ctx, bus.Service{Type: 500, Instance: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	echo(t, dialService(t, b), "awake again")
}

func TestAcrossNetworkNamespaces(t *testing.T) {
	name := fmt.Sprintf("gwt-bus-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("make namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("remove namespace: %v: %s", err, out)
		}
	})
	n := newNetwork(t)
	b := n.Join(t, "parent")
	cmd := exec.Command("ip", "netns", "exec", name, os.Args[0])
	cmd.Env = append(os.Environ(), "GODWIT_BUS_CHILD="+n.dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	sub, err := b.Subscribe(bus.All(500))
	if err != nil {
		t.Fatal(err)
	}
	e, err := sub.Next()
	if err != nil || !e.Up {
		t.Fatalf("event %+v, %v", e, err)
	}
	pid := n.server.Names()[0].PID
	theirs, err := netns.GetFromPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if theirs.Equal(ours) {
		t.Fatal("the child is in our own namespace")
	}
	echo(t, dialService(t, b), "through the wall")
}

func TestForeignUserIsRefused(t *testing.T) {
	// All of the way must be open to the stranger, so that only the bus is
	// not; and the test binary readable.
	n := newNetwork(t)
	for p := n.dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(memberDir(n.dir), 0o777), os.Chmod(serverPath(n.dir), 0o777)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(n.dir, "child")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Dir = n.dir
	cmd.Env = append(os.Environ(), "GODWIT_BUS_CHILD="+n.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err == nil || !strings.HasPrefix(string(out), "error:") {
		t.Fatalf("a stranger joined: %q, %v", out, err)
	}
	eventually(t, "the refusal is counted", func() bool { return n.server.Stats().Rejected > 0 })
	if s := n.server.Stats(); s.Members != 0 || s.Names != 0 {
		t.Errorf("stats %+v", s)
	}
}

// stopped tells whether every thread of a process is stopped (proc(5)).
func stopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, f := range stats {
		stat, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(stat, []byte(") T ")) {
			return false
		}
	}
	return err == nil && len(stats) > 0
}
