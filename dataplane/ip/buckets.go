package ip

import (
	"math/bits"

	"godwit/dataplane/neigh"
	"godwit/fib"
)

// Sizes of bucket tables: powers of two, so that a table is indexed by the first
// bits of the flow hash, and a larger one refines a smaller one.
const (
	smallBuckets = 256  // shares of up to 16 members, in steps of 0.4 %
	largeBuckets = 1024 // of more members, or finer weights
	smallMembers = 16
	noOwner      = 0xff // more than any member's number
)

// buckets shares flows out among the members of one class of a group, the
// primary ones or the backups. A bucket has a home: its member while all live.
// Resilience:
//
//  1. A member that dies loses its buckets to the living ones, in proportion to their
//     weights; no other bucket moves.
//  2. A member that comes back takes its home buckets back and, while others are
//     dead, its share of theirs; no bucket moves but to it.
//  3. New members or weights move as few buckets as the new shares need.
//
// Free buckets are taken in an order that is the member's own (rendezvous
// hashing), so that groups with members in common treat most flows alike, on
// every card and after a restart.
type buckets struct {
	weights   []int // by member; 0: of the other class
	ids       []uint64
	dead      []bool  // as of now
	home, now []uint8 // members
}

// memberID names a member in all groups.
func memberID(nh fib.NextHop) uint64 {
	k := neigh.Key{Interface: nh.Interface}
	if nh.Gateway.IsValid() {
		k = neigh.KeyOf(nh.Interface, nh.Gateway)
	}
	return mix(k.Hi^uint64(k.Interface)<<32, k.Lo^0x9e3779b97f4a7c15)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa0761d6478bd642f, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// newBuckets shares flows out to all members with a weight; old, if not nil, is
// the table that it replaces.
func newBuckets(weights []int, ids []uint64, old *buckets) *buckets {
	n := tableSize(weights)
	b := &buckets{weights: weights, ids: ids, dead: make([]bool, len(weights)), home: make([]uint8, n)}
	want := b.shares(n)
	have := make([]int, len(weights))
	for i := range b.home {
		b.home[i] = noOwner
		if old == nil {
			continue
		}
		if m := b.find(old.ids[old.home[i*len(old.home)/n]]); m != noOwner && have[m] < want[m] {
			b.home[i] = m
			have[m]++
		}
	}
	b.fill(b.home, have, want)
	b.now = append([]uint8(nil), b.home...)
	for i := range b.now { // what stands in for a dead member goes on
		if old == nil {
			break
		}
		if m := b.find(old.ids[old.now[i*len(old.now)/n]]); m != noOwner {
			b.now[i] = m
		}
	}
	return b
}

func tableSize(weights []int) int {
	total, common, members := 0, 0, 0
	for _, w := range weights {
		if w == 0 {
			continue
		}
		members++
		total += w
		for a := w; a != 0; common, a = a, common%a {
		}
	}
	if members > smallMembers || total/common > smallBuckets {
		return largeBuckets
	}
	return smallBuckets
}

func (b *buckets) find(id uint64) uint8 {
	for m, x := range b.ids {
		if x == id && b.weights[m] > 0 {
			return uint8(m)
		}
	}
	return noOwner
}

// shares is how many of n buckets each living member gets.
func (b *buckets) shares(n int) []int {
	total := 0
	for m, w := range b.weights {
		if !b.dead[m] {
			total += w
		}
	}
	list := make([]int, len(b.weights))
	given, seen := 0, 0 // cumulated rounding: no member is off by more than one bucket
	for m, w := range b.weights {
		if b.dead[m] || w == 0 {
			continue
		}
		seen += w
		list[m] = seen*n/total - given
		given += list[m]
	}
	return list
}

// fill gives each free bucket to that member below its share that prefers it most.
func (b *buckets) fill(table []uint8, have, want []int) {
	step := len(table) / smallBuckets
	for i, owner := range table {
		if owner != noOwner {
			continue
		}
		var best uint64
		for m := range have {
			if have[m] >= want[m] {
				continue
			}
			if s := mix(b.ids[m], uint64(i/step)) | 1; s > best {
				best, table[i] = s, uint8(m)
			}
		}
		have[table[i]]++
	}
}

// follow moves buckets as members die and come back; at least one lives.
func (b *buckets) follow(dead []bool) {
	was := b.dead
	b.dead = append([]bool(nil), dead...)
	want, have := b.shares(len(b.home)), make([]int, len(b.weights))
	for i, h := range b.home {
		switch owner := b.now[i]; {
		case !dead[h]:
			b.now[i] = h
		case dead[owner]:
			b.now[i] = noOwner
			continue
		}
		have[b.now[i]]++
	}
	b.fill(b.now, have, want)
	for m := range have {
		if was[m] && !dead[m] && b.weights[m] > 0 {
			b.claim(uint8(m), have, want)
		}
	}
}

// claim gives a member that came back its share of what dead ones left.
func (b *buckets) claim(m uint8, have, want []int) {
	for i, h := range b.home {
		if have[m] >= want[m] {
			return
		}
		if owner := b.now[i]; b.dead[h] && have[owner] > want[owner] {
			b.now[i] = m
			have[owner]--
			have[m]++
		}
	}
}

// living counts the members of the class that live.
func (b *buckets) living(dead []bool) (n int) {
	for m, w := range b.weights {
		if w > 0 && !dead[m] {
			n++
		}
	}
	return n
}

// alone tells that the class has a single member.
func (b *buckets) alone() bool {
	n := 0
	for _, w := range b.weights {
		if w > 0 {
			n++
		}
	}
	return n == 1
}
