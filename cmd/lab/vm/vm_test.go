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

// build makes a guest that runs script with a program of ours as /prog.
func build(t *testing.T, script string, build ...string) string {
	t.Helper()
	dir := t.TempDir()
	prog := filepath.Join(dir, "prog")
	cmd := exec.Command("go", append(build[:len(build)-1:len(build)-1], "-o", prog, build[len(build)-1])...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kernels, err := filepath.Abs("../../../build/image")
	if err != nil {
		t.Fatal(err)
	}
	g := image.Guest{Kernel: kernels, Out: dir, Init: script, Files: map[string]string{"prog": prog}}
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
	cmd.Stdout, cmd.Stderr = con, con
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, w := range wires {
		w.Close()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or powered off
	})
	return con
}

// wire joins two network cards; it can be cut, silently.
type wire struct {
	cut    atomic.Bool
	ends   [2]*os.File // the machines'
	frames atomic.Int64
	plain  atomic.Int64 // of them with a message of busguest that can be read
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{}
	var mine [2]*os.File
	for i := range 2 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[0], true); err != nil {
			t.Fatal(err)
		}
		mine[i], w.ends[i] = os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "card")
		t.Cleanup(func() { mine[i].Close() })
	}
	for i := range 2 {
		go w.carry(mine[i], mine[1-i])
	}
	return w
}

// carry copies frames, each behind its length.
func (w *wire) carry(from, to *os.File) {
	buf := make([]byte, 4+1<<16)
	for {
		if _, err := io.ReadFull(from, buf[:4]); err != nil {
			return
		}
		n := 4 + int(binary.BigEndian.Uint32(buf))
		if n > len(buf) {
			return
		}
		if _, err := io.ReadFull(from, buf[4:n]); err != nil {
			return
		}
		w.frames.Add(1)
		if bytes.Contains(buf[4:n], []byte("in the clear")) {
			w.plain.Add(1)
		}
		if w.cut.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestBusConformance runs the suite of the bus on the guest kernel's TIPC.
func TestBusConformance(t *testing.T) {
	dir := build(t, `
ip link add d0 type dummy; ip link add d1 type dummy
GODWIT_TIPC_GUEST=1 /prog -test.v -test.timeout 170s 2>&1
echo "guest: ended with $?"
poweroff -f
`, "test", "-c", "godwit/cluster/bus/tipc")
	begin := time.Now()
	con := boot(t, dir, "")
	con.wait(t, "end of the suite", 4*time.Minute, func(s string) bool { return strings.Contains(s, "guest: ended with") })
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
}
