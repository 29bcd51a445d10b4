package fwdlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const routesPerWrite = 512

// LoadKernel adds the IPv4 prefixes to the router kernel's main table, all by
// the next hop of the lab. The kernel must have its addresses.
func (l *Lab) LoadKernel(prefixes []netip.Prefix) error {
	return l.Do(Router, func() error {
		out, err := net.InterfaceByName(l.Out)
		if err != nil {
			return err
		}
		return loadRoutes(prefixes, NextHop, out.Index)
	})
}

func loadRoutes(prefixes []netip.Prefix, via netip.Addr, oif int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("load routes: %w", err)
	}
	defer unix.Close(fd)
	ack := make([]byte, 1<<16)
	for len(prefixes) > 0 {
		n := min(routesPerWrite, len(prefixes))
		var b []byte
		for i, p := range prefixes[:n] {
			b = appendRoute(b, p, via, oif, i == n-1)
		}
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("load routes: %w", err)
		}
		// Errors come for any message, an acknowledgement for the last.
		m, _, err := unix.Recvfrom(fd, ack, 0)
		if err != nil || m < 20 {
			return fmt.Errorf("load routes: read %d bytes: %w", m, err)
		}
		if e := int32(binary.NativeEndian.Uint32(ack[16:])); e != 0 {
			return fmt.Errorf("load routes: %w", unix.Errno(-e))
		}
		prefixes = prefixes[n:]
	}
	return nil
}

// appendRoute appends an RTM_NEWROUTE message.
func appendRoute(b []byte, p netip.Prefix, via netip.Addr, oif int, ack bool) []byte {
	const size = 16 + 12 + 8 + 8 + 8
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_REPLACE)
	if ack {
		flags |= unix.NLM_F_ACK
	}
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, size)
	b = ne.AppendUint16(b, unix.RTM_NEWROUTE)
	b = ne.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, unix.AF_INET, byte(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC,
		unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0)
	attr := func(kind uint16, v []byte) {
		b = ne.AppendUint16(b, 8)
		b = ne.AppendUint16(b, kind)
		b = append(b, v...)
	}
	dst, gw := p.Addr().As4(), via.As4()
	attr(unix.RTA_DST, dst[:])
	attr(unix.RTA_GATEWAY, gw[:])
	attr(unix.RTA_OIF, ne.AppendUint32(nil, uint32(oif)))
	return b
}
