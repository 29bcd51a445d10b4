package xdp

import (
	"bytes"
	"net"
	"testing"
	"time"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/fib"
)

func ifindex(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}

// TestForward sends frames from a through two ports that share a Umem to b.
func TestForward(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			l := newLab(t, 1)
			d0 := attach(t, l, "p0", Options{ID: fib.MakePortID(1, 1), Mode: mode})
			d1 := attach(t, l, "p1", Options{ID: fib.MakePortID(1, 2), Mode: mode})
			if d0.Mode() != mode {
				t.Fatalf("mode %v", d0.Mode())
			}
			u := newUmem(t, 4096)
			p0, p1 := open(t, l, d0, u, 0), open(t, l, d1, u, 0)
			a, b := newWire(t, l, "a", "h0"), newWire(t, l, "b", "h0")
			const count = 300
			for i := range count {
				sent := frame(60+i, byte(i))
				a.send(t, sent)
				var v graph.Vector
				rxUntil(t, p0, 1, func(p *graph.Packet) {
					if p.Port != p0.ID() {
						t.Fatalf("port %v, want %v", p.Port, p0.ID())
					}
					v.Push(p)
				})
				must(t, p1.Tx(&v))
				must(t, p1.Flush())
				if v.N != 0 {
					t.Fatal("Tx left packets in the vector")
				}
				if got := b.receive(t, deadline); !bytes.Equal(got, sent) {
					t.Fatalf("frame %d: got %x\nwant %x", i, got, sent)
				}
				accounted(t, u)
			}
			if c := p0.Counters(); c.RxPackets != count || c.Drops != [netdev.NumReasons]uint64{} {
				t.Errorf("p0 counters %+v", c)
			}
			if c := p1.Counters(); c.TxPackets != count || c.TxBytes != count*60+count*(count-1)/2 {
				t.Errorf("p1 counters %+v", c)
			}
			must(t, p0.Close())
			must(t, p1.Close())
			if u.Pool().Free() != u.Pool().Size() {
				t.Errorf("%d of %d frames free after close", u.Pool().Free(), u.Pool().Size())
			}
			must(t, u.Close())
		})
	}
}

// TestKernelSeesNothing checks that a host's ARP request is not answered by the
// kernel, with and without sockets.
func TestKernelSeesNothing(t *testing.T) {
	l := newLab(t, 1)
	must(t, l.IP("r", "addr", "add", "192.0.2.1/24", "dev", "p0"))
	d := attach(t, l, "p0", Options{})
	a := newWire(t, l, "a", "h0")
	arp := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1}, make([]byte, 18)...)
	a.send(t, arp)
	if got := a.receive(t, 100*time.Millisecond); got != nil {
		t.Fatalf("the kernel answered: %x", got)
	}
	for end := time.Now().Add(deadline); d.NoSocket() != 1; {
		if time.Now().After(end) {
			t.Fatalf("no-socket drops: %d, want 1", d.NoSocket())
		}
	}
	must(t, d.Close())
	a.send(t, arp)
	if got := a.receive(t, deadline); len(got) < 42 || got[21] != 2 {
		t.Fatalf("no ARP reply after the device was given back: %x", got)
	}
}
