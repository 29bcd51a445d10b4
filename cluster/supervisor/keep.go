package supervisor

import (
	"errors"
	"io"
	"os"

	"godwit/cluster/fdstore"
	"godwit/event"
)

// keepers are the roles whose descriptors are kept while they are started again: a
// line card's programs forward meanwhile.
var keepers = map[string]bool{"linecard": true}

// keeping is what a supervisor keeps for its modules; the loop's.
type keeping struct {
	stores map[string]*fdstore.Store // by module, until it is not wanted any more
	lines  map[string]*keepLine      // of those that run
}

// keepLine is the socket to a process.
type keepLine struct {
	line   *fdstore.Line
	source *event.Source
}

func newKeeping() keeping {
	return keeping{stores: map[string]*fdstore.Store{}, lines: map[string]*keepLine{}}
}

// lineFor makes the socket for a process of a module; nil for roles that keep nothing.
func (s *Supervisor) lineFor(name, role string) (line *fdstore.Line, theirs *os.File, err error) {
	if !keepers[role] {
		return nil, nil, nil
	}
	store := s.keep.stores[name]
	if store == nil {
		store = fdstore.NewStore()
		s.keep.stores[name] = store
	}
	return store.NewLine()
}

// serveLine answers a module that has started.
func (s *Supervisor) serveLine(name string, line *fdstore.Line) {
	if line == nil {
		return
	}
	k := &keepLine{line: line}
	src, err := s.loop.Readable(s.work, line.File(), func() {
		err := line.Serve()
		if err == nil {
			return
		}
		if !errors.Is(err, io.EOF) {
			s.cfg.Log.Warn("cannot keep module's descriptors", "module", name, "error", err)
		}
		k.source.Close()
	})
	if err != nil {
		s.cfg.Log.Warn("cannot keep module's descriptors", "module", name, "error", err)
	}
	k.source = src
	s.keep.lines[name] = k
}

// endLine takes the last words of a process that has ended.
func (s *Supervisor) endLine(name string) {
	k := s.keep.lines[name]
	if k == nil {
		return
	}
	delete(s.keep.lines, name)
	if k.source != nil {
		k.source.Close()
	}
	if err := k.line.Close(); err != nil {
		s.cfg.Log.Warn("cannot keep module's descriptors", "module", name, "error", err)
	}
	if n := len(s.keep.stores[name].Names()); n > 0 {
		s.cfg.Log.Info("descriptors are kept for the module's next process", "module", name, "descriptors", n)
	}
}

// letGo closes what was kept for a module that is not wanted any more.
func (s *Supervisor) letGo(name string) {
	store := s.keep.stores[name]
	if store == nil {
		return
	}
	delete(s.keep.stores, name)
	if err := store.Close(); err != nil {
		s.cfg.Log.Warn("cannot let go of module's descriptors", "module", name, "error", err)
	}
}

// letGoAll is for the end, when all modules have ended.
func (s *Supervisor) letGoAll() {
	for name := range s.keep.lines {
		s.endLine(name)
	}
	for name := range s.keep.stores {
		s.letGo(name)
	}
}
