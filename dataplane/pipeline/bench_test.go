package pipeline

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/porttest"
	"godwit/dataplane/punt"
	"godwit/fib"
	"godwit/fib/patricia"
)

// bin is a Sink that gives everything back at once.
type bin struct {
	pool *graph.Pool
	sent int
}

func (b *bin) Tx(_ fib.PortID, v *graph.Vector) {
	for _, p := range v.P[:v.N] {
		b.pool.Put(p)
	}
	b.sent += v.N
	v.N = 0
}
func (b *bin) Fabric(_ fib.CardID, p *graph.Packet, _ FabricHeader) { b.pool.Put(p) }
func (b *bin) Punt(p *graph.Packet, _ punt.Meta)                    { b.pool.Put(p) }

// bench is a worker with nothing around it.
type bench struct {
	state  *State
	pipe   *Pipeline
	pool   *graph.Pool
	sink   *bin
	tables *patricia.Tables
	frames [][]byte // 64 bytes each
}

func newBench(t testing.TB, changes []fib.Change, dst []netip.Addr) *bench {
	b := &bench{pool: porttest.NewPool(maxPool)}
	b.sink = &bin{pool: b.pool}
	s := NewState(1, Options{})
	b.state = s
	b.tables = patricia.New(s)
	t.Cleanup(func() { b.tables.Close() })
	s.SetFIB(b.tables)
	slow := NewSlowPath(s)
	if err := slow.SetInterfaces(s.now, testInterfaces()); err != nil {
		t.Fatal(err)
	}
	var static []StaticNeighbor
	for i := range 16 {
		static = append(static, StaticNeighbor{Interface: lan2, Address: gateway(i), MAC: [6]byte{2, 0, 0, 0, 1, byte(i)}})
	}
	slow.SetStatic(s.now, static)
	all := []fib.Change{set(100, fib.Local)}
	for i := range 16 {
		all = append(all, set(fib.GroupID(i+1), fib.Forward, fib.NextHop{Interface: lan2, Gateway: gateway(i)}))
	}
	all = append(all, changes...)
	for seq := uint64(1); len(all) > 0; seq++ {
		n := min(len(all), 10000)
		if err := b.tables.Apply(fib.Batch{Epoch: 1, Seq: seq, Changes: all[:n]}); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
	b.pipe = New(s, b.pool, b.sink)
	for _, a := range dst {
		b.frames = append(b.frames, benchFrame(a))
	}
	return b
}

func gateway(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 2, byte(100 + i)}) }

func benchFrame(dst netip.Addr) []byte {
	f := make([]byte, 64)
	if dst.Is4() {
		header.PutEthernet(f, mac1, hostA, header.TypeIPv4)
		header.PutIPv4(f[14:], 50, 1, 0, 0, 64, header.ProtoUDP, addr("10.0.1.10"), dst)
		return f
	}
	header.PutEthernet(f, mac1, hostA, header.TypeIPv6)
	header.PutIPv6(f[14:], 10, 0, header.ProtoUDP, 64, addr("2001:db8:1::10"), dst)
	return f
}

// round receives 64 frames from position at and forwards them.
func (b *bench) round(at int) {
	var v graph.Vector
	for i := range graph.VectorSize {
		p := b.pool.Get()
		p.Data = append(p.Data, b.frames[(at+i)%len(b.frames)]...)
		p.Port = port1
		v.Push(p)
	}
	b.pipe.Input(1, &v)
}

// receive is round without the pipeline: what of the measurement is the test's own.
func (b *bench) receive(at int) {
	for i := range graph.VectorSize {
		p := b.pool.Get()
		p.Data = append(p.Data, b.frames[(at+i)%len(b.frames)]...)
		p.Port = port1
		b.pool.Put(p)
	}
}

func (b *bench) run(t *testing.B) {
	t.ReportAllocs()
	at := 0
	var cpu time.Duration
	for range 2000 {
		b.round(at) // warm
		at += graph.VectorSize
	}
	cpu, b.sink.sent = cpuTime(), 0
	for t.Loop() {
		b.round(at)
		at += graph.VectorSize
	}
	if b.sink.sent != t.N*graph.VectorSize {
		t.Fatalf("%d packets forwarded, want %d", b.sink.sent, t.N*graph.VectorSize)
	}
	report(t, cpu)
}

// report reports ns of CPU a packet: on a busy machine elapsed time says little.
func report(t *testing.B, since time.Duration) {
	t.ReportMetric(float64((cpuTime()-since).Nanoseconds())/float64(t.N)/graph.VectorSize, "cpu-ns/packet")
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func oneRoute() ([]fib.Change, []netip.Addr) {
	var dst []netip.Addr
	for range 4096 {
		dst = append(dst, netip.AddrFrom4([4]byte{198, 18, byte(rand.IntN(256)), byte(rand.IntN(256))}))
	}
	return []fib.Change{route(red, "198.18.0.0/15", 1)}, dst
}

func BenchmarkReceiveOnly(t *testing.B) {
	b := newBench(t, nil, []netip.Addr{addr("198.18.0.1")})
	at, cpu := 0, cpuTime()
	for t.Loop() {
		b.receive(at)
		at += graph.VectorSize
	}
	report(t, cpu)
}

func BenchmarkOneRoute(t *testing.B) {
	changes, dst := oneRoute()
	newBench(t, changes, dst).run(t)
}

func BenchmarkOneRoute6(t *testing.B) {
	var dst []netip.Addr
	for i := range 4096 {
		a := addr("2001:db8:8000::").As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i))
		dst = append(dst, netip.AddrFrom16(a))
	}
	newBench(t, []fib.Change{route(red, "2001:db8:8000::/33", 1)}, dst).run(t)
}

// fullTable reads the real prefixes of a family from the test data of module bart.
func fullTable(t testing.TB, is4 bool) (list []netip.Prefix) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/gaissmai/bart").Output()
	if err != nil {
		t.Fatalf("find module bart: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "internal/tests/testdata/prefixes.txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for sc := bufio.NewScanner(z); sc.Scan(); {
		if p := netip.MustParsePrefix(sc.Text()).Masked(); p.Addr().Is4() == is4 {
			list = append(list, p)
		}
	}
	return list
}

func benchFull(t *testing.B, is4 bool) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var changes []fib.Change
	var dst []netip.Addr
	list := fullTable(t, is4)
	for i, p := range list {
		changes = append(changes, route(red, p.String(), fib.GroupID(i%16+1)))
	}
	classes := func(a netip.Addr) bool {
		return a.IsGlobalUnicast() && a.As16()[12] != 0 && a.As16()[12] != 127 && a.As16()[12] < 224
	}
	for len(dst) < 1<<17 {
		p := list[rnd.IntN(len(list))]
		a := p.Addr().As16()
		var host [16]byte
		binary.BigEndian.PutUint64(host[:8], rnd.Uint64())
		binary.BigEndian.PutUint64(host[8:], rnd.Uint64())
		fixed := p.Bits()
		if is4 {
			fixed += 96
		}
		for bit := fixed; bit < 128; bit++ {
			a[bit/8] |= host[bit/8] & (0x80 >> (bit % 8))
		}
		if x := netip.AddrFrom16(a).Unmap(); !is4 || classes(x) {
			dst = append(dst, x)
		}
	}
	newBench(t, changes, dst).run(t)
}

func BenchmarkFullTable(t *testing.B)  { benchFull(t, true) }
func BenchmarkFullTable6(t *testing.B) { benchFull(t, false) }
