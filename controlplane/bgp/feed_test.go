package bgp

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"godwit/cluster/wire"
)

func path(peer string, med uint32) wire.RoutePath {
	a := netip.MustParseAddr(peer)
	return wire.RoutePath{NextHop: a, Peer: a, PeerAS: 65002, MED: med, LocalPref: 100, ASPathLen: 1}
}

func set(p string, rp wire.RoutePath) change { return change{prefix: prefix(p), path: rp} }

func unset(p, peer string) change {
	return change{prefix: prefix(p), path: wire.RoutePath{Peer: netip.MustParseAddr(peer)}, withdraw: true}
}

// take takes all batches and applies them to what the routing engine knows.
func take(t interface{ Fatal(...any) }, f *feed, known map[netip.Prefix][]wire.RoutePath) (changes int) {
	for seq := uint64(1); ; seq++ {
		b := f.batch(seq, false)
		if b == nil {
			return changes
		}
		got, err := wire.DecodeRouteBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		changes += len(got.Changes)
		for _, c := range got.Changes {
			if len(c.Paths) == 0 {
				if _, ok := known[c.Prefix]; !ok {
					t.Fatal("withdrawal of an unknown prefix", c.Prefix)
				}
				delete(known, c.Prefix)
			} else {
				known[c.Prefix] = c.Paths
			}
		}
	}
}

func TestFeedCoalesces(t *testing.T) {
	woken := 0
	f := newFeed(1, func() { woken++ })
	known := map[netip.Prefix][]wire.RoutePath{}
	f.apply([]change{set("10.0.0.0/8", path("192.0.2.1", 1))}, true)
	if woken != 0 || f.stats().waiting != 0 {
		t.Error("queued without a routing engine")
	}
	f.attach()
	if n := take(t, f, known); n != 1 {
		t.Errorf("replay of %d", n)
	}
	f.arm(1)
	for i := range uint32(1000) { // one prefix flaps
		f.apply([]change{set("10.0.0.0/8", path("192.0.2.1", i+2))}, true)
		f.apply([]change{set("10.1.0.0/16", path("192.0.2.1", i)), unset("10.1.0.0/16", "192.0.2.1")}, true)
	}
	if woken != 1 {
		t.Errorf("woken %d times", woken)
	}
	if s := f.stats(); s.waiting != 2 || s.routes4 != 1 {
		t.Errorf("%+v", s)
	}
	if n := take(t, f, known); n != 1 { // 10.1.0.0/16 came and went
		t.Errorf("%d changes", n)
	}
	if known[prefix("10.0.0.0/8")][0].MED != 1001 {
		t.Errorf("%+v", known)
	}
	f.apply([]change{set("10.0.0.0/8", path("192.0.2.1", 1001))}, true)
	if n := take(t, f, known); n != 0 {
		t.Errorf("%d changes by an unchanged path", n)
	}
	f.clear(1)
	if take(t, f, known); len(known) != 0 || len(f.v4.entries) != 0 {
		t.Errorf("left: %v, %v", known, f.v4.entries)
	}
	if n := len(f.sets.sets) - 1 - len(f.sets.free); n != 0 {
		t.Errorf("%d path sets leak", n)
	}
}

// TestFeedRenames gives the paths of a feed other names of communities, while
// some of them change.
func TestFeedRenames(t *testing.T) {
	named := func(p string, rp wire.RoutePath, names string) change {
		rp.Communities = names
		return set(p, rp)
	}
	for _, multipath := range []int{1, 3} {
		f := newFeed(multipath, func() {})
		f.attach()
		known := map[netip.Prefix][]wire.RoutePath{}
		single := multipath == 1
		f.apply([]change{
			set("10.0.0.0/8", path("192.0.2.1", 1)), set("10.1.0.0/16", path("192.0.2.1", 1)), set("10.2.0.0/16", path("192.0.2.1", 1)),
			set("2001:db8::/32", path("2001:db8::1", 1)),
		}, single)
		if !single {
			f.apply([]change{set("10.0.0.0/8", path("192.0.2.2", 1))}, false)
		}
		take(t, f, known)
		renamed := func(c change) { f.renamed(&c) }
		renamed(named("10.0.0.0/8", path("192.0.2.1", 1), "early"))
		f.beginRename()
		f.apply([]change{named("10.1.0.0/16", path("192.0.2.1", 2), "new"), unset("10.2.0.0/16", "192.0.2.1")}, single)
		renamed(named("10.0.0.0/8", path("192.0.2.1", 1), "a b"))
		renamed(named("10.1.0.0/16", path("192.0.2.1", 1), "old"))
		renamed(named("10.2.0.0/16", path("192.0.2.1", 1), "old"))
		renamed(named("2001:db8::/32", path("2001:db8::1", 7), "another path"))
		renamed(named("192.0.2.0/24", path("192.0.2.1", 1), "unknown"))
		f.endRename()
		renamed(named("10.0.0.0/8", path("192.0.2.1", 1), "late"))
		if n := take(t, f, known); n != 3 {
			t.Errorf("multipath %d: %d changes", multipath, n)
		}
		for p, want := range map[string]string{"10.0.0.0/8": "a b", "10.1.0.0/16": "new", "2001:db8::/32": ""} {
			if paths := known[prefix(p)]; len(paths) == 0 || paths[0].Communities != want {
				t.Errorf("multipath %d: %s is %+v, want %q", multipath, p, paths, want)
			}
		}
		if !single && known[prefix("10.0.0.0/8")][1].Communities != "" {
			t.Error("the other path was renamed too")
		}
		if len(known) != 3 || f.v4.fresh != nil || f.v6.fresh != nil {
			t.Errorf("multipath %d: %v, or a walk that does not end", multipath, known)
		}
		f.clear(multipath)
		take(t, f, known)
		if n := len(f.sets.sets) - 1 - len(f.sets.free); n != 0 {
			t.Errorf("multipath %d: %d path sets leak", multipath, n)
		}
	}
}

