package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"godwit/dataplane/express"
	"godwit/fib"
)

// Keeper holds descriptors for the card's next process (cluster/fdstore).
type Keeper interface {
	Keep(name string, fd int) error
	Drop(name string) error
}

// Estate is the links of express programs that survive a process: those that it makes are
// given to the keeper, those that an earlier one left are taken over. All else
// hangs on a link: its program, and by that the maps.
//
//	Attach      the earlier process's program goes on; frames for AF_XDP go to the new sockets
//	TakeOver    the link's program is replaced in one step: no frame is between
//
// What is not as expected is not believed: the link's program is replaced at once, or, where the link
// itself is foreign, it is given up and a new one made. Each of that is logged.
//
// Any goroutine may use it.
type Estate struct {
	keeper Keeper // nil: nothing is kept
	log    *slog.Logger

	mu    sync.Mutex
	links map[string]link.Link // left by an earlier process, by name
	read  map[ebpf.MapID]bool  // states that neighbours were read from
	found []express.Neighbor
}

// NewEstate takes the descriptors that the keeper has; they are the estate's from now on.
func NewEstate(k Keeper, kept map[string]int, log *slog.Logger) *Estate {
	e := &Estate{keeper: k, log: log, links: make(map[string]link.Link), read: make(map[ebpf.MapID]bool)}
	for name, fd := range kept {
		if !strings.HasPrefix(name, linkPrefix) {
			e.log.Warn("a descriptor that was kept is none of this card's", "name", name)
			e.forget(name)
			_ = unix.Close(fd)
			continue
		}
		l, err := link.NewFromFD(fd)
		if err != nil {
			e.log.Warn("a descriptor that was kept is no link", "name", name, "error", err)
			e.forget(name)
			_ = unix.Close(fd)
			continue
		}
		e.links[name] = l
	}
	return e
}

const linkPrefix = "xdp/"

func linkName(id fib.PortID) string { return fmt.Sprintf("%s%08x", linkPrefix, uint32(id)) }

// Left tells how many links wait to be taken over.
func (e *Estate) Left() int {
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.links)
}

// Neighbors are those that the states of adopted programs had; they are told once.
func (e *Estate) Neighbors() []express.Neighbor {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.found
	e.found = nil
	return list
}

// keep gives a link to the keeper; without one it ends with the process.
func (e *Estate) keep(id fib.PortID, l link.Link) {
	if e == nil || e.keeper == nil {
		return
	}
	fd, ok := l.(interface{ FD() int })
	if !ok {
		e.log.Warn("link can't be kept for the next process", "port", linkName(id))
		return
	}
	if err := e.keeper.Keep(linkName(id), fd.FD()); err != nil {
		e.log.Warn("link is not kept for the next process", "port", linkName(id), "error", err)
	}
}

func (e *Estate) forget(name string) {
	if e.keeper == nil {
		return
	}
	if err := e.keeper.Drop(name); err != nil {
		e.log.Warn("let go of a link", "name", name, "error", err)
	}
}

// end takes a program from its device, whoever else holds the link.
func (e *Estate) end(id fib.PortID, l link.Link) error {
	if e != nil && e.keeper != nil {
		if err := e.keeper.Drop(linkName(id)); err != nil {
			// The kernel's enforcement may not allow it; then the link ends with the keeper.
			if err2 := l.Detach(); err2 != nil {
				return errors.Join(err, err2, l.Close())
			}
		}
	}
	return l.Close()
}

// Retain ends the programs of all ports but those listed. Devices that were attached are
// not concerned.
func (e *Estate) Retain(ids []fib.PortID) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, l := range e.links {
		if !slices.ContainsFunc(ids, func(id fib.PortID) bool { return linkName(id) == name }) {
			e.log.Info("express program of a port that is not configured any more ends", "port", name)
			delete(e.links, name)
			e.forget(name)
			if err := l.Close(); err != nil {
				e.log.Warn("end express program", "port", name, "error", err)
			}
		}
	}
}

// discard ends the program that an earlier process left on a port.
func (e *Estate) discard(id fib.PortID) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.links[linkName(id)]
	if l == nil {
		return
	}
	delete(e.links, linkName(id))
	if err := e.end(id, l); err != nil {
		e.log.Warn("end express program", "port", linkName(id), "error", err)
	}
}

// Close leaves what was not taken over to the next process.
func (e *Estate) Close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for name, l := range e.links {
		errs = append(errs, l.Close())
		delete(e.links, name)
	}
	return errors.Join(errs...)
}

// former is the program that an earlier process has left on a device.
type former struct {
	sockets, lost *ebpf.Map
}

func (f *former) close() error { return errors.Join(f.sockets.Close(), f.lost.Close()) }

