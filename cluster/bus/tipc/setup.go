package tipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// Node is what the kernel needs to take part in a cluster.
type Node struct {
	ID        uint32        // address of this node, from 1
	Network   uint32        // number of the cluster: others on the same wire have another; default 4711
	Bearers   []string      // network devices, "eth0"
	Tolerance time.Duration // of links, 50 ms to 30 s; 0: the kernel's 1.5 s
	Key       []byte        // 20, 28 or 36 bytes: AES key and 4 bytes of salt; empty: no encryption
}

// Setup gives the node its identity, key and bearers. What is set up that way
// already stays as it is, so that it may be called again.
func Setup(n Node) error {
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	defer nl.close()
	if err := nl.identity(n); err != nil {
		return fmt.Errorf("set up bus: %w", err)
	}
	if len(n.Key) > 0 {
		if err := nl.key(n.Key); err != nil {
			return fmt.Errorf("set up bus: set key: %w", err)
		}
	}
	for _, dev := range n.Bearers {
		if err := nl.enable(dev, n.Tolerance); err != nil {
			return fmt.Errorf("set up bus: enable bearer %s: %w", dev, err)
		}
	}
	return nil
}

// Remove disables the bearers, so that the node leaves the cluster.
func Remove(bearers []string) error {
	nl, err := openNetlink()
	if err != nil {
		return fmt.Errorf("remove bearers: %w", err)
	}
	defer nl.close()
	var errs []error
	for _, dev := range bearers {
		_, err := nl.ask(cmdBearerDisable, false, nested(nlaBearer, text(bearerName, "eth:"+dev)))
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("disable bearer %s: %w", dev, err))
		}
	}
	return errors.Join(errs...)
}

var errIdentity = errors.New("the kernel has another identity already: its bearers must be disabled first, or the machine restarted")

// identity sets the network's number and the node's address. Both can be set
// as long as the kernel has none.
func (n *netlink) identity(want Node) error {
	own, err := ownNode()
	if err != nil {
		return err
	}
	if own != 0 {
		if own != want.ID {
			return fmt.Errorf("node %d: %w", own, errIdentity)
		}
		return nil
	}
	network := want.Network
	if network == 0 {
		network = defaultNetwork
	}
	if _, err := n.ask(cmdNetSet, false, nested(nlaNet, u32(netID, network))); err != nil {
		return fmt.Errorf("set network %d: %w", network, err)
	}
	if _, err := n.ask(cmdNetSet, false, nested(nlaNet, u32(netAddr, want.ID))); err != nil {
		return fmt.Errorf("set node %d: %w", want.ID, err)
	}
	return nil
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

func (n *netlink) enable(dev string, tolerance time.Duration) error {
	list := []attr{text(bearerName, "eth:"+dev)}
	if tolerance > 0 {
		list = append(list, nested(bearerProp, u32(propTolerance, uint32(tolerance/time.Millisecond))))
	}
	_, err := n.ask(cmdBearerEnable, false, nested(nlaBearer, list...))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// Links returns the links to other nodes: one for each common bearer.
func (m *Member) Links() ([]bus.Link, error) { return Links() }

// Nodes returns this node and those that it has links to.
func (m *Member) Nodes() []uint32 {
	own, err := ownNode()
	if err != nil {
		return nil
	}
	list := []uint32{own}
	sub, err := m.subscribe(bus.All(bus.TypeNodeState), bus.Options{Timeout: 10 * time.Millisecond})
	if err != nil {
		return list
	}
	defer sub.Close()
	for {
		e, err := sub.Next()
		if err != nil {
			return list
		}
		if e.Up && e.Range.Lower != own {
			list = append(list, e.Range.Lower)
		}
	}
}

var _ bus.Inspector = (*Member)(nil)

// Links returns the kernel's links to other nodes.
func Links() ([]bus.Link, error) {
	nl, err := openNetlink()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	defer nl.close()
	answers, err := nl.ask(cmdLinkGet, true)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var list []bus.Link
	for _, a := range answers {
		l, err := inner(a, nlaLink)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		prop, err := inner(l, linkProp)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		name := str(l[linkName])
		if strings.HasPrefix(name, "broadcast-link") {
			continue
		}
		_, up := l[linkUp]
		list = append(list, bus.Link{Name: name, Up: up, Tolerance: time.Duration(number(prop[propTolerance])) * time.Millisecond, Silent: -1})
	}
	return list, nil
}
