// Package main confines itself and tries what must not be possible any more.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"godwit/security/confine"
)

func main() {
	keep := uint64(1) << unix.CAP_NET_BIND_SERVICE
	if err := confine.Self(keep); err != nil {
		fmt.Println("confine:", err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for range 20 { // on many threads
		wg.Go(func() {
			if unix.Mount("none", "/mnt", "tmpfs", 0, "") != unix.EPERM {
				fmt.Println("mount: possible")
			}
		})
	}
	wg.Wait()
	for name, try := range map[string]func() error{
		"exec":   func() error { return exec.Command("/bin/true").Run() },
		"ptrace": func() error { return unix.PtraceAttach(os.Getppid()) },
		"raw socket": func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
			if err == nil {
				unix.Close(fd)
			}
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
		"hostname":  func() error { return unix.Sethostname([]byte("x")) },
		"chroot":    func() error { return unix.Chroot("/") },
		"other uid": func() error { return unix.Setresuid(65534, 65534, 65534) },
		"chown":     func() error { return os.Chown("/proc/self/exe", 1, 1) },
		"namespace": func() error { return unix.Unshare(unix.CLONE_NEWNET) },
		"foreign network device": func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return nil
			}
			defer unix.Close(fd)
			r, err := unix.NewIfreq("lo")
			if err != nil {
				return nil
			}
			r.SetUint32(1400)
			return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r)
		},
	} {
		if err := try(); !errors.Is(err, unix.EPERM) {
			fmt.Printf("%s: %v\n", name, err)
		}
	}
	// What a speaker needs still works.
	l, err := net.Listen("tcp", "127.0.0.1:179")
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		fmt.Println("port 179:", err)
	} else if err == nil {
		l.Close()
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(string(status)) {
		for _, want := range []string{"CapEff:", "CapPrm:", "CapBnd:", "NoNewPrivs:", "Seccomp:"} {
			if strings.HasPrefix(line, want) {
				fmt.Print(strings.ReplaceAll(line, "\t", " "))
			}
		}
	}
}
