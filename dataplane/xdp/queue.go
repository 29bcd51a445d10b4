package xdp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/fib"
)

// ErrGone is the answer of a port whose device was removed.
var ErrGone = errors.New("device is gone")

const (
	etherHeader = 14
	vlanTags    = 8 // room for two tags above the MTU
	refillBatch = 32
	// idleProbe is how many empty reads lie between two looks at the socket's
	// error: a poll that returns at once for a removed device ends that way.
	idleProbe = 256
)

// queue is one socket: one receive and transmit queue of a device.
type queue struct {
	u     *Umem
	id    fib.PortID
	index int
	slot  holder
	fd    int
	size  uint32 // slots of FILL and RX; TX and COMPLETION have at most TxRing

	fill, done, rx, tx   ring
	fillSlots, doneSlots []uint64
	rxSlots, txSlots     []unix.XDPDesc

	busy    time.Duration // for which the driver is polled after a packet; 0: never
	budget  int
	checked bool  // that the driver can
	busyErr error // why not, where it was wanted

	zeroCopy bool
	gone     bool
	joining  bool          // within a frame of several pieces
	jumbo    *graph.Packet // it, so far; nil: there is no room for it
	lost     netdev.Reason // why not
	idle     int           // empty reads since the last probe
	maxFrame *atomic.Int32 // bytes, the port's
	live     netdev.Live
}

func (q *queue) rxHolder() holder { return q.slot << 1 }
func (q *queue) txHolder() holder { return q.slot<<1 | 1 }

// receive appends waiting frames to v and restocks the fill ring.
func (q *queue) receive(v *graph.Vector) {
	n := q.rx.waiting(uint32(graph.VectorSize - v.N))
	if n == 0 && q.busy > 0 {
		q.call(unix.SYS_RECVFROM) // runs the driver's poll here
		n = q.rx.waiting(uint32(graph.VectorSize - v.N))
	}
	var frames, bytes, bad uint64
	for range n {
		d := q.rxSlots[q.rx.own&q.rx.mask] // a copy: the memory is shared
		q.rx.own++
		if !q.u.take(d.Addr, q.rxHolder()) {
			bad++
			continue
		}
		if !q.u.within(d.Addr, d.Len) {
			q.u.home(d.Addr)
			bad++
			continue
		}
		p := q.u.pool.At(d.Addr, int(d.Len))
		if d.Options&unix.XDP_PKT_CONTD != 0 || q.joining {
			if p = q.join(p, d.Options&unix.XDP_PKT_CONTD == 0); p == nil {
				continue
			}
		}
		p.Port = q.id
		v.Push(p)
		frames++
		bytes += uint64(len(p.Data))
	}
	if n == 0 {
		q.probe()
	} else {
		q.rx.release()
		q.checkBusy()
		q.live.Received(frames, bytes)
		if bad > 0 {
			q.live.Drop(netdev.RxInvalid, bad)
		}
	}
	q.restock()
}

// join collects the pieces of a frame in a jumbo buffer and gives the piece's back. With the
// last piece it returns the frame, or nil if there was no room for it.
func (q *queue) join(piece *graph.Packet, last bool) (frame *graph.Packet) {
	if !q.joining {
		q.joining = true
		q.jumbo = q.u.pool.GetFor(q.u.pool.MaxRoom())
		q.lost = netdev.RxNoBuffer
	}
	if j := q.jumbo; j != nil {
		if n := len(j.Data); n+len(piece.Data) <= cap(j.Data) {
			j.Data = j.Data[:n+len(piece.Data)]
			copy(j.Data[n:], piece.Data)
		} else {
			q.u.pool.Put(j)
			q.jumbo, q.lost = nil, netdev.RxTooLong
		}
	}
	q.u.pool.Put(piece)
	if !last {
		return nil
	}
	frame, q.jumbo, q.joining = q.jumbo, nil, false
	if frame == nil {
		q.live.Drop(q.lost, 1)
	}
	return frame
}

