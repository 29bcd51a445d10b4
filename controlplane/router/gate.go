package router

// gate tells when the routing engine knows again what it has to know before
// line cards may remove what it has not told them: every card's ports and every
// speaker's routes. It opens once.
type gate struct {
	waiting map[string]struct{}
	open    bool
}

// wait adds something to wait for.
func (g *gate) wait(key string) {
	if g.waiting == nil {
		g.waiting = map[string]struct{}{}
	}
	g.waiting[key] = struct{}{}
}

// only forgets what is not in keys: it is not configured any more.
func (g *gate) only(keys map[string]bool) {
	for k := range g.waiting {
		if !keys[k] {
			delete(g.waiting, k)
		}
	}
}

// done tells that something is known; it reports whether that opens the gate.
func (g *gate) done(key string) bool {
	delete(g.waiting, key)
	return g.check()
}

// check reports whether nothing is waited for any more, the first time.
func (g *gate) check() bool {
	if g.open || len(g.waiting) > 0 {
		return false
	}
	g.open = true
	return true
}

// expire opens the gate whatever is missing, and says what is.
func (g *gate) expire() (missing []string, opened bool) {
	if g.open {
		return nil, false
	}
	for k := range g.waiting {
		missing = append(missing, k)
	}
	g.waiting = nil
	g.open = true
	return missing, true
}
