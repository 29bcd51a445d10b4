package graph

import "sync/atomic"

// InterfaceCounters counts packets and bytes of an interface on one worker.
type InterfaceCounters struct {
	RxPackets, RxBytes, TxPackets, TxBytes, Drops, Punts uint64
}

// Counts counts per interface slot. The worker adds to private numbers and
// publishes what changed once per vector, so a packet costs no atomic
// operation. Any goroutine reads with Read.
type Counts struct {
	private []InterfaceCounters
	marked  []bool
	dirty   []uint16
	public  atomic.Pointer[[]published]
}

type published struct{ n [6]atomic.Uint64 }

// NewCounts makes counters for no slots.
func NewCounts() *Counts {
	c := &Counts{}
	c.Resize(1)
	return c
}

// Resize makes room for slots 0 to n-1; slots never go away. The worker calls it.
func (c *Counts) Resize(n int) {
	if n <= len(c.private) {
		return
	}
	c.Publish()
	grown := make([]published, n)
	if old := c.public.Load(); old != nil {
		for i := range *old {
			for k := range grown[i].n {
				grown[i].n[k].Store((*old)[i].n[k].Load())
			}
		}
	}
	c.private = append(c.private, make([]InterfaceCounters, n-len(c.private))...)
	c.marked = append(c.marked, make([]bool, n-len(c.marked))...)
	c.dirty = make([]uint16, 0, n)
	c.public.Store(&grown)
}

func (c *Counts) at(slot uint16) *InterfaceCounters {
	if !c.marked[slot] {
		c.marked[slot] = true
		c.dirty = append(c.dirty, slot)
	}
	return &c.private[slot]
}

// RxRun counts a run of frames received on a slot. Slot 0 stands for no interface.
func (c *Counts) RxRun(slot uint16, packets, bytes int) {
	if packets == 0 {
		return
	}
	n := c.at(slot)
	n.RxPackets += uint64(packets)
	n.RxBytes += uint64(bytes)
}

// TxRun counts a run of sent frames.
func (c *Counts) TxRun(slot uint16, packets, bytes int) {
	if packets == 0 {
		return
	}
	n := c.at(slot)
	n.TxPackets += uint64(packets)
	n.TxBytes += uint64(bytes)
}

// Drop counts a packet received on the slot and dropped.
func (c *Counts) Drop(slot uint16) { c.at(slot).Drops++ }

// Punt counts a packet received on the slot and punted.
func (c *Counts) Punt(slot uint16) { c.at(slot).Punts++ }

// Publish makes what was counted visible to Read.
func (c *Counts) Publish() {
	if len(c.dirty) == 0 {
		return
	}
	pub := *c.public.Load()
	for _, slot := range c.dirty {
		n, to := &c.private[slot], &pub[slot]
		for k, d := range [6]uint64{n.RxPackets, n.RxBytes, n.TxPackets, n.TxBytes, n.Drops, n.Punts} {
			if d != 0 {
				to.n[k].Add(d)
			}
		}
		*n = InterfaceCounters{}
		c.marked[slot] = false
	}
	c.dirty = c.dirty[:0]
}

// Read reads a slot as last published.
func (c *Counts) Read(slot int) InterfaceCounters {
	pub := *c.public.Load()
	if slot >= len(pub) {
		return InterfaceCounters{}
	}
	n := &pub[slot].n
	return InterfaceCounters{n[0].Load(), n[1].Load(), n[2].Load(), n[3].Load(), n[4].Load(), n[5].Load()}
}

// Dropper ends packets for one node: counts by reason and by ingress
// interface, and puts the buffer back.
type Dropper struct {
	*Drops
	Counts *Counts
	Pool   *Pool
}

// Drop ends the packet.
func (d *Dropper) Drop(p *Packet, reason int) {
	d.Count(p, reason)
	d.Pool.Put(p)
}

// Count counts the packet as dropped, and leaves it to the caller (to report it).
func (d *Dropper) Count(p *Packet, reason int) {
	d.Drops.Add(reason)
	d.Counts.Drop(p.InSlot)
}
