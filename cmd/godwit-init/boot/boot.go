// Package boot is PID 1 of the quick image: it mounts what a Linux system has,
// loads the kernel modules, starts the supervisor and keeps it running, offers
// the command line on the console, and reaps every orphan.
//
// One goroutine does everything: start, wait for any child, act.
package boot

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ConfigFile is the configuration that the image or the boot loader hands over.
const ConfigFile = "/etc/godwit/config.yaml"

var mounts = []struct {
	source, target, kind string
	flags                uintptr
}{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	{"bpf", "/sys/fs/bpf", "bpf", 0},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0},
}

// services are what PID 1 keeps running.
var services = []service{
	{name: "router", args: []string{"/bin/godwitd", "--trust", "/etc/godwit/trust", "--lib-dir", "/bin"}, log: "/run/godwitd.log"},
	{name: "console", args: []string{"/bin/godwit", "shell"}, console: true},
}

type service struct {
	name    string
	args    []string
	log     string // output goes there; empty: the console
	console bool   // owns the console as its terminal
}

// Run is PID 1. It returns only on an error before anything was started.
func Run() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("godwit-init is PID 1 of the router's image, not a command")
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil && err != unix.EBUSY {
			say("mount %s: %v", m.target, err)
		}
	}
	loadModules("/modules")
	_ = os.Setenv("PATH", "/bin")
	_ = os.Setenv("HOME", "/root")
	if err := unix.Sethostname([]byte("godwit")); err != nil {
		say("set host name: %v", err)
	}
	supervise(withConfig(services))
	return nil
}

// withConfig hands the configuration to the router, if there is one.
func withConfig(list []service) []service {
	out := append([]service(nil), list...)
	if _, err := os.Stat(ConfigFile); err == nil {
		out[0].args = append(out[0].args, "--config", ConfigFile)
	} else {
		say("no configuration was handed over: write one and \"apply\" it")
	}
	return out
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "godwit-init: "+format+"\r\n", args...)
}

// loadModules loads the modules that the file "order" lists.
func loadModules(dir string) {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		say("kernel modules: %v", err)
		return
	}
	for _, name := range strings.Fields(string(order)) {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			say("kernel module %s: %v", name, err)
		}
	}
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// A service that dies is started again after restartAfter, doubled each time up
// to restartMax: one that always dies must not fill the console.
const (
	restartAfter = time.Second
	restartMax   = time.Minute
)

// supervise keeps the services running and reaps orphans until it is told to stop.
func supervise(list []service) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	running := map[int]service{}
	var due []service
	retry, pause := time.NewTimer(0), restartAfter
	due = append(due, list...)
	for {
		select {
		case s := <-stop:
			halt(running, s)
		case <-children:
			for _, dead := range reap(running) {
				if !dead.console { // a person may leave the shell as often as they like
					say("%s ended, starting it again in %v", dead.name, pause)
					pause = min(2*pause, restartMax)
				}
				due = append(due, dead)
				retry.Reset(pause)
			}
		case <-retry.C:
			for _, s := range due {
				pid, err := start(s)
				if err != nil {
					say("start %s: %v", s.name, err)
					continue
				}
				running[pid] = s
			}
			due = nil
		}
	}
}

// reap collects every child that has ended and returns the services among them.
func reap(running map[int]service) []service {
	var dead []service
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return dead
		}
		if s, ours := running[pid]; ours {
			delete(running, pid)
			dead = append(dead, s)
		}
	}
}

func start(s service) (int, error) {
	terminal, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer terminal.Close()
	out := terminal
	if s.log != "" {
		if out, err = os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return 0, err
		}
		defer out.Close()
	}
	p, err := os.StartProcess(s.args[0], s.args, &os.ProcAttr{
		Env: os.Environ(), Dir: "/", Files: []*os.File{terminal, out, out},
		Sys: &unix.SysProcAttr{Setsid: true, Setctty: s.console, Ctty: 0},
	})
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	return pid, p.Release() // reap waits for it
}

// haltGrace is how long the router may take to stop cleanly.
const haltGrace = 10 * time.Second

// halt stops the router and powers the machine off; SIGINT (Ctrl-Alt-Del) restarts it.
func halt(running map[int]service, sig os.Signal) {
	say("stopping")
	for pid := range running {
		_ = unix.Kill(pid, unix.SIGTERM)
	}
	deadline := time.Now().Add(haltGrace)
	for len(running) > 0 && time.Now().Before(deadline) {
		reap(running)
		time.Sleep(20 * time.Millisecond)
	}
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if sig == unix.SIGINT || sig == unix.SIGTERM {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	if err := unix.Reboot(how); err != nil {
		say("power off: %v", err)
	}
	select {}
}
