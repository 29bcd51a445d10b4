package icmp

import (
	"net/netip"
	"time"
)

// Rates of errors: for the card, and for one receiver, so that one that is
// flooded on (or floods) leaves some to the others (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f).
const (
	cardRate, cardBurst = 1000, 200
	hostRate, hostBurst = 50, 20
	hostBuckets         = 1024 // receivers share buckets by hash: memory is bounded
)

type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) refill(now time.Time, rate, burst float64) {
	if b.last.IsZero() {
		b.tokens = burst
	} else if d := now.Sub(b.last).Seconds(); d > 0 {
		b.tokens = min(burst, b.tokens+d*rate)
	}
	b.last = now
}

// Limiter limits the rate of errors. One goroutine uses it.
type Limiter struct {
	card  bucket
	hosts [hostBuckets]bucket
}

// Allow takes a token for an error to the receiver.
func (l *Limiter) Allow(now time.Time, to netip.Addr) bool {
	b := to.As16()
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	host := &l.hosts[(h>>16^h)%hostBuckets]
	l.card.refill(now, cardRate, cardBurst)
	host.refill(now, hostRate, hostBurst)
	if l.card.tokens < 1 || host.tokens < 1 {
		return false
	}
	l.card.tokens--
	host.tokens--
	return true
}
