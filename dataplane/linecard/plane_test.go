package linecard

import (
	"testing"

	"godwit/cluster/wire"
	"godwit/dataplane/xdp"
)

func TestShape(t *testing.T) {
	a := &Agent{opt: Options{Card: 1, FabricDir: "/run/x/fabric"}}
	ports := func(n, queues int) (l []wire.PortConfig) {
		for i := range n {
			l = append(l, wire.PortConfig{ID: portID(1, i+1), Device: "none", Queues: queues})
		}
		return l
	}
	small := a.shapeOf(&wire.CardConfig{Ports: ports(2, 1), Interfaces: []wire.InterfaceConfig{{MTU: 1500}}})
	if small != (shape{1, smallChunk, 0, minFrames, xdp.DefaultRing, "/run/x/fabric"}) {
		t.Errorf("small: %+v", small)
	}
	many := a.shapeOf(&wire.CardConfig{Workers: 2, FabricDir: "/f", Ports: ports(16, 8)})
	if many != (shape{2, smallChunk, 0, 131072, minRing, "/f"}) {
		t.Errorf("many: %+v", many)
	}
	jumbo := a.shapeOf(&wire.CardConfig{Interfaces: []wire.InterfaceConfig{{MTU: 1500}, {MTU: 3000}}})
	if jumbo.chunk != largeChunk || jumbo.jumbos != 0 {
		t.Errorf("jumbo: %+v", jumbo)
	}
	for _, c := range []struct{ mtu, jumbos int }{{3818, 0}, {3819, jumbos}, {9000, jumbos}} {
		if s := a.shapeOf(&wire.CardConfig{Interfaces: []wire.InterfaceConfig{{MTU: c.mtu}}}); s.chunk != largeChunk || s.jumbos != c.jumbos {
			t.Errorf("MTU %d: %+v", c.mtu, s)
		}
	}
	some := a.shapeOf(&wire.CardConfig{Ports: ports(16, 1)})
	if some.frames != fullFrames || some.ring != 1024 || some.frames < spareFrames+16*(some.ring+xdp.TxRing) {
		t.Errorf("some: %+v", some)
	}
	if small.serves(some) || !some.serves(small) {
		t.Error("longer rings serve many queues, or shorter ones not a few")
	}
	more := small
	more.frames *= 2
	if small.serves(more) || !more.serves(small) || small.serves(jumbo) || !small.serves(small) {
		t.Error("which shape serves which")
	}
}
