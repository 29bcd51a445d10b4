package worker

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"godwit/dataplane/fabric"
	"godwit/dataplane/filter"
	"godwit/dataplane/graph"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// Pipeline is the packet graph of one worker: pipeline.Pipeline.
type Pipeline interface {
	Input(now int64, v *graph.Vector)
	FabricInput(now int64, v *graph.Vector, h []pipeline.FabricHeader)
	HostInput(now int64, v *graph.Vector)
	Inject(v *graph.Vector)
}

// Reader is the worker's membership in the tables' grace periods.
type Reader interface {
	Online()
	Quiescent()
	Offline()
}

// Config is what a Worker is made of.
type Config struct {
	Pool     *graph.Pool // the worker's alone
	Reader   Reader      // the worker's alone
	Pipeline func(*graph.Pool, pipeline.Sink) Pipeline
	Punts    *Queue[punt.Meta] // to the event loop; shared by all workers
	BFD      *Queue[punt.Meta] // to the BFD sessions; shared; nil: none, it is punted
	Captures *Captures         // shared; nil: none
	Mirrors  *Mirrors          // shared; nil: none
	Now      func() int64      // monotonic nanoseconds
	// Gone is told, on the worker's goroutine, that a port has failed and is
	// no longer polled; it must not block.
	Gone func(fib.PortID, error)
}

// Capacity of the queues into a worker, frames: a burst of 2,000 from the host
// stack, or from another worker, fits while this one is not scheduled for some milliseconds.
// The memory, 3.7 MB a queue with small buffers, is there once it has been used.
const queueSlots = 2048

// The queue of Urgently: a few hundred short packets, which nothing else can crowd out.
const (
	firstSlots = 512
	firstSize  = 512
)

// hostMeta goes with an IP packet of the host stack, or of the slow path.
type hostMeta struct {
	vrf fib.VRF
	out fib.InterfaceID
}

type handover struct {
	port fib.PortID
	out  fib.InterfaceID
}

// Worker is one forwarding worker.
type Worker struct {
	pool    *graph.Pool
	pipe    Pipeline
	reader  Reader
	punts   *Queue[punt.Meta]
	bfd     *Queue[punt.Meta]
	caps    *Captures
	mirrors *Mirrors
	now     func() int64
	gone    func(fib.PortID, error)

	ports     []*port
	egress    map[fib.PortID]*port
	consumers []*fabric.Consumer
	links     map[fib.CardID]*Link

	inject *Queue[fib.InterfaceID]
	host   *Queue[hostMeta]
	first  *Queue[hostMeta] // of Urgently
	hand   *Queue[handover]

	mu       sync.Mutex
	commands []command
	running  bool
	done     chan struct{}

	event    int // eventfd
	sleeping atomic.Bool
	asked    atomic.Bool // commands wait
	stopping atomic.Bool

	fds     []unix.PollFd
	owners  []*port // of fds; nil: the eventfd or a doorbell
	bells   int     // first doorbell in fds
	stale   bool    // fds must be made again
	urgent  bool
	tid     int   // the worker's thread
	at      int64 // when the last round began
	yielded int64 // when maybeYield last did
	obeyed  int64 // when the last commands ended
	active  int64 // when the last round with a packet began
	busy    int64 // ns after it for which the ports are polled before the worker sleeps
	sent    bool  // something was given to a port in this round or the last

	v       graph.Vector
	copies  graph.Vector // for a mirror
	key     filter.Key   // scratch
	hdrs    [graph.VectorSize]fabric.Header
	fhdrs   [graph.VectorSize]pipeline.FabricHeader
	drops   *graph.Drops
	counter counters
}

type command struct {
	f    func()
	done chan struct{}
}

// port is a port as one worker knows it: its own share of the queues, or the
// worker to hand frames over to.
type port struct {
	id     fib.PortID
	p      graph.Port
	remote *Worker
	failed bool
	errs   int // polls in a row that found an error and no frame
}

