// Package fabric carries IP packets between line cards over shared memory: one
// ring for each ordered pair of cards, with one producer and one consumer.
//
//	card A: Producer ──▶ DIR/A-B  (mmap: indices, 2,048 slots) ──▶ Consumer :card B
//	              └────▶ DIR/A-B.bell (FIFO, only when B sleeps) ──▶ Fd ┘
//
// Promises: packets of one ring keep their order; Send and Recv never block and
// never allocate; a full ring refuses and counts. Each side trusts only its own
// index, kept outside the shared memory, and publishes it again with every
// batch: a peer that crashes, restarts or writes garbage costs counted drops,
// nothing else. A restarted consumer skips what waited while it was away.
//
// A Producer or Consumer belongs to one goroutine; Stats may be called from any.
package fabric

import (
	"encoding/binary"
	"errors"
	"fmt"

	"godwit/fib"
)

// Kind says what a slot carries.
type Kind uint8

// The kinds of slots.
const (
	// Transit is an IP packet that the sender has looked up and whose TTL it
	// has counted down: the receiver resolves NextHop on Out and rewrites.
	Transit Kind = 1

	maxKind = Transit
)

// Header goes with a packet.
type Header struct {
	Kind  Kind
	Flags uint8
	VRF   fib.VRF
	In    fib.InterfaceID // where the packet entered the router, 0: the host stack
	Out   fib.InterfaceID // on the receiving card
	// NextHop is the neighbour's address, IPv4 in mapped form; never all zero.
	NextHop [16]byte
}

// Geometry of a ring. A slot holds a header and the largest packet that a
// buffer of 2,048 bytes behind its headroom can hold, and more.
const (
	// slots, a power of two, hold what a card sends at 0.4 Mpps while the other is not
	// scheduled for 5 ms: a burst of 2,000. A ring has 4.7 MB, reserved when it is made.
	slots      = 2048
	slotSize   = 2304
	slotHeader = 64
	// MaxPacket is the longest IP packet that the fabric carries, in bytes.
	MaxPacket = slotSize - slotHeader

	pageSize = 4096
	ringSize = pageSize + slots*slotSize
)

// Offsets in the first page; one cache line (or more) for each writer.
const (
	offMagic    = 0
	offHead     = 128 // written by the producer
	offProducer = 136 // generation of the producer
	offTail     = 256 // written by the consumer
	offConsumer = 264 // generation of the consumer
	offSleeping = 384 // set by the consumer, cleared by either
)

// magic names the layout; another layout must have another number.
const magic = 0x6777742d66616232 // "gwt-fab2"

// Offsets in a slot's header, little endian.
const (
	slotSeq   = 0  // 4: index of the slot's use, lower 32 bits
	slotLen   = 4  // 2: bytes of packet
	slotKind  = 6  // 1
	slotFlags = 7  // 1
	slotVRF   = 8  // 4
	slotIn    = 12 // 4
	slotOut   = 16 // 4
	slotNext  = 24 // 16: next hop
)

// errBadSlot marks a slot whose header makes no sense.
var errBadSlot = errors.New("bad fabric slot")

func putHeader(b []byte, seq uint32, h *Header, n int) {
	binary.LittleEndian.PutUint32(b[slotSeq:], seq)
	binary.LittleEndian.PutUint16(b[slotLen:], uint16(n))
	b[slotKind] = byte(h.Kind)
	b[slotFlags] = h.Flags
	binary.LittleEndian.PutUint32(b[slotVRF:], uint32(h.VRF))
	binary.LittleEndian.PutUint32(b[slotIn:], uint32(h.In))
	binary.LittleEndian.PutUint32(b[slotOut:], uint32(h.Out))
	copy(b[slotNext:], h.NextHop[:])
}

// parseHeader reads a private copy of a slot's header; seq is what the slot
// must carry. It returns the length of the packet.
func parseHeader(b *[slotHeader]byte, seq uint32, h *Header) (int, error) {
	if binary.LittleEndian.Uint32(b[slotSeq:]) != seq {
		return 0, errBadSlot
	}
	n := int(binary.LittleEndian.Uint16(b[slotLen:]))
	if n == 0 || n > MaxPacket {
		return 0, errBadSlot
	}
	h.Kind = Kind(b[slotKind])
	if h.Kind == 0 || h.Kind > maxKind {
		return 0, errBadSlot
	}
	h.Flags = b[slotFlags]
	h.VRF = fib.VRF(binary.LittleEndian.Uint32(b[slotVRF:]))
	h.In = fib.InterfaceID(binary.LittleEndian.Uint32(b[slotIn:]))
	h.Out = fib.InterfaceID(binary.LittleEndian.Uint32(b[slotOut:]))
	h.NextHop = [16]byte(b[slotNext : slotNext+16])
	if h.NextHop == [16]byte{} {
		return 0, errBadSlot
	}
	return n, nil
}

// Path is the file of the ring from one card to another.
func Path(dir string, from, to fib.CardID) string {
	return fmt.Sprintf("%s/%d-%d", dir, from, to)
}

// BellPath is the doorbell of that ring.
func BellPath(dir string, from, to fib.CardID) string { return Path(dir, from, to) + ".bell" }
