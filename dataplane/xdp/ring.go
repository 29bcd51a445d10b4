package xdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is one of the four rings of a socket, memory shared with the kernel.
// Indices run freely in 32 bits; loads of the other side's index acquire,
// stores of the own index release (sync/atomic is at least that strong).
type ring struct {
	mem   []byte  // the mapping
	prod  *uint32 // shared: next slot to be written
	cons  *uint32 // shared: next slot to be read
	flags *uint32 // shared: XDP_RING_NEED_WAKEUP
	size  uint32
	mask  uint32

	own   uint32 // our index: not yet published
	other uint32 // the other side's index as last seen
}

// mapRing maps the ring at the page offset with size slots of slot bytes.
func mapRing(fd int, pgoff int64, o unix.XDPRingOffset, size, slot uint32) (ring, unsafe.Pointer, error) {
	n := int(o.Desc) + int(size)*int(slot)
	mem, err := unix.Mmap(fd, pgoff, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring{}, nil, fmt.Errorf("map ring: %w", err)
	}
	word := func(off uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
	r := ring{
		mem: mem, size: size, mask: size - 1,
		prod: word(o.Producer), cons: word(o.Consumer), flags: word(o.Flags),
	}
	return r, unsafe.Pointer(&mem[o.Desc]), nil
}

func (r *ring) unmap() {
	if r.mem != nil {
		unix.Munmap(r.mem)
		*r = ring{}
	}
}

// waiting tells a consumer how many slots it can read, at most want.
func (r *ring) waiting(want uint32) uint32 {
	n := r.other - r.own
	if n < want {
		r.other = atomic.LoadUint32(r.prod)
		n = r.other - r.own
	}
	// More than the ring holds can only be a broken producer.
	return min(n, want, r.size)
}

// release publishes to the producer that the slots before own were read.
func (r *ring) release() { atomic.StoreUint32(r.cons, r.own) }

// room tells a producer how many slots it can write, at most want.
func (r *ring) room(want uint32) uint32 {
	n := r.size - (r.own - r.other)
	if n < want || n > r.size {
		r.other = atomic.LoadUint32(r.cons)
		n = r.size - (r.own - r.other)
	}
	if n > r.size { // broken consumer
		return 0
	}
	return min(n, want)
}

// publish shows the consumer the slots before own.
func (r *ring) publish() { atomic.StoreUint32(r.prod, r.own) }

// unread tells a producer how many slots the consumer has not read yet.
func (r *ring) unread() uint32 {
	r.other = atomic.LoadUint32(r.cons)
	return r.own - r.other
}

// wakeup reports whether the kernel asks for a system call.
func (r *ring) wakeup() bool { return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0 }
