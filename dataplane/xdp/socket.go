package xdp

import (
	"cmp"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
)

// setsockopt passes a struct or an int.
func setsockopt(fd, opt int, p unsafe.Pointer, n uintptr) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(p), n, 0)
	if e != 0 {
		return e
	}
	return nil
}

// getsockopt fills a struct; an older kernel may fill less than n bytes.
func getsockopt(fd, opt int, p unsafe.Pointer, n uint32) error {
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt),
		uintptr(p), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// The kernel frees a closed socket's queue a little later: a queue that is busy
// is tried again for this long.
const (
	busyFor   = 2 * time.Second
	busyPause = time.Millisecond
)

// open makes the queue's socket and rings and binds it, sharing the Umem of a
// socket that is bound already, or registering it. It leaves nothing on error.
func (q *queue) open(ifindex int, zeroCopy bool) error {
	for end := time.Now().Add(busyFor); ; time.Sleep(busyPause) {
		err := q.openOnce(ifindex, zeroCopy)
		if errors.Is(err, unix.EINVAL) && q.u.sg && !q.u.shared() {
			// Is it the frames of several pieces? Without them it is tried once more.
			q.u.sg = false
			if again := q.openOnce(ifindex, zeroCopy); again == nil {
				q.u.noSG = fmt.Errorf("the kernel takes no frames of several buffers (Linux 6.6 does): %w", err)
				return nil
			}
			q.u.sg = true
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}

func (q *queue) openOnce(ifindex int, zeroCopy bool) error {
	shares := q.u.group[groupOf(zeroCopy)]
	for i := len(shares) - 1; i >= 0; i-- {
		err := q.tryOpen(ifindex, zeroCopy, shares[i])
		// EBADF: the other socket's device is gone, it can't be shared any more.
		if err == nil || !errors.Is(err, unix.EBADF) {
			return err
		}
	}
	return q.tryOpen(ifindex, zeroCopy, -1)
}

// shared tells that a socket is bound: others are like it.
func (u *Umem) shared() bool { return len(u.group[0])+len(u.group[1]) > 0 }

// groupOf is the index in Umem.group: sockets share with those of their mode only.
func groupOf(zeroCopy bool) int {
	if zeroCopy {
		return 1
	}
	return 0
}

func (q *queue) tryOpen(ifindex int, zeroCopy bool, share int) (err error) {
	q.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open AF_XDP socket: %w", err)
	}
	defer func() {
		if err != nil {
			q.closeSocket()
		}
	}()
	if share < 0 {
		reg := unix.XDPUmemReg{
			Addr: uint64(uintptr(unsafe.Pointer(&q.u.mem[0]))),
			Len:  uint64(len(q.u.held)) << q.u.shift, Size: 1 << q.u.shift,
		}
		if err := setsockopt(q.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
			return fmt.Errorf("register umem: %w", err)
		}
	}
	if err := q.mapRings(); err != nil {
		return err
	}
	q.tune()
	if q.busyErr = q.busyPoll(); q.busyErr != nil {
		q.busy = 0
	}
	addr := unix.SockaddrXDP{Ifindex: uint32(ifindex), QueueID: uint32(q.index)}
	switch {
	case share >= 0: // mode and wake-up are inherited; other flags are refused
		addr.Flags, addr.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(share)
	case zeroCopy:
		addr.Flags = unix.XDP_ZEROCOPY | unix.XDP_USE_NEED_WAKEUP
	default:
		addr.Flags = unix.XDP_COPY | unix.XDP_USE_NEED_WAKEUP
	}
	if share < 0 && q.u.sg { // inherited, too
		addr.Flags |= unix.XDP_USE_SG
	}
	if err := unix.Bind(q.fd, &addr); err != nil {
		return fmt.Errorf("bind queue %d: %w", q.index, err)
	}
	return nil
}

// DefaultBudget is how many frames a driver handles in a busy poll: what fits into a vector.
const DefaultBudget = graph.VectorSize

// busyPoll has the kernel run the driver's poll in our system calls. Interrupts stay off meanwhile where the
// device has been told so (napi_defer_hard_irqs, gro_flush_timeout).
func (q *queue) busyPoll() error {
	if q.busy <= 0 {
		return nil
	}
	for _, o := range [...]struct {
		name       string
		opt, value int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, max(int(q.busy.Microseconds()), 1)},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, cmp.Or(q.budget, DefaultBudget)},
	} {
		if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// tune asks for what an older kernel or a small limit may refuse.
func (q *queue) tune() {
	// Copy mode takes socket buffers of about 1 KB a frame from this budget; the
	// default holds fewer frames than the ring.
	unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, int(q.txSize())*4096)
	// Frames that one system call sends in copy mode (Linux 6.17; before: 32).
	budget := q.txSize()
	setsockopt(q.fd, unix.XDP_MAX_TX_SKB_BUDGET, unsafe.Pointer(&budget), 4)
}

func (q *queue) mapRings() error {
	for _, r := range [...]struct {
		opt  int
		size uint32
	}{{unix.XDP_UMEM_FILL_RING, q.size}, {unix.XDP_UMEM_COMPLETION_RING, q.txSize()}, {unix.XDP_RX_RING, q.size}, {unix.XDP_TX_RING, q.txSize()}} {
		if err := setsockopt(q.fd, r.opt, unsafe.Pointer(&r.size), 4); err != nil {
			return fmt.Errorf("size ring %d: %w", r.opt, err)
		}
	}
	var off unix.XDPMmapOffsets
	if err := getsockopt(q.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), uint32(unsafe.Sizeof(off))); err != nil {
		return fmt.Errorf("get ring offsets: %w", err)
	}
	var err error
	if q.fill, q.fillSlots, err = mapAddrs(q.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, q.size); err != nil {
		return err
	}
	if q.done, q.doneSlots, err = mapAddrs(q.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, q.txSize()); err != nil {
		return err
	}
	if q.rx, q.rxSlots, err = mapDescs(q.fd, unix.XDP_PGOFF_RX_RING, off.Rx, q.size); err != nil {
		return err
	}
	q.tx, q.txSlots, err = mapDescs(q.fd, unix.XDP_PGOFF_TX_RING, off.Tx, q.txSize())
	return err
}

func (q *queue) txSize() uint32 { return min(q.size, TxRing) }

func mapAddrs(fd int, pgoff int64, o unix.XDPRingOffset, size uint32) (ring, []uint64, error) {
	r, p, err := mapRing(fd, pgoff, o, size, 8)
	if err != nil {
		return r, nil, err
	}
	return r, unsafe.Slice((*uint64)(p), size), nil
}

func mapDescs(fd int, pgoff int64, o unix.XDPRingOffset, size uint32) (ring, []unix.XDPDesc, error) {
	r, p, err := mapRing(fd, pgoff, o, size, 16)
	if err != nil {
		return r, nil, err
	}
	return r, unsafe.Slice((*unix.XDPDesc)(p), size), nil
}

func (q *queue) closeSocket() {
	for _, r := range [...]*ring{&q.fill, &q.done, &q.rx, &q.tx} {
		r.unmap()
	}
	q.fillSlots, q.doneSlots, q.rxSlots, q.txSlots = nil, nil, nil, nil
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
}

// kernelStats reads what the kernel dropped for the socket.
func kernelStats(fd int) (s unix.XDPStatistics) {
	if fd >= 0 {
		getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), uint32(unsafe.Sizeof(s)))
	}
	return s
}
