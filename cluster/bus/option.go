package bus

import (
	"fmt"
	"time"
)

// Kind is the kind of a socket, as in TIPC.
type Kind uint8

// Kinds of sockets.
const (
	SeqPacket Kind = iota // connection that keeps message borders
	Stream                // connection of bytes
	RDM                   // reliable datagrams: what cannot be delivered comes back
	DGRAM                 // datagrams that may be dropped on the way
)

// Scope is how far a binding is seen.
type Scope uint8

// Scopes of bindings. On bus/local, a node is all there is.
const (
	Cluster Scope = iota
	Node
)

// Importance decides who waits or is refused first when a receiver is slow:
// each level has twice the room of the one below.
type Importance uint8

// Levels of importance.
const (
	Low Importance = iota
	Medium
	High
	Critical
)

// Filter is what a subscription wants to know.
type Filter uint8

// Filters of subscriptions.
const (
	Ports    Filter = iota // every binding
	Services               // a range's first binding, and the end of its last
)

// Code says why a message came back or a connection ended (TIPC's error codes).
type Code uint8

// Codes, with TIPC's values.
const (
	OK       Code = 0
	NoName   Code = 1 // nobody has bound the service
	NoPort   Code = 2 // the socket is gone: closed, or its process died
	NoNode   Code = 3 // the node, or the link to it, is gone
	Overload Code = 4 // the receiver's queue is full for this importance
	Shutdown Code = 5 // the peer closed the connection in good order
)

var codeNames = [...]string{"ok", "no name", "no port", "no node", "overload", "shutdown"}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// GoneError tells why a connection ended. It is ErrPeerGone.
type GoneError struct{ Code Code }

func (e *GoneError) Error() string { return ErrPeerGone.Error() + ": " + e.Code.String() }

// Is makes the error one of ErrPeerGone.
func (e *GoneError) Is(target error) bool { return target == ErrPeerGone }

// Options are what the options of a call set.
type Options struct {
	Kind       Kind
	Scope      Scope
	Importance Importance
	Droppable  bool
	Loopback   bool
	Data       []byte
	Filter     Filter
	Timeout    time.Duration
}

// Option changes how a socket, connection, binding or subscription works.
type Option func(*Options)

// Gather applies the options to what holds without them.
func Gather(o Options, list []Option) Options {
	for _, f := range list {
		f(&o)
	}
	return o
}

// Of sets the kind of the socket.
func Of(k Kind) Option { return func(o *Options) { o.Kind = k } }

// Within sets the scope of a binding; Cluster without it.
func Within(s Scope) Option { return func(o *Options) { o.Scope = s } }

// With sets the importance of what is sent; Low without it.
func With(i Importance) Option { return func(o *Options) { o.Importance = min(i, Critical) } }

// Droppable lets undeliverable messages vanish instead of coming back.
func Droppable() Option { return func(o *Options) { o.Droppable = true } }

// Loopback lets a group's member receive what it sends itself.
func Loopback() Option { return func(o *Options) { o.Loopback = true } }

// Data goes along with the connect: the listener's first Recv returns it.
func Data(b []byte) Option { return func(o *Options) { o.Data = b } }

// Filtered sets the subscription's filter; Ports without it.
func Filtered(f Filter) Option { return func(o *Options) { o.Filter = f } }

// Expires ends the subscription after d.
func Expires(d time.Duration) Option { return func(o *Options) { o.Timeout = d } }

// Bounds of the tolerance of a link: how long it may be silent.
const (
	MinTolerance = 50 * time.Millisecond
	MaxTolerance = 30 * time.Second
)

// Link is a supervised link, for people.
type Link struct {
	Name      string // of the link, or of the process at its other end
	Peer      uint32 // node, or member
	Up        bool
	Active    bool // carries messages now; one that is up and not active stands by
	Tolerance time.Duration
	Silent    time.Duration // since the peer was heard last; -1: not known
}

// Inspector is a Bus that shows its links.
type Inspector interface {
	Links() ([]Link, error)
	// Nodes are those that can be reached, this one first.
	Nodes() []uint32
}

// Multicaster is a Bus that tells how it multicasts.
type Multicaster interface {
	// MulticastsOnce tells that a multicast crosses to a node once, not once for each receiver.
	MulticastsOnce() bool
}

// NodeState is a node that was heard of.
type NodeState struct {
	Node uint32
	Up   bool
}

// Binding is an entry of the name table.
type Binding struct {
	Range Range
	Addr  Address
	Scope Scope
}

// ClusterInspector is a Bus between machines: it shows nodes that have gone,
// too, and the name table.
type ClusterInspector interface {
	Inspector
	NodeStates() ([]NodeState, error)
	Names() ([]Binding, error)
}

// CheckLength tells whether a message may be sent.
func CheckLength(b []byte) error {
	switch {
	case len(b) == 0:
		return ErrEmpty
	case len(b) > MaxMessage:
		return ErrTooLong
	}
	return nil
}
