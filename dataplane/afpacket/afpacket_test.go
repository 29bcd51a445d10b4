package afpacket

import (
	"testing"

	"go.uber.org/goleak"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev/conform"
	"godwit/dataplane/netdev/netlab"
	"godwit/fib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "gwt-afp"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, l *netlab.Lab, name string, pool *graph.Pool, o Options) *Port {
	t.Helper()
	var p *Port
	must(t, l.Do("r", func() (err error) { p, err = Open(name, pool, o); return err }))
	t.Cleanup(func() { p.Close() })
	if muted, why := p.Muted(); !muted {
		t.Fatalf("the kernel is not kept from the frames: %s", why)
	}
	return p
}

func newPool(t *testing.T, frames int) *graph.Pool {
	t.Helper()
	pool, err := graph.NewPool(make([]byte, frames*2048), 2048)
	must(t, err)
	return pool
}

func TestConform(t *testing.T) {
	conform.Run(t, prefix, func(t *testing.T, l *netlab.Lab) conform.Opened {
		pool := newPool(t, 1024)
		p0 := open(t, l, "p0", pool, Options{ID: fib.MakePortID(1, 1)})
		p1 := open(t, l, "p1", pool, Options{ID: fib.MakePortID(1, 2)})
		return conform.Opened{
			P: [2]conform.Port{p0, p1}, Pool: pool, MaxMTU: 1778,
			Held: func() int { return p0.InHand() + p1.InHand() },
		}
	})
}
