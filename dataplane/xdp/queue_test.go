package xdp

import (
	"errors"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/netdev/conform"
)

// accounted checks that no frame is lost or counted twice.
func accounted(t *testing.T, u *Umem) {
	t.Helper()
	if got := u.Pool().Free() + u.InRings(); got != u.Pool().Size() {
		t.Fatalf("%d free + %d in rings of %d frames", u.Pool().Free(), u.InRings(), u.Pool().Size())
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		n, w, workers int
		want          []int
	}{
		{1, 0, 1, []int{0}}, {1, 1, 2, nil}, {4, 0, 2, []int{0, 2}}, {4, 1, 2, []int{1, 3}}, {5, 1, 3, []int{1, 4}},
	} {
		if got := Share(c.n, c.w, c.workers); !slices.Equal(got, c.want) {
			t.Errorf("Share(%d, %d, %d) = %v, want %v", c.n, c.w, c.workers, got, c.want)
		}
	}
}

// TestQueues lets two workers with a Umem each serve a device of four queues.
func TestQueues(t *testing.T) {
	const queues, workers, flows = 4, 2, 64
	l := conform.NewLab(t, prefix, queues)
	d := attach(t, l, "p0", Options{Mode: Native})
	if d.Queues() != queues {
		t.Fatalf("%d queues, want %d", d.Queues(), queues)
	}
	a := conform.NewWire(t, l, "a", "h0")
	var ports [workers]*Port
	var umems [workers]*Umem
	for w := range workers {
		umems[w] = newUmem(t, 4096, DefaultChunk)
		ports[w] = open(t, l, d, umems[w], Share(queues, w, workers)...)
	}
	// The host's transmit queue is chosen by the flow: many flows reach all queues.
	for i := range flows {
		a.Send(t, udpFrame(uint16(i)))
	}
	total, perWorker := 0, [workers]int{}
	for end := time.Now().Add(deadline); total < flows; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d frames", total, flows)
		}
		for w, p := range ports {
			var v graph.Vector
			must(t, p.Rx(&v))
			total += v.N
			perWorker[w] += v.N
			must(t, p.Tx(&v)) // back to where they came from
			must(t, p.Flush())
		}
	}
	for range flows {
		if a.Receive(t, deadline) == nil {
			t.Fatal("a frame did not come back")
		}
	}
	for w, n := range perWorker {
		if n == 0 {
			t.Errorf("worker %d got nothing: %v", w, perWorker)
		}
		accounted(t, umems[w])
	}
	if d.NoSocket() != 0 {
		t.Errorf("%d frames found no socket", d.NoSocket())
	}
}

// udpFrame makes a UDP packet of a flow; no checksum is looked at here.
func udpFrame(flow uint16) []byte {
	f := conform.Frame(60, 0)
	copy(f[12:], []byte{8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		byte(flow >> 8), byte(flow), 0, 9, 0, 26, 0, 0})
	return f
}

// TestManyPorts opens, uses and closes ports of one Umem in changing order, so
// that the socket that others share goes away before them.
func TestManyPorts(t *testing.T) {
	l := conform.NewLab(t, prefix, 2)
	devices := []*Device{
		attach(t, l, "p0", Options{Ring: 64}),
		attach(t, l, "p1", Options{Ring: 64, Mode: Generic}),
	}
	u := newUmem(t, 1024, DefaultChunk)
	rng := rand.New(rand.NewPCG(1, 2))
	var ports [4]*Port // two devices, two queues
	for range 60 {
		i := rng.IntN(len(ports))
		if ports[i] != nil {
			must(t, ports[i].Close())
			ports[i] = nil
		} else {
			ports[i] = open(t, l, devices[i/2], u, i%2)
		}
		for _, p := range ports {
			if p == nil {
				continue
			}
			var v graph.Vector
			pkt := u.Pool().Get()
			pkt.Data = append(pkt.Data, conform.Frame(60, 1)...)
			v.Push(pkt)
			must(t, p.Tx(&v))
			must(t, p.Flush())
		}
		accounted(t, u)
		if err := u.Close(); !errors.Is(err, ErrInUse) && ports != [4]*Port{} {
			t.Fatalf("close of a umem in use: %v", err)
		}
		if ports == [4]*Port{} {
			u = newUmem(t, 1024, DefaultChunk)
		}
	}
	if c := devices[0]; c.Reason() == "" {
		t.Error("no reason why a veth is not zero copy")
	}
}

