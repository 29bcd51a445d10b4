package xdp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/fib"
)

// Port is a worker's share of a device: one socket for each of its queues.
type Port struct {
	id       fib.PortID
	queues   []*queue
	next     int          // queue that Rx asks first
	maxFrame atomic.Int32 // bytes

	// mu keeps Counters of other goroutines from a socket that Close closes.
	mu   sync.Mutex
	last []unix.XDPStatistics // of closed sockets
}

var (
	_ graph.Port   = (*Port)(nil)
	_ graph.Poller = (*Port)(nil)
)

// Share lists the queues, of n, that belong to worker w of workers: q mod workers.
// A worker without a queue on a port can neither receive nor send there: run at
// most as many workers as the port with the fewest queues has.
func Share(n, w, workers int) []int {
	var queues []int
	for q := w; q < n; q += workers {
		queues = append(queues, q)
	}
	return queues
}

// Open gives the worker that owns u its queues of the device.
func (d *Device) Open(u *Umem, queues ...int) (*Port, error) {
	if len(queues) == 0 {
		return nil, errors.New("open port: no queue")
	}
	p := &Port{id: d.id}
	p.SetMTU(d.mtu)
	for _, index := range queues {
		q, err := d.openQueue(u, index)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("open port %s: %w", d.name, err)
		}
		q.maxFrame = &p.maxFrame
		p.queues = append(p.queues, q)
	}
	p.last = make([]unix.XDPStatistics, len(p.queues))
	return p, nil
}

// ID is the port's number.
func (p *Port) ID() fib.PortID { return p.id }

// SetMTU sets the largest frame that Tx takes: the MTU, an Ethernet header and two VLAN tags.
func (p *Port) SetMTU(mtu int) { p.maxFrame.Store(int32(mtu + etherHeader + vlanTags)) }

// Rx appends received frames to v, of each queue in turn.
func (p *Port) Rx(v *graph.Vector) error {
	for range p.queues {
		q := p.queues[p.next]
		if p.next++; p.next == len(p.queues) {
			p.next = 0
		}
		if q.gone {
			return q.goneError()
		}
		q.receive(v)
		if v.N == graph.VectorSize {
			break
		}
	}
	return nil
}

// Tx queues the frames of v and empties it. They leave at Flush.
func (p *Port) Tx(v *graph.Vector) error { return p.queues[0].send(v) }

// Flush kicks the kernel where it asks for that, and reclaims sent frames.
func (p *Port) Flush() error {
	var err error
	for _, q := range p.queues {
		if e := q.flush(); e != nil {
			err = e
		}
	}
	return err
}

// Fds appends the sockets: readable when Rx has work.
func (p *Port) Fds(fds []int) []int {
	for _, q := range p.queues {
		if q.fd >= 0 {
			fds = append(fds, q.fd)
		}
	}
	return fds
}

// Counters is the traffic of the worker's share of the port. Any goroutine may call it.
func (p *Port) Counters() netdev.Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c netdev.Counters
	for i, q := range p.queues {
		if q.fd >= 0 {
			p.last[i] = kernelStats(q.fd)
		}
		c.Add(q.counters(p.last[i]))
	}
	return c
}

// BusyPoll tells for how long after a packet the port wants to be asked again and again.
func (p *Port) BusyPoll() time.Duration {
	d := time.Duration(0)
	for _, q := range p.queues {
		d = max(d, q.busy)
	}
	return d
}

// NAPI is the number of the driver's poll that has brought the last frames, 0 if there was none
// or it has none: then busy polling can't do anything.
func (p *Port) NAPI() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		if q.fd < 0 {
			continue
		}
		if id, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_INCOMING_NAPI_ID); err == nil && id > 0 {
			return id
		}
	}
	return 0
}

// ZeroCopy reports whether frames move between device and Umem without a copy.
func (p *Port) ZeroCopy() bool { return p.queues[0].zeroCopy }

// Close closes the sockets and brings all their frames home to the pool.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, q := range p.queues {
		if q.fd < 0 {
			continue
		}
		if p.last != nil {
			p.last[i] = kernelStats(q.fd)
		}
		q.close()
	}
	return nil
}
