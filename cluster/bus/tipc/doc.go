// Package tipc is the message bus over the Linux kernel's TIPC (AF_TIPC), for
// clusters of machines: the kernel does addressing, links, failover between
// bearers, flow control and encryption.
//
//	Member     1 goroutine a listener (accepts), 1 a subscription, 1 a group
//
// The kernel must have its tipc module loaded, and a bearer for more than one
// node: Setup gives the kernel address, key and bearers.
//
// Messages come and go by system calls of the goroutine that sends or
// receives; the runtime's poller waits.
//
// Differences to bus/local: events have no process names; of a message that
// comes back at most MaxReturned bytes do; a group's messages do not tell their
// instance.
package tipc
