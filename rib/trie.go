package rib

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key is a prefix in the form of the trie: the address's bits from the top of
// hi, zero behind the prefix length. IPv4 and IPv6 live in separate tries.
type key struct {
	hi, lo uint64
	bits   uint8
}

func keyOf(p netip.Prefix) key { return addrKey(p.Addr(), uint8(p.Bits())) }

func addrKey(a netip.Addr, n uint8) key {
	if a.Is4() {
		b := a.As4()
		return key{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0, n}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), n}
}

func (k key) prefix(is4 bool) netip.Prefix {
	if is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(k.bits))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(k.bits))
}

// bit is the bit behind the first n.
func (k key) bit(n uint8) uint8 {
	if n < 64 {
		return uint8(k.hi >> (63 - n) & 1)
	}
	return uint8(k.lo >> (127 - n) & 1)
}

// cut shortens a key to n bits.
func (k key) cut(n uint8) key {
	switch {
	case n == 0:
		return key{}
	case n <= 64:
		return key{k.hi &^ (1<<(64-n) - 1), 0, n}
	}
	return key{k.hi, k.lo &^ (1<<(128-n) - 1), n}
}

// common tells how many leading bits two keys share, at most the shorter length.
func (k key) common(o key) uint8 {
	n := uint8(bits.LeadingZeros64(k.hi ^ o.hi))
	if n == 64 {
		n += uint8(bits.LeadingZeros64(k.lo ^ o.lo))
	}
	return min(n, k.bits, o.bits)
}

// node is one prefix, or a fork between prefixes. Both a VRF's routes and its
// tracked next hops are tries of nodes.
type node struct {
	key
	is4     bool
	queued  bool     // in Table.touched
	best    Protocol // of the installed candidate
	offered offered  // to redistribution
	kids    [2]uint32
	up      uint32
	first   uint32 // routes: first candidate; tracked next hops: the hop
	setInst uint32 // the installed set, 0: not in the FIB
}

func (n *node) family() int {
	if n.is4 {
		return 0
	}
	return 1
}

// empty tells whether the node is only a fork.
func (n *node) empty() bool { return n.first == 0 && n.setInst == 0 && !n.queued }

// trie is a path-compressed binary trie; its nodes are in a slab.
type trie struct {
	root uint32
	is4  bool
}

// insert finds or makes the node of a key.
func (t *trie) insert(s *slab[node], k key) uint32 {
	at, up := &t.root, uint32(0)
	for *at != 0 {
		n := s.at(*at)
		common := k.common(n.key)
		if common < n.bits {
			return t.split(s, at, up, k, common)
		}
		if k.bits == n.bits {
			return *at
		}
		up, at = *at, &n.kids[k.bit(n.bits)]
	}
	i, n := s.get()
	n.key, n.is4, n.up = k, t.is4, up
	*at = i
	return i
}

// split puts k above the node at *at, or beside it under a new fork.
func (t *trie) split(s *slab[node], at *uint32, up uint32, k key, common uint8) uint32 {
	old := *at
	i, n := s.get()
	n.key, n.is4, n.up = k, t.is4, up
	if common == k.bits {
		o := s.at(old)
		n.kids[o.bit(k.bits)] = old
		o.up, *at = i, i
		return i
	}
	f, fork := s.get()
	fork.key, fork.is4, fork.up = k.cut(common), t.is4, up
	fork.kids[k.bit(common)], fork.kids[1-k.bit(common)] = i, old
	n.up, s.at(old).up, *at = f, f, f
	return i
}

// remove takes an empty node out, and the fork above it that is none any more.
func (t *trie) remove(s *slab[node], i uint32) {
	for i != 0 {
		n := s.at(i)
		if !n.empty() || n.kids[0] != 0 && n.kids[1] != 0 {
			return
		}
		kid := n.kids[0] | n.kids[1]
		up := n.up
		if kid != 0 {
			s.at(kid).up = up
		}
		if up == 0 {
			t.root = kid
		} else {
			u := s.at(up)
			if u.kids[0] == i {
				u.kids[0] = kid
			} else {
				u.kids[1] = kid
			}
		}
		s.put(i)
		if kid != 0 {
			return
		}
		i = up
	}
}

// get finds the node of a key, 0 if there is none.
func (t *trie) get(s *slab[node], k key) uint32 {
	for i := t.root; i != 0; {
		n := s.at(i)
		if k.common(n.key) < n.bits {
			return 0
		}
		if n.bits == k.bits {
			return i
		}
		i = n.kids[k.bit(n.bits)]
	}
	return 0
}

// deepest finds the longest node that contains k, itself included; the others
// that do are found by going up.
func (t *trie) deepest(s *slab[node], k key) uint32 {
	var last uint32
	for i := t.root; i != 0; {
		n := s.at(i)
		if k.common(n.key) < n.bits {
			break
		}
		last = i
		if n.bits >= k.bits {
			break
		}
		i = n.kids[k.bit(n.bits)]
	}
	return last
}

// seek finds the first node that is not before k, in the order of address and
// length.
func (t *trie) seek(s *slab[node], k key) uint32 {
	for i := t.root; i != 0; {
		n := s.at(i)
		common := k.common(n.key)
		switch {
		case common < n.bits && common < k.bits: // they part here
			if k.bit(common) == 0 {
				return i
			}
			return t.skip(s, i)
		case common < n.bits || n.bits == k.bits: // k contains or is the node
			return i
		}
		b := k.bit(n.bits)
		if n.kids[b] == 0 {
			if b == 0 && n.kids[1] != 0 {
				return n.kids[1]
			}
			return t.skip(s, i)
		}
		i = n.kids[b]
	}
	return 0
}

// step finds the node behind i, in order.
func (t *trie) step(s *slab[node], i uint32) uint32 {
	n := s.at(i)
	if n.kids[0] != 0 {
		return n.kids[0]
	}
	if n.kids[1] != 0 {
		return n.kids[1]
	}
	return t.skip(s, i)
}

// skip finds the node behind i and all below it.
func (t *trie) skip(s *slab[node], i uint32) uint32 {
	for {
		up := s.at(i).up
		if up == 0 {
			return 0
		}
		if u := s.at(up); u.kids[0] == i && u.kids[1] != 0 {
			return u.kids[1]
		}
		i = up
	}
}

// after finds the first node behind k; a zero key with start set begins.
func (t *trie) after(s *slab[node], k key) uint32 {
	i := t.seek(s, k)
	if i != 0 && s.at(i).key == k {
		i = t.step(s, i)
	}
	return i
}
