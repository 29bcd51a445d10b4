package express_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"godwit/dataplane/express"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

// TestTwin gives random packets in a random, changing world to the XDP program and to the
// pipeline: what the program forwards, the pipeline forwards alike: the same bytes, the same
// egress, the same counters; what it does not is unchanged for AF_XDP. Plain transit must go
// the express way.
func TestTwin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	w := &twin{rig: r, g: g}
	rounds := 60
	if raceEnabled {
		rounds = 15
	}
	for range rounds {
		w.change()
		for range 150 {
			port := 1 + g.IntN(ports)
			f := randomFrame(g, port, w.known)
			if g.IntN(8) == 0 { // damage
				for range 1 + g.IntN(3) {
					f[g.IntN(min(len(f), 60))] ^= byte(1 << g.IntN(8))
				}
				f = f[:len(f)-g.IntN(2)*g.IntN(len(f)-14)]
			}
			w.compare(port, f)
		}
	}
	t.Logf("%d frames: %d express, %d more forwarded by the pipeline", w.frames, w.express, w.slow)
	if w.express < w.frames/25 {
		t.Errorf("of %d frames %d went the express way", w.frames, w.express)
	}
	if u := r.flat.Usage(); u.Refused > 0 {
		t.Errorf("the kernel refused %d entries", u.Refused)
	}
}

type twin struct {
	*rig
	g                     *rand.Rand
	known                 []netip.Prefix
	frames, express, slow int
}

// change makes a few changes of each kind.
func (w *twin) change() {
	g := w.g
	var changes []fib.Change
	for range 6 {
		changes = append(changes, w.randomGroup(g, fib.GroupID(1+g.IntN(30)+1), g.IntN(len(vrfs))))
	}
	if len(w.known) == 0 {
		for id := fib.GroupID(2); id <= 31; id++ {
			changes = append(changes, w.randomGroup(g, id, g.IntN(len(vrfs))))
		}
	}
	for range 40 {
		p, vrf := randomPrefix(g), vrfs[g.IntN(len(vrfs))]
		if g.IntN(4) == 0 && len(w.known) > 0 {
			changes = append(changes, fib.Change{Op: fib.DeleteRoute, Route: fib.Route{VRF: vrf, Prefix: w.known[g.IntN(len(w.known))]}})
			continue
		}
		w.known = append(w.known, p)
		changes = append(changes, route(vrf, p, fib.GroupID(2+g.IntN(30))))
	}
	w.apply(changes...)
	switch g.IntN(6) {
	case 5: // sampled or not: the answer stays the same
		w.list[g.IntN(len(w.list))].Sample = uint32(g.IntN(4))
		w.interfaces()
	case 0:
		i := g.IntN(len(w.list))
		w.list[i].Up = !w.list[i].Up
		w.interfaces()
	case 1:
		i := g.IntN(len(w.list))
		w.list[i].MTU = 200 + g.IntN(1400)
		w.interfaces()
	case 2:
		w.state.SetHash(map[fib.VRF]fib.HashFields{0: fib.HashFields(g.IntN(4)), 7: fib.HashFields(g.IntN(4)), 65535: fib.HashFields(g.IntN(4))})
	case 3: // 10.P.0.9 and more become broadcast or own addresses
		i := g.IntN(len(w.list))
		port := int(w.list[i].Port & 0xff)
		w.list[i].Addresses = append(w.list[i].Addresses[:3:3], netip.PrefixFrom(host4(port, 6+g.IntN(3)), 24+g.IntN(7)), netip.PrefixFrom(host6(port, 100+g.IntN(20)), 64))
		w.interfaces()
	}
	w.flat.Retry()
}

// compare gives one frame to both.
func (w *twin) compare(port int, f []byte) {
	t := w.t
	t.Helper()
	w.frames++
	_, fastBefore := w.counts()
	slowBefore, _ := w.counts()
	drops4, drops6 := w.x.Blackholed()
	unserved := w.port[port].NoSocket()
	if len(f) < 14 {
		return // the kernel runs no program on less than an Ethernet header
	}
	verdict, out, err := w.port[port].Test(f)
	if err != nil {
		t.Fatal(err)
	}
	s, sent := w.slowWay(port, f)
	slow, fast := w.counts()
	express := maps.Clone(fast)
	for id := range slow {
		a, b := slow[id], slowBefore[id]
		slow[id] = diff(a, b)
		fast[id] = diff(fast[id], fastBefore[id])
	}
	switch {
	case verdict == xdp.VerdictRedirect:
		w.express++
		if !sent || !bytes.Equal(out, s.frame) {
			t.Fatalf("port %d: frame %x\nexpress %x\nslow    %x (%v)", port, f, out, s.frame, sent)
		}
		if !maps.Equal(slow, fast) {
			t.Fatalf("port %d: frame %x: counters differ\nslow    %v\nexpress %v", port, f, slow, fast)
		}
	case w.port[port].NoSocket() == unserved+1: // AF_XDP's
		if !bytes.Equal(out, f) {
			t.Fatalf("port %d: frame %x reaches AF_XDP as %x", port, f, out)
		}
		if _, before := w.counts(); !maps.Equal(before, express) || !maps.Equal(fastBefore, express) {
			t.Fatalf("port %d: frame %x for AF_XDP was counted", port, f)
		}
		if sent {
			w.slow++
			w.excuse(port, f, s)
		}
	default: // dropped
		b4, b6 := w.x.Blackholed()
		if sent || w.other > 0 || b4+b6 != drops4+drops6+1 || !maps.Equal(slow, fast) {
			t.Fatalf("port %d: frame %x is dropped\nslow    %v\nexpress %v", port, f, slow, fast)
		}
	}
}

// excuse checks that what only the pipeline forwarded is not plain: it has
// options, is shorter than any Ethernet frame, or leaves by the port without a device.
func (w *twin) excuse(port int, f []byte, s sent) {
	w.t.Helper()
	l3 := 14
	if f[12] == 0x81 && f[13] == 0 {
		l3 = 18
	}
	switch {
	case s.port == portID(ports): // no device
	case f[l3] > 0x45 && f[l3]>>4 == 4: // options
	case len(f) < 38+l3-14 && f[l3]>>4 == 4: // shorter than any Ethernet frame
	default:
		w.t.Fatalf("port %d: frame %x did not go the express way to port %d as %x", port, f, s.port, s.frame)
	}
}

// TestLayoutIsThePrograms checks sizes and places that express.c says, too.
func TestLayoutIsThePrograms(t *testing.T) {
	var s express.State
	for name, at := range map[string][2]uintptr{
		"filter":    {unsafe.Offsetof(s.Filter), 64},
		"group":     {unsafe.Offsetof(s.Group), 64 + 8*1024},
		"bucket":    {unsafe.Offsetof(s.Bucket), 64 + 8*1024 + 8<<17},
		"rewrite":   {unsafe.Sizeof(s.Rewrite[0]), 32},
		"interface": {unsafe.Sizeof(s.Interface[0]), 32},
	} {
		if at[0] != at[1] {
			t.Errorf("%s: %d, the program has %d", name, at[0], at[1])
		}
	}
}

func diff(a, b pipeline.Counters) pipeline.Counters {
	return pipeline.Counters{RxPackets: a.RxPackets - b.RxPackets, RxBytes: a.RxBytes - b.RxBytes, TxPackets: a.TxPackets - b.TxPackets,
		TxBytes: a.TxBytes - b.TxBytes, Drops: a.Drops - b.Drops, Punts: a.Punts - b.Punts}
}
