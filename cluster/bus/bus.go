// Package bus is the message bus between the router's processes, in TIPC's
// terms: functional service addresses, connections that keep message borders,
// datagrams, and topology subscriptions that tell at once when a service
// appears or disappears. Implementations are named by where they live:
// bus/local (unix sockets of one machine).
//
// All methods may be called from any goroutine. A process uses one Bus.
package bus

import (
	"context"
	"errors"
	"fmt"
)

// MaxMessage is the largest message in bytes (TIPC_MAX_USER_MSG_SIZE).
const MaxMessage = 66000

// Service is a functional address: a type of service and an instance of it.
type Service struct{ Type, Instance uint32 }

func (s Service) String() string { return fmt.Sprintf("{%d,%d}", s.Type, s.Instance) }

// Range is the instances Lower to Upper, both included, of a service type.
type Range struct{ Type, Lower, Upper uint32 }

func (r Range) String() string { return fmt.Sprintf("{%d,%d,%d}", r.Type, r.Lower, r.Upper) }

// One is the range of a single instance.
func One(typ, instance uint32) Range { return Range{typ, instance, instance} }

// All is the range of all instances of a type.
func All(typ uint32) Range { return Range{typ, 0, ^uint32(0)} }

// Contains tells whether the range has the instance.
func (r Range) Contains(s Service) bool {
	return r.Type == s.Type && r.Lower <= s.Instance && s.Instance <= r.Upper
}

// Overlaps tells whether the ranges share an instance.
func (r Range) Overlaps(o Range) bool {
	return r.Type == o.Type && r.Lower <= o.Upper && o.Lower <= r.Upper
}

// Address is the address of one socket: unique while it lives.
type Address struct{ Ref, Node uint32 }

func (a Address) String() string { return fmt.Sprintf("<%d:%d>", a.Node, a.Ref) }

// The service types of the router's processes.
const (
	TypeSupervisor = 100 // instance 0
	TypeRouter     = 101 // instance 0
	TypeLinecard   = 102 // instance: fib.CardID
	TypeBGP        = 103 // instance: fib.VRF
)

// Bus is one process's membership.
type Bus interface {
	// Listen binds the range and accepts connections to it.
	Listen(Range) (Listener, error)
	// Dial connects to one process that has bound the service: ErrNoName at
	// once if there is none.
	Dial(context.Context, Service) (Conn, error)
	// Socket opens a connectionless socket.
	Socket() (Socket, error)
	// Subscribe reports every binding that overlaps the range: those that
	// exist first, then changes as they happen.
	Subscribe(Range) (Subscription, error)
	// Close unbinds everything and breaks all connections.
	Close() error
}

// Listener accepts connections.
type Listener interface {
	Accept() (Conn, error)
	Close() error
}

// Conn is a connection that keeps message borders. One goroutine may Send
// while another Recvs.
type Conn interface {
	// Send queues one message of 1 to MaxMessage bytes; it blocks while the
	// peer does not read.
	Send([]byte) error
	// Recv returns the next message; ErrPeerGone once the peer has died or
	// closed. The slice is the caller's until the next Recv.
	Recv() ([]byte, error)
	Peer() Address
	Close() error
}

// Datagram is a received connectionless message.
type Datagram struct {
	From Address
	To   Service // the service it was sent to
	Data []byte
}

// Socket sends and receives datagrams.
type Socket interface {
	Bind(Range) error
	// Send reaches one of the sockets bound to the service (anycast, round robin).
	Send(Service, []byte) error
	// Multicast reaches every socket bound to an instance in the range.
	Multicast(Range, []byte) error
	Recv() (Datagram, error)
	Close() error
}

// Event tells of a binding.
type Event struct {
	Up    bool // bound; false: withdrawn, or its process died
	Range Range
	Addr  Address
	Name  string // what the process calls itself, for people
}

// Subscription delivers topology events in order.
type Subscription interface {
	// Next blocks for the next event; an error after Close or loss of the bus.
	Next() (Event, error)
	Close() error
}

// Errors of the bus.
var (
	ErrNoName   = errors.New("no such service bound")
	ErrPeerGone = errors.New("peer gone")
	ErrClosed   = errors.New("bus closed")
	ErrTooLong  = fmt.Errorf("message longer than %d bytes", MaxMessage)
)
