package xdp

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
	"godwit/fib"
)

// Mode says how the XDP program is attached.
type Mode uint8

// The modes.
const (
	Auto    Mode = iota // Native, else Generic
	Native              // in the driver, before a socket buffer exists
	Generic             // on socket buffers: any driver, slower
)

func (m Mode) String() string {
	return [...]string{"auto", "native", "generic"}[min(m, Generic)]
}

// Options of Attach.
type Options struct {
	ID   fib.PortID
	Mode Mode
	// Queues overrides the number of queues that the driver reports.
	Queues int
	// Ring is the number of slots of the receive rings, a power of two; 0 means
	// DefaultRing. The transmit rings have as many, at most TxRing.
	Ring int
	// BusyPoll is for how long after a packet the driver is polled, 0: never; BusyBudget how many
	// frames it handles in a poll, 0 means DefaultBudget. It works where the driver has NAPI ids.
	BusyPoll   time.Duration
	BusyBudget int
	// NoZeroCopy keeps to copy mode.
	NoZeroCopy bool
	// Express, if not nil, has the maps of the express path: a device in native mode gets its program,
	// with the express way off.
	Express *Express
	// Estate, if not nil, has the links that an earlier process left, and keeps those of express programs.
	Estate *Estate
}

// Slots of the rings.
const (
	// DefaultRing frames arrive in 5 ms at 0.4 Mpps, what one worker forwards
	// to another host on a busy machine: a burst of 2,000 frames waits until a worker that
	// was not scheduled runs. More rides out longer pauses, but all buffers in the ring are
	// used in turn, and fewer stay in the caches: 512 cost about 5 % less CPU time a frame.
	DefaultRing = 2048
	// TxRing frames wait while the kernel refuses them: twice the queue of a veth. The kernel takes
	// them in the worker's own system call, so a worker that stands still fills nothing.
	TxRing = 512
)

// Device is a network device that a line card has taken: the XDP program on it
// and the map from its queues to sockets.
type Device struct {
	name    string
	id      fib.PortID
	index   int
	mtu     int
	mac     net.HardwareAddr
	mode    Mode
	reason  string
	queues  int
	ring    uint32
	tryZero bool
	busy    time.Duration
	budget  int
	objs    captureObjects
	express *ExpressPort // in place of objs
	link    link.Link
	estate  *Estate
	former  *former // its program runs still; nil: ours
	lost    uint64  // frames that found no socket in former programs
}

