package event

import (
	"math/bits"
	"slices"
)

const (
	// tickShift makes a tick 2^18 ns = 0.26 ms: fine enough for a 50 ms
	// protocol timer, coarse enough that timers share wake-ups.
	tickShift  = 18
	levelBits  = 6
	levelSlots = 1 << levelBits
	// levels × levelBits covers 63 bits: every time fits even at 1 ns a tick.
	levels = 11
)

// wheel is a hierarchical timing wheel. Level 0 has a slot a tick, a slot of
// level n+1 covers all of level n. A timer sits in the level of the highest
// digit (of 6 bits) in which its tick differs from the current one, and moves
// down when that digit's turn comes: add, move and remove cost O(1), each timer
// is touched at most once a level, and bit maps skip empty slots.
type wheel struct {
	shift  uint
	cur    int64 // current tick; all before it have expired
	count  int
	bitmap [levels]uint64
	slots  [levels * levelSlots]*Timer // circular lists, in order of adding
	due    []*Timer                    // result of expire, reused
}

// tickOf is the first tick not before the time: timers never run early.
func (w *wheel) tickOf(at int64) int64 {
	up := int64(1)<<w.shift - 1
	if at > never-up {
		return never >> w.shift
	}
	return (at + up) >> w.shift
}

func (w *wheel) time(tick int64) int64 {
	if tick > never>>w.shift {
		return never
	}
	return tick << w.shift
}

// add puts a timer, which is in no slot, into the one of its due time.
func (w *wheel) add(t *Timer) {
	w.place(t, max(w.tickOf(t.due), w.cur+1))
	w.count++
}

func (w *wheel) place(t *Timer, tick int64) {
	t.tick = tick
	level := 0
	if diff := uint64(tick ^ w.cur); diff != 0 {
		level = (bits.Len64(diff) - 1) / levelBits
	}
	slot := int(tick>>(level*levelBits)) & (levelSlots - 1)
	t.pos = uint16(level*levelSlots + slot)
	w.bitmap[level] |= 1 << slot
	head := w.slots[t.pos]
	if head == nil {
		t.next, t.prev = t, t
		w.slots[t.pos] = t
		return
	}
	t.next, t.prev = head, head.prev
	head.prev.next = t
	head.prev = t
}

func (w *wheel) remove(t *Timer) {
	w.unlink(t)
	w.count--
}

func (w *wheel) unlink(t *Timer) {
	if t.next == t {
		w.slots[t.pos] = nil
		w.bitmap[t.pos/levelSlots] &^= 1 << (t.pos % levelSlots)
	} else {
		t.prev.next, t.next.prev = t.next, t.prev
		if w.slots[t.pos] == t {
			w.slots[t.pos] = t.next
		}
	}
	t.next, t.prev = nil, nil
}

// next finds the first occupied slot and the tick at which its turn comes.
func (w *wheel) next() (pos int, tick int64, ok bool) {
	for level := range levels {
		if w.bitmap[level] == 0 {
			continue
		}
		slot := bits.TrailingZeros64(w.bitmap[level])
		low := level * levelBits
		high := low + levelBits
		tick = int64(slot) << low
		if high < 63 {
			tick |= w.cur >> high << high
		}
		return level*levelSlots + slot, tick, true
	}
	return 0, 0, false
}

// nextTime is when the wheel has something to do.
func (w *wheel) nextTime() int64 {
	_, tick, ok := w.next()
	if !ok {
		return never
	}
	return w.time(tick)
}

// expire moves to now and returns the timers that are due, in order of their
// times. The slice is valid until the next call.
func (w *wheel) expire(now int64) []*Timer {
	clear(w.due)
	if cap(w.due) > keepCap {
		w.due = nil
	}
	w.due = w.due[:0]
	to := now >> w.shift
	for {
		pos, tick, ok := w.next()
		if !ok || tick > to {
			break
		}
		w.cur = max(w.cur, tick)
		for w.slots[pos] != nil {
			t := w.slots[pos]
			w.unlink(t)
			if tick := w.tickOf(t.due); tick > w.cur {
				w.place(t, tick)
				continue
			}
			w.count--
			w.due = append(w.due, t)
		}
	}
	w.cur = max(w.cur, to)
	byDue := func(a, b *Timer) int {
		switch {
		case a.due < b.due:
			return -1
		case a.due > b.due:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(w.due, byDue) {
		slices.SortStableFunc(w.due, byDue)
	}
	return w.due
}

// clear forgets all timers.
func (w *wheel) clear() {
	for pos, t := range w.slots {
		for t != nil {
			w.unlink(t)
			t.state = timerIdle
			t.h.armed--
			t = w.slots[pos]
		}
	}
	w.count, w.due = 0, nil
}
