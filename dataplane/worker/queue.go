package worker

import (
	"sync"
	"sync/atomic"
)

// Queue is a bounded queue of frames with their metadata, in slots that are
// made once: the border between a worker and the goroutines around it. Any
// number of goroutines push, one takes.
type Queue[M any] struct {
	mu      sync.Mutex
	space   sync.Cond // PushWait
	meta    []M
	lens    []int
	buf     []byte
	size    int // of a slot, bytes
	head    uint64
	tail    uint64
	waiting int // in PushWait
	closed  bool

	count atomic.Int64
	wake  func() // tells the taker that there is something
}

// NewQueue makes a queue of slots for frames of up to size bytes. wake, called
// after each push, must not block.
func NewQueue[M any](slots, size int, wake func()) *Queue[M] {
	q := &Queue[M]{meta: make([]M, slots), lens: make([]int, slots), buf: make([]byte, slots*size), size: size, wake: wake}
	q.space.L = &q.mu
	return q
}

// Push copies the frame in. It reports false when the queue is full or closed,
// or the frame longer than a slot.
func (q *Queue[M]) Push(m M, frame []byte) bool {
	q.mu.Lock()
	ok := q.room() && q.put(m, frame)
	q.mu.Unlock()
	if ok {
		q.wake()
	}
	return ok
}

// PushWait is Push that waits while the queue is full: for goroutines that
// read from elsewhere and shall stop reading then.
func (q *Queue[M]) PushWait(m M, frame []byte) bool {
	q.mu.Lock()
	for !q.room() && !q.closed {
		q.waiting++
		q.space.Wait()
		q.waiting--
	}
	ok := q.put(m, frame)
	q.mu.Unlock()
	if ok {
		q.wake()
	}
	return ok
}

func (q *Queue[M]) room() bool { return q.head-q.tail < uint64(len(q.meta)) }

func (q *Queue[M]) put(m M, frame []byte) bool {
	if q.closed || len(frame) > q.size {
		return false
	}
	i := int(q.head % uint64(len(q.meta)))
	q.meta[i] = m
	q.lens[i] = copy(q.buf[i*q.size:(i+1)*q.size], frame)
	q.head++
	q.count.Add(1)
	return true
}

// Next is the length of the oldest frame, 0 if there is none; the taker calls it.
func (q *Queue[M]) Next() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == q.tail {
		return 0
	}
	return q.lens[q.tail%uint64(len(q.lens))]
}

// Take moves the oldest frame to buf and returns its length; buf has room for
// it (Next, or Size at most). It reports false when the queue is empty.
func (q *Queue[M]) Take(m *M, buf []byte) (int, bool) {
	if q.count.Load() == 0 {
		return 0, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == q.tail {
		return 0, false
	}
	i := int(q.tail % uint64(len(q.meta)))
	*m = q.meta[i]
	n := copy(buf, q.buf[i*q.size:i*q.size+q.lens[i]])
	q.tail++
	q.count.Add(-1)
	if q.waiting > 0 {
		q.space.Signal()
	}
	return n, true
}

// Len tells how many frames wait.
func (q *Queue[M]) Len() int { return int(q.count.Load()) }

// Size is the longest frame that fits, in bytes.
func (q *Queue[M]) Size() int { return q.size }

// Close refuses frames from now on and ends every PushWait.
func (q *Queue[M]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.space.Broadcast()
}
