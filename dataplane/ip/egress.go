package ip

import (
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/neigh"
	"godwit/fib"
)

// TxSink sends frames out of a port: it owns the packets and empties v.
type TxSink interface {
	Tx(port fib.PortID, v *graph.Vector)
}

// Egress is the node interface-output: it collects frames by port and counts them.
type Egress struct {
	Ports []fib.PortID // by port slot; set by the pipeline between vectors

	counts *graph.Counts
	out    TxSink
	queues []graph.Vector
	dirty  []uint16
}

// NewEgress makes a worker's node.
func NewEgress(out TxSink, counts *graph.Counts) *Egress { return &Egress{out: out, counts: counts} }

// Name is the node's name.
func (n *Egress) Name() string { return "interface-output" }

// Nexts are the nodes that follow.
func (n *Egress) Nexts() []string { return nil }

// Resize makes queues for all of Ports.
func (n *Egress) Resize() {
	if len(n.queues) < len(n.Ports) { // empty between vectors
		n.queues = make([]graph.Vector, len(n.Ports))
		n.dirty = make([]uint16, 0, len(n.Ports))
	}
}

// Send queues one frame for the port slot; slot is the egress interface's.
func (n *Egress) Send(p *graph.Packet, port, slot uint16) {
	n.counts.TxRun(slot, 1, len(p.Data))
	n.push(p, port)
}

func (n *Egress) push(p *graph.Packet, port uint16) {
	q := &n.queues[port]
	if q.N == 0 {
		n.dirty = append(n.dirty, port)
	} else if q.N == graph.VectorSize {
		n.out.Tx(n.Ports[port], q)
	}
	q.Push(p)
}

// Flush sends what is queued.
func (n *Egress) Flush() {
	for _, port := range n.dirty {
		if q := &n.queues[port]; q.N > 0 {
			n.out.Tx(n.Ports[port], q)
		}
	}
	n.dirty = n.dirty[:0]
}

// write puts the link-layer header of a resolved neighbour before the packet;
// it reports whether there was headroom.
func write(pool *graph.Pool, p *graph.Packet, rw *neigh.Rewrite, ip6 bool) bool {
	if grow := rw.Len - int(p.L3); grow != 0 && !pool.Grow(p, grow) {
		return false
	}
	h := &rw.IP4
	if ip6 {
		h = &rw.IP6
	}
	if rw.Len == header.EthernetLen {
		*(*[header.EthernetLen]byte)(p.Data) = *(*[header.EthernetLen]byte)(h[:])
	} else {
		*(*[header.EthernetLen + header.VLANLen]byte)(p.Data) = *h
	}
	p.L3 = uint16(rw.Len)
	return true
}
