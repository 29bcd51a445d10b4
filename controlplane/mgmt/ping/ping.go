// Package ping sends ICMP and ICMPv6 echo requests from a network namespace
// and tells what comes back. It needs no ping program.
//
// A Pinger is used by one goroutine; its calls block for as long as they are
// told to wait.
package ping

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTimeout says that no answer came in time.
var ErrTimeout = errors.New("timeout")

// Options say how to ping.
type Options struct {
	To, Source netip.Addr // Source invalid: the host chooses
	TTL        int        // 0: the host's default
	DF         bool
}

// Reply is an answer.
type Reply struct {
	From  netip.Addr
	Bytes int // of the ICMP message
	RTT   time.Duration
}

// Pinger sends requests to one address.
type Pinger struct {
	f   *os.File
	opt Options
	id  uint16
	buf []byte
}

// Open makes a pinger. enter runs what it is given in the network namespace to
// ping from, and returns its error.
func Open(enter func(func() error) error, opt Options) (*Pinger, error) {
	p := &Pinger{opt: opt, id: uint16(rand.Uint32()), buf: make([]byte, 65536)}
	err := enter(func() (err error) {
		p.f, err = open(opt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func open(opt Options) (*os.File, error) {
	v4 := opt.To.Is4()
	domain, proto := unix.AF_INET6, unix.IPPROTO_ICMPV6
	if v4 {
		domain, proto = unix.AF_INET, unix.IPPROTO_ICMP
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	if err := setup(fd, v4, opt); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "icmp"), nil
}

func setup(fd int, v4 bool, opt Options) error {
	level, ttl, mtu := unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MTU_DISCOVER
	do, dont := unix.IPV6_PMTUDISC_DO, unix.IPV6_PMTUDISC_DONT
	if v4 {
		level, ttl, mtu = unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MTU_DISCOVER
		do, dont = unix.IP_PMTUDISC_DO, unix.IP_PMTUDISC_DONT
	}
	if opt.TTL > 0 {
		if err := unix.SetsockoptInt(fd, level, ttl, opt.TTL); err != nil {
			return fmt.Errorf("set TTL %d: %w", opt.TTL, err)
		}
	}
	if !opt.DF {
		do = dont
	}
	if err := unix.SetsockoptInt(fd, level, mtu, do); err != nil {
		return fmt.Errorf("set path MTU discovery: %w", err)
	}
	if !opt.Source.IsValid() {
		return nil
	}
	if err := unix.Bind(fd, sockaddr(opt.Source)); err != nil {
		return fmt.Errorf("use source address %v: %w", opt.Source, err)
	}
	return nil
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// Close frees the socket.
func (p *Pinger) Close() error { return p.f.Close() }

// Once sends request seq with size bytes of payload, and waits for its answer
// until the timeout or the end of ctx. An ICMP error that tells of the request is an error here.
func (p *Pinger) Once(ctx context.Context, seq uint16, size int, timeout time.Duration) (Reply, error) {
	start := time.Now()
	if err := p.send(seq, size); err != nil {
		return Reply{}, err
	}
	deadline := start.Add(timeout)
	stop := context.AfterFunc(ctx, func() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.f.SetReadDeadline(deadline); err != nil {
		return Reply{}, fmt.Errorf("set deadline: %w", err)
	}
	for ctx.Err() == nil {
		n, from, err := p.recv()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return Reply{}, fmt.Errorf("receive: %w", err)
		}
		msg := p.buf[:n]
		if p.opt.To.Is4() {
			msg, from = stripIPv4(msg)
		}
		if ours, err := p.match(msg, seq, from); ours {
			return Reply{From: from, Bytes: len(msg), RTT: time.Since(start)}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	return Reply{}, ErrTimeout
}

func (p *Pinger) send(seq uint16, size int) error {
	msg := make([]byte, 8+size)
	msg[0] = 128 // ICMPv6 echo request; the kernel makes its checksum
	if p.opt.To.Is4() {
		msg[0] = 8
	}
	binary.BigEndian.PutUint16(msg[4:], p.id)
	binary.BigEndian.PutUint16(msg[6:], seq)
	for i := range size {
		msg[8+i] = byte(i)
	}
	if p.opt.To.Is4() {
		binary.BigEndian.PutUint16(msg[2:], checksum(msg))
	}
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendto(int(fd), msg, 0, sockaddr(p.opt.To))
		return !errors.Is(sendErr, unix.EAGAIN)
	})
	if err = errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (p *Pinger) recv() (n int, from netip.Addr, err error) {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return 0, from, err
	}
	var sa unix.Sockaddr
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		n, sa, recvErr = unix.Recvfrom(int(fd), p.buf, 0)
		return !errors.Is(recvErr, unix.EAGAIN)
	})
	if sa6, ok := sa.(*unix.SockaddrInet6); ok {
		from = netip.AddrFrom16(sa6.Addr)
	}
	return n, from, errors.Join(err, recvErr)
}

// stripIPv4 takes the header off an IPv4 packet; nil if it is malformed.
func stripIPv4(b []byte) ([]byte, netip.Addr) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return nil, netip.Addr{}
	}
	n := int(b[0]&15) * 4
	if n < 20 || n > len(b) {
		return nil, netip.Addr{}
	}
	return b[n:], netip.AddrFrom4([4]byte(b[12:16]))
}

// match tells whether a message answers request seq, and with what error.
func (p *Pinger) match(msg []byte, seq uint16, from netip.Addr) (bool, error) {
	if len(msg) < 8 {
		return false, nil
	}
	if p.opt.To.Is4() {
		return p.match4(msg, seq, from)
	}
	return p.match6(msg, seq, from)
}

func (p *Pinger) match4(msg []byte, seq uint16, from netip.Addr) (bool, error) {
	switch msg[0] {
	case 0:
		return p.echo(msg, seq), nil
	case 3, 11, 12:
		inner, _ := stripIPv4(msg[8:])
		if len(inner) < 8 || inner[0] != 8 || !p.echo(inner, seq) {
			return false, nil
		}
		return true, fmt.Errorf("%v: %s", from, name4(msg[0], msg[1]))
	}
	return false, nil
}

func (p *Pinger) match6(msg []byte, seq uint16, from netip.Addr) (bool, error) {
	switch {
	case msg[0] == 129:
		return p.echo(msg, seq), nil
	case msg[0] >= 1 && msg[0] <= 4:
		if len(msg) < 8+40+8 || msg[8+6] != unix.IPPROTO_ICMPV6 || msg[48] != 128 || !p.echo(msg[48:], seq) {
			return false, nil
		}
		return true, fmt.Errorf("%v: %s", from, name6(msg[0], msg[1]))
	}
	return false, nil
}

func (p *Pinger) echo(msg []byte, seq uint16) bool {
	return binary.BigEndian.Uint16(msg[4:]) == p.id && binary.BigEndian.Uint16(msg[6:]) == seq
}

// name4 names an ICMP error (RFC 792).
func name4(typ, code byte) string {
	switch {
	case typ == 11:
		return "time exceeded"
	case typ == 12:
		return "parameter problem"
	case code == 0:
		return "network unreachable"
	case code == 1:
		return "host unreachable"
	case code == 4:
		return "fragmentation needed"
	case code == 9, code == 10, code == 13:
		return "administratively prohibited"
	}
	return fmt.Sprintf("destination unreachable (code %d)", code)
}

// name6 names an ICMPv6 error (RFC 4443).
func name6(typ, code byte) string {
	switch {
	case typ == 2:
		return "packet too big"
	case typ == 3:
		return "time exceeded"
	case typ == 4:
		return "parameter problem"
	case code == 0:
		return "no route to destination"
	case code == 1:
		return "administratively prohibited"
	case code == 3:
		return "address unreachable"
	}
	return fmt.Sprintf("destination unreachable (code %d)", code)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
