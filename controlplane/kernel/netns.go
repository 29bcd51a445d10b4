// Package kernel makes and removes what the router has in the Linux kernel:
// one network namespace per VRF (its host stack), in it a persistent TAP per
// routed interface and one multi-queue TUN that leads to the VRF's own FIB. It
// is the only package that speaks netlink.
//
// All of it survives the process that made it: a new routing engine finds and
// adopts it. Methods may be called from one goroutine at a time; each call
// enters a namespace on a locked thread and leaves it again.
package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetNSDir is where named namespaces are mounted (as "ip netns" does).
const NetNSDir = "/run/netns"

// Path is where the namespace of a VRF of this instance is mounted.
func (h *Host) Path(vrf string) string {
	return filepath.Join(NetNSDir, h.prefix+vrf)
}

// InNetNS runs f on a thread inside the namespace at path. What f opens
// (sockets, TAPs) stays in that namespace. f must not start goroutines that
// rely on the namespace.
func InNetNS(path string, f func() error) error {
	errc := make(chan error, 1)
	go func() { errc <- inNetNS(path, f) }()
	return <-errc
}

// inNetNS runs on a goroutine of its own: if the thread can't be brought back,
// it stays locked and dies with the goroutine.
func inNetNS(path string, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return fmt.Errorf("get network namespace: %w", err)
	}
	defer home.Close()
	target, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer target.Close()
	if err := netns.Set(target); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	ferr := f()
	if err := netns.Set(home); err != nil {
		return errors.Join(ferr, fmt.Errorf("leave network namespace %s: %w", path, err))
	}
	runtime.UnlockOSThread()
	return ferr
}

// createNetNS makes a namespace and mounts it at path; one that is there is kept.
func createNetNS(path string) error {
	if isNetNS(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create %s: %w", filepath.Dir(path), err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	f.Close()
	errc := make(chan error, 1)
	go func() { errc <- mountNewNetNS(path) }()
	if err := <-errc; err != nil {
		os.Remove(path)
		return fmt.Errorf("create network namespace %s: %w", path, err)
	}
	return nil
}

// mountNewNetNS spends its thread: it never leaves the new namespace.
func mountNewNetNS(path string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
}

// isNetNS tells whether a namespace is mounted at path, not a mere file.
func isNetNS(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

func removeNetNS(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// VRFs lists the VRFs of this instance that have a namespace.
func (h *Host) VRFs() ([]string, error) {
	entries, err := os.ReadDir(NetNSDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var vrfs []string
	for _, e := range entries {
		if vrf, ours := strings.CutPrefix(e.Name(), h.prefix); ours && vrf != "" {
			vrfs = append(vrfs, vrf)
		}
	}
	return vrfs, nil
}
