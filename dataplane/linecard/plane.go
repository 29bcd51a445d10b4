package linecard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"godwit/cluster/wire"
	"godwit/dataplane/fabric"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/dataplane/worker"
	"godwit/dataplane/xdp"
	"godwit/event"
	"godwit/fib"
	"godwit/fib/patricia"
)

// Sizes of a plane.
const (
	// minFrames is the fewest buffers of a worker; with more than 5 queues it
	// has more, 32 to 64 MB. A queue holds up to a ring of received frames and one to
	// be sent; spareFrames are for what is on its way between ports, and for the host.
	minFrames   = 16384
	spareFrames = 2048
	// fullFrames is where rings become shorter: with more than 12 queues of a worker, down
	// to minRing with 30 and more. The kernel pins a worker's buffers, and keeps
	// some 140 bytes for each of them with each queue.
	fullFrames = 32768
	minRing    = 512
	smallChunk = 2048 // frames up to 1,792 bytes
	largeChunk = 4096 // frames up to 3,840 bytes
	// jumbos is how many buffers of three large chunks a worker has, 12 KiB each, where an MTU
	// needs them: a transmit ring holds 170 such frames.
	jumbos = 1024
	// puntSlots is what waits for the slow path: a burst of 2,000 packets of one class, and
	// 5 ms of all classes at their policers' rates. captureSlots is what waits for a
	// capture's reader.
	puntSlots    = 4096
	captureSlots = 512
	// mtuMax is the largest MTU.
	mtuMax     = 9000
	frameMax   = 3 * largeChunk // bytes of the largest frame of any queue, and more
	maxWorkers = 64
	// l2Most is the Ethernet header with two tags.
	l2Most = 22
)

// shape is what can't be changed without making the plane again.
type shape struct {
	workers, chunk int
	jumbos         int // buffers of several chunks of each worker
	frames         int // buffers of each worker
	ring           int // slots for frames received on a queue
	fabricDir      string
}

// serves tells that a plane of shape s does for a configuration that wants w:
// more buffers, and shorter rings, do no harm.
func (s shape) serves(w shape) bool {
	w.frames, w.ring = max(w.frames, s.frames), min(w.ring, s.ring)
	if w.chunk == s.chunk {
		w.jumbos = max(w.jumbos, s.jumbos)
	}
	return s == w
}

// plane is the running half of a card: workers, their memory, the fabric.
type plane struct {
	shape
	workers   []*worker.Worker
	umems     []*xdp.Umem
	readers   []*patricia.Reader
	links     map[fib.CardID]*worker.Link
	consumers map[fib.CardID]*fabric.Consumer
	punts     *worker.Queue[punt.Meta]
	captures  *worker.Captures
	kept      bool // workers are kept on cores
	mirrors   *worker.Mirrors
}

func (a *Agent) shapeOf(cfg *wire.CardConfig) shape {
	s := shape{workers: max(cfg.Workers, 1), chunk: smallChunk, fabricDir: cfg.FabricDir}
	for _, i := range cfg.Interfaces {
		if i.MTU+l2Most > smallChunk-graph.Headroom {
			s.chunk = largeChunk
		}
		if i.MTU+l2Most > largeChunk-graph.Headroom {
			s.jumbos = jumbos
		}
	}
	if s.fabricDir == "" {
		s.fabricDir = a.opt.FabricDir
	}
	queues := 0
	for _, p := range cfg.Ports {
		n := p.Queues
		if n == 0 {
			n, _ = netdev.Queues(p.Device) // 0: it is missing
		}
		queues += (max(n, 1) + s.workers - 1) / s.workers
	}
	need := func() int { return spareFrames + queues*(s.ring+xdp.TxRing) }
	for s.ring = xdp.DefaultRing; s.ring > minRing && need() > fullFrames; {
		s.ring /= 2
	}
	for s.frames = minFrames; s.frames < need(); {
		s.frames *= 2
	}
	return s
}

// makePlane starts the workers, without ports.
func (a *Agent) makePlane(t *event.Task, s shape) error {
	p := &plane{shape: s, links: make(map[fib.CardID]*worker.Link), consumers: make(map[fib.CardID]*fabric.Consumer)}
	p.mirrors = worker.NewMirrors(a.state.Demux)
	// The kernel fills the buffers' memory with zeros: 10 ms for each worker.
	err := a.await(t, func() error { return p.makeBuffers() })
	if errors.Is(err, event.ErrStopped) {
		a.changes.work.Wait()
		return errors.Join(err, p.dropBuffers())
	}
	a.plane = p
	room := smallChunk
	if err == nil {
		room = p.umems[0].Pool().MaxRoom()
	}
	p.punts = worker.NewQueue[punt.Meta](puntSlots, room, a.wakePunts)
	p.captures = worker.NewCaptures(captureSlots, room, a.state.Demux, a.wakeCaptures)
	for _, u := range p.umems {
		if err == nil {
			err = a.addWorker(p, u)
		}
	}
	if err != nil {
		return errors.Join(err, a.closePlane())
	}
	for _, w := range p.workers {
		w.Start()
	}
	a.setCaptures()
	a.entry.Store(p.workers[0])
	return nil
}

