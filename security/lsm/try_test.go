package lsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"godwit/security/cgroup"
)

// The test binary tries things in a process of its own if this is set: inside
// the group, or outside of it.
const tryVariable = "LSM_TRY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(tryVariable); dir != "" {
		if err := tryAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	switch os.Getenv("LSM_WAIT") {
	case "0":
		os.Exit(0)
	case "1": // until standard input ends
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tryAll tries everything and prints how each ended, as JSON.
func tryAll(dir string) error {
	results := map[string]string{}
	for name, try := range tries {
		if err := try(dir); err != nil {
			var e syscall.Errno
			if !errors.As(err, &e) {
				return fmt.Errorf("%s: %w", name, err)
			}
			results[name] = unix.ErrnoName(e)
		} else {
			results[name] = "ok"
		}
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

const (
	rwx = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	rx  = unix.PROT_READ | unix.PROT_EXEC
	rw  = unix.PROT_READ | unix.PROT_WRITE
)

// run executes a file and returns the errno of the exec, if that failed.
func run(path string, args ...string) error {
	cmd := exec.Command(path, args...)
	cmd.Args[0] = "busybox"                       // it goes by its name
	cmd.Env = []string{"LD_PRELOAD=/tmp/evil.so"} // nothing listens to it
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s ran but failed: %v", path, err)
	}
	return err
}

// tool is a static program of the system.
const tool = "/bin/busybox"

func copyTool(path string) error {
	data, err := os.ReadFile(tool)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o755)
}

func runMemory(addSeals int) error {
	data, err := os.ReadFile(tool)
	if err != nil {
		return err
	}
	f, err := memory("evil", data)
	if err != nil {
		return err
	}
	defer f.Close()
	if addSeals != 0 {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, addSeals); err != nil {
			return err
		}
	}
	cmd := exec.Command("/proc/self/fd/3", "true")
	cmd.Args[0] = "busybox"
	cmd.ExtraFiles = []*os.File{f}
	return cmd.Run()
}

func mapFile(path string, prot int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, prot, unix.MAP_PRIVATE)
	if err == nil {
		err = unix.Munmap(m)
	}
	return err
}

func protect(first, second int) error {
	m, err := unix.Mmap(-1, 0, 4096, first, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("plain mapping: %v", err)
	}
	return errors.Join(unix.Mprotect(m, second), unix.Munmap(m))
}

func openWrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		err = f.Close()
	}
	return err
}

