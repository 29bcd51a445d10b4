package punt

import (
	"math"
	"sync/atomic"
)

// Rate is a policer's setting.
type Rate struct {
	PerSecond int // packets
	Burst     int // packets at once
}

// Default are the rates that protect the control plane. They are what the event
// loop handles in a tenth of a core, except for deliveries to the host
// stack, which are cheap there: a full BGP table must come in at speed.
var Default = [NumClasses]Rate{
	ARP:        {2000, 500},
	ND:         {2000, 500},
	LocalBGP:   {100000, 4000},
	LocalICMP:  {2000, 500},
	LocalOther: {50000, 4000},
	Exception:  {2000, 200},
	Unresolved: {2000, 500},
	Multicast:  {1000, 200},
	// A thousand sessions of 20 ms.
	BFD:         {50000, 2000},
	BFDMultihop: {20000, 1000},
}

// policer is a token bucket in its GCRA form: one word, so that all
// workers share it without a lock. tat is the theoretical arrival time, ns.
type policer struct {
	tat      atomic.Int64
	interval int64 // ns a packet
	limit    int64 // ns that tat may lie ahead of now
	passed   atomic.Uint64
	policed  atomic.Uint64
	_        [24]byte // a cache line each
}

func (p *policer) set(r Rate) {
	p.interval = int64(1e9) / int64(max(r.PerSecond, 1))
	p.limit = p.interval * int64(max(r.Burst-1, 0))
	p.tat.Store(math.MinInt64)
}

func (p *policer) allow(now int64) bool {
	for {
		old := p.tat.Load()
		at := max(old, now)
		if at-now > p.limit {
			p.policed.Add(1)
			return false
		}
		if p.tat.CompareAndSwap(old, at+p.interval) {
			p.passed.Add(1)
			return true
		}
	}
}

// Policers are the policers of a card, shared by its workers without locks.
type Policers struct{ class [NumClasses]policer }

// NewPolicers makes policers; a zero Rate takes the default.
func NewPolicers(rates [NumClasses]Rate) *Policers {
	p := &Policers{}
	for c := range p.class {
		r := rates[c]
		if r == (Rate{}) {
			r = Default[c]
		}
		p.class[c].set(r)
	}
	return p
}

// Allow takes a token of the class; now is monotonic, in ns.
func (p *Policers) Allow(now int64, c Class) bool { return p.class[c].allow(now) }

// ClassStats counts one class.
type ClassStats struct {
	Class           Class
	Passed, Policed uint64
}

// Stats reads all classes; any goroutine may call it.
func (p *Policers) Stats() []ClassStats {
	list := make([]ClassStats, NumClasses)
	for c := range p.class {
		list[c] = ClassStats{Class(c), p.class[c].passed.Load(), p.class[c].policed.Load()}
	}
	return list
}
