// Package local is the message bus of one machine, over unix sockets of type
// SOCK_SEQPACKET. It works across network namespaces, because the sockets have
// paths.
//
//	DIR/bus.sock   name service (Server, in the supervisor): who has bound what
//	DIR/bus/MMMM   a member's own socket: connections and datagrams, directly
//	               between members; MMMM is the member's number in hexadecimal
//
//	Server     1 goroutine accepts, 2 a member (read, write)
//	Member     1 goroutine accepts, 1 follows the name service,
//	           1 a connection that datagrams come in by
//
// Every member keeps a copy of the name table, which the name service updates.
// So names resolve without a round trip and while the name service is away; its
// death cuts no connection. Members then retry, publish their bindings again
// when it is back, and sweep what did not come back within resyncGrace.
//
// The kernel closes the sockets of a process that dies: the name service then
// withdraws its bindings, and its peers get ErrPeerGone, at once.
//
// Only processes of the same user and of root may join (SO_PEERCRED). Whoever
// sends what is no message of the bus loses the connection; Server.Stats and
// Member.Rejected count it.
//
// Datagrams are reliable and in order per sender and receiver: a sender waits
// while the receiver does not read.
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
	// maxOutgoing bounds what waits for a member that does not read: the whole
	// table twice. Above, it is cut off and has to join again.
	maxOutgoing = 2 * maxBindings
	// maxPorts is how many sockets a member may have: 16 bits of a Ref.
	maxPorts = 1<<16 - 1
	// acceptQueue is how many connections wait for Accept; more wait in Dial.
	acceptQueue = 64
	// datagramQueue is how many datagrams wait for Recv, before the senders
	// wait: 16 MiB at worst.
	datagramQueue = 256
)
