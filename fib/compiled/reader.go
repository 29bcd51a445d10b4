package compiled

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Reader is one forwarding worker's membership in grace periods. While it is
// online the worker may look up and hold group indices; at each call of
// Quiescent it holds none. Memory and group indices that the writer retires
// are reused once every online reader has been quiescent.
//
// A reader is used by one goroutine. It starts offline.
type Reader struct {
	_     [64]byte // no false sharing with its neighbours
	seen  atomic.Uint64
	_     [56]byte
	space *Space
}

// grace is the writer's side: which retired blocks wait for which readers.
type grace struct {
	clock atomic.Uint64 // from 1; counts seals
	mu    sync.Mutex    // guards readers: they come and go on any goroutine
	all   []*Reader

	limbo []retired // writer only, in order of stamp once sealed
	seals []seal
}

type retired struct {
	class int32
	ref   uint32
}

// seal says that limbo[:end] (counted from its start at that time) was
// unlinked before the clock showed stamp.
type seal struct {
	stamp uint64
	count int
}

// NewReader registers a reader, offline.
func (s *Space) NewReader() *Reader {
	r := &Reader{space: s}
	s.grace.mu.Lock()
	defer s.grace.mu.Unlock()
	s.grace.all = append(s.grace.all, r)
	return r
}

// Online starts reading: until Offline, Quiescent must be called regularly.
func (r *Reader) Online() { r.seen.Store(r.space.grace.clock.Load()) }

// Quiescent tells that the reader holds nothing from earlier lookups.
func (r *Reader) Quiescent() { r.seen.Store(r.space.grace.clock.Load()) }

// Mark is the moment of the last Seal, Reached tells that the reader holds nothing from before a
// mark: for readers whose quiescence takes long to find out.
func (r *Reader) Mark() uint64 { return r.space.grace.clock.Load() }

// Reached is Quiescent as of the mark.
func (r *Reader) Reached(mark uint64) { r.seen.Store(mark) }

// Offline stops reading, before the worker sleeps.
func (r *Reader) Offline() { r.seen.Store(0) }

// Close removes the reader.
func (r *Reader) Close() {
	r.Offline()
	g := &r.space.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = slices.DeleteFunc(g.all, func(o *Reader) bool { return o == r })
}

// Seal ends a set of changes: what was unlinked before it may be reused when
// Passed(stamp). Writer only.
func (s *Space) Seal() (stamp uint64) {
	s.flush()
	g := &s.grace
	sealed := 0
	for _, x := range g.seals {
		sealed += x.count
	}
	stamp = g.clock.Add(1)
	if n := len(g.limbo) - sealed; n > 0 {
		g.seals = append(g.seals, seal{stamp, n})
	}
	return stamp
}

// Passed tells whether every online reader has been quiescent since the seal.
func (s *Space) Passed(stamp uint64) bool { return s.grace.oldest() >= stamp }

// oldest is the earliest clock that an online reader may still be at.
func (g *grace) oldest() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	low := g.clock.Load()
	for _, r := range g.all {
		if seen := r.seen.Load(); seen != 0 && seen < low {
			low = seen
		}
	}
	return low
}

// Reclaim frees the blocks whose grace period is over and returns how many
// still wait. Writer only.
func (s *Space) Reclaim() int {
	g := &s.grace
	if len(g.limbo) == 0 {
		return 0
	}
	low, done, n := g.oldest(), 0, 0
	for _, x := range g.seals {
		if x.stamp > low {
			break
		}
		done += x.count
		n++
	}
	for _, r := range g.limbo[:done] {
		s.arena.push(int(r.class), r.ref)
	}
	g.seals = slices.Delete(g.seals, 0, n)
	g.limbo = slices.Delete(g.limbo, 0, done)
	return len(g.limbo)
}
