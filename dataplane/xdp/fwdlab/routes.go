package fwdlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const routesPerWrite = 512

// LoadKernel adds the IPv4 prefixes to the router kernel's main table, all by
// the next hop of the lab. The kernel must have its addresses.
func (l *Lab) LoadKernel(prefixes []netip.Prefix) error {
	k, err := l.KernelRoutes()
	if err != nil {
		return err
	}
	return errors.Join(k.Replace(prefixes, NextHop), k.Close())
}

// KernelRoutes changes routes of the router's kernel, out of the device Out. It has one user.
type KernelRoutes struct{ fd, oif int }

// KernelRoutes opens the router kernel's routes.
func (l *Lab) KernelRoutes() (*KernelRoutes, error) {
	k := &KernelRoutes{}
	err := l.Do(Router, func() error {
		out, err := net.InterfaceByName(l.Out)
		if err != nil {
			return err
		}
		k.oif = out.Index
		k.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open routes of the kernel: %w", err)
	}
	return k, nil
}

// Close ends the changes.
func (k *KernelRoutes) Close() error { return unix.Close(k.fd) }

// Replace adds routes by a next hop, or moves them there, in batches.
func (k *KernelRoutes) Replace(prefixes []netip.Prefix, via netip.Addr) error {
	fd, oif := k.fd, k.oif
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