// checkBusy ends busy polling if the driver's poll, which has brought a frame, has no number:
// the kernel does not find it, then (veth's).
func (q *queue) checkBusy() {
	if q.busy <= 0 || q.checked {
		return
	}
	q.checked = true
	if id, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_INCOMING_NAPI_ID); err != nil || id <= 0 {
		q.busy = 0
	}
}

// probe looks now and then whether the device was removed.
func (q *queue) probe() {
	if q.idle++; q.idle < idleProbe {
		return
	}
	q.idle = 0
	if e, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		q.gone = true
	}
}

// restock gives free frames to the fill ring, in batches.
func (q *queue) restock() {
	if n := q.fill.room(q.fill.size); n >= min(refillBatch, q.fill.size) {
		given := uint32(0)
		for ; given < n; given++ {
			p := q.u.pool.Lend()
			if p == nil {
				break
			}
			q.u.held[p.Addr()>>q.u.shift] = q.rxHolder()
			q.fillSlots[q.fill.own&q.fill.mask] = p.Addr()
			q.fill.own++
		}
		if given > 0 {
			q.fill.publish()
		}
	}
	if q.zeroCopy && q.fill.wakeup() {
		q.call(unix.SYS_RECVFROM)
	}
}

// send moves v's frames to the transmit ring. Frames leave at flush.
func (q *queue) send(v *graph.Vector) error {
	room := q.sendRoom(q.slotsFor(v))
	var sent, bytes uint64
	limit := int(q.maxFrame.Load())
	for _, p := range v.P[:v.N] {
		i := p.Addr() >> q.u.shift
		switch n := len(p.Data); {
		case q.u.held[i] != 0: // handed on twice: a ring has it already
			q.live.Drop(netdev.TxInvalid, 1)
			continue
		case n < etherHeader:
			q.drop(p, netdev.TxTooShort)
			continue
		case n > limit:
			q.drop(p, netdev.TxTooLong)
			continue
		case room == 0 && q.gone:
			q.drop(p, netdev.TxGone)
			continue
		case room == 0:
			q.drop(p, netdev.TxRingFull)
			continue
		}
		if q.u.pool.Jumbo(p) {
			k := q.sendPieces(p, room)
			if room -= k; k == 0 {
				continue
			}
		} else {
			q.u.held[i] = q.txHolder()
			q.txSlots[q.tx.own&q.tx.mask] = unix.XDPDesc{Addr: q.u.pool.Offset(p), Len: uint32(len(p.Data))}
			q.tx.own++
			room--
		}
		sent++
		bytes += uint64(len(p.Data))
	}
	v.N = 0
	if sent > 0 {
		q.tx.publish()
		q.live.Sent(sent, bytes)
	}
	if q.gone {
		return q.goneError()
	}
	return nil
}

// slotsFor is how many slots of the transmit ring the frames take.
func (q *queue) slotsFor(v *graph.Vector) uint32 {
	n := uint32(v.N)
	if q.u.sg {
		for _, p := range v.P[:v.N] {
			if q.u.pool.Jumbo(p) {
				n += uint32(graph.Headroom+len(p.Data)) >> q.u.shift
			}
		}
	}
	return n
}

// sendPieces moves a frame in a jumbo buffer to the transmit ring, a piece for each chunk
// that it touches, and returns their number; 0: there is no room, the frame was dropped.
func (q *queue) sendPieces(p *graph.Packet, room uint32) uint32 {
	off, left, chunk := q.u.pool.Offset(p), uint64(len(p.Data)), uint64(1)<<q.u.shift
	k := uint32((off+left-1)>>q.u.shift-off>>q.u.shift) + 1
	switch {
	case k > 1 && !q.u.sg:
		q.drop(p, netdev.TxTooLong)
		return 0
	case k > room:
		q.drop(p, netdev.TxRingFull)
		return 0
	}
	for left > 0 {
		n := min(left, chunk-off&(chunk-1))
		d := unix.XDPDesc{Addr: off, Len: uint32(n)}
		if left > n {
			d.Options = unix.XDP_PKT_CONTD
		}
		q.u.held[off>>q.u.shift] = q.txHolder()
		q.txSlots[q.tx.own&q.tx.mask] = d
		q.tx.own++
		off, left = off+n, left-n
	}
	return k
}

