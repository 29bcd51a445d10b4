package patricia

import (
	"errors"
	"fmt"
	"slices"

	"godwit/fib"
	"godwit/fib/compiled"
)

// MaxGroups bounds the groups of all VRFs. A full table has a few thousand.
const MaxGroups = compiled.MaxGroup

// ErrTooManyGroups refuses a batch that would exceed MaxGroups.
var ErrTooManyGroups = errors.New("too many next-hop groups")

// groups is the next-hop groups by index, and by ID within the current epoch.
type groups struct {
	byID  map[fib.GroupID]uint32
	all   []group // by index; 0 is unused
	free  []uint32
	limbo []ending // in order of stamp
	live  int
}

type group struct {
	fib.Group
	epoch uint32 // that set it
	refs  int    // routes that lead to it
	live  bool
}

// ending is an index that readers may still hold.
type ending struct {
	index uint32
	stamp uint64 // 0: not sealed yet
}

func newGroups() groups {
	return groups{byID: map[fib.GroupID]uint32{}, all: make([]group, 1)}
}

// create gives the group an index.
func (g *groups) create(epoch uint32, n fib.Group) (uint32, error) {
	var index uint32
	switch {
	case len(g.free) > 0:
		index = g.free[len(g.free)-1]
		g.free = g.free[:len(g.free)-1]
	case len(g.all) > MaxGroups:
		return 0, fmt.Errorf("%w: %d", ErrTooManyGroups, MaxGroups)
	default:
		index = uint32(len(g.all))
		g.all = append(g.all, group{})
	}
	g.all[index] = group{Group: n, epoch: epoch, live: true}
	g.byID[n.ID] = index
	g.live++
	return index, nil
}

// uncreate takes back a create that nobody has seen.
func (g *groups) uncreate(index uint32) {
	delete(g.byID, g.all[index].ID)
	g.all[index] = group{}
	g.free = append(g.free, index)
	g.live--
}

// end removes a group without routes; its index waits for the readers.
func (g *groups) end(index uint32) {
	g.all[index] = group{}
	g.limbo = append(g.limbo, ending{index: index})
	g.live--
}

func cloneGroup(g fib.Group) fib.Group {
	g.NextHops = slices.Clone(g.NextHops)
	return g
}
