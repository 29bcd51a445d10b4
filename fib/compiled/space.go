package compiled

import (
	"math/bits"
)

// Bounds of what an entry can hold.
const (
	MaxVRF   = 1<<16 - 1
	MaxGroup = 1<<20 - 1
)

const (
	child     = 1 << 31 // an entry that leads on
	codeShift = 28      // stride/4 of the node, 0: skip
	codeMask  = 7
	refMask   = 1<<28 - 1
	lenShift  = 20
	groupMask = MaxGroup

	firstNode = child | 1<<codeShift
	rootNode  = (child | 4<<codeShift) >> codeShift // code of a node of stride 16

	strideShift = codeShift - 2 // the code times 4
	strideMask  = codeMask << 2
)

// Words of a VRF in the directory.
const (
	root4 = iota
	default4
	root6
	default6
	dirWords
)

// Words of a skip.
const (
	skipLen  = 4
	skipHit  = 5
	skipMiss = 6
)

// Family selects one of a VRF's two tables.
type Family uint32

// The families.
const (
	IPv4 Family = root4
	IPv6 Family = root6
)

// Key is an address or prefix as 128 bits; an IPv4 address is the upper 32.
type Key struct{ Hi, Lo uint64 }

// Key4 makes the key of an IPv4 address.
func Key4(addr uint32) Key { return Key{Hi: uint64(addr) << 32} }

func (k Key) shl(n uint) Key {
	if n >= 64 {
		return Key{Hi: k.Lo << (n - 64)}
	}
	return Key{k.Hi<<n | k.Lo>>(64-n), k.Lo << n}
}

// slice is w ≤ 20 bits from bit pos.
func (k Key) slice(pos, w uint) uint32 { return uint32(k.shl(pos).Hi >> (64 - w)) }

// Mask clears all but the first n bits.
func (k Key) Mask(n uint) Key {
	if n >= 64 {
		return Key{k.Hi, k.Lo &^ (^uint64(0) >> (n - 64))}
	}
	return Key{k.Hi &^ (^uint64(0) >> n), 0}
}

// with puts i, w bits wide, at bit pos, which is clear.
func (k Key) with(pos, w uint, i uint32) Key {
	v := Key{Hi: uint64(i) << (64 - w)}
	if pos >= 64 {
		return Key{k.Hi, k.Lo | v.Hi>>(pos-64)}
	}
	return Key{k.Hi | v.Hi>>pos, k.Lo | v.Hi<<(64-pos)}
}

// CommonBits is how many first bits of two keys are the same.
func CommonBits(a, b Key) uint {
	if d := a.Hi ^ b.Hi; d != 0 {
		return uint(bits.LeadingZeros64(d))
	}
	return 64 + uint(bits.LeadingZeros64(a.Lo^b.Lo))
}

// Space is the tables of all VRFs.
type Space struct {
	arena arena
	grace grace

	// The writer's notes on nodes of stride 8 and more, by ref/256: how many
	// entries lead on, and deletions since the node was last looked over.
	kids, dels []uint32

	scratch uint32  // a block for entries under construction
	words   *uint32 // of the table that is being changed
	is4     bool    // it is an IPv4 table
	tables  map[tableID]*uint32

	journal journal
	gathers bool // batches use the processor's gather instructions
}

type tableID uint32 // index of the root entry in the directory

// New maps an empty space. It must be closed.
func New() (*Space, error) {
	a, err := newArena()
	if err != nil {
		return nil, err
	}
	a.next = (MaxVRF + 1) * dirWords
	s := &Space{
		arena: *a, tables: map[tableID]*uint32{}, gathers: haveGathers(),
		kids: make([]uint32, arenaWords>>8), dels: make([]uint32, arenaWords>>8),
	}
	s.grace.clock.Store(1)
	s.words = new(uint32)
	s.scratch = s.alloc(0)
	return s, nil
}

// Close gives the memory back. Nobody may use the space any more.
func (s *Space) Close() error { return s.arena.close() }

// Room is how many bytes the tables may still grow.
func (s *Space) Room() int { return int(s.arena.room()) * 4 }

// Bytes is what a VRF's table of a family occupies, without its 8 bytes in
// the directory. Writer only.
func (s *Space) Bytes(vrf uint32, f Family) int {
	if w := s.tables[tableID(vrf*dirWords+uint32(f))]; w != nil {
		return int(*w) * 4
	}
	return 0
}
