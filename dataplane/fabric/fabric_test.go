package fabric

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/fib"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("GODWIT_FABRIC_CHILD"); dir != "" {
		childProducer(dir)
	}
	goleak.VerifyTestMain(m)
}

var (
	hop4 = netip.MustParseAddr("192.0.2.1").As16()
	hop6 = netip.MustParseAddr("2001:db8::1").As16()
)

func testPool(t testing.TB, n int) *graph.Pool {
	t.Helper()
	p, err := graph.NewPool(make([]byte, n*2048), 2048)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pair(t testing.TB, dir string) (*Producer, *Consumer) {
	t.Helper()
	c, err := OpenConsumer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenProducer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); c.Close() })
	return p, c
}

func numbered(i int) []byte {
	b := make([]byte, 20+i%1400)
	binary.BigEndian.PutUint64(b, uint64(i))
	return b
}

// drain receives all that waits and hands each packet to f, back to the pool after.
func drain(c *Consumer, pool *graph.Pool, f func(h *Header, data []byte)) int {
	var hdrs [graph.VectorSize]Header
	total := 0
	for {
		var v graph.Vector
		n := c.Recv(pool, &v, &hdrs)
		for i := range n {
			if f != nil {
				f(&hdrs[i], v.P[i].Data)
			}
			pool.Put(v.P[i])
		}
		total += n
		if n == 0 {
			return total
		}
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 64)
	want := []Header{
		{Kind: Transit, Flags: 3, VRF: 7, In: fib.MakeInterfaceID(1, 5), Out: fib.MakeInterfaceID(2, 9), NextHop: hop4},
		{Kind: Transit, VRF: 1 << 31, Out: fib.MakeInterfaceID(2, 65535), NextHop: hop6},
		{Kind: Transit, NextHop: netip.MustParseAddr("fe80::1").As16()},
	}
	for i := range want {
		if !p.Send(&want[i], numbered(i)) {
			t.Fatalf("Send %d refused", i)
		}
	}
	if n := drain(c, pool, nil); n != 0 {
		t.Fatalf("%d packets seen before Flush", n)
	}
	p.Flush()
	i := 0
	drain(c, pool, func(h *Header, data []byte) {
		if *h != want[i] {
			t.Errorf("header %d: got %+v, want %+v", i, *h, want[i])
		}
		if !bytes.Equal(data, numbered(i)) {
			t.Errorf("packet %d differs", i)
		}
		i++
	})
	if i != len(want) {
		t.Fatalf("received %d, want %d", i, len(want))
	}
	if pool.Free() != pool.Size() {
		t.Errorf("%d of %d buffers free", pool.Free(), pool.Size())
	}
}

func TestRefusesWhatDoesNotFit(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 4)
	h := Header{Kind: Transit, NextHop: hop4}
	for _, n := range []int{0, MaxPacket + 1} {
		if p.Send(&h, make([]byte, n)) {
			t.Errorf("Send of %d bytes accepted", n)
		}
	}
	if got := p.Stats().TooLong; got != 2 {
		t.Errorf("too long: %d, want 2", got)
	}
	// Fits the ring, not this consumer's buffers.
	if !p.Send(&h, make([]byte, MaxPacket)) {
		t.Fatal("Send of MaxPacket refused")
	}
	p.Flush()
	if n := drain(c, pool, nil); n != 0 || c.Stats().TooLong != 1 {
		t.Errorf("received %d, too long %d; want 0 and 1", n, c.Stats().TooLong)
	}
	if pool.Free() != pool.Size() {
		t.Error("a buffer is lost")
	}
}

func TestFullRingRefusesAndRecovers(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 8)
	h := Header{Kind: Transit, NextHop: hop4}
	for i := range slots {
		if !p.Send(&h, numbered(i)) {
			t.Fatalf("refused at %d of %d", i, slots)
		}
	}
	p.Flush()
	if p.Send(&h, numbered(0)) || p.Stats().Full != 1 {
		t.Fatalf("full ring took a packet; stats %+v", p.Stats())
	}
	if n := drain(c, pool, nil); n != slots {
		t.Fatalf("received %d, want %d", n, slots)
	}
	if !p.Send(&h, numbered(0)) {
		t.Fatal("refused after the ring was emptied")
	}
}