// tries are what a process may want to do; all of it works outside.
var tries = map[string]func(dir string) error{
	"exec a tool": func(string) error { return run(tool, "true") },
	"exec a copy": func(d string) error { return errors.Join(copyTool(d+"/copy"), run(d+"/copy", "true")) },
	"exec changed": func(d string) error {
		// An inode that was executed before, rewritten in place.
		return errors.Join(copyTool(d+"/changed"), copyTool(d+"/changed"), run(d+"/changed", "true"))
	},
	"exec a script": func(d string) error {
		path := d + "/script"
		return errors.Join(os.WriteFile(path, []byte("#!"+tool+" sh\nexit 0\n"), 0o755), run(path))
	},
	"exec bound": func(d string) error {
		// The program under whose name another is mounted.
		target := d + "/bound"
		if err := errors.Join(os.WriteFile(target, nil, 0o755), unix.Mount(tool, target, "", unix.MS_BIND, "")); err != nil {
			return err
		}
		defer unix.Unmount(target, 0)
		return run(target, "true")
	},
	"exec memory":         func(string) error { return runMemory(0) },
	"exec sealed memory":  func(string) error { return runMemory(seals) },
	"map a file":          func(string) error { return mapFile(tool, rx) },
	"map a writable file": func(string) error { return mapFile(tool, rwx) },
	"map memory": func(string) error {
		m, err := unix.Mmap(-1, 0, 4096, rwx, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			err = unix.Munmap(m)
		}
		return err
	},
	"write, then execute": func(string) error { return protect(rw, rx) },
	"write and execute":   func(string) error { return protect(rw, rwx) },
	"text made writable": func(string) error {
		// The first page of this program's code, as mapped.
		var at, end uintptr
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(maps)) {
			if strings.Contains(line, "r-xp") && !strings.Contains(line, "[v") {
				if _, err := fmt.Sscanf(line, "%x-%x", &at, &end); err != nil {
					return err
				}
				break
			}
		}
		if _, _, e := unix.Syscall(unix.SYS_MPROTECT, at, 4096, rwx); e != 0 {
			return e
		}
		return nil
	},
	"own memory":        func(string) error { return openWrite("/proc/self/mem") },
	"memory of another": func(string) error { return openWrite(fmt.Sprintf("/proc/%d/mem", os.Getppid())) },
	"trace another": func(string) error {
		// PTRACE_SEIZE does not stop the parent; it ends with this thread.
		_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(os.Getppid()), 0, 0, 0, 0)
		if e == 0 {
			return nil
		}
		return e
	},
	"core pattern":    func(string) error { return openWrite("/proc/sys/kernel/core_pattern") },
	"module loader":   func(string) error { return openWrite("/proc/sys/kernel/modprobe") },
	"other setting":   func(string) error { return openWrite("/proc/sys/kernel/panic") },
	"leave the group": func(string) error { return openWrite(groupRoot() + "/cgroup.procs") },
	"clone out of the group": func(string) error {
		root, err := os.Open(groupRoot())
		if err != nil {
			return err
		}
		defer root.Close()
		// The exec inside fails as well: with another errno, as there is no such file.
		cmd := exec.Command("/nowhere/at/all")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(root.Fd())}
		if err := cmd.Start(); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	},
	"load a tracing program": func(string) error { return loadProgram(ebpf.Kprobe) },
	"load a socket filter":   func(string) error { return loadProgram(ebpf.SocketFilter) },
	"the list of files": func(string) error {
		for id := ebpf.MapID(0); ; {
			next, err := ebpf.MapGetNextID(id)
			if err != nil {
				return errors.New("there is no map of ours")
			}
			id = next
			m, err := ebpf.NewMapFromID(id)
			if errors.Is(err, unix.EPERM) {
				return unix.EPERM
			}
			if err != nil {
				continue
			}
			info, err := m.Info()
			m.Close()
			if err == nil && strings.HasPrefix(info.Name, "gwlsm_") {
				return nil
			}
		}
	},
	"unpin": func(string) error {
		// Another name of ours, so that nothing is lost where this works.
		path := PinRoot + "/" + pinPrefix + "victim" + strconv.Itoa(os.Getpid())
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		defer os.Remove(path)
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			return err
		}
		defer m.Close()
		if err := m.Pin(path + "/map"); err != nil {
			return err
		}
		return errors.Join(os.Rename(path+"/map", path+"/other"), os.Remove(path+"/other"))
	},
	"unmount the pins": func(d string) error {
		target := d + "/bpf"
		if err := errors.Join(os.Mkdir(target, 0o700), unix.Mount("bpf", target, "bpf", 0, "")); err != nil {
			return err
		}
		return unix.Unmount(target, 0)
	},
	"load a kernel module": func(d string) error {
		path := filepath.Join(d, "module")
		if err := os.WriteFile(path, []byte("not a module, which the kernel would say"), 0o600); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.FinitModule(int(f.Fd()), "", 0); !errors.Is(err, unix.ENOEXEC) {
			return err
		}
		return nil
	},
	"write a file":       func(d string) error { return os.WriteFile(d+"/plain", []byte("x"), 0o600) },
	"map a file to read": func(string) error { return mapFile(tool, unix.PROT_READ) },
}

// allowedInside are the tries that work inside as well.
var allowedInside = []string{"other setting", "load a socket filter", "write a file", "map a file to read"}

func loadProgram(kind ebpf.ProgramType) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err == nil {
		err = p.Close()
	}
	return err
}

func groupRoot() string {
	g, err := cgroup.Root()
	if err != nil {
		return "/none"
	}
	return g
}