// TestShareAfterGone opens a port while the only socket of the Umem is on a
// device that was removed.
func TestShareAfterGone(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d0, d1 := attach(t, l, "p0", Options{Ring: 512}), attach(t, l, "p1", Options{Ring: 512})
	u := newUmem(t, 2048, DefaultChunk)
	open(t, l, d0, u, 0)
	must(t, l.IP("r", "link", "del", "p0"))
	p := open(t, l, d1, u, 0)
	b := conform.NewWire(t, l, "b", "h0")
	b.Send(t, conform.Frame(60, 1))
	for end := time.Now().Add(deadline); ; {
		var v graph.Vector
		must(t, p.Rx(&v))
		if v.N == 1 {
			u.Pool().Put(v.P[0])
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing received")
		}
	}
	accounted(t, u)
}

// TestHostileRings writes what a broken kernel could into the rings. The
// hostile descriptors are counted; frames stay accounted, none is handed out twice.
func TestHostileRings(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Ring: 64})
	u := newUmem(t, 256, DefaultChunk)
	p := open(t, l, d, u, 0)
	q := p.queues[0]
	given := q.fillSlots[0]
	for i, desc := range []unix.XDPDesc{
		{Addr: 1 << 62, Len: 60},             // far outside
		{Addr: 256 * DefaultChunk, Len: 60},  // just outside
		{Addr: 200*DefaultChunk + 9, Len: 9}, // a frame that is free
		{Addr: given, Len: DefaultChunk + 1}, // longer than a chunk: the frame comes home
		{Addr: given, Len: 60},               // again, now not given
	} {
		q.rxSlots[uint32(i)&q.rx.mask] = desc
	}
	atomic.AddUint32(q.rx.prod, 5)
	var v graph.Vector
	must(t, p.Rx(&v))
	if v.N != 0 || p.Counters().Drops[netdev.RxInvalid] != 5 {
		t.Fatalf("%d packets, counters %+v", v.N, p.Counters())
	}
	accounted(t, u)

	q.doneSlots[0], q.doneSlots[1], q.doneSlots[2] = 1<<63, given, 3*DefaultChunk
	atomic.AddUint32(q.done.prod, 3)
	must(t, p.Flush())
	if n := p.Counters().Drops[netdev.TxInvalid]; n != 3 {
		t.Errorf("%d invalid completions, want 3", n)
	}
	accounted(t, u)

	// Indices out of all bounds.
	atomic.StoreUint32(q.rx.prod, 1<<31)
	for range 4 {
		must(t, p.Rx(&v))
	}
	atomic.StoreUint32(q.fill.cons, 1<<30)
	atomic.StoreUint32(q.tx.cons, 1<<30)
	for range 4 {
		must(t, p.Rx(&v))
		for range 8 {
			if pkt := u.Pool().Get(); pkt != nil {
				pkt.Data = append(pkt.Data, conform.Frame(60, 1)...)
				v.Push(pkt)
			}
		}
		must(t, p.Tx(&v))
	}
	accounted(t, u)
}

// TestTxTwice hands one packet to Tx twice: the second is refused.
func TestTxTwice(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Ring: 512})
	u := newUmem(t, 2048, DefaultChunk)
	p := open(t, l, d, u, 0)
	pkt := u.Pool().Get()
	pkt.Data = append(pkt.Data, conform.Frame(60, 1)...)
	var v graph.Vector
	v.Push(pkt)
	v.Push(pkt)
	must(t, p.Tx(&v))
	if c := p.Counters(); c.TxPackets != 1 || c.Drops[netdev.TxInvalid] != 1 {
		t.Errorf("counters %+v", c)
	}
	accounted(t, u)
}

// TestCountersConcurrent reads counters while the worker works and closes.
func TestCountersConcurrent(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{Ring: 512})
	u := newUmem(t, 2048, DefaultChunk)
	p := open(t, l, d, u, 0)
	var wg sync.WaitGroup
	var stop atomic.Bool
	var seen uint64
	wg.Go(func() {
		for !stop.Load() {
			seen = p.Counters().TxPackets
			p.SetMTU(1500)
		}
	})
	for range 200 {
		var v graph.Vector
		if pkt := u.Pool().Get(); pkt != nil {
			pkt.Data = append(pkt.Data, conform.Frame(60, 1)...)
			v.Push(pkt)
		}
		must(t, p.Tx(&v))
		must(t, p.Flush())
	}
	must(t, p.Close())
	stop.Store(true)
	wg.Wait()
	if n := p.Counters().TxPackets; n != 200 || seen > n {
		t.Errorf("sent %d, seen %d before", n, seen)
	}
}

