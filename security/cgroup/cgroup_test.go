package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseMounts(t *testing.T) {
	for _, c := range []struct {
		text, dir string
		depth     int
	}{
		{"24 1 0:22 / /proc rw - proc proc rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup", 0},
		{"30 24 0:26 /a/b /cg rw - cgroup2 none rw\n", "/cg", 2},
		{"30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "", 0},
		{"", "", 0},
		{"30 24 - cgroup2", "", 0},
	} {
		dir, depth, err := parseMounts(c.text)
		if dir != c.dir || depth != c.depth || errors.Is(err, ErrNone) != (c.dir == "") {
			t.Errorf("%q: %q, %d, %v", c.text, dir, depth, err)
		}
	}
}

// A directory that is no hierarchy: limits are not there, and that is told.
func TestWithoutControllers(t *testing.T) {
	g, err := makeIn(t.TempDir(), 3, "g")
	if err != nil || g.Depth != 4 {
		t.Fatalf("%+v, %v", g, err)
	}
	// Plain files take the names of controllers: as in a hierarchy that has them.
	if len(g.Limited) != 2 {
		t.Fatalf("%v", g.Limited)
	}
	c, err := g.Child("m", Limits{Memory: 1 << 20, Tasks: 7})
	if err != nil || c.Limits() != (Limits{Memory: 1 << 20, Tasks: 7}) {
		t.Errorf("%+v, %v", c.Limits(), err)
	}
	g.Limited = nil
	if c, err = g.Child("n", Limits{Memory: 1 << 20}); err != nil || c.Limits() != (Limits{}) {
		t.Errorf("without controllers: %+v, %v", c.Limits(), err)
	}
	if _, err := makeIn("/nowhere", 0, "g"); !errors.Is(err, ErrNone) {
		t.Errorf("no hierarchy: %v", err)
	}
	if _, err := g.Child("no/such", Limits{}); err == nil {
		t.Error("a group without a parent was made")
	}
}

func TestProcessesInAGroup(t *testing.T) {
	g, err := Make(fmt.Sprintf("godwit-grouptest%d", os.Getpid()))
	if errors.Is(err, ErrNone) {
		t.Skip(err) // a container without a hierarchy
	}
	if err != nil {
		t.Fatal(err)
	}
	child, err := g.Child("m", Limits{Memory: 64 << 20, Tasks: 16})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := child.ID(); err != nil || id == 0 {
		t.Errorf("%d, %v", id, err)
	}
	dir, err := child.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	procs, err := os.ReadFile(filepath.Join(child.Path, "cgroup.procs"))
	if want := fmt.Sprintf("%d\n", cmd.Process.Pid); err != nil || string(procs) != want {
		t.Errorf("%q, %v, want %q", procs, err, want)
	}
	if err := g.Remove(10 * time.Millisecond); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a group in use was removed: %v", err)
	}
	go func() { // ends while Remove waits
		in.Close()
		_ = cmd.Wait()
	}()
	if err := g.Remove(20 * time.Second); err != nil {
		t.Error(err)
	}
	if err := g.Remove(0); err != nil {
		t.Errorf("removed already: %v", err)
	}
}
