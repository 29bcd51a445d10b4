package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// removeAddresses takes all IPv4 and IPv6 addresses from the device.
func removeAddresses(index int) error {
	b, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	reqs, err := deletions(b, index)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, r := range reqs {
		// A primary address takes its secondaries along.
		if err := request(r); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address: %w", err)
		}
	}
	return nil
}

// deletions makes a request from each listed address of the device.
func deletions(b []byte, index int) ([][]byte, error) {
	msgs, err := messages(b)
	if err != nil {
		return nil, err
	}
	var reqs [][]byte
	for _, m := range msgs {
		if m.kind != unix.RTM_NEWADDR || len(m.data) < unix.SizeofIfAddrmsg {
			continue
		}
		if binary.NativeEndian.Uint32(m.data[4:]) != uint32(index) {
			continue
		}
		r := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(m.data))
		r = append(r, m.data...)
		binary.NativeEndian.PutUint32(r, uint32(len(r)))
		binary.NativeEndian.PutUint16(r[4:], unix.RTM_DELADDR)
		binary.NativeEndian.PutUint16(r[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		reqs = append(reqs, r)
	}
	return reqs, nil
}

// request sends one rtnetlink request and waits for its acknowledgement.
func request(r []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, r, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return ErrMalformed
	}
	if e := int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])); e != 0 {
		return unix.Errno(-e)
	}
	return nil
}
