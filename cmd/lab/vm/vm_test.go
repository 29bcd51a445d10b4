package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cmd/lab/topology"
	"godwit/cmd/mkimage/image"
)

// console is a machine's serial line.
type console struct {
	name string
	mu   sync.Mutex
	out  bytes.Buffer
	in   io.Writer // may be nil
	kill func()    // ends the machine at once
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.out.String(), "\r", "")
}

// wait polls until f finds what it wants on the console behind mark.
func (c *console) wait(t *testing.T, what string, limit time.Duration, f func(string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := topology.Wait(ctx, func() error {
		if !f(c.String()) {
			return fmt.Errorf("no %s", what)
		}
		return nil
	})
	if err != nil {
		s := c.String()
		t.Fatalf("%v\n%s", err, s[max(0, len(s)-6000):])
	}
}

// programs are what go makes for a guest: by name, the words behind go, the last of them
// the package.
type programs map[string][]string

// build makes a guest that runs script with programs of ours.
func build(t *testing.T, script string, progs programs) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for name, words := range progs {
		files[name] = filepath.Join(dir, name)
		last := len(words) - 1
		cmd := exec.Command("go", append(words[:last:last], "-o", files[name], words[last])...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	kernels, err := filepath.Abs("../../../build/image")
	if err != nil {
		t.Fatal(err)
	}
	g := image.Guest{Kernel: kernels, Out: dir, Init: script, Files: files}
	if err := image.BuildGuest(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return dir
}

// boot starts the machine with network cards on the wires.
func boot(t *testing.T, dir, words string, wires ...*os.File) *console {
	t.Helper()
	cmd, err := image.Machine{Dir: dir, Memory: 512, CPUs: 1, Append: words}.Command()
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range wires {
		mac := fmt.Sprintf("52:54:00:%02x:00:%02x", len(words), i+1)
		cmd.Args = append(cmd.Args, "-netdev", fmt.Sprintf("socket,id=n%d,fd=%d", i, 3+i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,mac=%s,romfile=", i, mac))
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
	}
	con := &console{}
	con.start(t, cmd)
	for _, w := range wires {
		w.Close()
	}
	return con
}

// start starts the machine, which ends with the test.
func (c *console) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = c, c
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or powered off
	})
	t.Cleanup(c.kill)
}

// wire joins network cards, as an Ethernet: what one sends, all others get. It can
// be cut, silently.
type wire struct {
	cut    atomic.Bool
	mine   []*os.File
	ends   []*os.File // the machines'
	frames atomic.Int64
	plain  atomic.Int64   // of them with a message of busguest that can be read
	sent   []atomic.Int64 // bytes by each machine, in frames that are no short ones
}

func newWire(t *testing.T, n int) *wire {
	t.Helper()
	w := &wire{sent: make([]atomic.Int64, n)}
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[0], true); err != nil {
			t.Fatal(err)
		}
		mine := os.NewFile(uintptr(fds[0]), "wire")
		w.mine, w.ends = append(w.mine, mine), append(w.ends, os.NewFile(uintptr(fds[1]), "card"))
		t.Cleanup(func() { mine.Close() })
	}
	for i := range n {
		go w.carry(i)
	}
	return w
}

// longFrame is from where on a frame counts as data.
const longFrame = 1000

// carry copies the frames of a machine, each behind its length. A machine that is
// gone gets none.
func (w *wire) carry(from int) {
	buf := make([]byte, 4+1<<16)
	gone := make([]bool, len(w.mine))
	for {
		if _, err := io.ReadFull(w.mine[from], buf[:4]); err != nil {
			return
		}
		n := 4 + int(binary.BigEndian.Uint32(buf))
		if n > len(buf) {
			return
		}
		if _, err := io.ReadFull(w.mine[from], buf[4:n]); err != nil {
			return
		}
		w.frames.Add(1)
		if n > longFrame {
			w.sent[from].Add(int64(n))
		}
		if bytes.Contains(buf[4:n], []byte("in the clear")) {
			w.plain.Add(1)
		}
		for i, to := range w.mine {
			if i == from || gone[i] || w.cut.Load() {
				continue
			}
			_, err := to.Write(buf[:n])
			gone[i] = err != nil
		}
	}
}

// TestBusConformance runs the suite of the bus on the guest kernel's TIPC, and the
// download of routes to several line cards by its multicast.
func TestBusConformance(t *testing.T) {
	dir := build(t, `
ip link add d0 type dummy; ip link add d1 type dummy
export GODWIT_TIPC_GUEST=1
/tipc -test.v -test.timeout 170s 2>&1
echo "guest: ended with $?"
/fibcast -test.v -test.timeout 100s 2>&1
echo "guest: downloads ended with $?"
poweroff -f
`, programs{"tipc": {"test", "-c", "godwit/cluster/bus/tipc"}, "fibcast": {"test", "-c", "godwit/cluster/fibcast"}})
	begin := time.Now()
	con := boot(t, dir, "")
	con.wait(t, "end of the suite", 5*time.Minute, func(s string) bool { return strings.Contains(s, "guest: downloads ended with") })
	s := con.String()
	t.Logf("booted and tested in %.1f s", time.Since(begin).Seconds())
	if !strings.Contains(s, "guest: ended with 0") || !strings.Contains(s, "--- PASS: TestConformance (") {
		for line := range strings.Lines(s) {
			if !strings.Contains(line, "=== ") && !strings.Contains(line, "--- PASS") {
				t.Log(strings.TrimRight(line, "\n"))
			}
		}
		t.Error("the suite failed in the guest")
	}
	for _, suite := range []string{"TestConformance/", "TestConformanceWithSecret/"} {
		if n := strings.Count(s, "    --- PASS: "+suite); n < 40 {
			t.Errorf("only %d tests of %s passed", n, suite)
		}
	}
	for _, name := range []string{"WhoDoesNotKnowTheSecret", "NobodyStandsInTheMiddle", "GarbageToABoundPort", "AFloodAtLowImportance", "Inspect", "SetupAgain", "BearersOfTheKernel"} {
		if !strings.Contains(s, "--- PASS: Test"+name+" (") {
			t.Errorf("Test%s did not pass", name)
		}
	}
	if !strings.Contains(s, "guest: downloads ended with 0") {
		t.Errorf("downloads by multicast failed in the guest:\n%s", s[strings.Index(s, "guest: ended with"):])
	}
	for _, name := range []string{"DownloadByMulticast", "LostMulticast", "Forgers", "CardsComeAndGo", "SlowCard", "Worth"} {
		if !strings.Contains(s, "--- PASS: Test"+name+" (") {
			t.Errorf("Test%s did not pass", name)
		}
	}
	t.Logf("over the guest's TIPC:\n%s", strings.Join(regexp.MustCompile(`(?m)^\s+fibcast_test.*$`).FindAllString(s, -1), "\n"))
}
