package afpacket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

// ErrGone is the answer of a port whose device was removed.
var ErrGone = errors.New("device is gone")

const (
	etherHeader = 14
	vlanTags    = 8       // room for two tags above the MTU
	recvBuffer  = 4 << 20 // bytes that the kernel holds for us: some thousand small frames
	idleProbe   = 256     // empty reads between two looks at the socket's error
)

// Options of Open.
type Options struct {
	ID fib.PortID
	// Fanout spreads the device's flows over the ports of several workers: all
	// that give the same number (not 0) take part.
	Fanout uint16
}

// Port is a packet socket on a device.
type Port struct {
	id       fib.PortID
	name     string
	fd       int
	pool     *graph.Pool
	rx       batch
	armed    [graph.VectorSize]*graph.Packet // what rx's messages point to
	tx       batch
	maxFrame atomic.Int32 // bytes
	gone     bool
	idle     int
	mute     *xdp.Mute
	reason   string
	live     netdev.Live

	mu    sync.Mutex // keeps Counters from a socket that Close closes
	drops uint64     // of the kernel, which forgets what was read
}

var (
	_ graph.Port   = (*Port)(nil)
	_ graph.Poller = (*Port)(nil)
)

// Open opens a port on the device, in the namespace of the calling thread.
func Open(name string, pool *graph.Pool, o Options) (*Port, error) {
	p := &Port{id: o.ID, name: name, pool: pool, fd: -1}
	if err := p.open(o); err != nil {
		p.Close()
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	return p, nil
}

func (p *Port) open(o Options) error {
	nic, err := net.InterfaceByName(p.name)
	if err != nil {
		return err
	}
	p.SetMTU(nic.MTU)
	p.rx.init(true)
	p.tx.init(false)
	// Muted first: nothing reaches the kernel once the port is open.
	if p.mute, err = xdp.MuteDevice(nic.Index); err != nil {
		p.reason = err.Error()
		// Absent without IPv4 forwarding in the kernel, which is as good.
		os.WriteFile("/proc/sys/net/ipv4/conf/"+p.name+"/forwarding", []byte("0"), 0o644)
	}
	// Protocol 0 until bound: nothing of other devices slips in.
	p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	for _, s := range []struct{ opt, value int }{
		{unix.PACKET_AUXDATA, 1}, {unix.PACKET_IGNORE_OUTGOING, 1}, {unix.PACKET_QDISC_BYPASS, 1},
	} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, s.opt, s.value); err != nil {
			return fmt.Errorf("set option %d: %w", s.opt, err)
		}
	}
	unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, recvBuffer)
	all := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: nic.Index}
	if err := unix.Bind(p.fd, &all); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if o.Fanout != 0 {
		arg := int(o.Fanout) | unix.PACKET_FANOUT_HASH<<16
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg); err != nil {
			return fmt.Errorf("join fanout %d: %w", o.Fanout, err)
		}
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// ID is the port's number.
func (p *Port) ID() fib.PortID { return p.id }

// Muted reports whether the kernel is kept from the port's frames, and if not, why.
func (p *Port) Muted() (bool, string) { return p.mute != nil, p.reason }

// SetMTU sets the largest frame that Tx takes: the MTU, an Ethernet header and two VLAN tags.
func (p *Port) SetMTU(mtu int) { p.maxFrame.Store(int32(mtu + etherHeader + vlanTags)) }

// Rx appends received frames to v.
func (p *Port) Rx(v *graph.Vector) error {
	if p.gone {
		return p.goneError()
	}
	want := p.arm(graph.VectorSize - v.N)
	if want == 0 {
		return nil
	}
	n, e := p.rx.call(unix.SYS_RECVMMSG, p.fd, 0, want)
	if e != 0 || n == 0 {
		return p.empty(e)
	}
	var packets, bytes uint64
	for i := range n {
		pkt := p.armed[i]
		p.armed[i] = nil
		if !p.finish(pkt, i) {
			p.live.Drop(netdev.RxTooLong, 1)
			p.pool.Put(pkt)
			continue
		}
		pkt.Port = p.id
		v.Push(pkt)
		packets++
		bytes += uint64(len(pkt.Data))
	}
	p.live.Received(packets, bytes)
	return nil
}

// arm points up to n messages at free buffers and tells how many are.
func (p *Port) arm(n int) int {
	for i := range n {
		if p.armed[i] != nil {
			continue
		}
		pkt := p.pool.GetFor(min(int(p.maxFrame.Load()), p.pool.MaxRoom()))
		if pkt == nil { // no more jumbo buffers: short frames still come in
			pkt = p.pool.Get()
		}
		if pkt == nil {
			return i
		}
		p.armed[i] = pkt
		p.rx.point(i, pkt.Data[:cap(pkt.Data)])
	}
	return n
}

