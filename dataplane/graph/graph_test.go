package graph

import (
	"testing"
	"unsafe"
)

func TestPacketFillsOneCacheLine(t *testing.T) {
	if n := unsafe.Sizeof(Packet{}); n != 64 {
		t.Errorf("a Packet is %d bytes, want 64", n)
	}
}

func TestPool(t *testing.T) {
	for _, c := range []struct{ mem, chunk int }{{0, 2048}, {4096, 1024}, {4096, 3000}, {2047, 2048}} {
		if _, err := NewPool(make([]byte, c.mem), c.chunk); err == nil {
			t.Errorf("%d bytes in chunks of %d were taken", c.mem, c.chunk)
		}
	}
	p, err := NewPool(make([]byte, 4*2048), 2048)
	if err != nil {
		t.Fatal(err)
	}
	var all []*Packet
	for pkt := p.Get(); pkt != nil; pkt = p.Get() {
		all = append(all, pkt)
	}
	if len(all) != 4 || p.Free() != 0 || p.Size() != 4 {
		t.Fatalf("%d packets, %d free of %d", len(all), p.Free(), p.Size())
	}
	pkt := all[2]
	pkt.Data = append(pkt.Data, 1, 2, 3)
	if p.Offset(pkt) != pkt.Addr()+Headroom || cap(pkt.Data) != p.Room() {
		t.Errorf("data at %d of buffer %d, room %d", p.Offset(pkt), pkt.Addr(), cap(pkt.Data))
	}
	if !p.Grow(pkt, 4) || len(pkt.Data) != 7 || pkt.Data[4] != 1 || p.Offset(pkt) != pkt.Addr()+Headroom-4 {
		t.Errorf("grown to %v", pkt.Data)
	}
	if !p.Grow(pkt, -5) || len(pkt.Data) != 2 || pkt.Data[0] != 2 {
		t.Errorf("shrunk to %v", pkt.Data)
	}
	if p.Grow(pkt, Headroom+2) || p.Grow(pkt, -3) {
		t.Error("grown beyond the buffer, or shrunk below nothing")
	}
	if !p.Grow(pkt, Headroom+1) || p.Offset(pkt) != pkt.Addr() {
		t.Error("the whole headroom can't be used")
	}
	if got := p.At(pkt.Addr()+100, 10); got != pkt || len(pkt.Data) != 10 || p.Offset(pkt) != pkt.Addr()+100 {
		t.Error("a buffer is not found by an offset in it")
	}
}

func TestCounts(t *testing.T) {
	c := NewCounts()
	c.Resize(4)
	c.RxRun(3, 2, 100)
	c.TxRun(1, 1, 60)
	c.Drop(3)
	c.Punt(0)
	if c.Read(3) != (InterfaceCounters{}) {
		t.Error("visible before it is published")
	}
	c.Publish()
	c.Drop(3)
	c.Resize(10) // publishes, and keeps
	c.RxRun(9, 1, 1)
	c.Publish()
	for slot, want := range map[int]InterfaceCounters{
		0: {Punts: 1}, 1: {TxPackets: 1, TxBytes: 60}, 3: {RxPackets: 2, RxBytes: 100, Drops: 2}, 9: {RxPackets: 1, RxBytes: 1}, 99: {},
	} {
		if got := c.Read(slot); got != want {
			t.Errorf("slot %d: %+v, want %+v", slot, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { c.RxRun(5, 1, 1); c.Drop(6); c.Publish() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDrops(t *testing.T) {
	reasons := []DropReason{{"a", "help a"}, {"b", "help b"}}
	x, y := NewDrops("n", reasons), NewDrops("n", reasons)
	z := NewDrops("m", reasons[:1])
	x.Add(1)
	y.Add(1)
	y.Add(0)
	sum := MergeDrops(x.Append(nil), z.Append(y.Append(nil)))
	want := []DropCount{{"n", "a", "help a", 1}, {"n", "b", "help b", 2}, {"m", "a", "help a", 0}}
	if len(sum) != len(want) {
		t.Fatalf("%+v", sum)
	}
	for i := range want {
		if sum[i] != want[i] {
			t.Errorf("%+v, want %+v", sum[i], want[i])
		}
	}
}