func TestPacketsWaitWhilePoolIsEmpty(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 2)
	h := Header{Kind: Transit, NextHop: hop4}
	for i := range 5 {
		p.Send(&h, numbered(i))
	}
	p.Flush()
	var v graph.Vector
	var hdrs [graph.VectorSize]Header
	if n := c.Recv(pool, &v, &hdrs); n != 2 {
		t.Fatalf("received %d into a pool of 2", n)
	}
	pool.Put(v.P[0])
	pool.Put(v.P[1])
	if n := drain(c, pool, nil); n != 3 {
		t.Fatalf("received %d later, want 3", n)
	}
}

func TestRestartedConsumerSkipsWhatWaited(t *testing.T) {
	dir := t.TempDir()
	p, c := pair(t, dir)
	pool := testPool(t, 64)
	h := Header{Kind: Transit, NextHop: hop4}
	for i := range 10 {
		p.Send(&h, numbered(i))
	}
	p.Flush()
	c.Close()
	c2, err := OpenConsumer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if got := c2.Stats().Stale; got != 10 {
		t.Errorf("stale %d, want 10", got)
	}
	p.Send(&h, numbered(77))
	p.Flush()
	var got []uint64
	drain(c2, pool, func(_ *Header, data []byte) { got = append(got, binary.BigEndian.Uint64(data)) })
	if len(got) != 1 || got[0] != 77 {
		t.Errorf("got %v, want [77]", got)
	}
}

func TestRestartedProducerGoesOn(t *testing.T) {
	dir := t.TempDir()
	p, c := pair(t, dir)
	pool := testPool(t, 64)
	h := Header{Kind: Transit, NextHop: hop4}
	p.Send(&h, numbered(0))
	p.Flush()
	p.Send(&h, numbered(1)) // never published: the producer dies
	p.Close()
	p2, err := OpenProducer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p2.Close()
	p2.Send(&h, numbered(2))
	p2.Flush()
	var got []uint64
	drain(c, pool, func(_ *Header, data []byte) { got = append(got, binary.BigEndian.Uint64(data)) })
	if len(got) != 2 || got[0] != 0 || got[1] != 2 {
		t.Errorf("got %v, want [0 2]", got)
	}
	if n := c.Stats().Corrupt; n != 0 {
		t.Errorf("%d corrupt", n)
	}
}

// works sends until packets come through again, at most tries times.
func works(t *testing.T, p *Producer, c *Consumer, pool *graph.Pool, tries int) {
	t.Helper()
	h := Header{Kind: Transit, NextHop: hop4}
	for range tries {
		p.Send(&h, numbered(4711))
		p.Flush()
		ok := false
		drain(c, pool, func(_ *Header, data []byte) { ok = ok || binary.BigEndian.Uint64(data) == 4711 })
		if ok {
			return
		}
	}
	t.Fatalf("nothing came through in %d tries; %+v %+v", tries, p.Stats(), c.Stats())
}

