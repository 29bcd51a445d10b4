package netdev

import (
	"bytes"
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

// message is one rtnetlink message.
type message struct {
	kind uint16
	data []byte
}

// messages cuts a datagram. The standard library's parsers panic on some
// malformed ones.
func messages(b []byte) ([]message, error) {
	var list []message
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return nil, ErrMalformed
		}
		list = append(list, message{binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n]})
		b = b[min(align(n), len(b)):]
	}
	return list, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// attributes calls f for each attribute.
func attributes(b []byte, f func(kind uint16, v []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return ErrMalformed
		}
		f(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// parseLinks reads rtnetlink messages and skips those that are not about links.
func parseLinks(b []byte) ([]Link, error) {
	msgs, err := messages(b)
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, m := range msgs {
		if m.kind != unix.RTM_NEWLINK && m.kind != unix.RTM_DELLINK {
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
func parseLink(m message) (l Link, ok bool, err error) {
	if len(m.data) < unix.SizeofIfInfomsg {
		return l, false, ErrMalformed
	}
	if m.data[0] != unix.AF_UNSPEC {
		return l, false, nil
	}
	flags := binary.NativeEndian.Uint32(m.data[8:])
	l = Link{
		Index: int(int32(binary.NativeEndian.Uint32(m.data[4:]))),
		Up:    flags&unix.IFF_UP != 0,
		Gone:  m.kind == unix.RTM_DELLINK,
	}
	l.Carrier = l.Up && flags&unix.IFF_RUNNING != 0 && !l.Gone
	err = attributes(m.data[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = string(bytes.TrimRight(v, "\x00"))
		case unix.IFLA_ADDRESS:
			l.MAC = bytes.Clone(v)
		case unix.IFLA_MTU:
			if len(v) >= 4 {
				l.MTU = int(binary.NativeEndian.Uint32(v))
			}
		}
	})
	return l, err == nil, err
}
