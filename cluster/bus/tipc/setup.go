package tipc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// Node is what the kernel needs to take part in a cluster.
type Node struct {
	ID        uint32 // address of this node, from 1
	Network   uint32 // number of the cluster: others on the same wire have another; default 4711
	Bearers   []Bearer
	Tolerance time.Duration // after which silence a link is down at the latest, 75 ms to 30 s; 0: DefaultTolerance
	Key       []byte        // AES key of 16, 24 or 32 bytes and 4 bytes of salt; empty: no encryption
}

// Bearer is an Ethernet device, or UDP from a local address.
type Bearer struct {
	Device string
	Local  netip.Addr // UDP; to Remote, or if that is zero to whom multicast finds
	Remote netip.Addr
}

// DefaultTolerance of links.
const DefaultTolerance = 1500 * time.Millisecond

// Ethernet makes bearers of devices.
func Ethernet(devices ...string) []Bearer {
	list := make([]Bearer, len(devices))
	for i, d := range devices {
		list[i].Device = d
	}
	return list
}

func (b Bearer) String() string {
	if b.Device != "" {
		return "eth:" + b.Device
	}
	return "udp:" + strings.ReplaceAll(b.Local.String(), ":", ".")
}

// Setup gives the node its identity, key and bearers, whose devices it sets up;
// bearers that are not asked for, left by a process that was killed, it
// disables. What is set up that way already stays as it is, so that it may be
// called again. On an error nothing that it has enabled stays enabled.
func Setup(n Node) (err error) {
	own, err := ownNode() // first: opening a socket makes the kernel load its module
	if err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	defer nl.close()
	if err := nl.identity(n, own); err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	if len(n.Key) > 0 {
		if err := nl.key(n.Key); err != nil {
			return fmt.Errorf("set up bus: set key (has the kernel AES-GCM?): %w", err)
		}
	}
	there, err := nl.keepOnly(n.Bearers)
	if err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	var enabled []Bearer
	defer func() {
		if err != nil {
			err = errors.Join(err, nl.remove(enabled))
		}
	}()
	for _, b := range n.Bearers {
		if !slices.Contains(there, b.String()) {
			if err := nl.enable(b); err != nil {
				return fmt.Errorf("set up bus: enable bearer %s: %w", b, err)
			}
			enabled = append(enabled, b)
		}
		if err := nl.tolerate(b, kernelTolerance(n.Tolerance)); err != nil {
			return fmt.Errorf("set up bus: bearer %s: %w", b, err)
		}
	}
	return nil
}

// Remove takes the node out of the cluster: it disables the bearers and forgets
// the key. The kernel keeps the identity until its module is unloaded.
func Remove(n Node) error {
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	defer nl.close()
	err = nl.remove(n.Bearers)
	if len(n.Key) > 0 {
		_, flush := nl.ask(cmdKeyFlush, false)
		err = errors.Join(err, flush)
	}
	if err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	return nil
}

func (n *netlink) remove(bearers []Bearer) error {
	var errs []error
	for _, b := range bearers {
		_, err := n.ask(cmdBearerDisable, false, nested(nlaBearer, text(bearerName, b.String())))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("disable bearer %s: %w", b, err))
		}
	}
	return errors.Join(errs...)
}

// bearers are the names of those that are enabled.
func (n *netlink) bearers() (list []string, err error) {
	answers, err := n.ask(cmdBearerGet, true)
	if err != nil {
		return nil, fmt.Errorf("list bearers: %w", err)
	}
	for _, a := range answers {
		b, err := inner(a, nlaBearer)
		if err != nil {
			return nil, fmt.Errorf("list bearers: %w", err)
		}
		list = append(list, str(b[bearerName]))
	}
	return list, nil
}

// keepOnly disables all other bearers, and returns those that are enabled.
func (n *netlink) keepOnly(want []Bearer) (there []string, err error) {
	names, err := n.bearers()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if slices.ContainsFunc(want, func(b Bearer) bool { return b.String() == name }) {
			there = append(there, name)
			continue
		}
		if _, err := n.ask(cmdBearerDisable, false, nested(nlaBearer, text(bearerName, name))); err != nil {
			return nil, fmt.Errorf("disable bearer %s: %w", name, err)
		}
	}
	return there, nil
}

// kernelTolerance is what the kernel is told so that it gives a silent link up
// within the tolerance. It looks every quarter of what it is told, at most every
// 500 ms, and gives up when it has found nothing new more often than the
// tolerance has such intervals: one and a half times what it is told, or up to
// 1 s more.
func kernelTolerance(d time.Duration) time.Duration {
	if d == 0 {
		d = DefaultTolerance
	}
	const longest = 500 * time.Millisecond
	if d = min(d, bus.MaxTolerance); d > 6*longest {
		return d - 2*longest
	}
	return max(d*2/3, bus.MinTolerance)
}

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 1024

