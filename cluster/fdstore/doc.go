// Package fdstore keeps descriptors of a module that dies for its successor: what
// the kernel holds by them (links of programs, and all that these use) goes on
// while no process of the module lives.
//
//	module                                 supervisor
//	Client ──── socket, inherited ────────▶ Line ──▶ Store
//	   Keep(name, fd)  Drop(name)  List         on its event loop; one store a module
//
// A request is one message of SOCK_SEQPACKET: what is asked, the name, and the
// descriptor with Keep. Each is answered, so that a descriptor that was dropped is closed when
// Drop returns. The store knows nothing of what it keeps.
//
// A Client's methods block until the answer, Timeout at most; one goroutine at a time talks,
// the others wait. Line and Store belong to the supervisor's loop and never block.
package fdstore

import "time"

// Variable names the environment variable with the number of the socket.
const Variable = "GODWIT_FDSTORE"

// Bounds of what a module may keep.
const (
	MaxKept = 512 // descriptors: a card's ports
	MaxName = 128 // bytes
)

// sendBuffer holds the answer to List in the kernel, some 1 KiB for each descriptor.
const sendBuffer = 1 << 20

// Timeout is how long a module waits for an answer: the supervisor's loop has a
// handler of some milliseconds at most.
const Timeout = 5 * time.Second

// What is asked, the first byte of a request.
const (
	opKeep = 'K'
	opDrop = 'D'
	opList = 'L'
)

// The first byte of an answer.
const (
	answerDone  = 'd' // the end of an answer
	answerEntry = 'e' // name and descriptor of something kept
	answerError = 'x' // the reason follows
)
