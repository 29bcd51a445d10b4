package netdev

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreq is struct ifreq with a pointer in it.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// ethtoolOn runs one ethtool command through a socket, in its namespace; arg
// points to the command's structure.
func ethtoolOn(fd int, name string, arg unsafe.Pointer) error {
	if len(name) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	req := ifreq{data: arg}
	copy(req.name[:], name)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if e != 0 {
		return e
	}
	return nil
}

// channels is struct ethtool_channels.
type channels struct {
	cmd                                 uint32
	maxRx, maxTx, maxOther, maxCombined uint32
	rx, tx, other, combined             uint32
}

// Queues tells how many receive queues the device has in use; 1 if the driver
// can't say.
func Queues(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("get queues of %s: %w", name, err)
	}
	defer unix.Close(fd)
	c := channels{cmd: unix.ETHTOOL_GCHANNELS}
	err = ethtoolOn(fd, name, unsafe.Pointer(&c))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get queues of %s: %w", name, err)
	}
	return max(1, int(c.combined+c.rx)), nil
}