func TestGarbageInIndicesHeals(t *testing.T) {
	for name, spoil := range map[string]func(r *ring){
		"head":     func(r *ring) { atomic.StoreUint64(r.head, 0x4141414141414141) },
		"tail":     func(r *ring) { atomic.StoreUint64(r.tail, 0x4242424242424242) },
		"both":     func(r *ring) { atomic.StoreUint64(r.head, 3); atomic.StoreUint64(r.tail, ^uint64(0)) },
		"sleeping": func(r *ring) { atomic.StoreUint32(r.sleeping, 0xffffffff) },
		"magic":    func(r *ring) { atomic.StoreUint64((*uint64)(ptr(r, offMagic)), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p, c := pair(t, dir)
			pool := testPool(t, 64)
			works(t, p, c, pool, 1)
			spoil(p.r)
			works(t, p, c, pool, 3)
			spoil(p.r)
			// Either side may also come back after the damage.
			c.Close()
			c2, err := OpenConsumer(dir, 1, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer c2.Close()
			works(t, p, c2, pool, 3)
			spoil(p.r)
			p.Close()
			p2, err := OpenProducer(dir, 1, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer p2.Close()
			works(t, p2, c2, pool, 3)
		})
	}
}

func TestCorruptSlotsAreCounted(t *testing.T) {
	h := Header{Kind: Transit, NextHop: hop4}
	for name, spoil := range map[string]func(s []byte){
		"sequence":  func(s []byte) { s[slotSeq]++ },
		"no length": func(s []byte) { s[slotLen], s[slotLen+1] = 0, 0 },
		"too long":  func(s []byte) { s[slotLen], s[slotLen+1] = 0xff, 0xff },
		"just over": func(s []byte) { binary.LittleEndian.PutUint16(s[slotLen:], MaxPacket+1) },
		"kind 0":    func(s []byte) { s[slotKind] = 0 },
		"kind 255":  func(s []byte) { s[slotKind] = 255 },
		"next hop":  func(s []byte) { clear(s[slotNext : slotNext+16]) },
	} {
		t.Run(name, func(t *testing.T) {
			p, c := pair(t, t.TempDir())
			pool := testPool(t, 64)
			p.Send(&h, numbered(1))
			p.Send(&h, numbered(2))
			spoil(p.r.slot(0))
			p.Flush()
			var got []uint64
			drain(c, pool, func(_ *Header, d []byte) { got = append(got, binary.BigEndian.Uint64(d)) })
			if len(got) != 1 || got[0] != 2 {
				t.Errorf("got %v, want [2]", got)
			}
			if n := c.Stats().Corrupt; n != 1 {
				t.Errorf("corrupt %d, want 1", n)
			}
			if pool.Free() != pool.Size() {
				t.Error("a buffer is lost")
			}
		})
	}
}

func TestDoorbell(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 64)
	h := Header{Kind: Transit, NextHop: hop4}
	readable := func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.Fd()), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	}
	p.Send(&h, numbered(0))
	p.Flush()
	if readable() {
		t.Fatal("bell rung although the consumer is awake")
	}
	if c.Sleep() {
		t.Fatal("Sleep allowed while a packet waits")
	}
	drain(c, pool, nil)
	if !c.Sleep() {
		t.Fatal("Sleep refused on an empty ring")
	}
	if p.Flush(); readable() {
		t.Fatal("bell rung for nothing")
	}
	for i := range 3 {
		p.Send(&h, numbered(i))
		p.Flush()
	}
	if !readable() || p.Stats().Rings != 1 {
		t.Fatalf("bell rung %d times, want once", p.Stats().Rings)
	}
	if c.Wake(true); readable() {
		t.Fatal("bell not silenced")
	}
	if n := drain(c, pool, nil); n != 3 {
		t.Fatalf("received %d, want 3", n)
	}
}

func TestOpenHealsFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(Path(dir, 1, 2), []byte("short garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(BellPath(dir, 1, 2), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, c := pair(t, dir)
	works(t, p, c, testPool(t, 64), 1)
	for _, pairs := range [][2]fib.CardID{{1, 1}, {0, 1}, {1, 0}} {
		if _, err := OpenProducer(dir, pairs[0], pairs[1]); err == nil {
			t.Errorf("ring %v opened", pairs)
		}
	}
	if _, err := OpenConsumer(filepath.Join(Path(dir, 1, 2), "x"), 1, 2); err == nil {
		t.Error("ring below a file opened")
	}
}

// childProducer sends for ever from another process.
func childProducer(dir string) {
	p, err := OpenProducer(dir, 1, 2)
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	h := Header{Kind: Transit, NextHop: hop6, VRF: 5}
	os.Stdout.WriteString("ready\n")
	for i := 0; ; i++ {
		p.Send(&h, numbered(i))
		if i%8 == 7 {
			p.Flush()
			time.Sleep(50 * time.Microsecond)
		}
	}
}

func TestKilledProducerProcess(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenConsumer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pool := testPool(t, 64)
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "GODWIT_FABRIC_CHILD="+dir)
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen, last := 0, int64(-1)
		for deadline := time.Now().Add(20 * time.Second); seen < 200; {
			seen += drain(c, pool, func(h *Header, d []byte) {
				if n := int64(binary.BigEndian.Uint64(d)); n <= last || h.VRF != 5 {
					t.Errorf("packet %d after %d, VRF %d", n, last, h.VRF)
				} else {
					last = n
				}
			})
			if time.Now().After(deadline) {
				cmd.Process.Kill()
				cmd.Wait()
				t.Fatalf("%d packets in 20 s; child says %q", seen, out.String())
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		drain(c, pool, nil)
	}
	if n := c.Stats().Corrupt; n != 0 {
		t.Errorf("%d corrupt after clean kills", n)
	}
}

func TestConcurrentOrder(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 64)
	const total = 50_000
	done := make(chan int)
	go func() {
		next, rng := 0, rand.New(rand.NewSource(1))
		h := Header{Kind: Transit, NextHop: hop4}
		for next < total {
			for range 1 + rng.Intn(graph.VectorSize) {
				if next == total || !p.Send(&h, numbered(next)) {
					break
				}
				next++
			}
			p.Flush()
		}
		done <- next
	}()
	var hdrs [graph.VectorSize]Header
	got := 0
	for deadline := time.Now().Add(30 * time.Second); got < total && time.Now().Before(deadline); {
		var v graph.Vector
		if c.Recv(pool, &v, &hdrs) == 0 && c.Sleep() {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(c.Fd()), Events: unix.POLLIN}}, 1000)
			c.Wake(n == 1)
		}
		for i := range v.N {
			if n := int(binary.BigEndian.Uint64(v.P[i].Data)); n != got {
				t.Fatalf("packet %d where %d was due", n, got)
			}
			got++
			pool.Put(v.P[i])
		}
	}
	if got != total {
		t.Fatalf("received %d of %d", got, total)
	}
	<-done
}

func TestNoAllocation(t *testing.T) {
	p, c := pair(t, t.TempDir())
	pool := testPool(t, 64)
	h := Header{Kind: Transit, NextHop: hop6}
	data := make([]byte, 64)
	var hdrs [graph.VectorSize]Header
	var v graph.Vector
	if n := testing.AllocsPerRun(1000, func() {
		for range 32 {
			p.Send(&h, data)
		}
		p.Flush()
		v.N = 0
		c.Recv(pool, &v, &hdrs)
		for i := range v.N {
			pool.Put(v.P[i])
		}
		if c.Sleep() {
			c.Wake(false)
		}
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

func FuzzCorruptRing(f *testing.F) {
	f.Add(uint16(offHead), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint16(offTail), []byte{1, 2, 3})
	f.Add(uint16(pageSize+slotLen), []byte{0xff, 0xff, 9, 9})
	f.Fuzz(func(t *testing.T, at uint16, garbage []byte) {
		mem := make([]byte, ringSize+8)
		r := newRing(mem[:ringSize], -1)
		c, p := newConsumer(r), newProducer(r)
		pool := testPool(t, 64)
		h := Header{Kind: Transit, NextHop: hop4}
		for i := range 20 {
			p.Send(&h, numbered(i))
		}
		p.Flush()
		copy(mem[int(at)%ringSize:ringSize], garbage)
		atomic.StoreUint32(r.sleeping, 0) // no doorbell here
		drain(c, pool, func(h *Header, d []byte) {
			if len(d) > MaxPacket || h.NextHop == [16]byte{} {
				t.Fatalf("%d bytes to %v", len(d), h.NextHop)
			}
		})
		works(t, p, c, pool, 3)
		if pool.Free() != pool.Size() {
			t.Fatal("a buffer is lost")
		}
	})
}

func BenchmarkRing(b *testing.B) {
	p, c := pair(b, b.TempDir())
	pool := testPool(b, 64)
	h := Header{Kind: Transit, NextHop: hop4}
	data := make([]byte, 64)
	var hdrs [graph.VectorSize]Header
	for i := 0; i < b.N; i += 32 {
		for range 32 {
			p.Send(&h, data)
		}
		p.Flush()
		var v graph.Vector
		c.Recv(pool, &v, &hdrs)
		for i := range v.N {
			pool.Put(v.P[i])
		}
	}
}
