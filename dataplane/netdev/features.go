package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// XDPFeatures are what a driver can do with XDP (linux/netdev.h).
type XDPFeatures uint64

// The features that forwarding needs.
const (
	XDPBasic    XDPFeatures = 1 << iota // runs programs
	XDPRedirect                         // sends on what a program redirects
	XDPTransmit                         // takes frames that others redirect to it
)

// Numbers of the generic netlink families "nlctrl" and "netdev".
const (
	ctrlID         = 0x10
	ctrlGetFamily  = 3
	ctrlFamilyID   = 1
	ctrlFamilyName = 2
	netdevDevGet   = 1
	netdevIfindex  = 1
	netdevFeatures = 3
	genlHeader     = 4
	nlHeader       = 16
)

var errNoFeature = errors.New("not in the kernel's answer")

// Features asks the kernel (Linux 6.3) what the device's driver can do now: a veth takes redirected
// frames only while its peer has NAPI, by a program of its own or by GRO. It works in the network
// namespace of the calling thread.
func Features(index int) (XDPFeatures, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return 0, fmt.Errorf("ask for XDP features: %w", err)
	}
	defer unix.Close(fd)
	f, err := askFeatures(fd, index)
	if err != nil {
		return 0, fmt.Errorf("ask for XDP features of device %d: %w", index, err)
	}
	return f, nil
}

func askFeatures(fd, index int) (XDPFeatures, error) {
	body, err := genlAsk(fd, ctrlID, ctrlGetFamily, ctrlFamilyName, append([]byte("netdev"), 0))
	if err != nil {
		return 0, fmt.Errorf("find family netdev: %w", err)
	}
	id := genlAttr(body, ctrlFamilyID)
	if len(id) != 2 {
		return 0, fmt.Errorf("find family netdev: %w", errNoFeature)
	}
	ne := binary.NativeEndian
	body, err = genlAsk(fd, ne.Uint16(id), netdevDevGet, netdevIfindex, ne.AppendUint32(nil, uint32(index)))
	if err != nil {
		return 0, err
	}
	f := genlAttr(body, netdevFeatures)
	if len(f) != 8 {
		return 0, errNoFeature
	}
	return XDPFeatures(ne.Uint64(f)), nil
}

// genlAsk sends a request with one attribute and returns the attributes of the answer.
func genlAsk(fd int, family uint16, cmd uint8, attr uint16, value []byte) ([]byte, error) {
	ne := binary.NativeEndian
	padded := (len(value) + 3) &^ 3
	b := ne.AppendUint32(nil, uint32(nlHeader+genlHeader+4+padded))
	b = ne.AppendUint16(b, family)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, cmd, 1, 0, 0)
	b = ne.AppendUint16(b, uint16(4+len(value)))
	b = ne.AppendUint16(b, attr)
	b = append(append(b, value...), make([]byte, padded-len(value))...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<15)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	return genlBody(buf[:n])
}

// genlBody checks an answer and returns its attributes.
func genlBody(b []byte) ([]byte, error) {
	ne := binary.NativeEndian
	if len(b) < nlHeader+genlHeader {
		return nil, fmt.Errorf("answer of %d bytes", len(b))
	}
	n := int(ne.Uint32(b))
	if ne.Uint16(b[4:]) == unix.NLMSG_ERROR {
		return nil, unix.Errno(-int32(ne.Uint32(b[nlHeader:])))
	}
	if n < nlHeader+genlHeader || n > len(b) {
		return nil, fmt.Errorf("answer of %d bytes says %d", len(b), n)
	}
	return b[nlHeader+genlHeader : n], nil
}

// genlAttr finds an attribute; nil if it is not there.
func genlAttr(b []byte, kind uint16) []byte {
	ne := binary.NativeEndian
	for len(b) >= 4 {
		n := int(ne.Uint16(b))
		if n < 4 || n > len(b) {
			return nil
		}
		if ne.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return b[4:n]
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}
