package worker

import (
	"sync"

	"godwit/dataplane/fabric"
	"godwit/dataplane/graph"
	"godwit/dataplane/pipeline"
	"godwit/dataplane/punt"
	"godwit/fib"
)

// The worker's own drops.
const (
	dropNoPort = iota
	dropPortFailed
	dropHandover
	dropPunt
	dropNoCard
	dropFabricFull
	dropTooLong
	dropInjectFull
)

func newDrops() *graph.Drops {
	return graph.NewDrops("worker", []graph.DropReason{
		dropNoPort:     {Name: "no-port", Help: "the egress port is not attached"},
		dropPortFailed: {Name: "port-failed", Help: "the egress port's device has failed or is gone"},
		dropHandover:   {Name: "handover-full", Help: "the worker that owns the egress port's queue does not keep up"},
		dropPunt:       {Name: "punt-full", Help: "the slow path does not keep up"},
		dropNoCard:     {Name: "no-card", Help: "the egress card is not part of the fabric"},
		dropFabricFull: {Name: "fabric-full", Help: "the egress card does not keep up, or is dead"},
		dropTooLong:    {Name: "too-long", Help: "longer than a buffer or a fabric slot"},
		dropInjectFull: {Name: "inject-full", Help: "the worker does not keep up with the host stack or the slow path"},
	})
}

// sink is the worker as its pipeline sees it.
type sink Worker

var _ pipeline.Sink = (*sink)(nil)

// Tx sends frames out of a port of this worker, or hands them over.
func (s *sink) Tx(id fib.PortID, v *graph.Vector) {
	w := (*Worker)(s)
	if v.N > 0 {
		w.transmit(id, v)
	}
}

func (w *Worker) transmit(id fib.PortID, v *graph.Vector) {
	p := w.egress[id]
	switch {
	case p == nil:
		w.dropAll(v, dropNoPort)
	case p.remote != nil:
		w.handOver(p, v)
	case p.failed:
		w.dropAll(v, dropPortFailed)
	default:
		w.capture(v, id, Out)
		w.mirror(v, id, Out)
		w.sent = true
		if err := p.p.Tx(v); err != nil {
			w.fail(p, err)
		}
	}
}

func (w *Worker) handOver(p *port, v *graph.Vector) {
	for _, pkt := range v.P[:v.N] {
		switch {
		case len(pkt.Data) > p.remote.hand.Size():
			w.drops.Add(dropTooLong)
		case !p.remote.hand.Push(handover{p.id, pkt.Out}, pkt.Data):
			w.drops.Add(dropHandover)
		}
		w.pool.Put(pkt)
	}
	v.N = 0
}

func (w *Worker) dropAll(v *graph.Vector, reason int) {
	for _, p := range v.P[:v.N] {
		w.drops.Add(reason)
		w.pool.Put(p)
	}
	v.N = 0
}

// Fabric sends a packet to another card.
func (s *sink) Fabric(card fib.CardID, p *graph.Packet, h pipeline.FabricHeader) {
	w := (*Worker)(s)
	l := w.links[card]
	switch {
	case l == nil:
		w.drops.Add(dropNoCard)
	case len(p.Data) > fabric.MaxPacket:
		w.drops.Add(dropTooLong)
	default:
		fh := fabric.Header{Kind: fabric.Transit, VRF: h.VRF, In: p.In, Out: h.Out, NextHop: h.NextHop}
		if !l.send(&fh, p.Data) {
			w.drops.Add(dropFabricFull)
		}
	}
	w.pool.Put(p)
}

// Punt copies a packet to the slow path's queue.
func (s *sink) Punt(p *graph.Packet, m punt.Meta) {
	w := (*Worker)(s)
	q := w.punts
	if m.Reason == punt.ToBFD && w.bfd != nil {
		q = w.bfd
	}
	switch {
	case len(p.Data) > q.Size():
		w.drops.Add(dropTooLong)
	case !q.Push(m, p.Data):
		w.drops.Add(dropPunt)
	}
	w.pool.Put(p)
}

// Link is the way to another card: one producer that all workers share.
type Link struct {
	mu    sync.Mutex
	p     *fabric.Producer
	dirty bool
}

// NewLink wraps a producer; Close closes it.
func NewLink(p *fabric.Producer) *Link { return &Link{p: p} }

func (l *Link) send(h *fabric.Header, data []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true // a full ring too: the consumer may sleep
	return l.p.Send(h, data)
}

func (l *Link) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty {
		l.dirty = false
		l.p.Flush()
	}
}

// Stats may be called from any goroutine.
func (l *Link) Stats() fabric.ProducerStats { return l.p.Stats() }

// Close closes the producer, once no worker has the link.
func (l *Link) Close() error { return l.p.Close() }
