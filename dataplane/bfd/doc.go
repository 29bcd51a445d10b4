// Package bfd detects failures of the path to a neighbour in milliseconds:
// Bidirectional Forwarding Detection, asynchronous mode (RFC 5880), on one hop
// (RFC 5881) and over several (RFC 5883), with the authentication of RFC 5880,
// and the reflecting side of the echo function.
//
//	datagrams, time, configuration ──▶ Core ──▶ Effects: packets to send, changes of state
//	                                   ▲
//	                        Runner: one urgent thread, one queue, ppoll(2)
//
// Core is pure: it knows no clock, socket or goroutine; time is an argument, in
// nanoseconds of any monotonic clock. Runner drives it on a thread of its own,
// so that neither the card's event loop nor a busy routing engine delays it.
package bfd
