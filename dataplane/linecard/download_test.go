package linecard

import (
	"net/netip"
	"testing"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/fibcast"
	"godwit/cluster/fibsync"
	"godwit/cluster/wire"
	"godwit/fib"
)

// blackholes encodes n routes that a batch of more than a few KiB takes.
func blackholes(from, n int) (changes []byte) {
	g := fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 9, Kind: fib.Blackhole}}
	changes = wire.AppendFIBChange(nil, &g)
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte((from + i) >> 8), byte(from + i), 0}), 24)
		changes = wire.AppendFIBChange(changes, &fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: p, Group: 9}})
	}
	return changes
}

// TestDownloadByMulticast: a card applies changes that came by multicast when its session
// names them, asks for those that have not come or are others, and takes none from strangers.
func TestDownloadByMulticast(t *testing.T) {
	r := newRig(t)
	r.start(1)
	b, err := local.Join(r.dir, "engine-casts")
	must(t, err)
	t.Cleanup(func() { b.Close() })
	open := func() *fibcast.Sender {
		s, err := fibcast.NewSender(r.h, b)
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	ours, foreign := open(), open()
	const routes = 1000
	name := func(seq uint64, changes []byte) {
		ref := wire.FIBRefBody{Epoch: r.epoch, Seq: seq, Serial: seq, Digest: fibsync.NewCast(seq, changes).Digest}
		must(t, r.session(1).Send(wire.FIBRef, wire.AppendFIBRef(nil, &ref)))
	}
	acknowledged := func(seq uint64) {
		t.Helper()
		eventually(t, "acknowledgement", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.acks[1] == wire.FIBAckBody{Epoch: r.epoch, Seq: seq}
		})
	}
	casts := func() wire.FIBCastStats { return get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{}).Casts }

	foreign.Cast(1, 1, 1, blackholes(5000, routes)) // it is not known yet: nothing is taken
	eventually(t, "a stranger's multicast", func() bool { return casts().Foreign == 1 })
	from := ours.Addr()
	if res := get[wire.FIBSourceResult](r, 1, wire.SetFIBSource, wire.FIBSourceBody{Ref: from.Ref, Node: from.Node}); !res.Receives {
		t.Fatal("takes no multicasts")
	}

	first := blackholes(0, routes)
	ours.Cast(1, 1, 1, first)
	eventually(t, "the multicast", func() bool { return casts().Held == len(first) })
	name(1, first)
	acknowledged(1)

	// Behind one that does not come, others wait.
	name(2, blackholes(1000, routes))
	name(3, blackholes(2000, routes))
	ours.Cast(1, 1, 3, blackholes(2000, routes))
	ours.Cast(1, 1, 2, blackholes(7000, routes)) // not what was named
	eventually(t, "the request", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.fetches) > 0 && r.fetches[0] == wire.FIBFetchBody{Epoch: r.epoch, Seq: 2}
	})
	if got := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{}); got.Seq != 1 {
		t.Errorf("applied up to %d", got.Seq)
	}
	must(t, r.session(1).Send(wire.FIBBatch, append(wire.AppendFIBHeader(nil, r.epoch, 2, false), blackholes(1000, routes)...)))
	acknowledged(3)
	st := get[wire.FIBStats](r, 1, wire.GetFIBStats, struct{}{})
	if len(st.VRFs) != 1 || st.VRFs[0].Routes4 != 3*routes || st.Casts.Forged != 1 || st.Casts.Foreign != 1 || st.Casts.Applied+st.Casts.Fetched != 3 {
		t.Errorf("%+v", st)
	}
	for _, p := range []string{"20.19.137.0/24", "20.27.88.0/24"} { // of those who are not believed
		if l := get[wire.FIBList](r, 1, wire.GetFIB, wire.FIBQuery{VRF: red, Prefix: netip.MustParsePrefix(p), Limit: 10}); len(l.Entries) > 0 {
			t.Errorf("%s: %+v", p, l)
		}
	}

	// No session is left: what nobody named is forgotten, and nobody is believed any more.
	ours.Cast(1, 1, 4, first)
	eventually(t, "a multicast ahead", func() bool { return casts().Held == len(first) })
	old := r.session(1)
	old.Close()
	eventually(t, "the next session", func() bool { return r.session(1) != old })
	eventually(t, "the end of the former", func() bool { return casts().Held == 0 })
	before := casts()
	if st := ours.Stats(); st.Failed+st.Busy > 0 {
		t.Errorf("%+v", st)
	}
	ours.Cast(1, 1, 5, first)
	eventually(t, "a stranger's multicast", func() bool { return casts().Foreign == before.Foreign+1 })
	r.stop(1)
	if _, err := b.Dial(t.Context(), bus.Service{Type: bus.TypeLinecard, Instance: 1}); err == nil {
		t.Error("the card is still there")
	}
}
