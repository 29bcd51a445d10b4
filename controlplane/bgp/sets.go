package bgp

import (
	"net/netip"
	"slices"
	"strings"

	"godwit/cluster/wire"
)

// setTable stores each distinct set of paths once. A full table has some
// hundred of them, since the routing engine needs no communities and of the AS
// path only the length. Set 0 is the empty one.
type setTable struct {
	multipath int // most paths told to the routing engine, from 1
	sets      []pathSet
	free      []uint32
	single    map[wire.RoutePath]uint32
	several   map[string]uint32
}

type pathSet struct {
	paths []wire.RoutePath // sorted by peer; all equal ones, also above multipath
	told  wire.RoutePathSet
	key   string // in several
	refs  int
}

func newSetTable(multipath int) setTable {
	return setTable{
		multipath: max(multipath, 1),
		sets:      make([]pathSet, 1),
		single:    map[wire.RoutePath]uint32{},
		several:   map[string]uint32{},
	}
}

// one returns the set of a single path; the caller has a reference.
func (s *setTable) one(p wire.RoutePath) uint32 {
	id, ok := s.single[p]
	if !ok {
		if id = s.add([]wire.RoutePath{p}, ""); id != 0 {
			s.single[p] = id
		}
	}
	s.sets[id].refs++
	return id
}

// change returns the set that differs from the given one by one peer's path; the
// caller has a reference.
func (s *setTable) change(id uint32, p wire.RoutePath, withdraw bool) uint32 {
	old := s.sets[id].paths
	i, found := slices.BinarySearchFunc(old, p, func(a, b wire.RoutePath) int { return a.Peer.Compare(b.Peer) })
	if withdraw && !found || found && !withdraw && old[i] == p {
		s.sets[id].refs++
		return id
	}
	paths := slices.Clone(old)
	switch {
	case withdraw:
		paths = slices.Delete(paths, i, i+1)
	case found:
		paths[i] = p
	default:
		paths = slices.Insert(paths, i, p)
	}
	switch len(paths) {
	case 0:
		return 0
	case 1:
		return s.one(paths[0])
	}
	return s.many(paths)
}

func (s *setTable) many(paths []wire.RoutePath) uint32 {
	var key strings.Builder
	for i := range paths {
		one, err := wire.EncodeRoutePaths(paths[i : i+1])
		if err != nil {
			return 0 // no such path passed the watch
		}
		key.WriteString(string(one))
	}
	id, ok := s.several[key.String()]
	if !ok {
		if id = s.add(paths, key.String()); id != 0 {
			s.several[key.String()] = id
		}
	}
	s.sets[id].refs++
	return id
}

func (s *setTable) add(paths []wire.RoutePath, key string) uint32 {
	told, err := wire.EncodeRoutePaths(paths[:min(len(paths), s.multipath, wire.MaxRoutePaths)])
	if err != nil {
		return 0
	}
	n := pathSet{paths: paths, told: told, key: key}
	if l := len(s.free); l > 0 {
		id := s.free[l-1]
		s.free = s.free[:l-1]
		s.sets[id] = n
		return id
	}
	s.sets = append(s.sets, n)
	return uint32(len(s.sets) - 1)
}

// release gives a reference back.
func (s *setTable) release(id uint32) {
	set := &s.sets[id]
	set.refs--
	if id == 0 || set.refs > 0 {
		return
	}
	if set.key != "" {
		delete(s.several, set.key)
	} else {
		delete(s.single, set.paths[0])
	}
	*set = pathSet{}
	s.free = append(s.free, id)
}

func (s *setTable) encoded(id uint32) wire.RoutePathSet { return s.sets[id].told }

// byPeer counts prefixes by the peer of their best path.
func (s *setTable) byPeer() map[netip.Addr]int {
	m := map[netip.Addr]int{}
	for i := range s.sets {
		if set := &s.sets[i]; set.refs > 0 && len(set.paths) > 0 {
			m[set.paths[0].Peer] += set.refs
		}
	}
	return m
}
