package sampling

import (
	"sync/atomic"

	"godwit/fib"
)

// HeaderMax is the most bytes that are kept of a frame.
const HeaderMax = 256

// RateMax is the largest N of "one of N".
const RateMax = 1 << 24

// Taken is one sampled frame.
type Taken struct {
	Interface fib.InterfaceID // ingress
	Rate      uint32          // one of so many was taken
	Length    uint32          // of the whole frame, without padding that the link took away
	Time      int64           // the worker's clock, ns
	N         uint32          // bytes of Header
	Header    [HeaderMax]byte
}

// Ring carries samples from one worker to the event loop: one goroutine puts, one
// takes, nobody waits.
type Ring struct {
	slots []Taken
	head  atomic.Uint64 // of the worker
	_     [56]byte
	tail  atomic.Uint64 // of the loop
	lost  atomic.Uint64
}

// NewRing makes a ring of n slots, a power of two.
func NewRing(n int) *Ring { return &Ring{slots: make([]Taken, n)} }

// put copies a sample in, or counts it as lost.
func (r *Ring) put(id fib.InterfaceID, rate uint32, now int64, frame []byte) {
	head := r.head.Load()
	if head-r.tail.Load() == uint64(len(r.slots)) {
		r.lost.Add(1)
		return
	}
	s := &r.slots[head&uint64(len(r.slots)-1)]
	s.Interface, s.Rate, s.Time, s.Length = id, rate, now, uint32(len(frame))
	s.N = uint32(copy(s.Header[:], frame))
	r.head.Store(head + 1)
}

// Peek is the oldest sample, nil if there is none. It is the caller's until Pop.
func (r *Ring) Peek() *Taken {
	tail := r.tail.Load()
	if tail == r.head.Load() {
		return nil
	}
	return &r.slots[tail&uint64(len(r.slots)-1)]
}

// Pop gives the slot of Peek back.
func (r *Ring) Pop() { r.tail.Add(1) }

// Lost counts the samples that found the ring full. Any goroutine.
func (r *Ring) Lost() uint64 { return r.lost.Load() }

// ringSlots is what waits for the loop, which takes samples ten times a second: so a worker has at most
// 20,480 samples a second, and what is above is lost and counted. A ring is 0.6 MB.
const ringSlots = 2048

// Sampler decides for one worker which frames are taken. The worker's goroutine
// uses it, but Ring.
//
// Between two samples of an interface lie a random number of frames, evenly from 1 to 2N-1, so N in
// the mean (sFlow version 5, 3.1): a sampler that takes exactly each N-th sees nothing of traffic
// that repeats itself with the same period.
type Sampler struct {
	ring atomic.Pointer[Ring]
	skip []uint32 // frames until the next sample, by interface slot; 0: not drawn yet
	rnd  uint64
}

// NewSampler makes one; seed differs from worker to worker.
func NewSampler(seed uint64) *Sampler { return &Sampler{rnd: seed*0x9e3779b97f4a7c15 | 1} }

// Resize makes room for slots 0 to n-1, and the ring if something is sampled.
func (s *Sampler) Resize(n int, sampled bool) {
	if !sampled {
		return
	}
	if s.ring.Load() == nil {
		s.ring.Store(NewRing(ringSlots))
	}
	if n > len(s.skip) {
		s.skip = append(s.skip, make([]uint32, n-len(s.skip))...)
	}
}

// Ring is where the samples are; nil: none was ever wanted. Any goroutine.
func (s *Sampler) Ring() *Ring { return s.ring.Load() }

// Frame counts a frame received on an interface, and takes it if it is its turn.
func (s *Sampler) Frame(slot uint16, id fib.InterfaceID, rate uint32, now int64, frame []byte) {
	n := &s.skip[slot]
	if *n == 0 || *n > 2*rate-1 { // at first, or drawn for another rate
		*n = s.draw(rate)
	}
	if *n--; *n > 0 {
		return
	}
	*n = s.draw(rate)
	s.ring.Load().put(id, rate, now, frame)
}

// draw is a number from 1 to 2*rate-1, all alike likely (xorshift64*).
func (s *Sampler) draw(rate uint32) uint32 {
	s.rnd ^= s.rnd >> 12
	s.rnd ^= s.rnd << 25
	s.rnd ^= s.rnd >> 27
	x := s.rnd * 0x2545f4914f6cdd1d >> 32
	return 1 + uint32(x*uint64(2*rate-1)>>32)
}