// ReadKey reads a key from a file that nobody but its owner may read: 20, 28 or
// 36 bytes in hexadecimal. Errors never show what is in it.
func ReadKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read cluster key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read cluster key: %w", err)
	case !st.Mode().IsRegular() || st.Size() > maxKeyFile:
		return nil, fmt.Errorf("read cluster key %s: no file of at most %d bytes", file, maxKeyFile)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("read cluster key %s: others may read it (mode %04o): chmod 600", file, st.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read cluster key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if n := len(key); err != nil || (n != 20 && n != 28 && n != 36) {
		return nil, fmt.Errorf("read cluster key %s: want 20, 28 or 36 bytes in hexadecimal (openssl rand -hex 36)", file)
	}
	return key, nil
}

var errIdentity = errors.New("the kernel has another identity already: its bearers must be disabled first, or the machine restarted")

// identity sets the network's number and the node's address. Both can be set
// as long as the kernel has none.
func (n *netlink) identity(want Node, own uint32) error {
	network := want.Network
	if network == 0 {
		network = defaultNetwork
	}
	if own != 0 {
		is, err := n.network()
		if err != nil {
			return err
		}
		if own != want.ID || is != network {
			return fmt.Errorf("node %d of network %d: %w", own, is, errIdentity)
		}
		return nil
	}
	if _, err := n.ask(cmdNetSet, false, nested(nlaNet, u32(netID, network))); err != nil {
		return fmt.Errorf("set network %d: %w", network, err)
	}
	if _, err := n.ask(cmdNetSet, false, nested(nlaNet, u32(netAddr, want.ID))); err != nil {
		return fmt.Errorf("set node %d: %w", want.ID, err)
	}
	return nil
}

// network is the number of the network that the kernel has.
func (n *netlink) network() (uint32, error) {
	answers, err := n.ask(cmdNetGet, true)
	if err != nil {
		return 0, fmt.Errorf("ask for the network: %w", err)
	}
	for _, a := range answers {
		in, err := inner(a, nlaNet)
		if err != nil {
			return 0, fmt.Errorf("ask for the network: %w", err)
		}
		if id, ok := in[netID]; ok {
			return number(id), nil
		}
	}
	return 0, fmt.Errorf("ask for the network: %w", errNetlink)
}

// defaultNetwork is the kernel's, too.
const defaultNetwork = 4711

// ownNode is the kernel's node address; 0 if it has none yet.
func ownNode() (uint32, error) {
	s, err := open(bus.Options{Kind: bus.RDM})
	if err != nil {
		return 0, err
	}
	return s.addr.Node, s.close()
}

// key sets the cluster's key (struct tipc_aead_key).
func (n *netlink) key(key []byte) error {
	b := make([]byte, unix.TIPC_AEAD_ALG_NAME, unix.TIPC_AEAD_KEY_SIZE_MAX)
	copy(b, "gcm(aes)")
	b = binary.NativeEndian.AppendUint32(b, uint32(len(key)))
	_, err := n.ask(cmdKeySet, false, nested(nlaNode, attr{nodeKey, append(b, key...)}))
	return err
}

func (n *netlink) enable(b Bearer) error {
	list := []attr{text(bearerName, b.String())}
	if b.Device != "" {
		if err := setUp(b.Device); err != nil {
			return err
		}
	} else {
		local, remote, err := udpAddresses(b)
		if err != nil {
			return err
		}
		list = append(list, nested(bearerUDP, attr{udpLocal, local}, attr{udpRemote, remote}))
	}
	_, err := n.ask(cmdBearerEnable, false, nested(nlaBearer, list...))
	return err
}

// tolerate sets the tolerance of a bearer's links: of one that is being enabled
// the kernel does not take it.
func (n *netlink) tolerate(b Bearer, tolerance time.Duration) error {
	prop := nested(bearerProp, u32(propTolerance, uint32(tolerance/time.Millisecond)))
	if _, err := n.ask(cmdBearerSet, false, nested(nlaBearer, text(bearerName, b.String()), prop)); err != nil {
		return fmt.Errorf("set tolerance %v: %w", tolerance, err)
	}
	return nil
}

// setUp sets a network device up.
func setUp(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set up device: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(device)
	if err != nil {
		return fmt.Errorf("set up device: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("set up device: %w", err)
	}
	if req.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set up device: %w", err)
	}
	return nil
}

// udpPort is TIPC's over UDP; the multicast groups are those of its tools.
const udpPort = 6118

var groups = map[bool]netip.Addr{true: netip.MustParseAddr("228.0.18.103"), false: netip.MustParseAddr("ff02::114b")}

// udpAddresses are the bearer's ends as struct sockaddr_storage.
func udpAddresses(b Bearer) (local, remote []byte, err error) {
	to := b.Remote
	if !to.IsValid() {
		to = groups[b.Local.Is4()]
	}
	if !b.Local.IsValid() || b.Local.Is4() != to.Is4() {
		return nil, nil, fmt.Errorf("UDP from %v to %v: %w", b.Local, to, unix.EINVAL)
	}
	return sockaddr(b.Local), sockaddr(to), nil
}

func sockaddr(a netip.Addr) []byte {
	b := make([]byte, unix.SizeofSockaddrAny+16) // struct sockaddr_storage: 128
	if a.Is4() {
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], a.AsSlice())
	} else {
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		copy(b[8:], a.AsSlice())
	}
	binary.BigEndian.PutUint16(b[2:], udpPort)
	return b
}