// Attach takes the device: from now on the kernel's stack sees none of its
// frames; those of queues without a socket are dropped and counted. It works in
// the network namespace of the calling thread.
func Attach(name string, o Options) (*Device, error) {
	d, err := newDevice(name, o)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	if o.Express != nil && o.Mode != Generic && d.attachExpress(o.Express) == nil {
		return d, nil
	}
	d.estate.discard(d.id)
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	if err := d.attach(o.Mode); err != nil {
		d.objs.Close()
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	return d, nil
}

// attachExpress attaches the express program natively. Without success the device is
// as before, and what attach says holds for both programs.
func (d *Device) attachExpress(x *Express) error {
	p, err := x.Load(d.queues)
	if err != nil {
		return err
	}
	d.mode, d.express = Native, p
	if d.link, d.former = d.estate.take(d.id, d.index, d.queues); d.former != nil {
		return nil
	}
	if d.link != nil {
		if err := d.link.Update(p.objs.Express); err == nil {
			return nil
		} else if err := errors.Join(err, d.estate.end(d.id, d.link)); err != nil {
			d.estate.log.Warn("replace express program", "device", d.name, "error", err)
		}
	}
	if err := d.attachLink(); err != nil {
		d.mode, d.express = Auto, nil
		return errors.Join(err, p.Close())
	}
	return nil
}

// attachLink puts the program on the device, in its mode.
func (d *Device) attachLink() error {
	o := link.XDPOptions{Program: d.objs.Capture, Interface: d.index, Flags: link.XDPDriverMode}
	if d.mode == Generic {
		o.Flags = link.XDPGenericMode
	}
	if d.express != nil {
		o.Program = d.express.objs.Express
	}
	l, err := link.AttachXDP(o)
	if err != nil {
		return err
	}
	d.link = l
	if d.express != nil {
		d.estate.keep(d.id, l)
	}
	return nil
}

// Inherited tells that the program of an earlier process runs still.
func (d *Device) Inherited() bool { return d.former != nil }

// TakeOver replaces the program of an earlier process by ours, in one step.
func (d *Device) TakeOver() error {
	if d.former == nil {
		return nil
	}
	if err := d.link.Update(d.express.objs.Express); err != nil {
		return fmt.Errorf("replace express program of %s: %w", d.name, err)
	}
	d.lost += sumCounter(d.former.lost)
	err := d.former.close()
	d.former = nil
	return err
}

// Mend looks whether the device's program is on it, and puts it there if somebody took it
// away; mended says so.
func (d *Device) Mend() (mended bool, err error) {
	info, err := d.link.Info()
	if err != nil {
		return false, fmt.Errorf("look after program of %s: %w", d.name, err)
	}
	if x := info.XDP(); x != nil && int(x.Ifindex) == d.index {
		return false, nil
	}
	if nic, err := net.InterfaceByIndex(d.index); err != nil || nic.Name != d.name {
		return false, nil // the device is gone: that is told otherwise
	}
	dead := d.link
	if err := d.attachLink(); err != nil {
		return false, fmt.Errorf("XDP program of %s was detached by somebody and can't be attached again: %w", d.name, err)
	}
	if d.former != nil {
		err = d.former.close()
		d.former = nil
	}
	return true, errors.Join(err, dead.Close())
}

// Express is the express program of the device, nil if it runs the other one.
func (d *Device) Express() *ExpressPort { return d.express }

// sockets is the map from queues to sockets.
func (d *Device) sockets() *ebpf.Map {
	if d.express != nil {
		return d.express.objs.Sockets
	}
	return d.objs.Sockets
}

func newDevice(name string, o Options) (*Device, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	d := &Device{
		name: name, id: o.ID, index: nic.Index, mtu: nic.MTU, mac: nic.HardwareAddr,
		queues: o.Queues, ring: DefaultRing, estate: o.Estate, busy: o.BusyPoll, budget: o.BusyBudget,
	}
	if o.Ring != 0 {
		d.ring = uint32(o.Ring)
	}
	if d.ring < 16 || d.ring > 1<<16 || d.ring&(d.ring-1) != 0 {
		return nil, fmt.Errorf("ring of %d slots: want a power of two from 16 to 65,536", o.Ring)
	}
	if d.queues == 0 {
		if d.queues, err = netdev.Queues(name); err != nil {
			return nil, err
		}
	}
	if d.queues < 1 || d.queues > 1024 {
		return nil, fmt.Errorf("%d queues: want 1 to 1,024", d.queues)
	}
	d.tryZero = !o.NoZeroCopy
	return d, nil
}

func (d *Device) load() error {
	spec, err := loadCapture()
	if err != nil {
		return fmt.Errorf("read program: %w", err)
	}
	spec.Maps["sockets"].MaxEntries = uint32(d.queues)
	err = spec.LoadAndAssign(&d.objs, nil)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.18
		noFrags(spec)
		err = spec.LoadAndAssign(&d.objs, nil)
	}
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	return nil
}

// noFrags makes programs that see no frames of several buffers.
func noFrags(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		p.Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	}
}

func (d *Device) attach(want Mode) error {
	try := func(m Mode) error {
		d.mode = m
		return d.attachLink()
	}
	if want == Generic {
		d.reason = "generic mode asked for"
	} else {
		err := try(Native)
		if err == nil {
			return nil
		}
		if want == Native {
			return fmt.Errorf("native mode: %w", err)
		}
		d.reason = fmt.Sprintf("driver refuses native mode: %v", err)
	}
	d.tryZero = false
	if err := try(Generic); err != nil {
		return fmt.Errorf("generic mode: %w", err)
	}
	return nil
}

