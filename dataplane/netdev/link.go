package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Link is the state of a network device.
type Link struct {
	Index int
	Name  string
	MAC   net.HardwareAddr
	MTU   int  // bytes
	Up    bool // administratively
	// Carrier reports that the device is up and can pass frames.
	Carrier bool
	// Gone reports that the device was removed, or left the namespace.
	Gone bool
}

// Errors of this package.
var (
	// ErrOverflow says that a Watcher has lost changes: list the links again.
	ErrOverflow = errors.New("link changes were lost")
	// ErrMalformed says that a message is not what its header promises.
	ErrMalformed = errors.New("malformed link message")
)

// Links lists all devices.
func Links() ([]Link, error) {
	b, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links, err := parseLinks(b)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}

// Get finds a device by name.
func Get(name string) (Link, error) {
	links, err := Links()
	if err != nil {
		return Link{}, err
	}
	for _, l := range links {
		if l.Name == name {
			return l, nil
		}
	}
	return Link{}, fmt.Errorf("find link %s: %w", name, unix.ENODEV)
}

// Watcher tells of changes of links.
type Watcher struct{ f *os.File }

// NewWatcher starts to watch. List the links after it, and no change is missed.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch links: %w", err)
	}
	return &Watcher{f: os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// Next waits for changes: the links as they are now, or Gone. A link may be
// told of though nothing that Link shows has changed. After ErrOverflow the
// watcher goes on; after Close the error is os.ErrClosed.
func (w *Watcher) Next() ([]Link, error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := w.f.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return nil, ErrOverflow
		case err != nil:
			return nil, fmt.Errorf("watch links: %w", err)
		}
		links, err := parseLinks(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("watch links: %w", err)
		}
		if len(links) > 0 {
			return links, nil
		}
	}
}

// Close ends the watch; a Next that waits returns.
func (w *Watcher) Close() error { return w.f.Close() }

// parseLinks reads rtnetlink messages and skips those that are not about links.
func parseLinks(b []byte) ([]Link, error) {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var links []Link
	for i := range msgs {
		m := &msgs[i]
		if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK {
			continue
		}
		l, ok, err := parseLink(m)
		if err != nil {
			return nil, err
		}
		if ok {
			links = append(links, l)
		}
	}
	return links, nil
}

// parseLink reads one message; not ok if it is about a bridge port, which comes
// under the same type with a family.
func parseLink(m *syscall.NetlinkMessage) (l Link, ok bool, err error) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return l, false, ErrMalformed
	}
	if m.Data[0] != unix.AF_UNSPEC {
		return l, false, nil
	}
	flags := binary.NativeEndian.Uint32(m.Data[8:])
	l = Link{
		Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
		Up:    flags&unix.IFF_UP != 0,
		Gone:  m.Header.Type == unix.RTM_DELLINK,
	}
	l.Carrier = l.Up && flags&unix.IFF_RUNNING != 0 && !l.Gone
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return l, false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			for n := len(a.Value); n > 0 && a.Value[n-1] == 0; n-- {
				a.Value = a.Value[:n-1]
			}
			l.Name = string(a.Value)
		case unix.IFLA_ADDRESS:
			l.MAC = net.HardwareAddr(append([]byte(nil), a.Value...))
		case unix.IFLA_MTU:
			if len(a.Value) >= 4 {
				l.MTU = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
	}
	return l, true, nil
}
