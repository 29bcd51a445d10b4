package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Guest is a small machine for tests: the kernel, its modules, BusyBox and
// some files.
type Guest struct {
	Kernel  string            // folder where kernel packages are kept
	Package string            // see Options.Kernel
	Modules []string          // kernel modules besides, unpacked into /modules; Init loads them
	Out     string            // where vmlinuz and initramfs.gz go
	Init    string            // shell script that runs as PID 1, behind mounts and modules
	Files   map[string]string // path in the guest → executable here
}

const guestInit = `#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp
for m in $(cat /modules/order); do insmod /modules/$m || echo "guest: no module $m"; done
ip link set lo up
`

// BuildGuest makes the machine.
func BuildGuest(ctx context.Context, g Guest) error {
	o := Options{Out: g.Kernel, Kernel: g.Package, Log: os.Stderr}
	tree, err := kernelPackage(ctx, o)
	if err != nil {
		return err
	}
	a := NewArchive()
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "root", "bin"} {
		a.Dir(dir)
	}
	if err := addModules(a, tree); err != nil {
		return err
	}
	for _, name := range g.Modules {
		data, err := unpacked(filepath.Join(tree, "lib", "modules"), name)
		if err != nil {
			return err
		}
		a.File("modules/"+name+".ko", 0o644, data)
	}
	files := map[string]string{"bin/busybox": "/bin/busybox"}
	for to, from := range g.Files {
		files[to] = from
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("add program: %w", err)
		}
		a.File(to, 0o755, data)
	}
	a.Link("bin/sh", "busybox")
	a.File("init", 0o755, []byte(guestInit+g.Init))
	if err := writeGzip(filepath.Join(g.Out, "initramfs.gz"), a); err != nil {
		return err
	}
	vmlinuz, err := one(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	return copyFile(filepath.Join(g.Out, "vmlinuz"), vmlinuz)
}

// unpacked reads a kernel module, which may be compressed.
func unpacked(dir, name string) ([]byte, error) {
	found := ""
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if base := filepath.Base(p); base == name+".ko" || base == name+".ko.xz" {
			found = p
		}
		return err
	})
	if err != nil || found == "" {
		return nil, fmt.Errorf("find kernel module %s: %w", name, errors.Join(err, fs.ErrNotExist))
	}
	if filepath.Ext(found) != ".xz" {
		return os.ReadFile(found)
	}
	data, err := exec.Command("xz", "-dc", found).Output()
	if err != nil {
		return nil, fmt.Errorf("unpack kernel module %s: %w", name, err)
	}
	return data, nil
}