// take finds the link that an earlier process left on a port's device. was is nil if its program
// can't go on.
func (e *Estate) take(id fib.PortID, device, queues int) (l link.Link, was *former) {
	if e == nil {
		return nil, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	name := linkName(id)
	l = e.links[name]
	if l == nil {
		return nil, nil
	}
	delete(e.links, name)
	program, err := programOf(l, device)
	if err != nil {
		e.log.Warn("link of an earlier process is given up, a new one is made", "port", name, "reason", err)
		if err := e.end(id, l); err != nil {
			e.log.Warn("end express program", "port", name, "error", err)
		}
		return nil, nil
	}
	defer program.Close()
	was, err = e.adopt(program, queues)
	if err != nil {
		e.log.Warn("express program of an earlier process is replaced at once, its maps are made anew", "port", name, "reason", err)
		return l, nil
	}
	e.log.Info("express program of an earlier process goes on", "port", name)
	return l, was
}

// programOf is the program of a link on the device.
func programOf(l link.Link, device int) (*ebpf.Program, error) {
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	x := info.XDP()
	switch {
	case x == nil:
		return nil, fmt.Errorf("it is of type %v", info.Type)
	case x.Ifindex == 0:
		return nil, errors.New("it was detached, or its device is gone")
	case int(x.Ifindex) != device:
		return nil, fmt.Errorf("it is on device %d, not %d", x.Ifindex, device)
	}
	return ebpf.NewProgramFromID(info.Program)
}

// adopt checks a program and its maps, and reads the neighbours.
func (e *Estate) adopt(program *ebpf.Program, queues int) (*former, error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	if info.Name != "express" || info.Type != ebpf.XDP {
		return nil, fmt.Errorf("program %q of type %v is foreign", info.Name, info.Type)
	}
	ids, _ := info.MapIDs()
	maps := make(map[string]*ebpf.Map)
	defer func() {
		for _, m := range maps {
			m.Close()
		}
	}()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		i, err := m.Info()
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		maps[i.Name] = m
	}
	s, lost := maps["sockets"], maps["no_socket"]
	switch {
	case s == nil || s.Type() != ebpf.XSKMap || lost == nil || lost.Type() != ebpf.PerCPUArray || lost.ValueSize() != 8:
		return nil, errors.New("its map of sockets is foreign")
	case int(s.MaxEntries()) != queues:
		return nil, fmt.Errorf("it is for %d queues, the device has %d", s.MaxEntries(), queues)
	}
	if err := e.readState(maps["state"], maps["neighbors"]); err != nil {
		return nil, err
	}
	delete(maps, "sockets")
	delete(maps, "no_socket")
	return &former{s, lost}, nil
}

// readState looks whether a state is one of ours; if it has our layout, its neighbours are read.
func (e *Estate) readState(state, neighbors *ebpf.Map) error {
	if state == nil || neighbors == nil {
		return errors.New("it has no state")
	}
	var layout uint64
	info, err := state.Info()
	if err != nil {
		return err
	}
	id, ok := info.ID()
	if ok && e.read[id] {
		return nil
	}
	size := int(state.ValueSize())
	if state.Type() != ebpf.Array || size < 64 {
		return fmt.Errorf("state of type %v, %d bytes, is foreign", state.Type(), size)
	}
	mem, err := mapMemory(state, size)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	layout = *(*uint64)(unsafe.Pointer(&mem[unsafe.Offsetof(express.State{}.Layout)]))
	switch {
	case !express.SameRouter(layout):
		return fmt.Errorf("state is damaged: layout %#x", layout)
	case layout != express.Layout:
		e.log.Info("express program of another version goes on", "layout", fmt.Sprintf("%#x", layout))
		return nil
	case size != int(unsafe.Sizeof(express.State{})) || neighbors.Type() != ebpf.Hash || neighbors.KeySize() != uint32(unsafe.Sizeof(express.Address{})) || neighbors.ValueSize() != 4:
		return errors.New("state is damaged: sizes do not go with its layout")
	}
	e.read[id] = true
	return e.readNeighbors((*express.State)(unsafe.Pointer(&mem[0])), neighbors)
}

func (e *Estate) readNeighbors(st *express.State, m *ebpf.Map) error {
	var a express.Address
	var adjacency uint32
	bad := 0
	for it := m.Iterate(); it.Next(&a, &adjacency); {
		if n, ok := st.Neighbor(a, adjacency); ok {
			e.found = append(e.found, n)
		} else {
			bad++
		}
	}
	e.log.Info("neighbours of an earlier process", "neighbors", len(e.found), "unresolved", bad)
	return nil // an iteration that was cut short has some, and the others are asked for
}
