package compiled

import "slices"

// A Mirror is told what changes in the array of words, so that it can keep a
// copy, say in a BPF array map, in which others look up.
//
// At each Seal it gets first the blocks that were made since the last one,
// complete, then single words of older ones that changed, whose new content may lead to those
// blocks. Stored in this order, word by word, the copy answers each lookup as
// it was before or after the changes and in no other way.
//
// Blocks are written anew when they are reused: the mirror holds an online
// Reader and calls Quiescent only when its own readers hold nothing from
// before the last Seal.
type Mirror interface {
	// Write has words from number first on. They are valid during the call.
	Write(first uint32, words []uint32)
}

// journal notes what the mirror has not seen.
type journal struct {
	mirror Mirror
	blocks []retired // made since the last flush
	words  []span    // stored to, in order
}

// span is a run of words.
type span struct{ first, end uint32 }

// SetMirror starts a mirror: it is told all words in use at once, and each
// change later; nil ends it. Writer only.
func (s *Space) SetMirror(m Mirror) {
	s.journal = journal{mirror: m}
	if m != nil {
		m.Write(0, s.arena.span(0, s.arena.next))
	}
}

// Used is how many words of the array are in use or have been: a copy needs
// room for no more.
func (s *Space) Used() uint32 { return s.arena.next }

// MaxWords bounds the array.
const MaxWords = arenaWords

func (j *journal) block(c int, ref uint32) {
	if j.mirror != nil {
		j.blocks = append(j.blocks, retired{int32(c), ref})
	}
}

func (j *journal) word(i uint32) {
	if n := len(j.words); n > 0 && j.words[n-1].end == i {
		j.words[n-1].end++
		return
	}
	j.words = append(j.words, span{i, i + 1})
}

// flush tells the mirror what has changed.
func (s *Space) flush() {
	j := &s.journal
	if j.mirror == nil {
		return
	}
	for _, b := range j.blocks {
		j.mirror.Write(b.ref, s.arena.words(int(b.class), b.ref))
	}
	// Words of the new blocks are among them: once each is enough.
	slices.SortFunc(j.words, func(a, b span) int { return int(a.first) - int(b.first) })
	done := uint32(0)
	for _, w := range j.words {
		if first := max(w.first, done); first < w.end {
			j.mirror.Write(first, s.arena.span(first, w.end))
			done = w.end
		}
	}
	j.blocks, j.words = j.blocks[:0], j.words[:0]
}