// openQueue opens the queue's socket, puts it into the map and stocks it.
func (d *Device) openQueue(u *Umem, index int) (*queue, error) {
	if index < 0 || index >= d.queues {
		return nil, fmt.Errorf("queue %d of %d", index, d.queues)
	}
	if u.mem == nil {
		return nil, errors.New("umem is closed")
	}
	// In another namespace the index may be some other device's.
	if nic, err := net.InterfaceByIndex(d.index); err != nil || nic.Name != d.name {
		return nil, fmt.Errorf("device %d is not here: the thread is in another network namespace, or the device is gone", d.index)
	}
	q := &queue{u: u, id: d.id, index: index, size: d.ring, fd: -1, busy: d.busy, budget: d.budget}
	if d.tryZero {
		if err := q.open(d.index, true); err == nil {
			q.zeroCopy = true
		} else {
			// The driver's answer is the same for all queues.
			d.tryZero = false
			d.reason = fmt.Sprintf("no zero copy: %v", err)
		}
	}
	if !q.zeroCopy {
		if err := q.open(d.index, false); err != nil {
			return nil, err
		}
	}
	if err := u.join(q); err != nil {
		q.closeSocket()
		return nil, err
	}
	g := groupOf(q.zeroCopy)
	u.group[g] = append(u.group[g], q.fd)
	q.restock()
	if q.busyErr != nil {
		d.reason = fmt.Sprintf("no busy polling: %v", q.busyErr)
	}
	if u.noSG != nil {
		d.reason = fmt.Sprintf("frames above %d bytes are lost: %v", u.pool.Room(), u.noSG)
	}
	if err := d.sockets().Update(uint32(index), uint32(q.fd), ebpf.UpdateAny); err != nil {
		q.close()
		return nil, fmt.Errorf("enter queue %d into the map: %w", index, err)
	}
	if d.former != nil { // frames for us go there until its program is replaced
		if err := d.former.sockets.Update(uint32(index), uint32(q.fd), ebpf.UpdateAny); err != nil {
			q.close()
			return nil, fmt.Errorf("enter queue %d into the map of an earlier process: %w", index, err)
		}
	}
	return q, nil
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Index is the device's interface index.
func (d *Device) Index() int { return d.index }

// ID is the port's number.
func (d *Device) ID() fib.PortID { return d.id }

// MTU is the device's MTU when it was attached, in bytes.
func (d *Device) MTU() int { return d.mtu }

// MAC is the device's address when it was attached.
func (d *Device) MAC() net.HardwareAddr { return d.mac }

// Queues tells how many queues the device has.
func (d *Device) Queues() int { return d.queues }

// Mode tells how the program is attached: Native or Generic.
func (d *Device) Mode() Mode { return d.mode }

// Reason says why the mode is not the best one; empty if it is.
func (d *Device) Reason() string { return d.reason }

// NoSocket counts the frames dropped because their queue had no socket.
func (d *Device) NoSocket() uint64 {
	if d.former != nil {
		return d.lost + sumCounter(d.former.lost)
	}
	if d.express != nil {
		return d.lost + d.express.NoSocket()
	}
	return d.lost + sumCounter(d.objs.NoSocket)
}

// Close gives the device back to the kernel. Ports are closed by their workers,
// before; what they still receive ends here.
func (d *Device) Close() error {
	if d.express == nil {
		return errors.Join(d.link.Close(), d.objs.Close())
	}
	return errors.Join(d.estate.end(d.id, d.link), d.closeExpress())
}

func (d *Device) closeExpress() error {
	err := d.express.Close()
	if d.former != nil {
		err = errors.Join(err, d.former.close())
		d.former = nil
	}
	return err
}
