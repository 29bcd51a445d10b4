// Package bus is the message bus between the router's processes, in TIPC's
// terms: functional service addresses, connections that keep message borders,
// datagrams, and topology subscriptions that tell at once when a service
// appears or disappears. Implementations are named by where they live:
// bus/local (unix sockets of one machine) and bus/tipc (the kernel's TIPC, for
// clusters of machines). Both pass the suite of bustest.
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
// On bus/local the node is 0.
type Address struct{ Ref, Node uint32 }

func (a Address) String() string { return fmt.Sprintf("<%d:%d>", a.Node, a.Ref) }

// The service types of the router's processes.
const (
	TypeSupervisor = 100 // instance 0
	TypeRouter     = 101 // instance 0
	TypeLinecard   = 102 // instance: fib.CardID
	TypeBGP        = 103 // instance: fib.VRF
	TypeFIB        = 104 // instance: fib.CardID; line cards take multicasts of route changes there
)

// The services that every bus has built in: subscribe to them to follow nodes
// and links. A node's instance is its address; a link's is the peer's address
// (bus/local: the peer member's number, since a link joins two processes there).
const (
	TypeNodeState = 0
	TypeTopology  = 1
	TypeLinkState = 2
	// MinType is the lowest type that may be bound (TIPC_RESERVED_TYPES).
	MinType = 64
)

// Bus is one process's membership.
type Bus interface {
	Grouper
	// Listen binds the range and accepts connections to it. Options: Of
	// SeqPacket or Stream, Within, With.
	Listen(Range, ...Option) (Listener, error)
	// Dial connects to one process that has bound the service, the nearest
	// ones in turn: ErrNoName at once if there is none. Options: Of, With, Data.
	Dial(context.Context, Service, ...Option) (Conn, error)
	// Socket opens a connectionless socket. Options: Of RDM or DGRAM, With,
	// Droppable.
	Socket(...Option) (Socket, error)
	// Subscribe reports every binding that overlaps the range: those that
	// exist first, then changes as they happen. Options: Filtered, Expires.
	Subscribe(Range, ...Option) (Subscription, error)
	// Close unbinds everything and breaks all connections.
	Close() error
}

// Grouper makes the process a member of communication groups.
type Grouper interface {
	// Join enters the group that is named by the service's type, as the
	// instance. Options: Within, With, Loopback.
	Join(Service, ...Option) (Group, error)
}

// Listener accepts connections.
type Listener interface {
	Accept() (Conn, error)
	Close() error
}

// Conn is a connection. Of SeqPacket it keeps message borders; of Stream it
// does not. One goroutine may Send while another Recvs.
type Conn interface {
	// Send queues one message of 1 to MaxMessage bytes (a Stream takes any
	// length); it blocks while the peer does not read. Messages that follow each
	// other while the transport is busy share its next packet.
	Send([]byte) error
	// Recv returns the next message; a *GoneError, which is ErrPeerGone, once
	// the peer has closed, died, or its link was lost. The slice is the caller's
	// until the next Recv.
	Recv() ([]byte, error)
	Peer() Address
	Close() error
}

// Datagram is a received connectionless message, or one of our own that came
// back because it could not be delivered.
type Datagram struct {
	From Address
	To   Service // the service it was sent to; zero if sent to an Address
	Data []byte  // of one that came back, 1024 bytes at least, if it has them
	Code Code    // why it came back; OK: it is a message for us
}

// Sender sends connectionless messages of 1 to MaxMessage bytes.
type Sender interface {
	// Send reaches one of the sockets bound to the service (anycast: nearest
	// first, those with the same range in turn). ErrNoName: nobody has bound it.
	Send(Service, []byte) error
	// SendTo reaches one socket; if it is not there the message comes back.
	// ErrNoNode: there is no link to its node.
	SendTo(Address, []byte) error
	// Multicast reaches every socket bound to an instance in the range once.
	Multicast(Range, []byte) error
}

// Socket sends and receives datagrams. Those from one sender to one receiver
// arrive in the order sent, whichever way they were sent. A receiver whose
// queue is full for the sender's importance sends them back with Overload.
type Socket interface {
	Sender
	Bind(Range, ...Option) error
	Recv() (Datagram, error)
	Addr() Address
	Close() error
}

// GroupEvent is a message of a group's member, or the news that a member
// joined or left. Joined precedes the member's first message; Left follows its
// last.
type GroupEvent struct {
	What     GroupNews
	From     Address
	Instance uint32 // of the member; tells nothing of a message on TIPC
	Data     []byte
}

// GroupNews is what a GroupEvent tells.
type GroupNews uint8

// Kinds of group events.
const (
	Message GroupNews = iota
	Joined
	Left
)

// GroupSender sends to members of a group. All modes keep one order for each
// receiver; senders wait for members that do not read (flow control).
type GroupSender interface {
	Unicast(Address, []byte) error  // one member
	Anycast(uint32, []byte) error   // one of the members with the instance, in turn
	Multicast(uint32, []byte) error // all members with the instance
	Broadcast([]byte) error         // all members
}

// Group is membership of a communication group; Close leaves it.
type Group interface {
	GroupSender
	Recv() (GroupEvent, error)
	Addr() Address
	Close() error
}

// Event tells of a binding.
type Event struct {
	Up    bool // bound; false: withdrawn, or its process died
	Range Range
	Addr  Address
	Name  string // what the process calls itself, for people; TIPC does not know
}

// Subscription delivers topology events in order.
type Subscription interface {
	// Next blocks for the next event; ErrTimeout once when the subscription
	// expires, ErrClosed afterwards and after Close or loss of the bus.
	Next() (Event, error)
	// Close cancels the subscription.
	Close() error
}

// Errors of the bus.
var (
	ErrNoName   = errors.New("no such service bound")
	ErrNoNode   = errors.New("no such node")
	ErrPeerGone = errors.New("peer gone")
	ErrClosed   = errors.New("bus closed")
	ErrTimeout  = errors.New("subscription timed out")
	ErrReserved = errors.New("reserved service type")
	ErrFull     = errors.New("too many bindings")
	ErrEmpty    = errors.New("empty message")
	ErrTooLong  = fmt.Errorf("message longer than %d bytes", MaxMessage)
)
