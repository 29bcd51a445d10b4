package neigh

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"godwit/dataplane/header"
	"godwit/fib"
)

// Key names a neighbour: the interface and the address in 16-byte form.
type Key struct {
	Interface fib.InterfaceID
	Hi, Lo    uint64
}

const mapped = 0xffff << 32 // ::ffff:0:0/96

// Key4 is the key of an IPv4 neighbour.
func Key4(i fib.InterfaceID, addr uint32) Key { return Key{i, 0, mapped | uint64(addr)} }

// KeyOf is the key of an address without a zone.
func KeyOf(i fib.InterfaceID, a netip.Addr) Key { return Key16(i, a.As16()) }

// Key16 is the key of an address in 16-byte form.
func Key16(i fib.InterfaceID, b [16]byte) Key {
	return Key{i, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// As16 is the address in 16-byte form.
func (k Key) As16() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], k.Hi)
	binary.BigEndian.PutUint64(b[8:], k.Lo)
	return b
}

// Addr is the neighbour's address.
func (k Key) Addr() netip.Addr { return netip.AddrFrom16(k.As16()).Unmap() }

func (k Key) hash() uint64 {
	h := (k.Hi ^ uint64(k.Interface)<<32 ^ k.Lo*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// Mode tells a worker what to do while there is no Rewrite.
type Mode uint32

// The modes.
const (
	Ask    Mode = iota // punt: the slow path resolves and queues
	Hold               // drop: the neighbour's queue is full
	Failed             // drop and report: resolution failed a moment ago
	Down               // drop: the interface is down or unknown
)

// Rewrite is all that sending to a resolved neighbour takes. Immutable.
type Rewrite struct {
	IP4, IP6 [header.EthernetLen + header.VLANLen]byte // link-layer header for each EtherType
	Len      int                                       // 14, or 18 with a tag
	MTU      int                                       // of the IP packet, bytes
	PortSlot uint16
	Slot     uint16 // of the interface
}

// Adjacency is one neighbour as workers see it. The control goroutine
// writes; a worker may hold on to it for a vector's time, even if the
// neighbour is gone by then.
type Adjacency struct {
	Key
	rewrite atomic.Pointer[Rewrite]
	mode    atomic.Uint32
	used    atomic.Uint32
	express *uint32 // the express path's mark of use; the control goroutine's
	dead    bool    // the control goroutine's
	cut     bool    // as SetPath says; the control goroutine's
}

// Rewrite is the header to send with; nil if the neighbour is not resolved.
func (a *Adjacency) Rewrite() *Rewrite { return a.rewrite.Load() }

// Mode tells what to do without a Rewrite.
func (a *Adjacency) Mode() Mode { return Mode(a.mode.Load()) }

// Dead tells the control goroutine that the neighbour can't be reached: its interface
// is down, it has not answered, or the path has failed. One that was never asked is not dead.
func (a *Adjacency) Dead() bool { return a.dead || a.cut }

// Use notes that packets go this way: such a neighbour is probed when it grows
// old, and an unused one is forgotten.
func (a *Adjacency) Use() {
	if a.used.Load() == 0 {
		a.used.Store(1)
	}
}

// SetExpress names another mark of use, or none. The control goroutine calls it.
func (a *Adjacency) SetExpress(mark *uint32) { a.express = mark }

func (a *Adjacency) inUse() bool {
	return a.used.Load() != 0 || a.express != nil && atomic.LoadUint32(a.express) != 0
}

func (a *Adjacency) takeUsed() bool {
	if !a.inUse() {
		return false
	}
	a.used.Store(0)
	if a.express != nil {
		atomic.StoreUint32(a.express, 0)
	}
	return true
}
