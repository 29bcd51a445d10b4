package linecard

import (
	"errors"
	"fmt"
	"time"

	"godwit/cluster/wire"
	"godwit/dataplane/afpacket"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

// share is one worker's part of a port.
type share interface {
	graph.Port
	Counters() netdev.Counters
	SetMTU(bytes int)
}

// device is an attached network device: through AF_XDP, or packet sockets.
type device interface {
	// open gives worker w, of workers, its share; nil if it has none.
	open(w, workers int, u *xdp.Umem) (share, error)
	// info is the mode, why it is not the best one, and the number of queues.
	info() (mode, reason string, queues int)
	close() error
}

var (
	_ device = (*xdpDevice)(nil)
	_ device = (*packetDevice)(nil)
	_ share  = (*xdp.Port)(nil)
	_ share  = (*afpacket.Port)(nil)
)

// attach takes a device in the configured mode; "auto" goes from native XDP
// over generic XDP to packet sockets.
func attach(c wire.PortConfig, ring int, express *xdp.Express, estate *xdp.Estate) (device, error) {
	name, id, mode := c.Device, c.ID, c.Mode
	modes := map[string]xdp.Mode{"auto": xdp.Auto, "": xdp.Auto, "native": xdp.Native, "generic": xdp.Generic}
	m, ok := modes[mode]
	if !ok && mode != "afpacket" {
		return nil, fmt.Errorf("attach %s: no mode %q", name, mode)
	}
	reason := "configured"
	if ok {
		d, err := xdp.Attach(name, xdp.Options{ID: id, Mode: m, Queues: c.Queues, Ring: ring, Express: express, Estate: estate,
			BusyPoll: time.Duration(c.BusyPoll) * time.Microsecond, BusyBudget: c.BusyBudget})
		if err == nil {
			return &xdpDevice{Device: d}, nil
		}
		if m != xdp.Auto {
			return nil, err
		}
		reason = err.Error()
	}
	return &packetDevice{name: name, id: id, reason: reason}, nil
}

type xdpDevice struct {
	*xdp.Device
	zeroCopy bool
	busy     time.Duration
	port     *xdp.Port // one of its shares
}

func (d *xdpDevice) open(w, workers int, u *xdp.Umem) (share, error) {
	queues := xdp.Share(d.Queues(), w, workers)
	if len(queues) == 0 {
		return nil, nil
	}
	p, err := d.Open(u, queues...)
	if err != nil {
		return nil, err
	}
	d.zeroCopy, d.busy, d.port = p.ZeroCopy(), p.BusyPoll(), p
	return p, nil
}

func (d *xdpDevice) info() (mode, reason string, queues int) {
	mode = d.Mode().String()
	if d.Mode() == xdp.Native {
		mode += map[bool]string{true: " zerocopy", false: " copy"}[d.zeroCopy]
	}
	if d.busy > 0 {
		mode += fmt.Sprintf(", busy polling %v", d.busy)
		if d.port.Counters().RxPackets > 0 && d.port.NAPI() == 0 {
			mode += " without effect: the driver has no NAPI id"
		}
	}
	return mode, d.Reason(), d.Queues()
}

func (d *xdpDevice) close() error { return d.Close() }

// packetDevice is a device without XDP: each worker has a socket of a fanout.
type packetDevice struct {
	name    string
	id      fib.PortID
	reason  string
	unmuted string // why the kernel's stack could not be kept away
	workers int
}

func (d *packetDevice) open(_, workers int, u *xdp.Umem) (share, error) {
	d.workers = workers
	o := afpacket.Options{ID: d.id}
	if workers > 1 {
		o.Fanout = uint16(d.id) // a port's number on its card is not 0
	}
	p, err := afpacket.Open(d.name, u.Pool(), o)
	if err != nil {
		return nil, err
	}
	if muted, why := p.Muted(); !muted {
		d.unmuted = "; the kernel sees the frames, too: " + why
	}
	return p, nil
}

func (d *packetDevice) info() (mode, reason string, queues int) {
	return "afpacket", d.reason + d.unmuted, d.workers
}
func (d *packetDevice) close() error { return nil }

// errNoShare says that no worker has a queue.
var errNoShare = errors.New("device has no queue")
