package worker

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/fib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memPort is a port of the worker under test; the test is its wire.
type memPort struct {
	id   fib.PortID
	pool *graph.Pool
	fd   int

	mu      sync.Mutex
	wire    [][]byte // to be received
	sent    [][]byte
	rxErr   error
	flushes int
	closed  bool
}

func newMemPort(t *testing.T, id fib.PortID, pool *graph.Pool) *memPort {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &memPort{id: id, pool: pool, fd: fd}
}

func (p *memPort) ID() fib.PortID      { return p.id }
func (p *memPort) Fds(fds []int) []int { return append(fds, p.fd) }
func (p *memPort) Close() error        { p.closed = true; return nil }
func (p *memPort) deliver(f ...[]byte) { p.put(nil, f...) }
func (p *memPort) breakDown(err error) { p.put(err) }
func (p *memPort) put(err error, f ...[]byte) {
	p.mu.Lock()
	p.wire = append(p.wire, f...)
	if err != nil {
		p.rxErr = err
	}
	p.mu.Unlock()
	unix.Write(p.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (p *memPort) Rx(v *graph.Vector) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rxErr != nil {
		return p.rxErr
	}
	for len(p.wire) > 0 && v.N < graph.VectorSize {
		pkt := p.pool.Get()
		if pkt == nil {
			break
		}
		pkt.Data = append(pkt.Data, p.wire[0]...)
		pkt.Port = p.id
		p.wire = p.wire[1:]
		v.Push(pkt)
	}
	if len(p.wire) == 0 {
		var b [8]byte
		unix.Read(p.fd, b[:])
	}
	return nil
}

func (p *memPort) Tx(v *graph.Vector) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pkt := range v.P[:v.N] {
		p.sent = append(p.sent, append([]byte(nil), pkt.Data...))
		p.pool.Put(pkt)
	}
	v.N = 0
	return nil
}

func (p *memPort) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushes++
	return nil
}

func (p *memPort) out() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([][]byte(nil), p.sent...)
}

// twinPipe forwards by a rule in the frame: byte 0 says what to do, bytes 1-4
// where to, bytes 8-15 number the frame.
type twinPipe struct {
	pool *graph.Pool
	out  pipeline.Sink
}

const (
	toPort   = 'P'
	toCard   = 'C'
	toPunt   = 'S'
	toNobody = 'X'
)

func frame(rule byte, to uint32, n int) []byte {
	f := make([]byte, 64)
	f[0] = rule
	binary.BigEndian.PutUint32(f[1:], to)
	binary.BigEndian.PutUint64(f[8:], uint64(n))
	return f
}

func number(f []byte) int { return int(binary.BigEndian.Uint64(f[8:])) }

func (tp *twinPipe) each(v *graph.Vector) {
	for _, p := range v.P[:v.N] {
		to := binary.BigEndian.Uint32(p.Data[1:])
		switch p.Data[0] {
		case toPort:
			p.Out = fib.InterfaceID(to)
			one := graph.Vector{N: 1}
			one.P[0] = p
			tp.out.Tx(fib.PortID(to), &one)
		case toCard:
			p.Data[0] = toPort
			tp.out.Fabric(fib.PortID(to).Card(), p, pipeline.FabricHeader{VRF: 7, Out: fib.InterfaceID(to), NextHop: [16]byte{15: 1}})
		case toPunt:
			tp.out.Punt(p, punt.Meta{Reason: punt.ToLocal, In: fib.InterfaceID(p.Port)})
		default:
			tp.pool.Put(p)
		}
	}
	v.N = 0
}

func (tp *twinPipe) Input(_ int64, v *graph.Vector) { tp.each(v) }
func (tp *twinPipe) FabricInput(_ int64, v *graph.Vector, h []pipeline.FabricHeader) {
	if len(h) != v.N || h[0].VRF != 7 {
		panic("fabric header lost")
	}
	tp.each(v)
}
func (tp *twinPipe) HostInput(_ int64, v *graph.Vector) { tp.each(v) }
func (tp *twinPipe) Inject(v *graph.Vector)             { tp.each(v) }

// reader checks that the worker never looks anything up while offline.
type reader struct {
	online atomic.Bool
	quiet  atomic.Int64
}

func (r *reader) Online()    { r.online.Store(true) }
func (r *reader) Offline()   { r.online.Store(false) }
func (r *reader) Quiescent() { r.quiet.Add(1) }

type fixture struct {
	*Worker
	pool  *graph.Pool
	rd    *reader
	punts *Queue[punt.Meta]
	gone  chan fib.PortID
}

func newFixture(t *testing.T, caps *Captures) *fixture {
	t.Helper()
	pool, err := graph.NewPool(make([]byte, 512*2048), 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{pool: pool, rd: &reader{}, gone: make(chan fib.PortID, 4)}
	f.punts = NewQueue[punt.Meta](128, pool.Room(), func() {})
	start := time.Now()
	f.Worker, err = New(Config{
		Pool: pool, Reader: f.rd, Punts: f.punts, Captures: caps,
		Pipeline: func(p *graph.Pool, s pipeline.Sink) Pipeline { return &twinPipe{p, s} },
		Now:      func() int64 { return int64(time.Since(start)) },
		Gone:     func(id fib.PortID, _ error) { f.gone <- id },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
		if f.rd.online.Load() {
			t.Error("reader left online")
		}
		if pool.Free() != pool.Size() {
			t.Errorf("%d of %d buffers free after the end", pool.Free(), pool.Size())
		}
	})
	return f
}

func (f *fixture) drop(name string) uint64 {
	for _, d := range f.Drops() {
		if d.Reason == name {
			return d.Count
		}
	}
	return 0
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// inOrder checks that the frames are numbered from 0 to n-1.
func inOrder(t *testing.T, frames [][]byte, n int) {
	t.Helper()
	if len(frames) != n {
		t.Fatalf("%d frames, want %d", len(frames), n)
	}
	for i, f := range frames {
		if number(f) != i {
			t.Fatalf("frame %d is number %d", i, number(f))
		}
	}
}