// finish makes the packet of message i of what was received.
func (p *Port) finish(pkt *graph.Packet, i int) bool {
	n, truncated := p.rx.length(i)
	if truncated {
		return false
	}
	pkt.Data = pkt.Data[:n]
	tag, ok := p.rx.tag(i)
	if !ok {
		return true
	}
	// The kernel has taken the VLAN tag out: put it back.
	if n < 12 || n+4 > cap(pkt.Data) || !p.pool.Grow(pkt, 4) {
		return false
	}
	copy(pkt.Data, pkt.Data[4:16])
	copy(pkt.Data[12:16], tag[:])
	return true
}

// empty handles a receive call that gave nothing.
func (p *Port) empty(e unix.Errno) error {
	switch e {
	case unix.ENXIO, unix.EBADF, unix.ENODEV:
		p.gone = true
		return p.goneError()
	}
	if p.idle++; p.idle >= idleProbe {
		p.idle = 0
		var name unix.RawSockaddrLinklayer
		if !boundTo(p.fd, &name) {
			p.gone = true
			return p.goneError()
		}
	}
	return nil
}

func (p *Port) goneError() error { return fmt.Errorf("use port %s: %w", p.name, ErrGone) }

// Tx sends the frames of v and empties it.
func (p *Port) Tx(v *graph.Vector) error {
	n, bytes := 0, uint64(0)
	limit := int(p.maxFrame.Load())
	for _, pkt := range v.P[:v.N] {
		switch l := len(pkt.Data); {
		case p.gone:
			p.live.Drop(netdev.TxGone, 1)
		case l < etherHeader:
			p.live.Drop(netdev.TxTooShort, 1)
		case l > limit:
			p.live.Drop(netdev.TxTooLong, 1)
		default:
			p.tx.point(n, pkt.Data)
			n++
		}
	}
	sent := 0
	for sent < n {
		k, e := p.tx.call(unix.SYS_SENDMMSG, p.fd, sent, n-sent)
		if e == 0 {
			for i := sent; i < sent+k; i++ {
				bytes += p.tx.size(i)
			}
			p.live.Sent(uint64(k), bytes)
			bytes = 0
			sent += k
			continue
		}
		if rest := p.refused(e, n-sent); rest {
			break
		}
		sent++ // the frame that the kernel does not like
	}
	for _, pkt := range v.P[:v.N] {
		p.pool.Put(pkt)
	}
	v.N = 0
	if p.gone {
		return p.goneError()
	}
	return nil
}

// refused counts what a failed send drops, of n frames, and reports whether
// that is all of them.
func (p *Port) refused(e unix.Errno, n int) bool {
	switch e {
	case unix.EAGAIN, unix.ENOBUFS:
		p.live.Drop(netdev.TxRingFull, uint64(n))
	case unix.ENETDOWN:
		p.live.Drop(netdev.TxOther, uint64(n))
	case unix.ENXIO, unix.EBADF, unix.ENODEV:
		p.gone = true
		p.live.Drop(netdev.TxGone, uint64(n))
	default:
		p.live.Drop(netdev.TxOther, 1)
		return false
	}
	return true
}

// Flush has nothing to do: Tx sends.
func (p *Port) Flush() error {
	if p.gone {
		return p.goneError()
	}
	return nil
}

// Fds appends the socket: readable when Rx has work.
func (p *Port) Fds(fds []int) []int {
	if p.fd < 0 {
		return fds
	}
	return append(fds, p.fd)
}

// Counters is the port's traffic. Any goroutine may call it.
func (p *Port) Counters() netdev.Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDrops()
	c := p.live.Read()
	c.Drops[netdev.RxRingFull] += p.drops
	return c
}

func (p *Port) readDrops() {
	if p.fd < 0 {
		return
	}
	if s, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.drops += uint64(s.Drops)
	}
}

// InHand counts the buffers that wait for frames.
func (p *Port) InHand() int {
	n := 0
	for _, pkt := range p.armed {
		if pkt != nil {
			n++
		}
	}
	return n
}

// Close closes the socket and brings its buffers home to the pool.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		p.readDrops()
		unix.Close(p.fd)
		p.fd = -1
	}
	p.gone = true
	for i, pkt := range p.armed {
		if pkt != nil {
			p.pool.Put(pkt)
			p.armed[i] = nil
		}
	}
	if p.mute == nil {
		return nil
	}
	err := p.mute.Close()
	p.mute = nil
	return err
}
