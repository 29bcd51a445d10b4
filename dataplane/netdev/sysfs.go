package netdev

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// writeAttr writes an attribute of a device, below /sys/class/net/NAME, in the
// network namespace of the calling thread: what is mounted at /sys shows the
// namespace of who mounted it.
func writeAttr(name, attr, value string) error {
	dir, err := sysfs()
	if err != nil {
		return fmt.Errorf("open sysfs: %w", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, "class/net/"+name+"/"+attr, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s of %s: %w", attr, name, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("write %s of %s: %w", attr, name, err)
	}
	return nil
}

// sysfs opens a sysfs of the thread's namespace that is mounted nowhere.
func sysfs() (int, error) {
	ctx, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, err
	}
	return unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
}

// DeferInterrupts makes a worker's busy polling the way a device's frames come
// in: while a worker polls, NAPI leaves the device to it, and takes over when the
// worker has not polled for about 200 µs. The attributes are napi_defer_hard_irqs
// and gro_flush_timeout (Linux 5.11).
func DeferInterrupts(name string) error {
	if err := writeAttr(name, "napi_defer_hard_irqs", "2"); err != nil {
		return err
	}
	return writeAttr(name, "gro_flush_timeout", "2000000") // ns
}
