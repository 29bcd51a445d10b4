package patricia

import (
	"github.com/kentik/patricia"
	"github.com/kentik/patricia/uint32_tree"

	"godwit/fib/compiled"
)

// newKentik returns a Patricia tree of github.com/kentik/patricia.
func newKentik(f compiled.Family) editable {
	if f == compiled.IPv4 {
		return &tree4{t: uint32_tree.NewTreeV4()}
	}
	return &tree6{t: uint32_tree.NewTreeV6()}
}

type tree4 struct {
	t   *uint32_tree.TreeV4
	buf []uint32
}

func addr4(k compiled.Key, n uint) patricia.IPv4Address {
	return patricia.IPv4Address{Address: uint32(k.Hi >> 32), Length: n}
}

func (t *tree4) set(k compiled.Key, n uint, tg tag) (old tag) {
	t.t.SetOrUpdate(addr4(k, n), uint32(tg), func(o uint32) uint32 {
		old = tag(o)
		return uint32(tg)
	})
	return old
}

func (t *tree4) remove(k compiled.Key, n uint) (old, cover tag) {
	if t.buf == nil {
		t.buf = make([]uint32, 0, 1)
	}
	t.t.DeleteWithBuffer(t.buf, addr4(k, n), func(o, _ uint32) bool {
		old = tag(o)
		return true
	}, 0)
	if old == 0 {
		return 0, 0
	}
	return old, t.deepest(k, n)
}

func (t *tree4) deepest(k compiled.Key, n uint) tag {
	_, tg := t.t.FindDeepestTag(addr4(k, n))
	return tag(tg)
}

func (t *tree4) each(_ compiled.Key, f func(k compiled.Key, tg tag) bool) {
	it := t.t.Iterate()
	var buf [1]uint32
	for it.Next() {
		if !f(compiled.Key4(it.Address().Address), tag(it.TagsWithBuffer(buf[:0])[0])) {
			return
		}
	}
}

type tree6 struct {
	t   *uint32_tree.TreeV6
	buf []uint32
}

func addr6(k compiled.Key, n uint) patricia.IPv6Address {
	return patricia.IPv6Address{Left: k.Hi, Right: k.Lo, Length: n}
}

func (t *tree6) set(k compiled.Key, n uint, tg tag) (old tag) {
	t.t.SetOrUpdate(addr6(k, n), uint32(tg), func(o uint32) uint32 {
		old = tag(o)
		return uint32(tg)
	})
	return old
}

func (t *tree6) remove(k compiled.Key, n uint) (old, cover tag) {
	if t.buf == nil {
		t.buf = make([]uint32, 0, 1)
	}
	t.t.DeleteWithBuffer(t.buf, addr6(k, n), func(o, _ uint32) bool {
		old = tag(o)
		return true
	}, 0)
	if old == 0 {
		return 0, 0
	}
	return old, t.deepest(k, n)
}

func (t *tree6) deepest(k compiled.Key, n uint) tag {
	_, tg := t.t.FindDeepestTag(addr6(k, n))
	return tag(tg)
}

func (t *tree6) each(_ compiled.Key, f func(k compiled.Key, tg tag) bool) {
	it := t.t.Iterate()
	var buf [1]uint32
	for it.Next() {
		if a := it.Address(); !f(compiled.Key{Hi: a.Left, Lo: a.Right}, tag(it.TagsWithBuffer(buf[:0])[0])) {
			return
		}
	}
}
