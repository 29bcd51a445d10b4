package compiled

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of blocks by class, in words. Class 0 holds skips, class c nodes of
// stride 4c.
var classWords = [...]uint32{8, 16, 256, 4096, 65536}

const (
	classes  = 5
	maxClass = classes - 1

	// arenaWords bounds all tables together: 512 MiB of address space, of
	// which only what is used becomes resident. A full IPv4 and IPv6 table
	// takes about 56 MiB.
	arenaWords = 1 << 27
	chunkClass = 3       // what small blocks are cut from: 16 KiB
	hugePage   = 2 << 20 // bytes
)

// arena hands out blocks of words. Only the writer calls it, except load.
type arena struct {
	base unsafe.Pointer // of mem, aligned to hugePage
	mem  []byte         // the mapping
	next uint32         // first word never handed out
	free [classes]uint32
}

func newArena() (*arena, error) {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
	mem, err := unix.Mmap(-1, 0, arenaWords*4+hugePage, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map forwarding tables: %w", err)
	}
	base := unsafe.Pointer(&mem[0])
	base = unsafe.Add(base, -uintptr(base)&(hugePage-1))
	a := &arena{base: base, mem: mem}
	// Large pages spare the readers a TLB miss a lookup. Without them (the
	// kernel may have them switched off) the tables work as well.
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	return a, nil
}

func (a *arena) close() error {
	if err := unix.Munmap(a.mem); err != nil {
		return fmt.Errorf("unmap forwarding tables: %w", err)
	}
	a.mem, a.base = nil, nil
	return nil
}

func (a *arena) load(i uint32) uint32 { return at(a.base, i) }

// at is word i of an arena.
func at(base unsafe.Pointer, i uint32) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Add(base, uintptr(i)*4)))
}

// store is seen by readers whole, and after what was stored before.
func (a *arena) store(i, v uint32) {
	release((*uint32)(unsafe.Add(a.base, uintptr(i)*4)), v)
}

// words is the block of class c at ref, for the writer's own scans and for
// filling blocks that no reader sees yet.
func (a *arena) words(c int, ref uint32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Add(a.base, uintptr(ref)*4)), classWords[c])
}

// span is the words from first to end-1.
func (a *arena) span(first, end uint32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Add(a.base, uintptr(first)*4)), end-first)
}

// room is how many words were never handed out.
func (a *arena) room() uint32 { return arenaWords - a.next }

// alloc returns a block of class c; its content is undefined. The caller has
// made sure of room.
func (a *arena) alloc(c int) uint32 {
	if a.free[c] == 0 {
		a.refill(c)
	}
	ref := a.free[c]
	a.free[c] = a.load(ref)
	return ref
}

// push frees a block that nobody uses.
func (a *arena) push(c int, ref uint32) {
	a.store(ref, a.free[c])
	a.free[c] = ref
}

// refill puts at least one block on the free list of class c: cut from a
// block of the class above, or from what was never used.
func (a *arena) refill(c int) {
	if c >= chunkClass {
		a.push(c, a.extend(c))
		return
	}
	if a.free[c+1] == 0 {
		a.refill(c + 1)
	}
	ref := a.free[c+1]
	a.free[c+1] = a.load(ref)
	step := classWords[c]
	for off := classWords[c+1]; off > 0; off -= step {
		a.push(c, ref+off-step)
	}
}

// extend takes a block from the end; what alignment skips becomes chunks.
func (a *arena) extend(c int) uint32 {
	size := classWords[c]
	for a.next%size != 0 {
		a.push(chunkClass, a.next)
		a.next += classWords[chunkClass]
	}
	if a.next > arenaWords-size {
		panic("forwarding tables: address space used up") // Room was not asked
	}
	ref := a.next
	a.next += size
	return ref
}
