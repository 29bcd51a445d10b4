package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is in the run directory besides bus.sock; see ARCHITECTURE.md.
const (
	busDir     = "bus"
	pidDir     = "pid" // one file for each running module: process id and start time
	fabricDir  = "fabric"
	bgpDir     = "bgp"
	mgmtSocket = "mgmt.sock"
)

func (s *Supervisor) pidFile(name string) string {
	return filepath.Join(s.cfg.RunDir, pidDir, name)
}

// writePID notes a module's process for a successor of this supervisor.
func (s *Supervisor) writePID(name string, pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(s.pidFile(name), fmt.Appendf(nil, "%d %s\n", pid, start), 0o640)
}

func (s *Supervisor) removePID(name string) {
	if err := os.Remove(s.pidFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.cfg.Log.Warn("cannot remove module's process file", "module", name, "error", err)
	}
}

// removeFiles removes what modules may have left in the run directory.
func (s *Supervisor) removeFiles() error {
	var errs []error
	for _, name := range []string{pidDir, fabricDir, bgpDir, mgmtSocket} {
		errs = append(errs, os.RemoveAll(filepath.Join(s.cfg.RunDir, name)))
	}
	return errors.Join(errs...)
}

// killTime bounds the wait for the end of a killed process.
const killTime = 5 * time.Second

// killLeftovers kills modules that outlived a supervisor. The kernel kills them
// when their supervisor dies; this waits until they are gone, so that their
// ports and sockets are free.
func (s *Supervisor) killLeftovers() error {
	dir := filepath.Join(s.cfg.RunDir, pidDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("find leftovers: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("find leftovers: %w", err)
		}
		pid, start, ok := strings.Cut(strings.TrimSpace(string(data)), " ")
		n, err := strconv.Atoi(pid)
		if !ok || err != nil || n <= 1 {
			s.cfg.Log.Warn("malformed process file", "file", path)
		} else if err := killProcess(n, start); err != nil {
			return fmt.Errorf("leftover module %s: %w", e.Name(), err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("leftover module: %w", err)
		}
	}
	return nil
}

// killProcess kills the process that has the id and the start time, and waits.
func killProcess(pid int, start string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// The descriptor is of the process that has the id now: of the one meant
	// only if the start time is the same.
	if now, err := startTime(pid); err != nil || now != start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	for end := time.Now().Add(killTime); ; {
		left := time.Until(end)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(0, int(left.Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR) && left > 0:
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("process %d does not end", pid)
		default:
			return nil
		}
	}
}

// startTime is when a process started, in clock ticks since boot: field 22 of
// /proc/PID/stat (proc(5)). The second field may hold spaces and parentheses.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("start time of process: %w", err)
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const field = 22 - 3 // the first of fields is the third
	if len(fields) <= field {
		return "", fmt.Errorf("start time of process %d: short stat", pid)
	}
	return fields[field], nil
}