// New makes a worker that stands still until Start.
func New(c Config) (*Worker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	w := &Worker{
		pool: c.Pool, reader: c.Reader, punts: c.Punts, bfd: c.BFD, caps: c.Captures, mirrors: c.Mirrors, now: c.Now, gone: c.Gone,
		egress: make(map[fib.PortID]*port), links: make(map[fib.CardID]*Link),
		event: fd, stale: true, drops: newDrops(),
	}
	w.inject = NewQueue[fib.InterfaceID](queueSlots, c.Pool.MaxRoom(), w.Wake)
	w.host = NewQueue[hostMeta](queueSlots, c.Pool.MaxRoom(), w.Wake)
	w.first = NewQueue[hostMeta](firstSlots, firstSize, w.Wake)
	w.hand = NewQueue[handover](queueSlots, c.Pool.MaxRoom(), w.Wake)
	w.pipe = c.Pipeline(c.Pool, (*sink)(w))
	return w, nil
}

// Start starts the worker's goroutine.
func (w *Worker) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
	w.done = make(chan struct{})
	go w.run(w.done)
}

// Stop ends the goroutine, waits for it, and refuses frames from then on. The
// ports, links and consumers are the caller's again.
func (w *Worker) Stop() error {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	w.stopping.Store(true)
	w.Wake()
	if done != nil {
		<-done
	}
	w.inject.Close()
	w.host.Close()
	w.first.Close()
	w.hand.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.event < 0 {
		return nil
	}
	err := unix.Close(w.event)
	w.event = -1
	return err
}

// Do runs f between two rounds and returns when it has run. With a worker that
// stands still it runs f itself. All that changes ports, links and consumers
// goes through Do.
func (w *Worker) Do(f func()) {
	w.mu.Lock()
	if !w.running {
		defer w.mu.Unlock()
		f()
		return
	}
	done := make(chan struct{})
	w.commands = append(w.commands, command{f, done})
	w.asked.Store(true)
	w.mu.Unlock()
	w.Wake()
	<-done
}

// Wake ends the worker's sleep, if it sleeps.
func (w *Worker) Wake() {
	if w.sleeping.CompareAndSwap(true, false) {
		w.ring()
	}
}

var one = [8]byte{1}

func (w *Worker) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.event >= 0 {
		_, _ = unix.Write(w.event, one[:]) // only a counter at its limit refuses: it is readable
	}
}

// Inject hands an untagged Ethernet frame to send out of the interface. With
// wait it waits for room in the queue, else a full queue is a counted drop.
func (w *Worker) Inject(out fib.InterfaceID, frame []byte, wait bool) bool {
	return push(w, w.inject, out, frame, wait)
}

// Host hands over an IP packet that the router itself has made: from a TUN, or
// from the slow path. out is the egress interface of a link-local destination, else 0.
func (w *Worker) Host(vrf fib.VRF, out fib.InterfaceID, packet []byte, wait bool) bool {
	return push(w, w.host, hostMeta{vrf, out}, packet, wait)
}

// Urgently is Host for short packets that must not wait behind others: BFD. It
// never waits; a full queue is a counted drop.
func (w *Worker) Urgently(vrf fib.VRF, out fib.InterfaceID, packet []byte) bool {
	return push(w, w.first, hostMeta{vrf, out}, packet, false)
}

func push[M any](w *Worker, q *Queue[M], m M, frame []byte, wait bool) bool {
	if len(frame) > q.Size() {
		w.drops.Add(dropTooLong)
		return false
	}
	ok := false
	if wait {
		ok = q.PushWait(m, frame)
	} else {
		ok = q.Push(m, frame)
	}
	if !ok {
		w.drops.Add(dropInjectFull)
	}
	return ok
}

// run is the worker's goroutine.
func (w *Worker) run(done chan struct{}) {
	defer close(done)
	runtime.LockOSThread()
	w.tid = unix.Gettid()
	w.reader.Online()
	for !w.stopping.Load() {
		if w.asked.Load() {
			w.obey()
		}
		n := w.round()
		w.maybeYield()
		if n == 0 {
			w.sleep()
		}
	}
	w.reader.Offline()
	w.mu.Lock()
	w.running = false
	w.mu.Unlock()
	w.obey()
	if w.urgent {
		return // still locked: the thread ends with the goroutine
	}
	runtime.UnlockOSThread()
}

func (w *Worker) obey() {
	w.mu.Lock()
	list := w.commands
	w.commands = nil
	w.asked.Store(false)
	w.mu.Unlock()
	for _, c := range list {
		c.f()
		close(c.done)
	}
	w.obeyed = w.now()
}

