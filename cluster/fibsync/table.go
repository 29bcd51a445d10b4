package fibsync

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"godwit/fib"
)

// record is a route or the tombstone of one. Records hold no pointers and
// never move: a full table is 50 MB that the garbage collector does not scan.
type record struct {
	hi, lo     uint64 // address; IPv4 in the upper 32 bits of hi
	version    uint64 // of its last change
	vrf        uint32
	group      uint32 // slot in groups, 0: tombstone
	prev, next uint32 // in the list
	bits       uint8
	v6         bool
}

const chunk = 4096 // records allocated at a time

// table is the records, found by prefix, and their list.
type table struct {
	chunks     []*[chunk]record
	used       uint32 // records taken from chunks; 0 is none
	free       []uint32
	index      []uint32 // open addressing, linear probing; 0 empty
	count      int      // records in the index
	routes     int      // of these not tombstones
	head, tail uint32
	version    uint64
}

func newTable() *table {
	return &table{index: make([]uint32, 1024), used: 1, chunks: []*[chunk]record{{}}}
}

func (t *table) at(i uint32) *record { return &t.chunks[i/chunk][i%chunk] }

func makeRecord(vrf fib.VRF, p netip.Prefix) record {
	r := record{vrf: uint32(vrf), bits: uint8(p.Bits()), v6: p.Addr().Is6()}
	if r.v6 {
		a := p.Addr().As16()
		r.hi, r.lo = binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:])
	} else {
		a := p.Addr().As4()
		r.hi = uint64(binary.BigEndian.Uint32(a[:])) << 32
	}
	return r
}

func (r *record) prefix() netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], r.hi)
	binary.BigEndian.PutUint64(a[8:], r.lo)
	if r.v6 {
		return netip.PrefixFrom(netip.AddrFrom16(a), int(r.bits))
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[:4])), int(r.bits))
}

func (r *record) same(o *record) bool {
	return r.hi == o.hi && r.lo == o.lo && r.vrf == o.vrf && r.bits == o.bits && r.v6 == o.v6
}

func (r *record) hash() uint64 {
	x := uint64(r.vrf)<<9 | uint64(r.bits)<<1
	if r.v6 {
		x |= 1
	}
	h, l := bits.Mul64(r.hi^0x9e3779b97f4a7c15, r.lo^x^0xd1b54a32d192ed03)
	h2, l2 := bits.Mul64(h^l^r.hi, 0x9fb21c651e98df25^x<<32)
	return h2 ^ l2
}

// find returns the record of the prefix and its place in the index, or 0 and
// the place where it belongs.
func (t *table) find(r *record) (rec uint32, slot int) {
	mask := len(t.index) - 1
	for slot = int(r.hash()) & mask; t.index[slot] != 0; slot = (slot + 1) & mask {
		if t.at(t.index[slot]).same(r) {
			return t.index[slot], slot
		}
	}
	return 0, slot
}

// add takes a new record into the index; it is not in the list yet.
func (t *table) add(r *record) uint32 {
	if (t.count+1)*4 > len(t.index)*3 {
		t.rehash(2 * len(t.index))
	}
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if t.used%chunk == 0 {
			t.chunks = append(t.chunks, new([chunk]record))
		}
		i = t.used
		t.used++
	}
	*t.at(i) = *r
	_, slot := t.find(r)
	t.index[slot] = i
	t.count++
	return i
}

func (t *table) rehash(size int) {
	old := t.index
	t.index = make([]uint32, size)
	for _, i := range old {
		if i != 0 {
			_, slot := t.find(t.at(i))
			t.index[slot] = i
		}
	}
}

// remove takes a record out of list and index.
func (t *table) remove(i uint32) {
	t.unlink(i)
	_, hole := t.find(t.at(i))
	mask := len(t.index) - 1
	for next := (hole + 1) & mask; t.index[next] != 0; next = (next + 1) & mask {
		home := int(t.at(t.index[next]).hash()) & mask
		if (next-home)&mask >= (next-hole)&mask {
			t.index[hole] = t.index[next]
			hole = next
		}
	}
	t.index[hole] = 0
	t.count--
	*t.at(i) = record{}
	t.free = append(t.free, i)
}

func (t *table) unlink(i uint32) {
	r := t.at(i)
	if r.prev != 0 {
		t.at(r.prev).next = r.next
	} else if t.head == i {
		t.head = r.next
	}
	if r.next != 0 {
		t.at(r.next).prev = r.prev
	} else if t.tail == i {
		t.tail = r.prev
	}
	r.prev, r.next = 0, 0
}

// link puts a record at the tail, with a new version.
func (t *table) link(i uint32) {
	t.version++
	r := t.at(i)
	r.version, r.prev = t.version, t.tail
	if t.tail != 0 {
		t.at(t.tail).next = i
	} else {
		t.head = i
	}
	t.tail = i
}