// sendRoom tells how many of n frames the transmit ring takes.
func (q *queue) sendRoom(n uint32) uint32 {
	if q.gone {
		return 0
	}
	room := q.tx.room(n)
	if room < n && q.flush() == nil {
		room = q.tx.room(n)
	}
	if q.gone {
		return 0
	}
	return room
}

func (q *queue) drop(p *graph.Packet, why netdev.Reason) {
	q.live.Drop(why, 1)
	q.u.pool.Put(p)
}

// flush kicks the kernel while it takes frames, and reclaims what was sent.
func (q *queue) flush() error {
	if q.gone {
		return q.goneError()
	}
	if left := q.tx.unread(); left > 0 {
		for q.tx.wakeup() {
			e := q.call(unix.SYS_SENDTO)
			if e == unix.ENXIO || e == unix.EBADF || e == unix.ENODEV {
				q.gone = true
				return q.goneError()
			}
			before := left
			left = q.tx.unread()
			// EAGAIN: the kernel's budget for one call is used up, or it is out
			// of buffers. Only the first is worth another call.
			if e != unix.EAGAIN || left == 0 || left == before {
				break
			}
		}
	}
	q.reclaim()
	return nil
}

func (q *queue) goneError() error { return fmt.Errorf("use queue %d: %w", q.index, ErrGone) }

// reclaim brings sent frames home.
func (q *queue) reclaim() {
	n := q.done.waiting(q.done.size)
	if n == 0 {
		return
	}
	bad := uint64(0)
	for range n {
		off := q.doneSlots[q.done.own&q.done.mask]
		q.done.own++
		if !q.u.take(off, q.txHolder()) {
			bad++
			continue
		}
		q.u.home(off)
	}
	q.done.release()
	if bad > 0 {
		q.live.Drop(netdev.TxInvalid, bad)
	}
}

// call wakes the kernel: sendto or recvfrom without data, not blocking. EAGAIN,
// EBUSY, ENOBUFS and ENETDOWN are normal: the next round tries again.
func (q *queue) call(nr uintptr) unix.Errno {
	// RawSyscall: the call takes microseconds and never sleeps, so the
	// scheduler need not hear of it.
	_, _, e := unix.RawSyscall6(nr, uintptr(q.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return e
}

// close returns every frame that the rings held to the pool.
func (q *queue) close() {
	if q.fd < 0 {
		return
	}
	for i, g := range q.u.group {
		for j, fd := range g {
			if fd == q.fd {
				q.u.group[i] = append(g[:j:j], g[j+1:]...)
				break
			}
		}
	}
	q.closeSocket()
	q.u.leave(q)
	if q.jumbo != nil {
		q.u.pool.Put(q.jumbo)
		q.jumbo = nil
	}
	q.gone = true
}

// counters joins ours with what the kernel counted.
func (q *queue) counters(s unix.XDPStatistics) netdev.Counters {
	c := q.live.Read()
	c.Drops[netdev.RxInvalid] += s.Rx_invalid_descs
	c.Drops[netdev.TxInvalid] += s.Tx_invalid_descs
	c.Drops[netdev.RxRingFull] += s.Rx_ring_full
	c.Drops[netdev.RxNoBuffer] += s.Rx_fill_ring_empty_descs
	other := s.Rx_dropped
	if !q.zeroCopy { // in copy mode the kernel counts a lack of buffers in both
		other -= min(other, s.Rx_fill_ring_empty_descs)
	}
	c.Drops[netdev.RxOther] += other
	return c
}
