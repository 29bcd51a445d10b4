package fabric

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/fib"
)

// ConsumerStats counts what a consumer has met.
type ConsumerStats struct {
	Received uint64 `json:"received"`
	Corrupt  uint64 `json:"corrupt"`  // slots, or whole batches, that made no sense
	TooLong  uint64 `json:"too_long"` // longer than this card's buffers
	Stale    uint64 `json:"stale"`    // had waited for a predecessor of this consumer
}

// Consumer is the receiving end of a ring.
type Consumer struct {
	r    *ring
	tail uint64 // next slot to read; the truth, published by Recv
	hdr  [slotHeader]byte

	received, corrupt, tooLong, stale atomic.Uint64
}

// OpenConsumer opens the ring from one card to another, as to. What waits in
// it is skipped: it was meant for a predecessor.
func OpenConsumer(dir string, from, to fib.CardID) (*Consumer, error) {
	r, err := openRing(dir, from, to)
	if err != nil {
		return nil, err
	}
	return newConsumer(r), nil
}

func newConsumer(r *ring) *Consumer {
	c := &Consumer{r: r, tail: atomic.LoadUint64(r.head)}
	if n := c.tail - atomic.LoadUint64(r.tail); n <= slots {
		c.stale.Store(n)
	}
	atomic.StoreUint64(r.tail, c.tail)
	atomic.StoreUint32(r.sleeping, 0)
	atomic.AddUint64(r.consumer, 1)
	return c
}

// Recv appends packets to v, and the header of v.P[i] to hdrs[i], until v is
// full, the ring empty, or the pool has no more buffers (then packets wait in
// the ring). It returns how many it appended.
func (c *Consumer) Recv(pool *graph.Pool, v *graph.Vector, hdrs *[graph.VectorSize]Header) int {
	head := atomic.LoadUint64(c.r.head)
	if head == c.tail {
		return 0
	}
	if head-c.tail > slots {
		// The producer started again somewhere else, or went mad: meet it there.
		c.corrupt.Add(1)
		c.tail = head
		atomic.StoreUint64(c.r.tail, head)
		return 0
	}
	n := 0
	for c.tail != head && v.N < graph.VectorSize {
		pkt := pool.Get()
		if pkt == nil {
			break
		}
		if c.take(pool, pkt, &hdrs[v.N]) {
			v.Push(pkt)
			n++
		} else {
			pool.Put(pkt)
		}
		c.tail++
	}
	atomic.StoreUint64(c.r.tail, c.tail)
	c.received.Add(uint64(n))
	return n
}

// take copies the slot at the tail. The header is copied before it is judged:
// the peer can write at any time.
func (c *Consumer) take(pool *graph.Pool, pkt *graph.Packet, h *Header) bool {
	s := c.r.slot(c.tail)
	copy(c.hdr[:], s)
	n, err := parseHeader(&c.hdr, uint32(c.tail), h)
	if err != nil {
		c.corrupt.Add(1)
		return false
	}
	if n > pool.Room() {
		c.tooLong.Add(1)
		return false
	}
	pkt.Data = pkt.Data[:n]
	copy(pkt.Data, s[slotHeader:slotHeader+n])
	return true
}

// Sleep asks the producer to ring the doorbell. It reports false, and the
// caller must not sleep, if something waits already.
func (c *Consumer) Sleep() bool {
	atomic.StoreUint32(c.r.sleeping, 1)
	if atomic.LoadUint64(c.r.head) != c.tail {
		atomic.StoreUint32(c.r.sleeping, 0)
		return false
	}
	return true
}

// Wake ends Sleep; with rung, the doorbell is silenced too (poll said that Fd
// is readable).
func (c *Consumer) Wake(rung bool) {
	atomic.StoreUint32(c.r.sleeping, 0)
	if !rung {
		return
	}
	var b [64]byte
	for {
		if n, err := unix.Read(c.r.bell, b[:]); err != nil || n < len(b) {
			return
		}
	}
}

// Fd is readable when the doorbell was rung.
func (c *Consumer) Fd() int { return c.r.bell }

// Stats may be called from any goroutine.
func (c *Consumer) Stats() ConsumerStats {
	return ConsumerStats{Received: c.received.Load(), Corrupt: c.corrupt.Load(), TooLong: c.tooLong.Load(), Stale: c.stale.Load()}
}

// Close unmaps the ring and leaves its files to the producer and to a successor.
func (c *Consumer) Close() error { return c.r.close() }
