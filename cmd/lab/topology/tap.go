package topology

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"godwit/controlplane/kernel"
)

// TAP makes a network device on the host, whose other end is the file: for a
// virtual machine. It goes with the file.
func (h *Host) TAP(ctx context.Context, device string, addresses ...string) (_ *os.File, err error) {
	fd := -1
	err = kernel.InNetNS("/run/netns/"+h.NetNS, func() error {
		var err error
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
	f := os.NewFile(uintptr(fd), device)
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("make TAP %s: %w", device, err)
	}
	for _, a := range addresses {
		if _, err := h.Exec(ctx, "ip", "addr", "add", a, "dev", device); err != nil {
			f.Close()
			return nil, err
		}
	}
	if _, err := h.Exec(ctx, "ip", "link", "set", device, "up"); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
