package bgp

import (
	"fmt"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"godwit/cluster/wire"
	"godwit/controlplane/community"
)

// name makes the names of communities that the routing engine is told of what
// it asks for. GoBGP does not report paths again that did not change, so its table is
// read once.
func (s *server) name(names []string, w *watch) error {
	f, err := community.NewFilter(names)
	if err != nil {
		return fmt.Errorf("look for communities: %w", err)
	}
	w.rename(f)
	defer w.feed.endRename()
	if s.bgp == nil {
		return nil
	}
	for _, family := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		err := s.bgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: family}, func(_ bgp.NLRI, paths []*apiutil.Path) {
			w.renamed(paths)
		})
		if err != nil {
			return fmt.Errorf("look for communities: %w", err)
		}
	}
	return nil
}

// rename makes the watch look for other names; what it reports from now on has them.
func (w *watch) rename(f *community.Filter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = f
	w.feed.beginRename()
}

// renamed takes the paths of a prefix that the walk found.
func (w *watch) renamed(paths []*apiutil.Path) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range paths {
		if e, ok := makeChange(p, w.names); ok && p.Best && !e.local && !e.withdraw {
			w.feed.renamed(&e)
		}
	}
}

func (f *feed) beginRename() {
	f.mu.Lock()
	f.renaming, f.v4.fresh, f.v6.fresh = true, map[uint64]struct{}{}, map[key6]struct{}{}
	f.mu.Unlock()
}

func (f *feed) endRename() {
	f.mu.Lock()
	f.renaming, f.v4.fresh, f.v6.fresh = false, nil, nil
	f.unlockAndWake()
}

// renamed takes over the communities of a path that the feed has. What changed
// since the walk began has them already, and may be newer than what the walk found.
func (f *feed) renamed(e *change) {
	f.mu.Lock()
	if e.prefix.Addr().Is4() {
		f.v4.renamed(makeKey4(e.prefix), e.path, f)
	} else {
		f.v6.renamed(makeKey6(e.prefix), e.path, f)
	}
	f.unlockAndWake()
}

func (t *table[K]) renamed(k K, p wire.RoutePath, f *feed) {
	if _, ok := t.fresh[k]; ok || !f.renaming {
		return
	}
	e := t.entries[k]
	for _, old := range f.sets.sets[e.set].paths {
		old.Communities = p.Communities
		if old == p {
			t.put(k, e, f.sets.change(e.set, p, false), f)
			return
		}
	}
}
