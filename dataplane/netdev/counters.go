package netdev

import (
	"fmt"
	"sync/atomic"
)

// Reason says why a port dropped a frame.
type Reason uint8

// The reasons of a port.
const (
	RxInvalid  Reason = iota // descriptor outside its buffer, or of a buffer that was not given
	RxTooLong                // frame larger than a buffer
	RxRingFull               // the worker did not read in time
	RxNoBuffer               // the fill ring was empty
	RxNoSocket               // the queue has no socket
	RxOther                  // refused by the kernel for another reason
	TxRingFull               // the port did not send in time
	TxTooLong                // frame larger than the link's MTU and its header
	TxTooShort               // frame without a whole Ethernet header
	TxInvalid                // descriptor refused by the kernel, or a buffer that is not the worker's
	TxGone                   // the device is gone or the port closed
	TxOther                  // refused by the kernel for another reason
	NumReasons
)

var reasonNames = [NumReasons]string{
	"rx-invalid", "rx-too-long", "rx-ring-full", "rx-no-buffer", "rx-no-socket", "rx-other",
	"tx-ring-full", "tx-too-long", "tx-too-short", "tx-invalid", "tx-gone", "tx-other",
}

func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Counters is a port's traffic since it was opened.
type Counters struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Drops              [NumReasons]uint64 // indexed by Reason
}

// Add adds the counters of another queue.
func (c *Counters) Add(o Counters) {
	c.RxPackets += o.RxPackets
	c.RxBytes += o.RxBytes
	c.TxPackets += o.TxPackets
	c.TxBytes += o.TxBytes
	for i, n := range o.Drops {
		c.Drops[i] += n
	}
}

// Live is a set of counters with one writer and any number of readers. It
// fills whole cache lines, so that a reader of one does not disturb another.
type Live struct {
	rxPackets, rxBytes atomic.Uint64
	txPackets, txBytes atomic.Uint64
	drops              [NumReasons]atomic.Uint64
}

// bump adds without a locked instruction: there is one writer.
func bump(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }

// Received counts a batch.
func (l *Live) Received(packets, bytes uint64) {
	bump(&l.rxPackets, packets)
	bump(&l.rxBytes, bytes)
}

// Sent counts a batch.
func (l *Live) Sent(packets, bytes uint64) {
	bump(&l.txPackets, packets)
	bump(&l.txBytes, bytes)
}

// Drop counts n frames dropped.
func (l *Live) Drop(r Reason, n uint64) { bump(&l.drops[r], n) }

// Read copies the counters; each is exact, together they may be of slightly
// different moments.
func (l *Live) Read() Counters {
	c := Counters{
		RxPackets: l.rxPackets.Load(), RxBytes: l.rxBytes.Load(),
		TxPackets: l.txPackets.Load(), TxBytes: l.txBytes.Load(),
	}
	for i := range l.drops {
		c.Drops[i] = l.drops[i].Load()
	}
	return c
}
