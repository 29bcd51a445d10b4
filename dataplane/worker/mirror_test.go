package worker

import (
	"testing"

	"godwit/dataplane/filter"
	"godwit/dataplane/graph"
	"godwit/fib"
)

// mirrorFixture is a worker with mirrors and three ports.
func mirrorFixture(t *testing.T) (f *fixture, m *Mirrors, a, b, z *memPort) {
	demux := func(p fib.PortID, vlan uint16) fib.InterfaceID { return fib.InterfaceID(p) + fib.InterfaceID(vlan) }
	f = newFixture(t, nil)
	m = NewMirrors(demux)
	f.mirrors = m
	a, b, z = newMemPort(t, portA, f.pool), newMemPort(t, portB, f.pool), newMemPort(t, portZ, f.pool)
	for _, p := range []*memPort{a, b, z} {
		f.AddPort(p)
	}
	return f, m, a, b, z
}

func of(p fib.PortID, vlans ...int) map[fib.PortID]map[fib.InterfaceID]bool {
	m := make(map[fib.InterfaceID]bool)
	for _, v := range vlans {
		m[fib.InterfaceID(p)+fib.InterfaceID(v)] = true
	}
	return map[fib.PortID]map[fib.InterfaceID]bool{p: m}
}

// TestMirror: what interfaces receive and send is copied, as far as the filter lets it; the frames
// themselves go where they would.
func TestMirror(t *testing.T) {
	f, m, a, b, z := mirrorFixture(t)
	f.Start()
	tagged, err := filter.Compile([]filter.Rule{{VLAN: 5}})
	if err != nil {
		t.Fatal(err)
	}
	in := &Mirror{Port: portZ, In: of(portA, 0), Snap: 20}
	some := &Mirror{Port: portZ, In: of(portA, 0, 5), Filter: tagged}
	out := &Mirror{Port: portZ, Out: of(portB, 0)}
	m.Set([]*Mirror{in, some, out})
	a.deliver(frame(toPort, uint32(portB), 1))
	eventually(t, "frame and two copies", func() bool { return len(b.out()) == 1 && len(z.out()) == 2 })
	if list := z.out(); len(list[0]) != 20 || len(list[1]) != 64 || number(list[0]) != 1 || number(list[1]) != 1 {
		t.Errorf("copies %x", list)
	}
	five := frame(toNobody, 0, 2)
	copy(five[12:], []byte{0x81, 0, 0x60, 5})
	a.deliver(five) // is dropped, but was received
	eventually(t, "copy of a tagged frame", func() bool { return len(z.out()) == 3 })
	b.deliver(frame(toPort, uint32(portA), 3)) // not mirrored
	eventually(t, "frame", func() bool { return len(a.out()) == 1 })
	for name, c := range map[string]struct {
		m    *Mirror
		want MirrorStats
	}{"in": {in, MirrorStats{1, 1, 20, 0}}, "some": {some, MirrorStats{1, 1, 64, 0}}, "out": {out, MirrorStats{1, 1, 64, 0}}} {
		if got := c.m.Stats(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	m.Set(nil)
	a.deliver(frame(toPort, uint32(portB), 4))
	eventually(t, "frame", func() bool { return len(b.out()) == 2 })
	if len(z.out()) != 3 {
		t.Error("mirrored after the end")
	}
}

// TestMirrorTakesNoNeededBuffer: with few free buffers the copies are what is given up.
func TestMirrorTakesNoNeededBuffer(t *testing.T) {
	f, m, a, b, z := mirrorFixture(t)
	var held []*graph.Packet
	for f.pool.Free() > f.pool.Size()/spareShare {
		held = append(held, f.pool.Get())
	}
	x := &Mirror{Port: portZ, In: of(portA, 0)}
	m.Set([]*Mirror{x})
	f.Start()
	const n = 40
	a.deliver(frames(toPort, portB, n)...)
	eventually(t, "all frames", func() bool { return len(b.out()) == n })
	s := x.Stats()
	if s.Matched != n || s.Dropped == 0 || s.Frames+s.Dropped != n || len(z.out()) != int(s.Frames) {
		t.Errorf("%+v, %d copies", s, len(z.out()))
	}
	f.Do(func() {
		for _, p := range held {
			f.pool.Put(p)
		}
	})
}

func TestMirrorAllocatesNothing(t *testing.T) {
	f, m, _, _, _ := mirrorFixture(t)
	list, err := filter.Compile([]filter.Rule{{Deny: true, VLAN: 3}, {}})
	if err != nil {
		t.Fatal(err)
	}
	m.Set([]*Mirror{{Port: 12345, In: of(portA, 0), Filter: list}})
	in := frame(toNobody, 0, 0)
	if n := testing.AllocsPerRun(100, func() {
		var v graph.Vector
		for range 32 {
			p := f.pool.Get()
			p.Data = append(p.Data, in...)
			v.Push(p)
		}
		f.mirror(&v, portA, In)
		for _, p := range v.P[:v.N] {
			f.pool.Put(p)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
