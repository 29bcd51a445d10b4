// Package session carries messages between two processes over one bus.Conn,
// driven by an event loop: requests with replies and timeouts, and messages
// without an answer.
//
//	loop ── Send ──▶ queue ──▶ writer ──▶ bus.Conn ──▶ reader ──▶ window ──▶ loop
//	        (bytes bounded)   (bundles)               (waits while full)     Receive
//
// Tasks: a reader and a writer for each session; one goroutine for each Serve
// and Follow.
//
// Promises: messages arrive in the order sent, each once, until the session
// ends. Handlers run on the loop. Methods of Session never block and may be
// called from any goroutine. A receiver that is slow makes the sender's queue
// grow to its bound; Send then answers ErrBacklog, and the sender decides.
package session

import (
	"errors"
	"time"

	"godwit/cluster/bus"
)

const (
	// MaxBody is the longest body in bytes: a page of 10,000 FIB entries in
	// JSON, the longest reply there is, takes some 3 MB.
	MaxBody = 16 << 20
	// MaxQueued is how many bytes may wait to be sent: 250 FIB batches of
	// 64 KiB, a quarter of a second of a card's work, so that a peer stays busy
	// while the sender computes; and one body of MaxBody.
	MaxQueued = 16 << 20
	// windowMessages and windowBytes bound what a reader holds ready for the
	// loop (and one bus message more): enough to keep the loop busy until the
	// reader runs again.
	windowMessages = 512
	windowBytes    = 4 << 20
	// deliverBudget is how long one event delivers messages before it lets
	// events of other handlers run.
	deliverBudget = 200 * time.Microsecond
	// linger is how long Close tries to send what is queued.
	linger = time.Second
	// retryMin and retryMax bound the back-off of Follow; a session that lived
	// for retryReset starts again at retryMin.
	retryMin   = 10 * time.Millisecond
	retryMax   = time.Second
	retryReset = 5 * time.Second
	// maxInstances bounds how many instances Follow keeps of one binding.
	maxInstances = 4096
)

// Errors of sessions.
var (
	ErrBacklog = errors.New("session backlog full")
	ErrTimeout = errors.New("request timed out")
	ErrTooLong = errors.New("message body too long")
	ErrFrame   = errors.New("malformed frame")
)

// RemoteError is the error that the peer answered to a request.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return e.Text }

// maxFrameBody is what fits into one bus message behind a frame header.
const maxFrameBody = bus.MaxMessage - headerLen
