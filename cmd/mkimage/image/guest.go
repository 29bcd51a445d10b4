package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Guest is a small machine for tests: the kernel, its modules, BusyBox and
// some files.
type Guest struct {
	Kernel  string            // folder where kernel packages are kept
	Package string            // see Options.Kernel
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
