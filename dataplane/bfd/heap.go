package bfd

// heap holds the sessions by when they are due, the first first.
type heap []*session

// fix puts a session in, or moves it after its due time changed.
func (h *heap) fix(s *session) {
	if s.index < 0 {
		s.index = len(*h)
		*h = append(*h, s)
	}
	h.up(s.index)
	h.down(s.index)
}

func (h *heap) remove(s *session) {
	i, last := s.index, len(*h)-1
	h.swap(i, last)
	*h = (*h)[:last]
	s.index = -1
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h *heap) swap(i, j int) {
	l := *h
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (h *heap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if (*h)[parent].due <= (*h)[i].due {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(*h); child++ {
			if (*h)[child].due < (*h)[least].due {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
