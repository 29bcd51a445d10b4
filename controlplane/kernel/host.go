package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TUN is the name of the VRF's device towards its own FIB.
const TUN = "vrf0"

// tunMTU lets the host send the largest packets; interfaces with a smaller MTU
// are found by path MTU discovery.
const tunMTU = 9000

// Interface is a routed interface as the host stack sees it.
type Interface struct {
	Name      string // of the TAP
	MAC       net.HardwareAddr
	MTU       int
	Addresses []netip.Prefix // with host bits; all of them, others are removed
	Up        bool
}

// Host is the kernel's side of one router instance.
type Host struct {
	prefix string
}

// New returns the host of an instance; its namespaces are named INSTANCE-VRF.
func New(instance string) *Host { return &Host{prefix: instance + "-"} }

// EnsureVRF makes the VRF's namespace, with loopback up, forwarding off, and
// the TUN with both default routes; what is there is kept. It returns the
// namespace's path.
func (h *Host) EnsureVRF(vrf string) (string, error) {
	path := h.Path(vrf)
	if err := createNetNS(path); err != nil {
		return "", err
	}
	err := InNetNS(path, func() error {
		if err := setSysctls(vrfSysctls); err != nil {
			return err
		}
		if err := ensureUp("lo"); err != nil {
			return err
		}
		return ensureTUN()
	})
	if err != nil {
		return "", fmt.Errorf("set up VRF %s: %w", vrf, err)
	}
	return path, nil
}

// RemoveVRF removes the VRF's namespace and all in it. Removing what is not
// there is not an error.
func (h *Host) RemoveVRF(vrf string) error {
	path := h.Path(vrf)
	if !isNetNS(path) {
		return removeNetNS(path)
	}
	if err := h.removeDevices(vrf); err != nil {
		return err
	}
	return removeNetNS(path)
}

// removeDevices deletes the VRF's devices at once: whoever still has one open
// would keep the whole namespace alive.
func (h *Host) removeDevices(vrf string) error {
	return InNetNS(h.Path(vrf), func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list devices of VRF %s: %w", vrf, err)
		}
		for _, l := range links {
			if l.Type() != "tuntap" && l.Type() != "tun" {
				continue
			}
			if err := deleteLink(l); err != nil {
				return err
			}
		}
		return nil
	})
}

func deleteLink(l netlink.Link) error {
	err := netlink.LinkDel(l)
	var gone netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &gone) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// Clean removes every VRF of the instance.
func (h *Host) Clean() error {
	vrfs, err := h.VRFs()
	if err != nil {
		return err
	}
	for _, vrf := range vrfs {
		err = errors.Join(err, h.RemoveVRF(vrf))
	}
	return err
}

// EnsureInterface makes the interface's TAP in the VRF, or brings the one that
// is there to the wanted state.
func (h *Host) EnsureInterface(vrf string, want Interface) error {
	err := InNetNS(h.Path(vrf), func() error {
		link, err := ensureTAP(want.Name)
		if err != nil {
			return err
		}
		if err := setSysctls(interfaceSysctls(want.Name)); err != nil {
			return err
		}
		if err := setLink(link, want); err != nil {
			return err
		}
		return setAddresses(link, want.Addresses)
	})
	if err != nil {
		return fmt.Errorf("set up interface %s in VRF %s: %w", want.Name, vrf, err)
	}
	return nil
}

// RemoveInterface deletes the interface's TAP.
func (h *Host) RemoveInterface(vrf, name string) error {
	return InNetNS(h.Path(vrf), func() error {
		link, err := netlink.LinkByName(name)
		var gone netlink.LinkNotFoundError
		if errors.As(err, &gone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find device %s: %w", name, err)
		}
		return deleteLink(link)
	})
}

