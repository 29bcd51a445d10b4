package topology

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Proc is a process of the lab; its output goes to a file.
type Proc struct {
	Name string
	Log  string // path of its standard output and error
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Exec runs a command in the host's namespace to its end and returns its
// output; an error carries the command and what it printed.
func (h *Host) Exec(ctx context.Context, args ...string) (string, error) {
	cmd := h.command(ctx, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(args, " "), err, tail(out))
	}
	return string(out), nil
}

func (h *Host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + h.NetNS, "--"}, args...)...)
	cmd.Dir = h.Dir
	cmd.WaitDelay = time.Second
	return cmd
}

func tail(out []byte) string {
	s := strings.TrimSpace(string(out))
	if len(s) > 2000 {
		s = "…" + s[len(s)-2000:]
	}
	return s
}

// Start starts a command in the host's namespace; the lab stops it at the end.
func (h *Host) Start(name string, args ...string) (*Proc, error) {
	p := &Proc{Name: name, Log: filepath.Join(h.Dir, name+".log"), done: make(chan struct{})}
	f, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer f.Close()
	p.cmd = h.command(context.Background(), args...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	h.procs = append(h.procs, p)
	return p, nil
}

// PID is the process number of what was started.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Err is how the process ended, once Done.
func (p *Proc) Err() error { return p.err }

// Signal sends a signal to the process.
func (p *Proc) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop sends SIGTERM, and SIGKILL to the whole group if it does not end in time.
func (p *Proc) Stop(grace time.Duration) error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s did not stop within %v", p.Name, grace)
}

// Kill ends the process at once.
func (p *Proc) Kill() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
}

// Output is what the process has printed.
func (p *Proc) Output() string {
	out, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// StopAll stops what was started on the host, the last first.
func (h *Host) StopAll() error {
	var errs []error
	for _, p := range slices.Backward(h.procs) {
		errs = append(errs, p.Stop(20*time.Second))
	}
	h.procs = nil
	return errors.Join(errs...)
}

// Wait polls until f returns nil, and returns its last error when ctx ends.
func Wait(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Poll asks, so often, until the answer is yes, an error, or the context ends.
func Poll(ctx context.Context, every time.Duration, what string, f func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		ok, err := f()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-t.C:
		}
	}
}
