// Package netlab makes small networks of namespaces and veth pairs for tests and
// benchmarks, and removes them.
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Lab is a set of network namespaces, named PREFIX-PID-NAME.
type Lab struct {
	prefix string
	names  []string
}

// New makes a namespace for each name, with its loopback up. The lab must be
// closed, also after an error of a later step.
func New(prefix string, names ...string) (*Lab, error) {
	l := &Lab{prefix: fmt.Sprintf("%s-%d-", prefix, os.Getpid())}
	for _, n := range names {
		if err := Run("ip", "netns", "add", l.prefix+n); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.names = append(l.names, n)
		// Nothing but what a test sends shall be on the wire.
		for _, conf := range []string{"all", "default"} {
			if err := l.Sysctl(n, "net/ipv6/conf/"+conf+"/disable_ipv6", "1"); err != nil {
				return nil, errors.Join(err, l.Close())
			}
		}
		if err := l.IP(n, "link", "set", "lo", "up"); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Close removes the namespaces and what is in them.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range l.names {
		errs = append(errs, Run("ip", "netns", "del", l.prefix+n))
	}
	l.names = nil
	return errors.Join(errs...)
}

// Netns is the namespace's name for ip netns.
func (l *Lab) Netns(name string) string { return l.prefix + name }

// Run runs a command and returns its output in the error.
func Run(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// IP runs ip in a namespace.
func (l *Lab) IP(ns string, args ...string) error {
	return Run(append([]string{"ip", "-n", l.prefix + ns}, args...)...)
}

// Exec runs a command in a namespace.
func (l *Lab) Exec(ns string, argv ...string) error {
	return Run(append([]string{"ip", "netns", "exec", l.prefix + ns}, argv...)...)
}

// Sysctl writes a value; the path is below /proc/sys.
func (l *Lab) Sysctl(ns, path, value string) error {
	return l.Do(ns, func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0o644) })
}

// Veth joins two namespaces with a pair of the given number of queues, up, and
// with the offloads off that would hand half-made frames to the other side.
func (l *Lab) Veth(nsA, devA, nsB, devB string, queues int) error {
	n := fmt.Sprint(queues)
	err := Run("ip", "link", "add", devA, "netns", l.prefix+nsA, "numrxqueues", n, "numtxqueues", n,
		"type", "veth", "peer", "name", devB, "netns", l.prefix+nsB, "numrxqueues", n, "numtxqueues", n)
	if err != nil {
		return err
	}
	for _, end := range [][2]string{{nsA, devA}, {nsB, devB}} {
		if err := l.Exec(end[0], "ethtool", "-K", end[1], "tx", "off", "gro", "off", "tso", "off", "gso", "off"); err != nil {
			return err
		}
		if err := l.IP(end[0], "link", "set", end[1], "up"); err != nil {
			return err
		}
	}
	return nil
}

// Do calls f on a thread of the namespace. Sockets and descriptors that f opens
// stay in that namespace.
func (l *Lab) Do(ns string, f func() error) error {
	target, err := unix.Open("/run/netns/"+l.prefix+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", ns, err)
	}
	defer unix.Close(target)
	// The goroutine ends locked, so its thread ends with it and no other
	// goroutine finds itself in the wrong namespace.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter namespace %s: %w", ns, err)
			return
		}
		done <- f()
	}()
	return <-done
}
