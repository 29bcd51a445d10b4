package rib

// slab keeps values of one kind in chunks: an index stays valid and a pointer
// stays in place while the value lives, growth copies nothing, and the values
// of all VRFs share the chunks. Index 0 is none.
type slab[T any] struct {
	chunks []*[chunkSize]T
	next   uint32 // lowest index never used
	free   []uint32
}

const (
	chunkBits = 10
	chunkSize = 1 << chunkBits
)

func newSlab[T any]() slab[T] { return slab[T]{next: 1} }

// at finds a value. The pointer is good until the value is put back.
func (s *slab[T]) at(i uint32) *T { return &s.chunks[i>>chunkBits][i&(chunkSize-1)] }

// get takes a zero value.
func (s *slab[T]) get() (uint32, *T) {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i, s.at(i)
	}
	i := s.next
	s.next++
	if int(i>>chunkBits) == len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkSize]T))
	}
	return i, s.at(i)
}

// put gives a value back.
func (s *slab[T]) put(i uint32) {
	var zero T
	*s.at(i) = zero
	s.free = append(s.free, i)
}

// len tells how many values are in use.
func (s *slab[T]) len() int { return int(s.next) - 1 - len(s.free) }
