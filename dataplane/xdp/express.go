package xdp

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"godwit/dataplane/express"
)

// Express is the maps that the express programs of a card's ports share. Its
// methods are the control goroutine's, except Wait and the readers of counters.
type Express struct {
	spec     *ebpf.CollectionSpec
	shared   map[string]*ebpf.Map
	mem      []byte // of the state
	State    *express.State
	segments [express.Segments][]uint32
	failed   [express.Segments]bool
	samples  *ringbuf.Reader // nil: nobody has asked yet
	record   ringbuf.Record

	mu    sync.Mutex // orders Wait and Close
	fence *ebpf.Map  // an inner map: storing it again ends when running programs have
}

var _ express.Kernel = (*Express)(nil)

// portMaps belong to one port each.
var portMaps = []string{"port", "sockets", "no_socket"}

// NewExpress makes the maps, and checks that the kernel takes the program.
func NewExpress() (*Express, error) {
	spec, err := loadExpress()
	if err != nil {
		return nil, fmt.Errorf("read express program: %w", err)
	}
	x := &Express{spec: spec, shared: make(map[string]*ebpf.Map)}
	if err := x.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("make express path: %w", err), x.Close())
	}
	return x, nil
}

func (x *Express) open() error {
	own := make(map[string]bool)
	for _, name := range portMaps {
		own[name] = true
	}
	for name, m := range x.spec.Maps {
		if own[name] {
			continue
		}
		made, err := ebpf.NewMap(m)
		if err != nil {
			return fmt.Errorf("make map %s: %w", name, err)
		}
		x.shared[name] = made
	}
	mem, err := mapMemory(x.shared["state"], int(unsafe.Sizeof(express.State{})))
	if err != nil {
		return err
	}
	x.mem, x.State = mem, (*express.State)(unsafe.Pointer(&mem[0]))
	if x.Segment(0) == nil { // the directory
		return errors.New("no memory for the lookup tables")
	}
	p, err := x.Load(1)
	if err != nil {
		return err
	}
	return p.Close()
}

// mapMemory maps a BPF map of one value of the given size.
func mapMemory(m *ebpf.Map, size int) ([]byte, error) {
	if int(m.ValueSize()) != size {
		return nil, fmt.Errorf("map %v: values of %d bytes, want %d", m, m.ValueSize(), size)
	}
	page := unix.Getpagesize()
	mem, err := unix.Mmap(m.FD(), 0, (size+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory of %v: %w", m, err)
	}
	return mem, nil
}

// Segment is the memory of a segment of the lookup tables.
func (x *Express) Segment(n int) []uint32 {
	if n < 0 || n >= express.Segments || x.failed[n] {
		return nil
	}
	if x.segments[n] == nil {
		if err := x.addSegment(n); err != nil {
			x.failed[n] = true
		}
	}
	return x.segments[n]
}

func (x *Express) addSegment(n int) error {
	m, err := ebpf.NewMap(x.spec.Maps["tables"].InnerMap)
	if err != nil {
		return err
	}
	mem, err := mapMemory(m, express.SegmentWords*4)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	if err := x.shared["tables"].Put(uint32(n), m); err != nil {
		return errors.Join(err, unix.Munmap(mem), m.Close())
	}
	x.segments[n] = unsafe.Slice((*uint32)(unsafe.Pointer(&mem[0])), express.SegmentWords)
	if n == 0 {
		x.fence = m
		return nil
	}
	return m.Close() // the outer map and the mapping hold it
}

// Bytes is the memory of the lookup tables' copy and of the state.
func (x *Express) Bytes() int {
	n := len(x.mem)
	for _, s := range x.segments {
		n += len(s) * 4
	}
	return n
}

// Wait returns when all programs that ran at the call have ended: the kernel
// promises that of a change to a map of maps. It takes milliseconds. Any goroutine.
func (x *Express) Wait() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fence == nil {
		return errors.New("express path is closed")
	}
	if err := x.shared["tables"].Put(uint32(0), x.fence); err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	return nil
}

// SetNeighbor enters a neighbour of a connected prefix.
func (x *Express) SetNeighbor(a express.Address, adjacency uint32) error {
	return x.shared["neighbors"].Put(a, adjacency)
}

// DeleteNeighbor removes one.
func (x *Express) DeleteNeighbor(a express.Address) error { return x.shared["neighbors"].Delete(a) }

// SetLocal enters an own address.
func (x *Express) SetLocal(a express.Address) error { return x.shared["locals"].Put(a, uint32(1)) }

// DeleteLocal removes one.
func (x *Express) DeleteLocal(a express.Address) error { return x.shared["locals"].Delete(a) }

