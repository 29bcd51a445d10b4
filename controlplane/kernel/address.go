package kernel

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setAddresses adds and removes until the device has the wanted addresses and
// no others. An address that stays is not touched: sessions over it go on.
func setAddresses(link netlink.Link, want []netip.Prefix) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	wanted := map[netip.Prefix]bool{}
	for _, p := range want {
		wanted[p] = true
	}
	for i := range have {
		p := toPrefix(have[i].IPNet)
		if wanted[p] {
			delete(wanted, p)
			continue
		}
		if err := netlink.AddrDel(link, &have[i]); err != nil {
			return fmt.Errorf("remove address %v: %w", p, err)
		}
	}
	for _, p := range want {
		if !wanted[p] {
			continue
		}
		if err := netlink.AddrReplace(link, toAddr(p)); err != nil {
			return fmt.Errorf("add address %v: %w", p, err)
		}
	}
	return nil
}

func toPrefix(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}

func toAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // the line card answers for it; nobody else may
	}
	if p.Addr().IsLinkLocalUnicast() {
		a.Scope = int(netlink.SCOPE_LINK)
	}
	return a
}

// LinkLocal is the IPv6 link-local address of a MAC address (RFC 4291,
// appendix A), with its prefix length of 64.
func LinkLocal(mac net.HardwareAddr) netip.Prefix {
	if len(mac) != 6 {
		return netip.Prefix{}
	}
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