func (p *plane) makeBuffers() error {
	for range p.shape.workers {
		u, err := xdp.NewJumboUmem(p.frames, p.chunk, p.jumbos, mtuMax+l2Most)
		if err != nil {
			return err
		}
		p.umems = append(p.umems, u)
	}
	return nil
}

func (p *plane) dropBuffers() error {
	var errs []error
	for _, u := range p.umems {
		errs = append(errs, u.Close())
	}
	return errors.Join(errs...)
}

func (a *Agent) addWorker(p *plane, u *xdp.Umem) error {
	r := a.tables.NewReader()
	p.readers = append(p.readers, r)
	w, err := worker.New(worker.Config{
		Pool: u.Pool(), Reader: r, Punts: p.punts, BFD: a.bfd.runner.Queue, Captures: p.captures, Mirrors: p.mirrors, Now: a.now,
		Pipeline: func(pool *graph.Pool, s pipeline.Sink) worker.Pipeline { return pipeline.New(a.state, pool, s) },
		Gone: func(id fib.PortID, err error) {
			_ = a.links.Post(func() { a.portFailed(id, err) })
		},
	})
	if err != nil {
		return fmt.Errorf("make worker: %w", err)
	}
	p.workers = append(p.workers, w)
	return nil
}

// closePlane stops the workers and closes ports and fabric; all buffers must
// come home.
func (a *Agent) closePlane() error {
	p := a.plane
	if p == nil {
		return nil
	}
	a.entry.Store(nil)
	a.keepLost(p)
	var errs []error
	for _, w := range p.workers {
		errs = append(errs, w.Stop())
	}
	for _, port := range a.ports {
		errs = append(errs, a.closePort(port))
	}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	for _, c := range p.consumers {
		errs = append(errs, c.Close())
	}
	for _, r := range p.readers {
		r.Close()
	}
	for i, u := range p.umems {
		if pool := u.Pool(); pool.Free() != pool.Size() {
			errs = append(errs, fmt.Errorf("stop worker %d: %d of %d buffers are lost", i, pool.Size()-pool.Free(), pool.Size()))
		}
		errs = append(errs, u.Close())
	}
	a.plane = nil
	return errors.Join(errs...)
}

// setUrgency puts the workers before everything else on their cores as long as
// the chassis leaves a core to the rest: routing must not starve.
func (a *Agent) setUrgency() {
	on := len(a.plane.workers)*max(len(a.cfg.Cards), 1) < runtime.NumCPU()
	for _, w := range a.plane.workers {
		if err := w.SetUrgent(on); err != nil {
			a.log.Warn("worker stays an ordinary thread", "error", err)
		}
	}
}

// setCores keeps each worker on its core of the configuration, or lets it run where this process may.
func (a *Agent) setCores() {
	a.coreProblems = nil
	if len(a.cfg.Cores) == 0 && !a.plane.kept {
		return // what an administrator has done from outside stays
	}
	a.plane.kept = len(a.cfg.Cores) > 0
	for i, w := range a.plane.workers {
		cores := netdev.Cores(os.Getpid()) // the first thread is never a worker's for long, and never kept
		if n := len(a.cfg.Cores); n > 0 {
			cores = []int{a.cfg.Cores[i%n]}
		}
		if err := w.SetCores(cores); err != nil {
			a.coreProblems = append(a.coreProblems, fmt.Sprintf("worker %d: %v", i, err))
		}
	}
}

// tryFabric opens and closes rings until there is a pair with each other card
// of the chassis. What can't be opened is tried again later. Consumers are
// spread over the workers.
func (a *Agent) tryFabric() {
	a.fabricAgain.stop()
	p := a.plane
	if p == nil {
		return
	}
	for card := range p.links {
		if !slices.Contains(a.cfg.Cards, card) {
			a.closeFabric(card)
		}
	}
	a.fabricProblems = nil
	for n, card := range a.cfg.Cards {
		if card == a.opt.Card || p.links[card] != nil {
			continue
		}
		if err := a.openFabric(card, n%len(p.workers)); err != nil {
			a.fabricProblems = append(a.fabricProblems, err.Error())
		}
	}
	if len(a.fabricProblems) == 0 {
		a.fabricAgain.done()
		return
	}
	a.log.Warn("fabric is not complete", "problems", a.fabricProblems)
	a.fabricAgain.arm(a.timers, a.tryFabric)
}

func (a *Agent) openFabric(card fib.CardID, owner int) error {
	p := a.plane
	producer, err := fabric.OpenProducer(p.fabricDir, a.opt.Card, card)
	if err != nil {
		return err
	}
	consumer, err := fabric.OpenConsumer(p.fabricDir, card, a.opt.Card)
	if err != nil {
		return errors.Join(err, producer.Close())
	}
	l := worker.NewLink(producer)
	p.links[card], p.consumers[card] = l, consumer
	for _, w := range p.workers {
		w.AddLink(card, l)
	}
	p.workers[owner].AddConsumer(consumer)
	return nil
}

func (a *Agent) closeFabric(card fib.CardID) {
	p := a.plane
	for _, w := range p.workers {
		w.RemoveLink(card)
		w.RemoveConsumer(p.consumers[card])
	}
	if err := errors.Join(p.links[card].Close(), p.consumers[card].Close()); err != nil {
		a.log.Warn("close fabric", "card", card, "error", err)
	}
	delete(p.links, card)
	delete(p.consumers, card)
}