// SetDevice lets frames be redirected to the device as port slot, 0: no more.
func (x *Express) SetDevice(slot uint16, index int) error {
	if slot >= express.Devices {
		return fmt.Errorf("port slot %d: at most %d", slot, express.Devices)
	}
	if index != 0 {
		return x.shared["devices"].Put(uint32(slot), uint32(index))
	}
	if err := x.shared["devices"].Delete(uint32(slot)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// Traffic is what express programs counted for an interface.
type Traffic struct{ RxPackets, RxBytes, TxPackets, TxBytes, Drops uint64 }

// Traffic sums over the cores. Any goroutine.
func (x *Express) Traffic(slot uint16) (sum Traffic) {
	var list []Traffic
	if slot >= express.Interfaces || x.shared["counters"].Lookup(uint32(slot), &list) != nil {
		return sum
	}
	for _, t := range list {
		sum.RxPackets += t.RxPackets
		sum.RxBytes += t.RxBytes
		sum.TxPackets += t.TxPackets
		sum.TxBytes += t.TxBytes
		sum.Drops += t.Drops
	}
	return sum
}

// Count is packets and bytes.
type Count struct{ Packets, Bytes uint64 }

// Routed is how much went by a group since the maps were made. Any goroutine.
func (x *Express) Routed(group uint32) (n Count) {
	var list []Count
	if group >= express.Groups || x.shared["routed"].Lookup(group, &list) != nil {
		return n
	}
	for _, t := range list {
		n.Packets += t.Packets
		n.Bytes += t.Bytes
	}
	return n
}

// Blackholed counts the packets that met a blackhole route. Any goroutine.
func (x *Express) Blackholed() (ip4, ip6 uint64) {
	var sum [2]uint64
	for i := range sum {
		var list []uint64
		if x.shared["drops"].Lookup(uint32(i), &list) != nil {
			continue
		}
		for _, n := range list {
			sum[i] += n
		}
	}
	return sum[0], sum[1]
}

// Close gives everything back. The ports are closed, and Wait is not called any more.
func (x *Express) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	if x.samples != nil {
		errs = append(errs, x.samples.Close())
		x.samples = nil
	}
	if x.mem != nil {
		errs = append(errs, unix.Munmap(x.mem))
		x.mem, x.State = nil, nil
	}
	for i, s := range x.segments {
		if s != nil {
			errs = append(errs, unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*4)))
			x.segments[i] = nil
		}
	}
	if x.fence != nil {
		errs = append(errs, x.fence.Close())
		x.fence = nil
	}
	for _, m := range x.shared {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// ExpressPort is the program of one port and its own maps.
type ExpressPort struct {
	objs expressObjects
	mem  []byte
	Port *express.Port
}

// Load makes the program of a port with so many queues.
func (x *Express) Load(queues int) (*ExpressPort, error) {
	spec := x.spec.Copy()
	spec.Maps["sockets"].MaxEntries = uint32(queues)
	p := &ExpressPort{}
	if err := spec.LoadAndAssign(&p.objs, &ebpf.CollectionOptions{MapReplacements: x.shared}); err != nil {
		return nil, fmt.Errorf("load express program: %w", err)
	}
	mem, err := mapMemory(p.objs.Port, int(unsafe.Sizeof(express.Port{})))
	if err != nil {
		return nil, errors.Join(err, p.objs.Close())
	}
	p.mem, p.Port = mem, (*express.Port)(unsafe.Pointer(&mem[0]))
	return p, nil
}

// Close ends it. It is not attached any more.
func (p *ExpressPort) Close() error {
	var err error
	if p.mem != nil {
		err = unix.Munmap(p.mem)
		p.mem, p.Port = nil, nil
	}
	return errors.Join(err, p.objs.Close())
}

// XDP verdicts.
const (
	VerdictDrop     = 1
	VerdictRedirect = 4
)

// Test runs the program once on a frame: the verdict, and the frame as it is then.
// A frame for AF_XDP is redirected to a socket, or dropped if its queue has none.
func (p *ExpressPort) Test(frame []byte) (verdict uint32, out []byte, err error) {
	out = make([]byte, len(frame)+64)
	o := ebpf.RunOptions{Data: frame, DataOut: out}
	if verdict, err = p.objs.Express.Run(&o); err != nil {
		return 0, nil, fmt.Errorf("run express program: %w", err)
	}
	return verdict, o.DataOut, nil
}

// Time runs the program n times on a frame and tells how long one run took. Each run
// counts the TTL down: n is less than it.
func (p *ExpressPort) Time(frame []byte, n uint32) (time.Duration, error) {
	_, d, err := p.objs.Express.Benchmark(frame, int(n), nil)
	if err != nil {
		return 0, fmt.Errorf("time express program: %w", err)
	}
	return d, nil
}

// NoSocket counts the frames dropped because their queue had no socket.
func (p *ExpressPort) NoSocket() uint64 { return sumCounter(p.objs.NoSocket) }

func sumCounter(m *ebpf.Map) (total uint64) {
	var perCPU []uint64
	if m.Lookup(uint32(0), &perCPU) != nil {
		return 0
	}
	for _, n := range perCPU {
		total += n
	}
	return total
}
