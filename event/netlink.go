package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NetlinkMessage is one message of the kernel; Data is the receiver's.
type NetlinkMessage struct {
	Type  uint16 // RTM_NEWLINK, …
	Flags uint16
	Data  []byte // behind the header
}

// netlinkBuffer is the socket's receive buffer in bytes: some 10,000 links that
// come at once.
const netlinkBuffer = 8 << 20

// Netlink runs f as an event of h for each message of the multicast groups
// (unix.RTNLGRP_LINK, …) of a netlink family (unix.NETLINK_ROUTE, …), in the
// network namespace of the calling thread. When messages were lost, because the
// kernel or the queue had no room, lost runs: the receiver then asks for the
// whole state.
func (l *Loop) Netlink(h *Handler, family int, groups []int, f func(NetlinkMessage), lost func()) (*Source, error) {
	file, err := netlinkSocket(family, groups)
	if err != nil {
		return nil, fmt.Errorf("watch netlink family %d: %w", family, err)
	}
	return l.newSource("netlink", fmt.Sprintf("family %d groups %v", family, groups), h, func() { file.Close() }, func(s *Source) {
		buf := make([]byte, 64<<10) // larger than a message of the kernel's
		for {
			n, err := file.Read(buf)
			switch {
			case errors.Is(err, unix.ENOBUFS):
				s.lost.Add(1)
				s.overflow(h, lost)
			case err != nil:
				return
			}
			for _, m := range parseNetlink(buf[:max(n, 0)]) {
				if s.post(func() { f(m) }, false) != nil {
					s.overflow(h, lost)
				}
			}
		}
	}), nil
}

func netlinkSocket(family int, groups []int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "netlink")
	// Beyond the system's limit, which root may pass; without, less must do.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, netlinkBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return nil, errors.Join(fmt.Errorf("join group %d: %w", g, err), file.Close())
		}
	}
	return file, nil
}

// parseNetlink decodes struct nlmsghdr (netlink(7)).
func parseNetlink(b []byte) []NetlinkMessage {
	var list []NetlinkMessage
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int64(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > int64(len(b)) {
			break
		}
		list = append(list, NetlinkMessage{
			Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]),
			Data: append([]byte(nil), b[unix.NLMSG_HDRLEN:n]...),
		})
		aligned := (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		b = b[min(aligned, int64(len(b))):]
	}
	return list
}
