package lsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/security/cgroup"
)

// start puts a policy in force and makes a group for processes inside; the test is skipped where the kernel cannot,
// but never in the guest that is there for it.
func start(t *testing.T) (*Enforcer, *cgroup.Group) {
	t.Helper()
	name := fmt.Sprintf("godwit-lsmtest%d", os.Getpid())
	g, err := cgroup.Make(name)
	if err == nil {
		t.Cleanup(func() {
			if err := errors.Join(Lift(name), g.Remove(removeTime)); err != nil {
				t.Error(err)
			}
		})
		var e *Enforcer
		if e, err = Start(g, name); err == nil {
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
			inside, err := g.Child("shell", cgroup.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			return e, inside
		}
		pins, fresh := pinsOf(name)
		for _, dir := range []string{pins, fresh} {
			if _, serr := os.Stat(dir); serr == nil {
				t.Errorf("refused (%v), but %s is left", err, dir)
			}
		}
	}
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, cgroup.ErrNone) {
		t.Fatalf("neither in force nor unavailable: %v", err)
	}
	if os.Getenv("GODWIT_LSM_GUEST") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil, nil
}

// self is this program as a sealed memory file.
func self(t *testing.T, addSeals int) *os.File {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := memory("self", data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, addSeals); err != nil {
		t.Fatal(err)
	}
	return f
}

// command executes a file as a member of the group (nil: of the caller's).
func command(t *testing.T, f *os.File, g *cgroup.Group, env string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	cmd.Env = []string{env}
	cmd.Stderr = os.Stderr
	if g != nil {
		dir, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	return cmd
}

func results(t *testing.T, f *os.File, g *cgroup.Group) map[string]string {
	t.Helper()
	dir := t.TempDir()
	out, err := command(t, f, g, tryVariable+"="+dir).Output()
	_ = unix.Unmount(dir+"/bpf", 0) // what could not be unmounted inside
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]string
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func TestInsideAndOutside(t *testing.T) {
	begin := time.Now()
	e, g := start(t)
	t.Logf("in force after %.2f s", time.Since(begin).Seconds())
	f := self(t, seals)
	if err := command(t, f, g, tryVariable+"=x").Run(); !errors.Is(err, unix.EPERM) {
		t.Errorf("not allowed yet: %v", err)
	}
	if err := e.Allow(f); err != nil {
		t.Fatal(err)
	}
	inside, outside := results(t, f, g), results(t, f, nil)
	for name := range tries {
		want := "EPERM"
		if slices.Contains(allowedInside, name) {
			want = "ok"
		}
		if inside[name] != want {
			t.Errorf("inside: %s: %s, want %s", name, inside[name], want)
		}
		if outside[name] != "ok" {
			t.Errorf("outside: %s: %s", name, outside[name])
		}
	}
	counts, err := e.Denied()
	if err != nil || len(counts) != len(reasons)-1 {
		t.Errorf("%v, of %d reasons: %v", err, len(reasons)-1, counts)
	}
	seen := map[Reason]bool{}
	for len(seen) < len(reasons)-1 {
		d, err := e.Next()
		if err != nil {
			t.Fatal(err)
		}
		seen[d.Reason] = true
		if d.Reason == 1 && d.File == "busybox" && d.PID != 0 && d.Inode != 0 && d.Command != "" {
			continue
		}
	}
}

func TestSealsCount(t *testing.T) {
	e, g := start(t)
	for _, missing := range []int{unix.F_SEAL_SEAL, unix.F_SEAL_SHRINK, unix.F_SEAL_GROW, unix.F_SEAL_WRITE} {
		f := self(t, seals&^missing)
		if err := e.Allow(f); !errors.Is(err, ErrNotSealed) {
			t.Errorf("without seal %#x: %v", missing, err)
		}
		// A loader that forgot to look.
		if err := e.objects.Maps["gwlsm_verified"].Put(uint32(f.Fd()), uint32(1)); err != nil {
			t.Fatal(err)
		}
		if err := command(t, f, g, tryVariable+"=x").Run(); !errors.Is(err, unix.EPERM) {
			t.Errorf("without seal %#x it ran: %v", missing, err)
		}
	}
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := e.Allow(file); !errors.Is(err, ErrNotSealed) {
		t.Errorf("an ordinary file was allowed: %v", err)
	}
}

// Processes inside are not traced from outside, and those outside are.
func TestTracingFromOutside(t *testing.T) {
	e, g := start(t)
	f := self(t, seals)
	if err := e.Allow(f); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		group *cgroup.Group
		want  error
	}{{g, unix.EPERM}, {nil, nil}} {
		cmd := command(t, f, c.group, "LSM_WAIT=1")
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
		// Until its exec is over the child borrows this process's memory, which is ours to open.
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		mem := openWrite(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid))
		local, remote := make([]byte, 1), []unix.RemoteIovec{{Base: 0x400000, Len: 1}}
		iov := []unix.Iovec{{Base: &local[0], Len: 1}}
		_, read := unix.ProcessVMReadv(cmd.Process.Pid, iov, remote, 0)
		in.Close()
		_ = cmd.Wait()
		if c.want == nil && (mem != nil || errors.Is(read, unix.EPERM)) {
			t.Errorf("outside: %v, %v", mem, read)
		}
		// The kernel says EACCES for a memory file that may not be opened.
		if c.want != nil && (!errors.Is(mem, unix.EACCES) && !errors.Is(mem, unix.EPERM) || !errors.Is(read, unix.EPERM)) {
			t.Errorf("inside: memory file: %v, reading memory: %v", mem, read)
		}
	}
}

// The policy outlives its enforcer; the next replaces it; Lift ends it.
func TestPinned(t *testing.T) {
	e, g := start(t)
	f := self(t, seals)
	try := func(want error, when string) {
		t.Helper()
		if err := command(t, f, g, "LSM_WAIT=0").Run(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	try(unix.EPERM, "closed")
	name := strings.TrimPrefix(filepath.Base(e.pins), pinPrefix)
	next, err := Start(e.Group(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	try(unix.EPERM, "replaced")
	if err := next.Allow(f); err != nil {
		t.Fatal(err)
	}
	try(nil, "allowed")
	pins, err := os.ReadDir(e.pins)
	if err != nil || len(pins) != len(next.links) {
		t.Errorf("%d pins for %d programs, %v", len(pins), len(next.links), err)
	}
	if err := errors.Join(next.Close(), Lift(name)); err != nil {
		t.Fatal(err)
	}
	lifted(t, e.Group())
}

func TestParseDenial(t *testing.T) {
	b := make([]byte, 8+8+4+4+16+64)
	b[8], b[16], b[20] = 7, 3, 9
	copy(b[24:], "command")
	copy(b[40:], "file")
	d, err := parseDenial(b)
	if err != nil || d != (Denial{Reason: 3, PID: 9, Command: "command", File: "file", Inode: 7}) {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := parseDenial(b[:50]); err == nil {
		t.Error("a short record was taken")
	}
	for r := Reason(0); r < 20; r++ {
		if r.String() == "" {
			t.Errorf("reason %d says nothing", r)
		}
	}
}
