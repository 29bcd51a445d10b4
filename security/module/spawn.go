package module

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options say how an image is started.
type Options struct {
	Name   string     // argv[0]
	Args   []string   // after argv[0]
	NetNS  string     // path of a network namespace; empty: the caller's
	Env    []string   // the whole environment besides cleanEnv
	Files  []*os.File // descriptors 3, 4, …; nothing else is inherited
	Stderr *os.File   // standard output and error; nil: /dev/null
	Cgroup string     // directory of the control group to start in; empty: the caller's
}

// cleanEnv is what every module sees; the caller's environment is not passed on.
var cleanEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

// ErrClosed is returned by Start after the loader was closed.
var ErrClosed = errors.New("loader closed")

// Process is a running module.
type Process struct {
	cmd *exec.Cmd
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal; os.ErrProcessDone once it has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Wait blocks until the process has ended and says how: "exit status 1",
// "signal: killed". It must be called once.
func (p *Process) Wait() (string, error) {
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", fmt.Errorf("wait for process %d: %w", p.PID(), err)
	}
	return p.cmd.ProcessState.String(), nil
}

// Reaped takes the status of the process, which the caller waited for instead of
// Wait, and says how it ended.
func (p *Process) Reaped(status syscall.WaitStatus) string {
	_ = p.cmd.Process.Release()
	how := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		how = "signal: " + status.Signal().String()
	}
	if status.CoreDump() {
		how += " (core dumped)"
	}
	return how
}

// Start executes the image. The process is killed when the loader is closed or
// the calling process dies.
func (l *Loader) Start(img *Image, opt Options) (*Process, error) {
	if img == nil || img.mem == nil {
		return nil, errors.New("start module: no image")
	}
	if len(opt.Files)+3 >= firstFD {
		return nil, fmt.Errorf("start %s: %d descriptors", img.Path, len(opt.Files))
	}
	name := opt.Name
	if name == "" {
		name = img.Signed.Name
	}
	cmd := &exec.Cmd{
		Path:        "/proc/self/fd/" + strconv.Itoa(int(img.mem.file.Fd())),
		Args:        append([]string{name}, opt.Args...),
		Env:         append(append([]string{}, cleanEnv...), opt.Env...),
		Dir:         "/",
		ExtraFiles:  opt.Files,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if opt.Cgroup != "" {
		group, err := os.OpenFile(opt.Cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", img.Path, err)
		}
		defer group.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	if l.cfg.Admit != nil {
		if err := l.cfg.Admit(img.mem.file); err != nil {
			return nil, fmt.Errorf("start %s: %w", img.Path, err)
		}
	}
	if opt.Stderr != nil { // a nil *os.File in an io.Writer is not nil
		cmd.Stdout, cmd.Stderr = opt.Stderr, opt.Stderr
	}
	if err := l.spawn.start(cmd, opt.NetNS); err != nil {
		return nil, fmt.Errorf("start %s: %w", img.Path, err)
	}
	return &Process{cmd: cmd}, nil
}

// spawner starts processes on one thread of its own, which lives until stop.
type spawner struct {
	jobs chan job
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

type job struct {
	cmd    *exec.Cmd
	netns  string
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan job), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) stop() {
	s.once.Do(func() { close(s.quit) })
	<-s.done
}

func (s *spawner) start(cmd *exec.Cmd, netns string) error {
	j := job{cmd: cmd, netns: netns, result: make(chan error, 1)}
	select {
	case s.jobs <- j:
		return <-j.result
	case <-s.quit:
		return ErrClosed
	}
}

// run serves jobs on a locked thread; the thread ends with the goroutine, since
// it stays locked. If it could not go back to its own namespace, it starts
// nothing more but stays (its children live as long as it does) and another
// thread takes over.
func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread()
	for {
		select {
		case j := <-s.jobs:
			lost, err := startIn(j.cmd, j.netns)
			j.result <- err
			if lost {
				next := &spawner{jobs: s.jobs, quit: s.quit, done: make(chan struct{})}
				go next.run()
				<-next.done
				return
			}
		case <-s.quit:
			return
		}
	}
}

// startIn starts the command in a network namespace. lost says that the thread
// is left in a foreign namespace.
func startIn(cmd *exec.Cmd, netns string) (lost bool, err error) {
	// Go's own descriptors close on exec; those that this process inherited or
	// a system call made need telling.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return false, fmt.Errorf("keep descriptors from the module: %w", err)
	}
	if netns == "" {
		return false, cmd.Start()
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return false, fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	target, err := os.Open(netns)
	if err != nil {
		return false, fmt.Errorf("network namespace: %w", err)
	}
	defer target.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("enter network namespace %s: %w", netns, err)
	}
	err = cmd.Start()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return true, err
	}
	return false, err
}
