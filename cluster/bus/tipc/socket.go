package tipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// MaxReturned is how much of a message the kernel gives back (MAX_FORWARD_SIZE).
const MaxReturned = 1024

// oobSize holds the control messages of one receive.
const oobSize = 256 + MaxReturned

// sock is a socket in the runtime's poller.
type sock struct {
	f    *os.File
	raw  syscall.RawConn
	addr bus.Address
	once sync.Once
	err  error
	done chan struct{}
}

// open makes a socket of a kind.
func open(o bus.Options) (*sock, error) {
	typ := map[bus.Kind]int{
		bus.SeqPacket: unix.SOCK_SEQPACKET, bus.Stream: unix.SOCK_STREAM, bus.RDM: unix.SOCK_RDM, bus.DGRAM: unix.SOCK_DGRAM,
	}[o.Kind]
	fd, err := unix.Socket(unix.AF_TIPC, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open TIPC socket (is the kernel's tipc module loaded?): %w", err)
	}
	s, err := adopt(fd)
	if err != nil {
		return nil, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_TIPC, unix.TIPC_IMPORTANCE, int(o.Importance))
	if err == nil && (o.Kind == bus.RDM || o.Kind == bus.DGRAM) {
		drop := 0
		if o.Droppable || o.Kind == bus.DGRAM {
			drop = 1
		}
		err = unix.SetsockoptInt(fd, unix.SOL_TIPC, unix.TIPC_DEST_DROPPABLE, drop)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("set up TIPC socket: %w", err)
	}
	return s, nil
}

// adopt puts a descriptor into the poller; it owns it, also on error.
func adopt(fd int) (*sock, error) {
	s := &sock{f: os.NewFile(uintptr(fd), "tipc"), done: make(chan struct{})}
	raw, err := s.f.SyscallConn()
	if err == nil {
		s.raw = raw
		s.addr, err = name(fd)
	}
	if err != nil {
		s.f.Close()
		return nil, fmt.Errorf("set up TIPC socket: %w", err)
	}
	return s, nil
}

func name(fd int) (bus.Address, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return bus.Address{}, err
	}
	return address(sa), nil
}

// address takes the socket address out of a kernel's one.
func address(sa unix.Sockaddr) bus.Address {
	if t, ok := sa.(*unix.SockaddrTIPC); ok {
		if id, ok := t.Addr.(*unix.TIPCSocketAddr); ok {
			return bus.Address{Ref: id.Ref, Node: id.Node}
		}
	}
	return bus.Address{}
}

func toService(s bus.Service) *unix.SockaddrTIPC {
	return &unix.SockaddrTIPC{Scope: unix.TIPC_CLUSTER_SCOPE, Addr: &unix.TIPCServiceName{Type: s.Type, Instance: s.Instance}}
}

func toRange(r bus.Range, scope int) *unix.SockaddrTIPC {
	return &unix.SockaddrTIPC{Scope: scope, Addr: &unix.TIPCServiceRange{Type: r.Type, Lower: r.Lower, Upper: r.Upper}}
}

func toAddress(a bus.Address) *unix.SockaddrTIPC {
	return &unix.SockaddrTIPC{Scope: unix.TIPC_CLUSTER_SCOPE, Addr: &unix.TIPCSocketAddr{Ref: a.Ref, Node: a.Node}}
}

func scope(s bus.Scope) int {
	if s == bus.Node {
		return unix.TIPC_NODE_SCOPE
	}
	return unix.TIPC_CLUSTER_SCOPE
}

func (s *sock) bind(r bus.Range, sc bus.Scope) error {
	switch {
	case r.Lower > r.Upper:
		return fmt.Errorf("bind %s: lower is above upper", r)
	case r.Type < bus.MinType:
		return fmt.Errorf("bind %s: %w", r, bus.ErrReserved)
	}
	if err := s.control(func(fd int) error { return unix.Bind(fd, toRange(r, scope(sc))) }); err != nil {
		return fmt.Errorf("bind %s: %w", r, named(err))
	}
	return nil
}

func (s *sock) control(f func(fd int) error) error {
	var inner error
	err := s.raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return s.outcome(err, inner)
}

// write calls f until it does not block.
func (s *sock) write(f func(fd int) error) error {
	var inner error
	err := s.raw.Write(func(fd uintptr) bool {
		inner = retried(func() error { return f(int(fd)) })
		return !errors.Is(inner, unix.EAGAIN)
	})
	return s.outcome(err, inner)
}

// outcome tells the poller's error, which is that the socket was closed, from
// that of the system call.
func (s *sock) outcome(poller, call error) error {
	if poller == nil {
		return call
	}
	select {
	case <-s.done:
		return bus.ErrClosed
	default:
		return poller
	}
}

func (s *sock) read(f func(fd int) error) error {
	var inner error
	err := s.raw.Read(func(fd uintptr) bool {
		inner = retried(func() error { return f(int(fd)) })
		return !errors.Is(inner, unix.EAGAIN)
	})
	return s.outcome(err, inner)
}

func retried(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// send sends to the address, or to the peer if it is nil.
func (s *sock) send(b []byte, to unix.Sockaddr) error {
	return named(s.write(func(fd int) error {
		_, err := unix.SendmsgN(fd, b, nil, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return err
	}))
}

// received is what one recvmsg brought.
type received struct {
	n     int
	flags int
	from  bus.Address
	info  ancillary
}

func (s *sock) recv(b, oob []byte) (r received, err error) {
	err = s.read(func(fd int) error {
		n, oobn, flags, from, err := unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT)
		if err != nil {
			return err
		}
		r = received{n: max(n, 0), flags: flags, from: address(from)}
		r.info, err = parseAncillary(oob[:oobn])
		return err
	})
	return r, named(err)
}

// ancillary is what goes along with a message.
type ancillary struct {
	code   bus.Code
	data   []byte // of a message that came back
	to     bus.Service
	toName bool
}

var errAncillary = errors.New("malformed ancillary data")

// parseAncillary reads the control messages of TIPC.
func parseAncillary(oob []byte) (a ancillary, err error) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errAncillary, err)
	}
	ne := binary.NativeEndian
	for _, m := range list {
		if m.Header.Level != unix.SOL_TIPC {
			continue
		}
		switch m.Header.Type {
		case unix.TIPC_ERRINFO:
			if len(m.Data) < 8 {
				return a, fmt.Errorf("error of %d bytes: %w", len(m.Data), errAncillary)
			}
			a.code = bus.Code(ne.Uint32(m.Data))
		case unix.TIPC_RETDATA:
			a.data = m.Data
		case unix.TIPC_DESTNAME:
			if len(m.Data) < 12 {
				return a, fmt.Errorf("name of %d bytes: %w", len(m.Data), errAncillary)
			}
			a.to, a.toName = bus.Service{Type: ne.Uint32(m.Data), Instance: ne.Uint32(m.Data[4:])}, true
		}
	}
	return a, nil
}

// close closes the socket, once.
func (s *sock) close() error {
	s.once.Do(func() {
		close(s.done)
		s.err = s.f.Close()
	})
	return s.err
}

// named maps the kernel's errors to those of the bus.
func named(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ECONNREFUSED):
		return bus.ErrNoName
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ENOTCONN):
		return bus.ErrPeerGone
	}
	return err
}