// Interfaces lists the TAPs of a VRF.
func (h *Host) Interfaces(vrf string) ([]string, error) {
	var names []string
	err := InNetNS(h.Path(vrf), func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list devices of VRF %s: %w", vrf, err)
		}
		for _, l := range links {
			if name := l.Attrs().Name; name != TUN && name != "lo" && l.Type() == "tuntap" {
				names = append(names, name)
			}
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

func ensureUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func findOrAdd(name string, make func() netlink.Link) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		if err := netlink.LinkAdd(make()); err != nil {
			return nil, fmt.Errorf("create device %s: %w", name, err)
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", name, err)
	}
	return link, nil
}

func ensureTAP(name string) (netlink.Link, error) {
	return findOrAdd(name, func() netlink.Link {
		return &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name, TxQLen: 1000}, Mode: netlink.TUNTAP_MODE_TAP,
			Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE}
	})
}

// ensureTUN makes the multi-queue TUN (one queue for each line card) and the
// default routes that lead all that is not on a link into it.
func ensureTUN() error {
	link, err := findOrAdd(TUN, func() netlink.Link {
		return &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: TUN, MTU: tunMTU, TxQLen: 1000}, Mode: netlink.TUNTAP_MODE_TUN,
			Flags: netlink.TUNTAP_NO_PI | unix.IFF_MULTI_QUEUE}
	})
	if err != nil {
		return err
	}
	if err := setSysctls(interfaceSysctls(TUN)); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, tunMTU); err != nil {
		return fmt.Errorf("set MTU of %s: %w", TUN, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", TUN, err)
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		_, dst, _ := net.ParseCIDR(all)
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK, Priority: 4096}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s to %s: %w", all, TUN, err)
		}
	}
	return nil
}

func setLink(link netlink.Link, want Interface) error {
	have := link.Attrs()
	if want.MTU != 0 && have.MTU != want.MTU {
		if err := netlink.LinkSetMTU(link, want.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", want.MTU, err)
		}
	}
	if len(want.MAC) > 0 && !slices.Equal(have.HardwareAddr, want.MAC) {
		if err := netlink.LinkSetHardwareAddr(link, want.MAC); err != nil {
			return fmt.Errorf("set MAC %v: %w", want.MAC, err)
		}
	}
	set, word := netlink.LinkSetUp, "up"
	if !want.Up {
		set, word = netlink.LinkSetDown, "down"
	}
	if (have.Flags&net.FlagUp != 0) != want.Up {
		if err := set(link); err != nil {
			return fmt.Errorf("set %s: %w", word, err)
		}
	}
	return nil
}

// setSysctls writes /proc/sys files of the namespace that the thread is in;
// what the kernel does not have (IPv6 off) is passed over.
func setSysctls(values [][2]string) error {
	for _, kv := range values {
		err := os.WriteFile("/proc/sys/"+kv[0], []byte(kv[1]), 0o644)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set sysctl %s: %w", kv[0], err)
		}
	}
	return nil
}

// vrfSysctls: the host stack is a host, never a router; the line card routes.
// Answers may leave by another interface than the question came in.
var vrfSysctls = [][2]string{
	{"net/ipv4/ip_forward", "0"},
	{"net/ipv4/conf/all/rp_filter", "0"},
	{"net/ipv4/conf/default/rp_filter", "0"},
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/ip_unprivileged_port_start", "0"},
	{"net/ipv4/ping_group_range", "0 2147483647"},
	{"net/ipv6/conf/all/forwarding", "0"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv6/conf/default/autoconf", "0"},
	{"net/ipv6/conf/default/addr_gen_mode", "1"},
	{"net/ipv6/conf/default/accept_dad", "0"},
}

func interfaceSysctls(name string) [][2]string {
	return [][2]string{
		{"net/ipv4/conf/" + name + "/rp_filter", "0"},
		{"net/ipv4/conf/" + name + "/accept_redirects", "0"},
		{"net/ipv4/conf/" + name + "/arp_ignore", "1"},
		{"net/ipv4/conf/" + name + "/arp_announce", "2"},
		{"net/ipv6/conf/" + name + "/disable_ipv6", "0"},
		{"net/ipv6/conf/" + name + "/accept_ra", "0"},
		{"net/ipv6/conf/" + name + "/autoconf", "0"},
		{"net/ipv6/conf/" + name + "/addr_gen_mode", "1"},
		{"net/ipv6/conf/" + name + "/accept_dad", "0"},
	}
}
