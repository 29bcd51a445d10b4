// Package main confines itself by a policy and tries what must not be possible
// any more, and what must: try POLICY DIR RUN. It prints what is not as it should be.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"godwit/security/confine"
	"godwit/security/elfsig"
)

func main() {
	p, err := confine.Decode(os.Args[1])
	var before int64
	if err == nil {
		before, err = bounding()
	}
	if err == nil {
		err = confine.Self(p)
	}
	p.Caps &= elfsig.Caps(before) // a container's root may have fewer
	if err != nil {
		fmt.Println("confine:", err)
		os.Exit(1)
	}
	dir, run := os.Args[2], os.Args[3]
	refused(always(dir))
	switch p.Role {
	case "bgp":
		refused(map[string]func() error{"mount": mount, "raw socket": rawSocket, "packet socket": packetSocket,
			"bpf": bpf, "device settings": deviceSettings, "namespace": newNamespace, "other namespace": otherNamespace,
			"world-readable file": func() error { return readFile(dir + "/world.key") },
			"write /etc":          func() error { return writeFile("/etc/godwit-try") },
			"fabric":              func() error { return writeFile(run + "/fabric/x") }})
		works(map[string]func() error{"port 179": port179, "socket": func() error { return socketAt(run + "/bgp/s") }, "bus": func() error { return socketAt(run + "/bus/s") }})
	case "linecard":
		refused(map[string]func() error{"mount": mount, "namespace": newNamespace,
			"world-readable file": func() error { return readFile(dir + "/world.key") },
			"write /etc":          func() error { return writeFile("/etc/godwit-try") },
			"speakers' sockets":   func() error { return writeFile(run + "/bgp/x") }})
		works(map[string]func() error{"packet socket": packetSocket, "other namespace": otherNamespace, "fabric": func() error { return writeFile(run + "/fabric/x") },
			"bus": func() error { return socketAt(run + "/bus/s") }})
	case "router":
		refused(map[string]func() error{"bpf": bpf})
		works(map[string]func() error{"namespace": newNamespace, "socket": func() error { return socketAt(run + "/mgmt.sock") }})
	}
	status(p)
}

// refused tries what must fail for lack of permission.
func refused(tries map[string]func() error) {
	for name, try := range tries {
		if err := try(); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			fmt.Printf("%s: %v\n", name, err)
		}
	}
}

func works(tries map[string]func() error) {
	for name, try := range tries {
		if err := try(); err != nil {
			fmt.Printf("%s: %v\n", name, err)
		}
	}
}

// always is what no role may do.
func always(dir string) map[string]func() error {
	return map[string]func() error{
		"reboot on many threads": func() error {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_ON); err != unix.EPERM {
						fmt.Println("reboot:", err)
					}
				})
			}
			wg.Wait()
			return unix.EPERM
		},
		"exec":   func() error { return exec.Command("/bin/true").Run() },
		"ptrace": func() error { return unix.PtraceAttach(os.Getppid()) },
		"memory of another": func() error {
			b := make([]byte, 1)
			_, err := unix.ProcessVMReadv(os.Getppid(), []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}, 0)
			return err
		},
		"executable memory": func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			return err
		},
		"writable to executable": func() error {
			m, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return fmt.Errorf("plain mapping: %v", err)
			}
			return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC)
		},
		"hostname":       func() error { return unix.Sethostname([]byte("x")) },
		"chroot":         func() error { return unix.Chroot("/") },
		"root again":     func() error { return unix.Setresuid(0, 0, 0) },
		"other user":     func() error { return unix.Setresuid(65534, 65534, 65534) },
		"user namespace": func() error { return clone(unix.CLONE_NEWUSER) },
		"kernel module":  func() error { return unix.FinitModule(0, "", 0) },
		"clock":          func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1}) },
		"private key": func() error {
			if p, _ := confine.Decode(os.Args[1]); p.Role == "router" {
				return unix.EACCES // it passes permissions (dac_override): see docs/security.md
			}
			return readFile(dir + "/release.key")
		},
	}
}

func bounding() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "CapBnd:")
	word, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return strconv.ParseInt(word, 16, 64)
}

func clone(flags uintptr) error {
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func mount() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") }

func socketOf(domain, kind, proto int) error {
	fd, err := unix.Socket(domain, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func rawSocket() error    { return socketOf(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }
func packetSocket() error { return socketOf(unix.AF_PACKET, unix.SOCK_RAW, 0) }

func bpf() error {
	_, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
	return e
}

func newNamespace() error { return onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }) }

func otherNamespace() error {
	return onThread(func() error {
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace: %v", err)
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWNET)
	})
}

func deviceSettings() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %v", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint32(1400)
	return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r)
}

func port179() error {
	l, err := net.Listen("tcp", "127.0.0.1:179")
	if errors.Is(err, unix.EADDRINUSE) {
		return nil
	}
	if err == nil {
		err = l.Close()
	}
	return err
}

func socketAt(path string) error {
	l, err := net.Listen("unix", path)
	if err == nil {
		err = l.Close()
	}
	return err
}

func readFile(path string) error {
	_, err := os.ReadFile(path)
	return err
}

func writeFile(path string) error {
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Remove(path)
	}
	return err
}

// status checks what the kernel says of this process.
func status(p confine.Policy) {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		fmt.Println(err)
	}
	caps := fmt.Sprintf("%016x", uint64(p.Caps))
	id := func(n int) string { return fmt.Sprintf("%d\t%d\t%d\t%d", n, n, n, n) }
	for key, want := range map[string]string{"Uid": id(p.UID), "Gid": id(p.GID), "Groups": "", "CapPrm": caps, "CapEff": caps, "CapBnd": caps,
		"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
		got := "nothing"
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, key+":"); ok {
				got = strings.TrimSpace(v)
			}
		}
		if got != want {
			fmt.Printf("%s is %s, want %s\n", key, got, want)
		}
	}
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}
