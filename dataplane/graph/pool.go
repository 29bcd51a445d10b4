package graph

import (
	"fmt"
	"math/bits"
)

// Headroom is kept free before a received frame, for headers to come
// (XDP_PACKET_HEADROOM).
const Headroom = 256

// Pool is a worker's packet buffers: one memory of equal chunks (for AF_XDP
// the UMEM), and a Packet for each. One goroutine uses it.
type Pool struct {
	mem     []byte
	chunk   int
	shift   uint8 // log2 of chunk
	packets []Packet
	free    []*Packet
}

// NewPool cuts mem into chunks of the given size (a power of two, 2,048 or
// 4,096). mem is the caller's to unmap, after the pool is no longer used.
func NewPool(mem []byte, chunk int) (*Pool, error) {
	if chunk < 2048 || chunk&(chunk-1) != 0 || len(mem) < chunk {
		return nil, fmt.Errorf("pool of %d bytes in chunks of %d", len(mem), chunk)
	}
	n := len(mem) / chunk
	p := &Pool{mem: mem, chunk: chunk, shift: uint8(bits.TrailingZeros(uint(chunk))), packets: make([]Packet, n), free: make([]*Packet, n)}
	for i := range p.packets {
		p.packets[i].addr = uint64(i * chunk)
		p.free[n-1-i] = &p.packets[i]
	}
	return p, nil
}

// Get takes a free packet, its Data empty behind the headroom; nil if none is free.
func (p *Pool) Get() *Packet {
	n := len(p.free)
	if n == 0 {
		return nil
	}
	pkt := p.free[n-1]
	p.free = p.free[:n-1]
	at := int(pkt.addr)
	pkt.Data = p.mem[at+Headroom : at+Headroom : at+p.chunk]
	return pkt
}

// Put gives a packet back.
func (p *Pool) Put(pkt *Packet) { p.free = append(p.free, pkt) }

// Lend takes a free packet for a ring, which knows it by its Addr: its Data is
// undefined. It comes back by At or PutAt.
func (p *Pool) Lend() *Packet {
	n := len(p.free)
	if n == 0 {
		return nil
	}
	pkt := p.free[n-1]
	p.free = p.free[:n-1]
	return pkt
}

// PutAt gives back the packet whose buffer holds the offset.
func (p *Pool) PutAt(off uint64) { p.free = append(p.free, &p.packets[off>>p.shift]) }

// Free tells how many packets are free; Size how many there are. The
// difference must be in rings or in hands: tests check it.
func (p *Pool) Free() int { return len(p.free) }

// Size tells how many packets the pool has.
func (p *Pool) Size() int { return len(p.packets) }

// Chunk tells the size of a buffer in bytes.
func (p *Pool) Chunk() int { return p.chunk }

// Memory is the whole memory (to register as UMEM).
func (p *Pool) Memory() []byte { return p.mem }

// Room is the largest frame that a buffer holds behind the headroom.
func (p *Pool) Room() int { return p.chunk - Headroom }

// At finds the packet whose buffer holds the offset and makes [off, off+n) its Data.
func (p *Pool) At(off uint64, n int) *Packet {
	pkt := &p.packets[off>>p.shift]
	pkt.Data = p.mem[off : off+uint64(n) : pkt.addr+uint64(p.chunk)]
	return pkt
}

// Addr is the offset of the packet's buffer in the memory (for the fill ring).
func (pkt *Packet) Addr() uint64 { return pkt.addr }

// Offset is the offset of the packet's Data in the memory (for the TX ring).
func (p *Pool) Offset(pkt *Packet) uint64 {
	return pkt.addr + uint64(p.chunk-cap(pkt.Data))
}

// Grow moves the start of Data by n bytes towards the headroom (n > 0: longer;
// n < 0: shorter). It reports whether there was room.
func (p *Pool) Grow(pkt *Packet, n int) bool {
	off := int(p.Offset(pkt)) - n
	if off < int(pkt.addr) || len(pkt.Data)+n < 0 {
		return false
	}
	pkt.Data = p.mem[off : off+len(pkt.Data)+n : int(pkt.addr)+p.chunk]
	return true
}