// round serves every source once and returns the number of packets.
func (w *Worker) round() int {
	now := w.now()
	w.at = now
	n := w.fromHost(now, w.first)
	for _, p := range w.ports {
		n += w.receive(now, p)
	}
	for _, c := range w.consumers {
		n += w.fromFabric(now, c)
	}
	n += w.fromHost(now, w.host)
	n += w.fromInject()
	n += w.fromHandover()
	w.flush()
	w.reader.Quiescent()
	w.counter.round(n)
	if n > 0 {
		w.active = now
	}
	return n
}

func (w *Worker) receive(now int64, p *port) int {
	if p.failed {
		return 0
	}
	w.v.N = 0
	err := p.p.Rx(&w.v)
	n := w.v.N
	if n > 0 {
		p.errs = 0
		w.capture(&w.v, p.id, In)
		w.mirror(&w.v, p.id, In)
		w.pipe.Input(now, &w.v)
	}
	if err != nil {
		w.fail(p, err)
	}
	return n
}

// fail stops using a port; what is sent there is dropped by the port, or here.
func (w *Worker) fail(p *port, err error) {
	if p.failed {
		return
	}
	p.failed = true
	w.stale = true
	w.gone(p.id, err)
}

func (w *Worker) fromFabric(now int64, c *fabric.Consumer) int {
	w.v.N = 0
	n := c.Recv(w.pool, &w.v, &w.hdrs)
	if n == 0 {
		return 0
	}
	for i := range n {
		h := &w.hdrs[i]
		p := w.v.P[i]
		clean(p)
		p.VRF = h.VRF
		w.fhdrs[i] = pipeline.FabricHeader{VRF: h.VRF, Out: h.Out, NextHop: h.NextHop}
	}
	w.pipe.FabricInput(now, &w.v, w.fhdrs[:n])
	return n
}

func (w *Worker) fromHost(now int64, q *Queue[hostMeta]) int {
	w.v.N = 0
	var m hostMeta
	for w.v.N < graph.VectorSize {
		p := take(w, q, &m)
		if p == nil {
			break
		}
		p.VRF, p.Out = m.vrf, m.out
		w.v.Push(p)
	}
	n := w.v.N
	if n > 0 {
		w.pipe.HostInput(now, &w.v)
	}
	return n
}

func (w *Worker) fromInject() int {
	w.v.N = 0
	var out fib.InterfaceID
	for w.v.N < graph.VectorSize {
		p := take(w, w.inject, &out)
		if p == nil {
			break
		}
		p.Out = out
		w.v.Push(p)
	}
	n := w.v.N
	if n > 0 {
		w.pipe.Inject(&w.v)
	}
	return n
}

// fromHandover sends, one port at a time, what other workers have for our queues.
func (w *Worker) fromHandover() int {
	w.v.N = 0
	var m handover
	var to fib.PortID
	n := 0
	for ; n < graph.VectorSize; n++ {
		p := take(w, w.hand, &m)
		if p == nil {
			break
		}
		if w.v.N > 0 && m.port != to {
			w.transmit(to, &w.v)
		}
		to, p.Out = m.port, m.out
		w.v.Push(p)
	}
	if w.v.N > 0 {
		w.transmit(to, &w.v)
	}
	return n
}

// take moves a frame of the queue into a fresh packet; nil: nothing waits, or
// all buffers are in use (then frames wait in the queue).
func take[M any](w *Worker, q *Queue[M], m *M) *graph.Packet {
	if q.Len() == 0 {
		return nil
	}
	p := w.pool.Get()
	if w.pool.MaxRoom() > w.pool.Room() {
		if n := q.Next(); n > w.pool.Room() {
			if p != nil {
				w.pool.Put(p)
			}
			p = w.pool.GetFor(n)
		}
	}
	if p == nil {
		return nil
	}
	n, ok := q.Take(m, p.Data[:cap(p.Data)])
	if !ok {
		w.pool.Put(p)
		return nil
	}
	p.Data = p.Data[:n]
	clean(p)
	return p
}

// clean forgets what the buffer's last packet has left behind.
func clean(p *graph.Packet) {
	p.Port, p.In, p.Out, p.VRF = 0, 0, 0, 0
	p.Group, p.L3, p.InSlot, p.Flags = 0, 0, 0, 0
}

func (w *Worker) flush() {
	for _, p := range w.ports {
		if !p.failed {
			if err := p.p.Flush(); err != nil {
				w.fail(p, err)
			}
		}
	}
	for _, l := range w.links {
		l.flush()
	}
}

// errPort is the failure of a port whose descriptors report nothing but errors.
var errPort = errors.New("device reports errors only")
