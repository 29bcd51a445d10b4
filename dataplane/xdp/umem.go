package xdp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
)

// Sizes of a Umem that suit most: a small working set stays in the caches.
const (
	DefaultFrames = 8192
	DefaultChunk  = 2048 // frames up to 1,792 bytes; 4,096 for larger MTUs
	hugePage      = 2 << 20
)

// holder says which ring holds a frame; 0 is the pool or the worker's hands.
// The lowest bit tells transmit from receive, the others are the queue's slot.
type holder uint16

// Umem is a worker's packet memory, registered with the kernel by the sockets
// of all its ports.
type Umem struct {
	mem    []byte
	huge   bool
	pool   *graph.Pool
	shift  uint8    // log2 of the chunk
	held   []holder // per frame: a ring gives back only what it holds
	queues []*queue // by slot; nil: free. Slot 0 is not used.
	group  [2][]int // fds of bound sockets that others can share, [copy, zero copy]
	sg     bool     // frames of several chunks: the sockets take them
	noSG   error    // why not, where they were wanted
}

// NewUmem maps memory for frames of chunk bytes each (2,048 or 4,096), from huge
// pages if the system has some to give.
func NewUmem(frames, chunk int) (*Umem, error) { return NewJumboUmem(frames, chunk, 0, 0) }

// NewJumboUmem is NewUmem with jumbos more buffers for frames of up to size bytes. Such
// frames travel in several chunks of the kernel's rings (Linux 6.6), which are
// joined in one buffer when they are received: a worker sees one piece of memory.
func NewJumboUmem(frames, chunk, jumbos, size int) (*Umem, error) {
	if chunk != 2048 && chunk != 4096 || frames < 64 || frames > 1<<24 || jumbos < 0 || jumbos > 1<<16 || size > MaxJumbo {
		return nil, fmt.Errorf("make umem: %d frames of %d bytes, %d of %d", frames, chunk, jumbos, size)
	}
	all := frames + jumbos*graph.JumboRun(chunk, size)
	u := &Umem{held: make([]holder, all), queues: make([]*queue, 1), shift: 11, sg: jumbos > 0}
	if chunk == 4096 {
		u.shift = 12
	}
	if err := u.mapMemory(all * chunk); err != nil {
		return nil, fmt.Errorf("make umem: %w", err)
	}
	pool, err := graph.NewPool(u.mem[:all*chunk], chunk)
	if err == nil && jumbos > 0 {
		err = pool.MakeJumbos(jumbos, size)
	}
	if err != nil {
		unix.Munmap(u.mem)
		return nil, fmt.Errorf("make umem: %w", err)
	}
	u.pool = pool
	return u, nil
}

// MaxJumbo is the largest frame of several chunks, bytes: the kernel's limit of 17 pieces
// would allow more, a router's MTU is at most 9,216.
const MaxJumbo = 9216 + etherHeader + vlanTags

func (u *Umem) mapMemory(n int) error {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	round := (n + hugePage - 1) &^ (hugePage - 1)
	mem, err := unix.Mmap(-1, 0, round, prot, flags|unix.MAP_HUGETLB)
	if err == nil {
		u.mem, u.huge = mem, true
		return nil
	}
	mem, err = unix.Mmap(-1, 0, n, prot, flags&^unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", n, err)
	}
	unix.Madvise(mem, unix.MADV_HUGEPAGE) // a wish: transparent huge pages may be off
	u.mem = mem
	return nil
}

// Pool is the worker's packets, in this memory.
func (u *Umem) Pool() *graph.Pool { return u.pool }

// Huge reports whether the memory is of huge pages.
func (u *Umem) Huge() bool { return u.huge }

// InRings counts the frames that the rings of open ports hold. With the
// worker's hands empty, InRings plus Pool().Free() is Pool().Size().
func (u *Umem) InRings() int {
	n := 0
	for i := 0; i < len(u.held); {
		from, to := u.pool.Chunks(uint64(i) << u.shift)
		if u.holds(from, to) {
			n++
		}
		i = to
	}
	return n
}

// holds tells that a ring has one of the chunks.
func (u *Umem) holds(from, to int) bool {
	for _, h := range u.held[from:to] {
		if h != 0 {
			return true
		}
	}
	return false
}

// ErrInUse is Umem.Close's answer while ports are open.
var ErrInUse = errors.New("umem in use by open ports")

// Close unmaps the memory. All ports must be closed; the pool and its packets
// must not be used afterwards.
func (u *Umem) Close() error {
	for _, q := range u.queues {
		if q != nil {
			return fmt.Errorf("close umem: %w", ErrInUse)
		}
	}
	if u.mem == nil {
		return nil
	}
	err := unix.Munmap(u.mem)
	u.mem, u.pool, u.held = nil, nil, nil
	return err
}

// join gives a queue its slot.
func (u *Umem) join(q *queue) error {
	for i := 1; i < len(u.queues); i++ {
		if u.queues[i] == nil {
			u.queues[i], q.slot = q, holder(i)
			return nil
		}
	}
	if len(u.queues) >= 1<<15 {
		return errors.New("too many queues on one umem")
	}
	q.slot = holder(len(u.queues))
	u.queues = append(u.queues, q)
	return nil
}

// leave frees the queue's slot and brings home every frame its rings held.
// The queue's socket is closed.
func (u *Umem) leave(q *queue) {
	for i, h := range u.held {
		if h>>1 == q.slot {
			u.home(uint64(i) << u.shift)
		}
	}
	u.queues[q.slot] = nil
}

// home puts the frame at the offset back into the pool: one of several chunks with
// the last of them.
func (u *Umem) home(off uint64) {
	u.held[off>>u.shift] = 0
	if from, to := u.pool.Chunks(off); to-from > 1 && u.holds(from, to) {
		return
	}
	u.pool.PutAt(off)
}

// take claims the frame at the offset from the ring that says it has it.
// It reports false if that ring never had it: a broken descriptor.
func (u *Umem) take(off uint64, from holder) bool {
	i := off >> u.shift
	if i >= uint64(len(u.held)) || u.held[i] != from {
		return false
	}
	u.held[i] = 0
	return true
}

// within reports whether n bytes from the offset lie in one chunk.
func (u *Umem) within(off uint64, n uint32) bool {
	chunk := uint64(1) << u.shift
	return off&(chunk-1)+uint64(n) <= chunk
}
