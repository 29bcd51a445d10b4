package tipc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Commands of the generic netlink family TIPCv2 (linux/tipc_netlink.h).
const (
	cmdBearerDisable = 2
	cmdBearerEnable  = 3
	cmdBearerGet     = 4
	cmdBearerSet     = 5
	cmdLinkGet       = 8
	cmdNodeGet       = 13
	cmdNetGet        = 14
	cmdNetSet        = 15
	cmdNamesGet      = 16
	cmdKeySet        = 23
	cmdKeyFlush      = 24
)

// Attributes: of a message, and nested in them.
const (
	nlaBearer = 1
	nlaLink   = 4
	nlaNode   = 6
	nlaNet    = 7
	nlaNames  = 8

	bearerName = 1
	bearerProp = 2
	bearerUDP  = 4
	udpLocal   = 1
	udpRemote  = 2

	linkName   = 1
	linkUp     = 5
	linkActive = 6
	linkProp   = 7

	propTolerance = 2

	nodeAddr = 1
	nodeUp   = 2
	nodeKey  = 4

	namesPubl = 1
	publType  = 1
	publLower = 2
	publUpper = 3
	publScope = 4
	publNode  = 5
	publRef   = 6

	netID   = 1
	netAddr = 2
)

// attr is a netlink attribute; a nested one has attributes as its data.
type attr struct {
	kind uint16
	data []byte
}

const (
	attrHeader = 4
	genlHeader = 4
	nestedFlag = 0x8000
	kindMask   = 0x3fff
)

func nested(kind uint16, list ...attr) attr {
	return attr{kind | nestedFlag, appendAttrs(nil, list...)}
}

func u32(kind uint16, v uint32) attr { return attr{kind, binary.NativeEndian.AppendUint32(nil, v)} }
func text(kind uint16, s string) attr {
	return attr{kind, append([]byte(s), 0)}
}

func appendAttrs(b []byte, list ...attr) []byte {
	for _, a := range list {
		b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(a.data)))
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = append(b, a.data...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

var errNetlink = errors.New("malformed netlink message")

// parseAttrs decodes attributes by kind; of several of a kind the last counts.
func parseAttrs(b []byte) (map[uint16][]byte, error) {
	m := make(map[uint16][]byte)
	for len(b) > 0 {
		if len(b) < attrHeader {
			return nil, fmt.Errorf("attribute of %d bytes: %w", len(b), errNetlink)
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeader || n > len(b) {
			return nil, fmt.Errorf("attribute of %d in %d bytes: %w", n, len(b), errNetlink)
		}
		m[binary.NativeEndian.Uint16(b[2:])&kindMask] = b[attrHeader:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return m, nil
}

// inner decodes the nested attributes of one of them; none if it is missing.
func inner(m map[uint16][]byte, kind uint16) (map[uint16][]byte, error) { return parseAttrs(m[kind]) }

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func str(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// netlink is a connection to the kernel's TIPC management.
type netlink struct {
	fd     int
	family uint16
	seq    uint32
}

func openNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	n := &netlink{fd: fd, family: unix.GENL_ID_CTRL}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		n.close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	found, err := n.ask(unix.CTRL_CMD_GETFAMILY, false, text(unix.CTRL_ATTR_FAMILY_NAME, "TIPCv2"))
	if err != nil || len(found) != 1 || len(found[0][unix.CTRL_ATTR_FAMILY_ID]) < 2 {
		n.close()
		return nil, fmt.Errorf("find TIPC in the kernel (is its tipc module loaded?): %w", errors.Join(err, unix.ENOENT))
	}
	n.family = binary.NativeEndian.Uint16(found[0][unix.CTRL_ATTR_FAMILY_ID])
	return n, nil
}

func (n *netlink) close() { unix.Close(n.fd) }

// ask sends a command and returns the answers: one or, of a dump, all.
func (n *netlink) ask(cmd byte, dump bool, list ...attr) ([]map[uint16][]byte, error) {
	n.seq++
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	if dump {
		flags = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	}
	body := appendAttrs([]byte{cmd, 1, 0, 0}, list...)
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = ne.AppendUint16(b, n.family)
	b = ne.AppendUint16(b, flags)
	b = ne.AppendUint32(b, n.seq)
	b = append(ne.AppendUint32(b, 0), body...)
	if err := unix.Sendto(n.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask the kernel's TIPC: %w", err)
	}
	var all []map[uint16][]byte
	buf := make([]byte, 64<<10)
	for {
		size, _, err := unix.Recvfrom(n.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask the kernel's TIPC: %w", err)
		}
		answers, done, err := parseAnswers(buf[:size], n.seq)
		all = append(all, answers...)
		if err != nil || done {
			return all, err
		}
	}
}

// parseAnswers decodes a datagram of netlink messages.
func parseAnswers(b []byte, seq uint32) (all []map[uint16][]byte, done bool, err error) {
	ne := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < unix.NLMSG_HDRLEN {
			return all, true, fmt.Errorf("%d bytes: %w", len(b), errNetlink)
		}
		n := int(ne.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return all, true, fmt.Errorf("%d in %d bytes: %w", n, len(b), errNetlink)
		}
		kind, data := ne.Uint16(b[4:]), append([]byte(nil), b[unix.NLMSG_HDRLEN:n]...)
		if ne.Uint32(b[8:]) == seq {
			switch {
			case kind == unix.NLMSG_DONE:
				return all, true, nil
			case kind == unix.NLMSG_ERROR && len(data) >= 4:
				if code := int32(ne.Uint32(data)); code != 0 {
					return all, true, unix.Errno(-code)
				}
				return all, true, nil
			case kind == unix.NLMSG_ERROR || len(data) < genlHeader:
				return all, true, fmt.Errorf("answer of %d bytes: %w", len(data), errNetlink)
			default:
				m, err := parseAttrs(data[genlHeader:])
				if err != nil {
					return all, true, err
				}
				all = append(all, m)
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return all, false, nil
}
