package event

import (
	"math"
	"sync/atomic"
	"time"
)

// never is later than any loop time.
const never = int64(math.MaxInt64)

// clock counts loop time: nanoseconds since the loop was made. Statistics use
// the real clock (mono) even if the loop's time is virtual.
type clock struct {
	base    time.Time // loop time 0
	zero    time.Time // mono 0
	virtual bool
	at      atomic.Int64 // virtual loop time
}

func (c *clock) now() int64 {
	if c.virtual {
		return c.at.Load()
	}
	return c.mono()
}

func (c *clock) mono() int64 { return int64(time.Since(c.zero)) }

func (c *clock) set(t int64) {
	if t > c.at.Load() {
		c.at.Store(t)
	}
}

func (c *clock) wall() time.Time {
	if c.virtual {
		return c.base.Add(time.Duration(c.at.Load()))
	}
	return time.Now()
}
