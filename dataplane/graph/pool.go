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
//
// A pool may have jumbo buffers, too: runs of chunks at the end of the memory, each
// with one Packet, whose Data lies across the borders of the chunks.
type Pool struct {
	mem     []byte
	chunk   int
	shift   uint8 // log2 of chunk
	packets []Packet
	free    []*Packet

	jumboAt uint64 // offset of the first jumbo buffer; the end of the memory if there is none
	run     int    // chunks of a jumbo buffer; 0: there is none
	jumbos  []*Packet
	jumboN  int
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
	p.jumboAt = uint64(len(mem))
	return p, nil
}

// MakeJumbos turns chunks at the end of a new pool into n buffers for frames of up
// to size bytes.
func (p *Pool) MakeJumbos(n, size int) error {
	run := JumboRun(p.chunk, size)
	if n <= 0 || p.run != 0 || len(p.free) != len(p.packets) || n*run > len(p.packets) {
		return fmt.Errorf("%d buffers for frames of %d bytes in a pool of %d chunks, %d of them free", n, size, len(p.packets), len(p.free))
	}
	p.run, p.jumboN, p.jumboAt = run, n, uint64(len(p.packets)-n*run)*uint64(p.chunk)
	p.free = append(make([]*Packet, 0, len(p.packets)-n*run), p.free[n*run:]...) // the last chunks come first there
	p.jumbos = make([]*Packet, 0, n)
	for i := range n {
		p.jumbos = append(p.jumbos, &p.packets[len(p.packets)-(i+1)*run])
	}
	return nil
}

// JumboRun tells how many chunks a frame of size bytes takes, behind the headroom.
func JumboRun(chunk, size int) int { return (Headroom + size + chunk - 1) / chunk }

// GetFor takes a free packet with room for n bytes; nil if there is none.
func (p *Pool) GetFor(n int) *Packet {
	if n <= p.Room() {
		return p.Get()
	}
	last := len(p.jumbos) - 1
	if n > p.MaxRoom() || last < 0 {
		return nil
	}
	pkt := p.jumbos[last]
	p.jumbos = p.jumbos[:last]
	at := int(pkt.addr)
	pkt.Data = p.mem[at+Headroom : at+Headroom : at+p.run*p.chunk]
	return pkt
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
func (p *Pool) Put(pkt *Packet) {
	if pkt.addr >= p.jumboAt {
		p.jumbos = append(p.jumbos, pkt)
		return
	}
	p.free = append(p.free, pkt)
}

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
func (p *Pool) PutAt(off uint64) { p.Put(&p.packets[p.first(off)]) }

// first is the number of the first chunk of the buffer that holds the offset.
func (p *Pool) first(off uint64) uint64 {
	i := off >> p.shift
	if off >= p.jumboAt {
		from := p.jumboAt >> p.shift
		i = from + (i-from)/uint64(p.run)*uint64(p.run)
	}
	return i
}

// Chunks are the numbers of the chunks, first and the one behind the last, of the
// buffer that holds the offset.
func (p *Pool) Chunks(off uint64) (from, to int) {
	from = int(p.first(off))
	if off >= p.jumboAt {
		return from, from + p.run
	}
	return from, from + 1
}

// Jumbo tells that a packet's buffer is one of several chunks.
func (p *Pool) Jumbo(pkt *Packet) bool { return pkt.addr >= p.jumboAt }

// Free tells how many packets are free; Size how many there are. The
// difference must be in rings or in hands: tests check it.
func (p *Pool) Free() int { return len(p.free) + len(p.jumbos) }

// Size tells how many packets the pool has.
func (p *Pool) Size() int { return len(p.packets) - p.jumboN*max(p.run-1, 0) }

// Chunk tells the size of a buffer in bytes.
func (p *Pool) Chunk() int { return p.chunk }

// Memory is the whole memory (to register as UMEM).
func (p *Pool) Memory() []byte { return p.mem }

// Room is the largest frame that any buffer holds behind the headroom.
func (p *Pool) Room() int { return p.chunk - Headroom }

// MaxRoom is the largest frame that a jumbo buffer holds, or Room without such buffers.
func (p *Pool) MaxRoom() int { return max(p.run, 1)*p.chunk - Headroom }

// At finds the packet whose chunk holds the offset and makes [off, off+n) its Data.
// The offset is in no jumbo buffer.
func (p *Pool) At(off uint64, n int) *Packet {
	pkt := &p.packets[off>>p.shift]
	pkt.Data = p.mem[off : off+uint64(n) : pkt.addr+uint64(p.chunk)]
	return pkt
}

// Addr is the offset of the packet's buffer in the memory (for the fill ring).
func (pkt *Packet) Addr() uint64 { return pkt.addr }

// Offset is the offset of the packet's Data in the memory (for the TX ring).
func (p *Pool) Offset(pkt *Packet) uint64 {
	end := pkt.addr + uint64(p.chunk)
	if pkt.addr >= p.jumboAt {
		end = pkt.addr + uint64(p.run*p.chunk)
	}
	return end - uint64(cap(pkt.Data))
}

// Grow moves the start of Data by n bytes towards the headroom (n > 0: longer;
// n < 0: shorter). It reports whether there was room.
func (p *Pool) Grow(pkt *Packet, n int) bool {
	at := int(p.Offset(pkt))
	off, end := at-n, at+cap(pkt.Data)
	if off < int(pkt.addr) || len(pkt.Data)+n < 0 {
		return false
	}
	pkt.Data = p.mem[off : off+len(pkt.Data)+n : end]
	return true
}
