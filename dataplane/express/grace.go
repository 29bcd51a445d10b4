package express

import "sync/atomic"

// Grace tells when all program runs that began before a moment have ended.
// Periods follow each other: what is retired during one waits for the next.
type Grace struct {
	begun, done atomic.Uint64
	kick        chan struct{}
}

// NewGrace makes one; Run drives it.
func NewGrace() *Grace { return &Grace{kick: make(chan struct{}, 1)} }

// stamp is the period after which what was unlinked before the call is free.
func (g *Grace) stamp() uint64 { return g.begun.Load() + 1 }

func (g *Grace) passed(stamp uint64) bool { return g.done.Load() >= stamp }

// Kick asks for a period. Any goroutine.
func (g *Grace) Kick() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// Reader is a membership in the lookup tables' grace periods (compiled.Reader).
type Reader interface {
	Mark() uint64
	Reached(mark uint64)
}

// Run waits for periods as they are asked for, until stop is closed. wait returns when all
// program runs under way have ended; r is told how far that was.
func (g *Grace) Run(stop <-chan struct{}, r Reader, wait func() error) error {
	for {
		select {
		case <-stop:
			return nil
		case <-g.kick:
		}
		n := g.begun.Add(1)
		mark := r.Mark()
		if err := wait(); err != nil {
			return err
		}
		r.Reached(mark)
		g.done.Store(n)
	}
}

// pool hands out numbers from 1 and takes them back after a grace period.
type pool struct {
	grace *Grace
	most  uint32 // numbers are below it
	next  uint32
	free  []uint32
	limbo []retired
}

type retired struct {
	index uint32
	stamp uint64
}

func newPool(g *Grace, most uint32) pool { return pool{grace: g, most: most, next: 1} }

// get returns 0 if none is free.
func (p *pool) get() uint32 {
	if len(p.free) == 0 {
		p.reclaim()
	}
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	if p.next >= p.most {
		return 0
	}
	p.next++
	return p.next - 1
}

// retire takes back a number that nothing leads to any more; 0 is none.
func (p *pool) retire(i uint32) {
	if i == 0 {
		return
	}
	p.limbo = append(p.limbo, retired{i, p.grace.stamp()})
	p.grace.Kick()
}

func (p *pool) reclaim() {
	n := 0
	for n < len(p.limbo) && p.grace.passed(p.limbo[n].stamp) {
		p.free = append(p.free, p.limbo[n].index)
		n++
	}
	p.limbo = append(p.limbo[:0], p.limbo[n:]...)
}

// used counts the numbers that are out or wait.
func (p *pool) used() int { return int(p.next) - 1 - len(p.free) }
