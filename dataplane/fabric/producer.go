package fabric

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"godwit/fib"
)

// ProducerStats counts what a producer has done.
type ProducerStats struct {
	Sent    uint64 `json:"sent"`
	Full    uint64 `json:"full"`     // refused: the consumer is slow, or dead
	TooLong uint64 `json:"too_long"` // refused: longer than MaxPacket
	Rings   uint64 `json:"rings"`    // of the doorbell
}

// Producer is the sending end of a ring.
type Producer struct {
	r    *ring
	head uint64 // next slot to write; the truth, published at Flush
	done uint64 // head at the last Flush
	tail uint64 // last seen of the consumer's

	sent, full, tooLong, rings atomic.Uint64
}

// OpenProducer opens the ring from one card to another, as from.
func OpenProducer(dir string, from, to fib.CardID) (*Producer, error) {
	r, err := openRing(dir, from, to)
	if err != nil {
		return nil, err
	}
	return newProducer(r), nil
}

// newProducer goes on where a predecessor stopped, if that makes sense;
// otherwise the ring starts again, empty.
func newProducer(r *ring) *Producer {
	p := &Producer{r: r, head: atomic.LoadUint64(r.head), tail: atomic.LoadUint64(r.tail)}
	if p.head-p.tail > slots {
		p.head = p.tail
		atomic.StoreUint64(r.head, p.head)
	}
	p.done = p.head
	atomic.AddUint64(r.producer, 1)
	return p
}

// Send writes a packet into the next slot; the consumer sees it after Flush.
// It reports false, and counts, when the ring is full or the packet too long.
// data is the caller's again on return.
func (p *Producer) Send(h *Header, data []byte) bool {
	if len(data) == 0 || len(data) > MaxPacket {
		p.tooLong.Add(1)
		return false
	}
	if p.head-p.tail >= slots {
		p.tail = atomic.LoadUint64(p.r.tail)
		if p.head-p.tail >= slots {
			p.full.Add(1)
			return false
		}
	}
	s := p.r.slot(p.head)
	putHeader(s, uint32(p.head), h, len(data))
	copy(s[slotHeader:], data)
	p.head++
	return true
}

// Flush publishes what was sent and rings the doorbell of a sleeping consumer.
func (p *Producer) Flush() {
	if p.done != p.head || atomic.LoadUint64(p.r.head) != p.head {
		atomic.StoreUint64(p.r.head, p.head)
		p.sent.Add(p.head - p.done)
		p.done = p.head
	}
	if atomic.LoadUint32(p.r.sleeping) != 0 && atomic.LoadUint64(p.r.tail) != p.head {
		atomic.StoreUint32(p.r.sleeping, 0)
		p.rings.Add(1)
		// A full FIFO rings as well.
		_, _ = unix.Write(p.r.bell, bellByte[:])
	}
}

var bellByte = [1]byte{1}

// Stats may be called from any goroutine.
func (p *Producer) Stats() ProducerStats {
	return ProducerStats{Sent: p.sent.Load(), Full: p.full.Load(), TooLong: p.tooLong.Load(), Rings: p.rings.Load()}
}

// Close unmaps the ring and leaves its files to the consumer and to a successor.
func (p *Producer) Close() error { return p.r.close() }