// TestDropCounters looks for each kind of loss under its own name.
func TestDropCounters(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	must(t, l.IP("a", "link", "set", "h0", "mtu", "3000"))
	must(t, l.IP("r", "link", "set", "p0", "mtu", "3000"))
	const ring = 64
	d := attach(t, l, "p0", Options{Ring: ring})
	u := newUmem(t, 256, DefaultChunk)
	p := open(t, l, d, u, 0)
	a := conform.NewWire(t, l, "a", "h0")
	a.Send(t, conform.Frame(2500, 1)) // larger than a chunk
	for range ring + 10 {
		a.Send(t, conform.Frame(60, 1)) // nobody reads
	}
	want := netdev.Counters{RxPackets: ring, RxBytes: ring * 60}
	want.Drops[netdev.RxOther], want.Drops[netdev.RxNoBuffer] = 1, 10
	for end := time.Now().Add(deadline); ; {
		if c := p.Counters(); c.Drops == want.Drops {
			break
		} else if time.Now().After(end) {
			t.Fatalf("counters %+v, want %+v", c, want)
		}
	}
	var v graph.Vector
	must(t, p.Rx(&v))
	for _, pkt := range v.P[:v.N] {
		u.Pool().Put(pkt)
	}
	if c := p.Counters(); c != want {
		t.Errorf("counters %+v, want %+v", c, want)
	}
}

func TestBadOptions(t *testing.T) {
	l := conform.NewLab(t, prefix, 1)
	u := newUmem(t, 2048, DefaultChunk)
	must(t, l.Do("r", func() error {
		for _, o := range []Options{{Ring: 100}, {Ring: 8}, {Ring: 1 << 20}, {Queues: -1}, {Queues: 5000}} {
			if d, err := Attach("p0", o); err == nil {
				d.Close()
				t.Errorf("attached with %+v", o)
			}
		}
		if _, err := Attach("nothing", Options{}); err == nil {
			t.Error("attached to no device")
		}
		d, err := Attach("p0", Options{})
		if err != nil {
			return err
		}
		defer d.Close()
		if d2, err := Attach("p0", Options{}); err == nil {
			d2.Close()
			t.Error("attached twice")
		}
		for _, queues := range [][]int{nil, {1}, {-1}, {0, 0}} {
			if p, err := d.Open(u, queues...); err == nil {
				p.Close()
				t.Errorf("opened queues %v", queues)
			}
		}
		accounted(t, u)
		return nil
	}))
	for _, c := range [][2]int{{0, 2048}, {64, 1024}, {64, 3000}, {1 << 30, 2048}} {
		if u, err := NewUmem(c[0], c[1]); err == nil {
			u.Close()
			t.Errorf("umem of %v", c)
		}
	}
}

// TestRegenerate checks that the committed objects are those of the C code.
func TestRegenerate(t *testing.T) {
	files, err := filepath.Glob("capture_bpfe?.*")
	if err != nil || len(files) != 4 {
		t.Fatalf("objects: %v, %v", files, err)
	}
	before := checksums(t, files)
	if out, err := exec.Command("go", "generate").CombinedOutput(); err != nil {
		t.Fatalf("go generate: %v\n%s", err, out)
	}
	if after := checksums(t, files); before != after {
		t.Errorf("go generate changed the objects:\n%s\n%s", before, after)
	}
}

func checksums(t *testing.T, files []string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", files...).Output()
	must(t, err)
	return string(out)
}

// TestBurst sends 2,000 frames to a port whose worker does not run, as fast
// as one sender can: all of them wait for it.
func TestBurst(t *testing.T) {
	const burst = 2000
	l := conform.NewLab(t, prefix, 1)
	d := attach(t, l, "p0", Options{})
	u := newUmem(t, 4096, DefaultChunk)
	p := open(t, l, d, u, 0)
	a := conform.NewWire(t, l, "a", "h0")
	for range burst {
		a.Send(t, conform.Frame(60, 1))
	}
	got := 0
	for end := time.Now().Add(deadline); got < burst; {
		var v graph.Vector
		must(t, p.Rx(&v))
		for _, pkt := range v.P[:v.N] {
			u.Pool().Put(pkt)
		}
		if got += v.N; time.Now().After(end) {
			t.Fatalf("%d of %d frames, counters %+v", got, burst, p.Counters())
		}
	}
	if c := p.Counters(); c.Drops != (netdev.Counters{}).Drops {
		t.Errorf("drops: %+v", c)
	}
	accounted(t, u)
}
