package guard

import (
	"errors"
	"sync/atomic"
)

// Rate is a policer's configuration. With Peak it is a two rate three color marker (RFC 2698, color-blind), without
// a token bucket.
type Rate struct {
	Rate, Burst     uint64 // bit/s, bytes
	Peak, PeakBurst uint64 // bit/s, bytes; 0: none
	Exceed          int    // with Peak: DSCP of what is above Rate and below Peak; -1: as it is
}

// Color is a policer's verdict.
type Color uint8

// The colors.
const (
	Green  Color = iota
	Yellow       // above the rate, below the peak
	Red
)

// Policer measures packets. Each bucket is one atomic number: when it will be full again, on the
// workers' clock (the generic cell rate algorithm, which is a token bucket's mirror image).
type Policer struct {
	rate      Rate
	full      atomic.Int64
	_         [56]byte
	peakFull  atomic.Int64
	_         [56]byte
	packets   [3]atomic.Uint64
	bytes     [3]atomic.Uint64
	slow, top bucket
}

// bucket is a rate and a depth, in ns.
type bucket struct {
	perByte float64 // ns
	depth   int64
}

func makeBucket(rate, burst uint64) bucket {
	per := 8e9 / float64(rate)
	return bucket{per, int64(per * float64(burst))}
}

// The least that makes sense: a packet of the largest MTU has to fit into a bucket.
const (
	minRate  = 8_000
	maxRate  = 1_000_000_000_000
	minBurst = 9_000
	maxBurst = 1 << 32
)

// NewPolicer makes one with full buckets.
func NewPolicer(r Rate) (*Policer, error) {
	outside := func(v, lo, hi uint64) bool { return v < lo || v > hi }
	switch {
	case outside(r.Rate, minRate, maxRate), outside(r.Burst, minBurst, maxBurst):
		return nil, errors.New("policer: rate or burst out of range")
	case r.Peak != 0 && (r.Peak < r.Rate || r.Peak > maxRate || outside(r.PeakBurst, minBurst, maxBurst)):
		return nil, errors.New("policer: peak below the rate, or out of range")
	case r.Exceed < -1 || r.Exceed > 63:
		return nil, errors.New("policer: no such DSCP")
	}
	p := &Policer{rate: r, slow: makeBucket(r.Rate, r.Burst)}
	if r.Peak != 0 {
		p.top = makeBucket(r.Peak, r.PeakBurst)
	}
	return p, nil
}

// take takes a packet's bytes out of a bucket, if they are in it.
func (b *bucket) take(full *atomic.Int64, now int64, bytes int) bool {
	cost := int64(b.perByte * float64(bytes))
	for {
		old := full.Load()
		next := max(old, now) + cost
		if next-now > b.depth {
			return false
		}
		if full.CompareAndSwap(old, next) {
			return true
		}
	}
}

// Meter measures a packet of so many bytes, and counts it.
func (p *Policer) Meter(now int64, bytes int) Color {
	c := Green
	switch {
	case p.rate.Peak != 0 && !p.top.take(&p.peakFull, now, bytes):
		c = Red
	case p.slow.take(&p.full, now, bytes):
	case p.rate.Peak != 0:
		c = Yellow
	default:
		c = Red
	}
	p.packets[c].Add(1)
	p.bytes[c].Add(uint64(bytes))
	return c
}

// Exceed is the DSCP of yellow packets, -1: as they are.
func (p *Policer) Exceed() int {
	if p.rate.Peak == 0 {
		return -1
	}
	return p.rate.Exceed
}

// Stats counts packets and bytes by color. Any goroutine.
func (p *Policer) Stats() (packets, bytes [3]uint64) {
	for i := range packets {
		packets[i], bytes[i] = p.packets[i].Load(), p.bytes[i].Load()
	}
	return packets, bytes
}
