package guard

import (
	"sync/atomic"

	"godwit/dataplane/filter"
	"godwit/fib"
)

// RPF is how sources are checked.
type RPF uint8

// The modes (RFC 3704, 2.2 and 2.4).
const (
	NoRPF  RPF = iota
	Strict     // the way back leaves through the interface
	Loose      // there is a way back
)

// Policy is what is done to packets in one direction of an interface.
type Policy struct {
	Interface fib.InterfaceID
	Out       bool
	ACL       *filter.List // nil: everything is permitted
	RPF       RPF          // ingress only
	Policer   *Policer     // nil: none
	Log       *Log         // of rules that log; nil: none

	hits    []atomic.Uint64 // by rule; the last: none fitted
	spoofed atomic.Uint64
}

// NewPolicy makes one; the fields are set before it is used.
func NewPolicy(id fib.InterfaceID, out bool, acl *filter.List) *Policy {
	p := &Policy{Interface: id, Out: out, ACL: acl}
	if acl != nil {
		p.hits = make([]atomic.Uint64, acl.Len()+1)
	}
	return p
}

// Permits asks the access list about a packet, counts and logs it.
func (p *Policy) Permits(now int64, k *filter.Key) bool {
	if p.ACL == nil {
		return true
	}
	rule := p.ACL.Match(k)
	if rule == filter.None {
		p.hits[len(p.hits)-1].Add(1)
		return false
	}
	p.hits[rule].Add(1)
	if p.Log != nil && p.ACL.Logs(rule) {
		p.Log.add(now, Entry{Policy: p, Rule: rule, Key: *k})
	}
	return p.ACL.Permits(rule)
}

// Spoofed counts a packet whose source fails the check.
func (p *Policy) Spoofed() { p.spoofed.Add(1) }

// Stats counts what each rule fitted, then what none did, and the packets that failed the
// check of their source. Any goroutine.
func (p *Policy) Stats() (hits []uint64, spoofed uint64) {
	for i := range p.hits {
		hits = append(hits, p.hits[i].Load())
	}
	return hits, p.spoofed.Load()
}

// Entry is a packet that a rule with "log" fitted.
type Entry struct {
	Policy *Policy
	Rule   int
	Key    filter.Key
}

// Log takes entries from workers, a bounded number a second: what is above is counted.
type Log struct {
	entries chan Entry
	bucket  bucket
	full    atomic.Int64
	left    atomic.Uint64
}

// Entries a second, and at once.
const (
	logRate  = 10
	logBurst = 20
)

// NewLog makes one.
func NewLog() *Log {
	return &Log{entries: make(chan Entry, logBurst), bucket: bucket{1e9 / logRate, 1e9 / logRate * logBurst}}
}

func (l *Log) add(now int64, e Entry) {
	if !l.bucket.take(&l.full, now, 1) {
		l.left.Add(1)
		return
	}
	select {
	case l.entries <- e:
	default:
		l.left.Add(1)
	}
}

// Take returns the oldest entry, if there is one.
func (l *Log) Take() (Entry, bool) {
	select {
	case e := <-l.entries:
		return e, true
	default:
		return Entry{}, false
	}
}

// Left counts the packets that were not logged.
func (l *Log) Left() uint64 { return l.left.Load() }
