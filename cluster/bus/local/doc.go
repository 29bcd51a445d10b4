// Package local is the message bus of one machine, over unix sockets. It works
// across network namespaces, because the sockets have paths.
//
//	DIR/bus.sock   name service (Server, in the supervisor): who has bound what
//	DIR/bus/MMMM   a member's own socket: connections and datagrams, directly
//	               between members; MMMM is the member's number in hexadecimal
//
//	Server     1 goroutine accepts, 2 a member (read, write)
//	Member     1 goroutine accepts, 1 follows the name service,
//	           1 a connection that datagrams come in by, or go out by
//	           2 a link, 1 a connection that has bundled
//
// Every member keeps a copy of the name table, which the name service updates.
// So names resolve without a round trip and while the name service is away; its
// death cuts no connection. Members then retry, publish their bindings again
// when it is back, and sweep what did not come back within resyncGrace.
//
// The kernel closes the sockets of a process that dies: the name service then
// withdraws its bindings, and its peers get ErrPeerGone, at once.
//
// Two members that are connected have a link besides: both send heartbeats on
// it, from goroutines of their own, and whoever hears nothing for the tolerance
// ends all connections with the other (bus.NoNode).
//
// Members bundle: what is sent while a write is under way goes with the next
// one. A connection whose messages are answered is written by the sender
// itself; one way traffic is handed to the connection's writer.
//
// Only processes of the same user, of root, and of the group that Share names
// may join (SO_PEERCRED). Whoever
// sends what is no message of the bus loses the connection; Server.Stats and
// Member.Rejected count it. A connection's source is verified: its process must
// be the one that listens on the socket of the member it says it is.
//
// Datagrams are in order per sender and receiver. One that finds its socket
// closed, or the queue full for its importance, comes back; those in the
// kernel's buffer of a process that is killed are lost. Messages of groups are
// never refused: the sender waits.
package local

import "time"

const (
	// resyncGrace is how long a member waits for the others to publish again
	// at a name service that came back, before it reports them gone: members
	// retry at most every retryMax.
	resyncGrace = 2 * time.Second
	retryMin    = 10 * time.Millisecond
	retryMax    = 500 * time.Millisecond
	// replyTime bounds an answer of the name service and the greeting of a
	// peer: both come from a goroutine that does nothing else.
	replyTime = 5 * time.Second
	// maxName bounds what a process calls itself, in bytes.
	maxName = 64
	// maxBindings bounds the name table: far above any chassis, 16 MiB at most.
	maxBindings = 1 << 17
	// maxOwn bounds the bindings of one member (TIPC_MAX_PUBL): one that storms
	// the name table leaves half of it to the others.
	maxOwn = 1<<16 - 1
	// maxPeers bounds how many verified members are remembered.
	maxPeers = 4096
	// maxOutgoing bounds what waits for a member that does not read: the whole
	// table twice. Above, it is cut off and has to join again.
	maxOutgoing = 2 * maxBindings
	// maxPorts is how many sockets a member may have: 16 bits of a Ref.
	maxPorts = 1<<16 - 1
	// acceptQueue is how many connections wait for Accept; more wait in Dial.
	acceptQueue = 64
)
