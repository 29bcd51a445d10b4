// Package bgptest makes small networks of namespaces with real BGP daemons in
// them, and tables of real prefixes for them to announce. It is for tests and
// benchmarks; it needs root. Everything it makes is gone after Net.Close.
package bgptest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Net is a set of namespaces, links and processes.
type Net struct {
	prefix string
	dir    string

	mu     sync.Mutex
	spaces []string
	procs  []*Proc
}

// links numbers the links of this process, whose first names are those of the
// whole machine.
var links atomic.Int64

// NewNet makes an empty network; the prefix begins the names of its namespaces
// and must be unique on the machine.
func NewNet(prefix string) (*Net, error) {
	dir, err := os.MkdirTemp("", prefix+"-")
	if err != nil {
		return nil, fmt.Errorf("make network directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // daemons drop their privileges
		return nil, fmt.Errorf("open network directory: %w", err)
	}
	return &Net{prefix: prefix, dir: dir}, nil
}

// Dir is a directory for the files of the network's processes.
func (n *Net) Dir() string { return n.dir }

// Close kills the processes and removes namespaces and files.
func (n *Net) Close() error {
	n.mu.Lock()
	procs, spaces := n.procs, n.spaces
	n.procs, n.spaces = nil, nil
	n.mu.Unlock()
	var errs []error
	for _, p := range procs {
		p.Kill()
	}
	for _, s := range spaces {
		errs = append(errs, run("ip", "netns", "delete", s))
	}
	errs = append(errs, os.RemoveAll(n.dir))
	return errors.Join(errs...)
}

// Space is a network namespace.
type Space struct {
	Name string // as `ip netns` knows it
	net  *Net
}

// Space makes a namespace with its loopback up.
func (n *Net) Space(name string) (*Space, error) {
	s := &Space{Name: n.prefix + "-" + name, net: n}
	if err := run("ip", "netns", "add", s.Name); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.spaces = append(n.spaces, s.Name)
	n.mu.Unlock()
	return s, run("ip", "-n", s.Name, "link", "set", "lo", "up")
}

// End is one end of a link: its interface in a namespace and its addresses.
type End struct {
	Space *Space
	Dev   string
	Addrs []string // with prefix length
}

// Link joins two namespaces with a veth pair.
func (n *Net) Link(a, b End) error {
	i := links.Add(1)
	tmp := [2]string{fmt.Sprintf("gwt%d-%da", os.Getpid()%100000, i), fmt.Sprintf("gwt%d-%db", os.Getpid()%100000, i)}
	if err := run("ip", "link", "add", tmp[0], "type", "veth", "peer", "name", tmp[1]); err != nil {
		return err
	}
	for i, e := range []End{a, b} {
		steps := [][]string{
			{"ip", "link", "set", tmp[i], "netns", e.Space.Name, "name", e.Dev},
			{"ip", "netns", "exec", e.Space.Name, "sysctl", "-qw", "net.ipv6.conf." + e.Dev + ".accept_dad=0"},
		}
		for _, addr := range e.Addrs {
			step := []string{"ip", "-n", e.Space.Name, "addr", "add", addr, "dev", e.Dev}
			if strings.Contains(addr, ":") {
				step = append(step, "nodad")
			}
			steps = append(steps, step)
		}
		steps = append(steps, []string{"ip", "-n", e.Space.Name, "link", "set", e.Dev, "up"})
		for _, s := range steps {
			if err := run(s[0], s[1:]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Command prepares a program to run in the namespace.
func (s *Space) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.Name, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return cmd
}

// Output runs a program in the namespace to its end.
func (s *Space) Output(name string, args ...string) (string, error) {
	out, err := s.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// Proc is a running program; Net.Close kills it.
type Proc struct {
	Cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Start starts a program; what it writes to standard error (and to standard
// output, unless the caller has taken that) goes to Log.
func (n *Net) Start(cmd *exec.Cmd, name string) (*Proc, error) {
	f, err := os.CreateTemp(n.dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("make log of %s: %w", name, err)
	}
	defer f.Close()
	cmd.Stderr = f
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	p := &Proc{Cmd: cmd, log: f.Name(), done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // the state is read from Cmd
		close(p.done)
	}()
	n.mu.Lock()
	n.procs = append(n.procs, p)
	n.mu.Unlock()
	return p, nil
}

// Log is what the program wrote.
func (p *Proc) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Done is closed when the program has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Kill kills the program with its children and waits for its end.
func (p *Proc) Kill() { p.end(syscall.SIGKILL) }

// Stop ends the program with SIGTERM, after 5 s with SIGKILL.
func (p *Proc) Stop() {
	if p.Alive() {
		_ = p.Cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	p.Kill()
}

// Alive tells whether the program still runs.
func (p *Proc) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *Proc) end(sig syscall.Signal) {
	_ = syscall.Kill(-p.Cmd.Process.Pid, sig) // its group; ESRCH when all are gone
	<-p.done
}

// CPU is the processor time of a program and its children so far, in seconds.
func (p *Proc) CPU() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, errors.New("read processor time: short line")
	}
	var user, sys float64
	if _, err := fmt.Sscan(f[11], &user); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	if _, err := fmt.Sscan(f[12], &sys); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return (user + sys) / 100, nil
}

// Memory is the program's largest resident memory in bytes so far.
func (p *Proc) Memory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); !ok || err != nil {
		return 0, errors.New("read memory: no VmHWM")
	}
	return kb << 10, nil
}

// File writes a file into the network's directory.
func (n *Net) File(name, content string) (string, error) {
	return n.WriteFile(name, func(w io.Writer) error { _, err := io.WriteString(w, content); return err })
}

// WriteFile writes a file into the network's directory; write fills it.
func (n *Net) WriteFile(name string, write func(io.Writer) error) (string, error) {
	path := filepath.Join(n.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", fmt.Errorf("write file: %w", err)
	}
	err = write(f)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return "", fmt.Errorf("write file %s: %w", path, err)
	}
	return path, nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Until polls a condition every few milliseconds; false when it does not hold in
// time.
func Until(limit time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(limit)
	for {
		if cond() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
}
