package netdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldOptions of Take.
type HoldOptions struct {
	// Promiscuous makes the device accept frames for any address: needed when
	// the interface's MAC is not the device's.
	Promiscuous bool
}

// Hold is a device that was made ready for a port, and what to undo.
type Hold struct {
	name string
	fd   int // packet socket: its memberships end with it, also when the process dies
	undo []func() error
}

// Take makes a device ready for a port:
//
//  1. no IPv6 of the kernel's and no address at all, so the kernel has nothing to say on it;
//  2. offloads off that make or expect frames which are not as on the wire: GRO, LRO, TSO, GSO,
//     transmit checksums, VLAN tags taken out or put in;
//  3. all multicast accepted (ND, OSPF and others), anything if Promiscuous;
//  4. up.
//
// Offloads that the driver doesn't know or can't change are left alone.
func Take(name string, o HoldOptions) (*Hold, error) {
	h := &Hold{name: name, fd: -1}
	if err := h.take(o); err != nil {
		return nil, errors.Join(fmt.Errorf("take %s: %w", name, err), h.Release())
	}
	return h, nil
}

func (h *Hold) take(o HoldOptions) error {
	l, err := Get(h.name)
	if err != nil {
		return err
	}
	// Protocol 0: the socket holds memberships and receives nothing.
	if h.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := h.silenceIPv6(); err != nil {
		return err
	}
	if err := removeAddresses(l.Index); err != nil {
		return err
	}
	if err := h.offloadsOff(); err != nil {
		return err
	}
	kinds := []uint16{unix.PACKET_MR_ALLMULTI}
	if o.Promiscuous {
		kinds = append(kinds, unix.PACKET_MR_PROMISC)
	}
	for _, k := range kinds {
		m := unix.PacketMreq{Ifindex: int32(l.Index), Type: k}
		if err := unix.SetsockoptPacketMreq(h.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return fmt.Errorf("accept all: %w", err)
		}
	}
	return h.setUp()
}

// Release undoes what Take set, except addresses and the device being up. A
// device that is gone is not an error.
func (h *Hold) Release() error {
	var errs []error
	for i := len(h.undo) - 1; i >= 0; i-- {
		err := h.undo[i]()
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	h.undo = nil
	if h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
	return errors.Join(errs...)
}

func (h *Hold) silenceIPv6() error {
	path := "/proc/sys/net/ipv6/conf/" + h.name + "/disable_ipv6"
	was, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without IPv6, or a device with a small MTU
	}
	if err != nil {
		return err
	}
	if was[0] == '1' {
		return nil
	}
	h.undo = append(h.undo, func() error { return os.WriteFile(path, was, 0o644) })
	return os.WriteFile(path, []byte("1"), 0o644)
}

// Flags of ETHTOOL_SFLAGS (enum ethtool_flags).
const (
	flagTxVLAN = 1 << 7
	flagRxVLAN = 1 << 8
	flagLRO    = 1 << 15
)

// offload is one ethtool setting and the bits of it to clear.
type offload struct{ get, set, clear uint32 }

var offloads = []offload{
	{unix.ETHTOOL_GGRO, unix.ETHTOOL_SGRO, 1},
	{unix.ETHTOOL_GTSO, unix.ETHTOOL_STSO, 1},
	{unix.ETHTOOL_GGSO, unix.ETHTOOL_SGSO, 1},
	{unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_STXCSUM, 1},
	{unix.ETHTOOL_GFLAGS, unix.ETHTOOL_SFLAGS, flagLRO},
	{unix.ETHTOOL_GFLAGS, unix.ETHTOOL_SFLAGS, flagRxVLAN},
	{unix.ETHTOOL_GFLAGS, unix.ETHTOOL_SFLAGS, flagTxVLAN},
}

// value is struct ethtool_value.
type value struct{ cmd, data uint32 }

func (h *Hold) offloadsOff() error {
	for _, o := range offloads {
		was := value{cmd: o.get}
		if err := h.ethtool(&was); err != nil {
			if unchangeable(err) {
				continue
			}
			return err
		}
		if was.data&o.clear == 0 {
			continue
		}
		if err := h.ethtool(&value{o.set, was.data &^ o.clear}); err != nil {
			if unchangeable(err) {
				continue
			}
			return err
		}
		h.undo = append(h.undo, func() error {
			now := value{cmd: o.get}
			if err := h.ethtool(&now); err != nil {
				return err
			}
			return h.ethtool(&value{o.set, now.data | was.data&o.clear})
		})
	}
	return nil
}

func unchangeable(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

func (h *Hold) ethtool(v *value) error {
	if err := ethtoolOn(h.fd, h.name, unsafe.Pointer(v)); err != nil {
		return fmt.Errorf("ethtool command %#x: %w", v.cmd, err)
	}
	return nil
}

func (h *Hold) setUp() error {
	req, err := unix.NewIfreq(h.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(h.fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("get flags: %w", err)
	}
	if req.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(h.fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}
