// Package cgroup makes control groups (cgroup v2) for the router's modules: the
// scope of the kernel's enforcement, and limits of memory and tasks.
//
// A Group is a directory; nothing is held open, and any process may find it
// again by its name.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNone says that this system has no cgroup v2 hierarchy, or that it may not
// be written.
var ErrNone = errors.New("no writable cgroup v2 hierarchy")

// Group is a control group.
type Group struct {
	Path string // its directory
	// Depth counts the groups above it; the root of the hierarchy has 0.
	Depth int
	// Limited are the controllers that its children have, of those that
	// limits need: "memory" and "pids".
	Limited []string
}

// controllers are what Limits need.
var controllers = []string{"memory", "pids"}

// Make makes the group below the root of the hierarchy, or takes the one that
// is there.
func Make(name string) (*Group, error) {
	root, depth, err := mount()
	if err != nil {
		return nil, err
	}
	return makeIn(root, depth, name)
}

func makeIn(root string, depth int, name string) (*Group, error) {
	g := &Group{Path: filepath.Join(root, name), Depth: depth + 1}
	if err := os.Mkdir(g.Path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	// What the root does not have, or another holds in a v1 hierarchy, there is not.
	for _, c := range controllers {
		if enable(root, c) && enable(g.Path, c) {
			g.Limited = append(g.Limited, c)
		}
	}
	return g, nil
}

// enable gives the children of a group a controller.
func enable(dir, controller string) bool {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if have, err := os.ReadFile(file); err == nil && slices.Contains(strings.Fields(string(have)), controller) {
		return true
	}
	return os.WriteFile(file, []byte("+"+controller), 0) == nil
}

// mount finds where the hierarchy is mounted, and how deep the mounted group lies.
func mount() (dir string, depth int, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return parseMounts(string(data))
}

// parseMounts reads /proc/PID/mountinfo (proc(5)): the fourth field is the root
// of the mount, the fifth the mount point; behind " - " the file system's type.
func parseMounts(text string) (dir string, depth int, err error) {
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields := strings.Fields(head)
		if !ok || len(fields) < 6 || !strings.HasPrefix(tail, "cgroup2 ") {
			continue
		}
		for _, name := range strings.Split(fields[3], "/") {
			if name != "" {
				depth++
			}
		}
		return fields[4], depth, nil
	}
	return "", 0, ErrNone
}

// Limits of a group; 0 is none.
type Limits struct {
	Memory int64 // bytes
	Tasks  int
}

// Child makes a group below this one, or takes the one that is there, with the
// limits that the controllers allow.
func (g *Group) Child(name string, l Limits) (*Group, error) {
	c := &Group{Path: filepath.Join(g.Path, name), Depth: g.Depth + 1}
	if err := os.Mkdir(c.Path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	for _, w := range []struct {
		controller, file string
		value            int64
	}{{"memory", "memory.max", l.Memory}, {"pids", "pids.max", int64(l.Tasks)}} {
		if w.value == 0 || !slices.Contains(g.Limited, w.controller) {
			continue
		}
		if err := os.WriteFile(filepath.Join(c.Path, w.file), strconv.AppendInt(nil, w.value, 10), 0); err != nil {
			return nil, fmt.Errorf("limit cgroup: %w", err)
		}
	}
	return c, nil
}

// Limits reads the limits of the group; 0 where there is none.
func (g *Group) Limits() Limits {
	read := func(file string) int64 {
		data, err := os.ReadFile(filepath.Join(g.Path, file))
		if err != nil {
			return 0
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil { // "max"
			return 0
		}
		return n
	}
	return Limits{Memory: read("memory.max"), Tasks: int(read("pids.max"))}
}

// ID is the kernel's number of the group.
func (g *Group) ID() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(g.Path, &st); err != nil {
		return 0, fmt.Errorf("number of cgroup %s: %w", g.Path, err)
	}
	return st.Ino, nil
}

// Open opens the directory, to start processes in the group
// (syscall.SysProcAttr.CgroupFD).
func (g *Group) Open() (*os.File, error) {
	f, err := os.OpenFile(g.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return f, nil
}

// Remove removes the group and those below it. It waits at most so long for the
// end of their processes; a foreign one that was put there may stay.
func (g *Group) Remove(limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		err := removeTree(g.Path)
		left := time.Until(end)
		if !errors.Is(err, unix.EBUSY) || left <= 0 {
			return err
		}
		wait(g.Path, left)
	}
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}

// wait returns when the group's file of events changes, at the latest after a
// tenth of a second: an empty group tells so once (POLLPRI, cgroups(7)).
func wait(dir string, limit time.Duration) {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return
	}
	defer f.Close()
	limit = min(limit, 100*time.Millisecond)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, int(max(limit, 0).Milliseconds()))
}

// Root is where the hierarchy is mounted.
func Root() (string, error) {
	dir, _, err := mount()
	return dir, err
}