func TestFeedMarkAndArm(t *testing.T) {
	f := newFeed(1, func() {})
	f.attach()
	var all []change
	for i := range 40_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		all = append(all, change{prefix: netip.PrefixFrom(a, 24), path: path("192.0.2.1", 0)})
	}
	f.apply(append(all, set("2001:db8::/32", path("2001:db8::1", 0))), true)
	m := f.end()
	f.apply([]change{set("203.0.113.0/24", path("192.0.2.1", 0))}, true)
	if !f.arm(full) || f.arm(never) {
		t.Error("a full batch waits, but not endless ones")
	}
	batches := 0
	for f.batch(1, true) != nil {
		batches++
		if f.passed(m) {
			t.Error("passed too early")
		}
	}
	if batches < 2 || f.batch(1, true) != nil {
		t.Errorf("%d full batches", batches)
	}
	for !f.passed(m) {
		if f.batch(1, false) == nil {
			t.Fatal("nothing left, but not passed")
		}
	}
	f.detach()
	if f.stats().waiting != 0 || !f.passed(f.end()) {
		t.Error("detach leaves something waiting")
	}
}

// TestFeedModel runs random changes, attachments and batches against a map.
func TestFeedModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		multi := rapid.Bool().Draw(t, "multi")
		multipath := 1
		if multi {
			multipath = rapid.IntRange(2, 4).Draw(t, "multipath")
		}
		f := newFeed(multipath, func() {})
		model := map[netip.Prefix]map[netip.Addr]wire.RoutePath{}
		known := map[netip.Prefix][]wire.RoutePath{}
		prefixes := []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "::/0", "2001:db8::/32", "2001:db8::/128"}
		peers := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1%eth0", "fe80::1%eth1", "192.0.2.3"}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			p := rapid.SampledFrom(prefixes).Draw(t, "prefix")
			peer := rapid.SampledFrom(peers).Draw(t, "peer")
			paths := model[prefix(p)]
			step := rapid.IntRange(0, 9).Draw(t, "step")
			if paths == nil || !multi && step < 8 { // each change is the whole state
				paths = map[netip.Addr]wire.RoutePath{}
				model[prefix(p)] = paths
			}
			switch step {
			case 0, 1, 2, 3:
				rp := path(peer, rapid.Uint32Range(0, 2).Draw(t, "med"))
				rp.NextHop = rp.NextHop.WithZone("")
				f.apply([]change{set(p, rp)}, !multi)
				paths[rp.Peer] = rp
			case 4, 5, 6:
				f.apply([]change{unset(p, peer)}, !multi)
				delete(paths, netip.MustParseAddr(peer))
			case 7:
				f.apply([]change{{prefix: prefix(p), local: true}}, !multi)
			case 8:
				take(t, f, known)
				continue
			case 9:
				f.detach()
				f.attach()
				clear(known)
			}
		}
		if !f.attached {
			f.attach()
		}
		take(t, f, known)
		want := map[netip.Prefix][]wire.RoutePath{}
		for p, paths := range model {
			var list []wire.RoutePath
			for _, rp := range paths {
				list = append(list, rp)
			}
			slices.SortFunc(list, func(a, b wire.RoutePath) int { return a.Peer.Compare(b.Peer) })
			if len(list) > 0 {
				want[p] = list[:min(len(list), multipath)]
			}
		}
		if !reflect.DeepEqual(known, want) {
			t.Fatalf("known %v, want %v", known, want)
		}
		f.clear(multipath)
		take(t, f, known)
		if n := len(f.sets.sets) - 1 - len(f.sets.free); n != 0 || len(known) != 0 {
			t.Fatalf("%d sets leak, %d routes left", n, len(known))
		}
	})
}

func BenchmarkFeed(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	changes := make([]change, 100_000)
	for i := range changes {
		var a [4]byte
		v := r.Uint32()
		a[0], a[1], a[2] = byte(v), byte(v>>8), byte(v>>16)
		changes[i] = change{prefix: netip.PrefixFrom(netip.AddrFrom4(a), 24), path: path("192.0.2.1", r.Uint32N(100))}
	}
	f := newFeed(1, func() {})
	f.attach()
	b.ReportAllocs()
	for b.Loop() {
		for i := range changes {
			f.apply(changes[i:i+1], true)
		}
		for f.batch(1, false) != nil {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(changes)), "ns/change")
}
