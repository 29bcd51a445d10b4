// Package express keeps the flat form of what forwarding needs beside the lookup
// tables: next-hop groups, adjacencies, interfaces and own addresses as arrays of
// fixed-size integers, in memory that the express path's XDP program reads
// (dataplane/xdp/bpf/express.c has the same structures).
//
//	control goroutine                        XDP program, each packet
//
//	ip.Groups ──────▶ Group ┐                  Port.VLAN ─▶ Interface
//	neigh.Table ───▶ Rewrite ├─▶ State  ───▶   tables ─▶ Group ─▶ Bucket ─▶ Adjacency ─▶ Rewrite
//	ethernet.Table ▶ Interface┘                Filter ─▶ own addresses
//	fib/compiled ─▶ Segments
//
// # Safety at any instant
//
// Words are stored atomically. A word that leads to something (a group, bucket, adjacency,
// VLAN) holds its number; 0 leads to AF_XDP, which knows. What a word leads to is
// complete before the word is stored and does not change while the word can be held:
// a change makes a new one, stores the word, and reuses the old one after a grace period, when all
// program runs that began before have ended (Grace). So a packet sees each thing as it was or as it is.
// Only two things are changed in place: Used, a mark that the program sets, and the bits of Filter,
// which are set before an address is entered and cleared after it is gone.
//
// What does not fit (more groups, neighbours or interfaces than there is room for) is left at 0.
//
// All methods of Tables are the control goroutine's. Grace runs on one of its own.
package express

// Sizes of the arrays, as in express.c.
const (
	Groups       = 1 << 17
	Buckets      = 1 << 20
	Adjacencies  = 1 << 17
	Interfaces   = 1 << 13
	VLANs        = 4096
	Devices      = 1024
	filterWords  = 1024
	SegmentWords = 1 << 20
	Segments     = 128
)

// Kinds of groups, in bits 32-39 of a group's word.
const (
	groupNone = iota
	groupAdjacency
	groupBuckets
	groupGlean
	groupBlackhole
)

// Rewrite is what sending to a resolved neighbour takes.
type Rewrite struct {
	Port  uint32 // slot
	Slot  uint32 // of the interface
	Limit uint32 // bytes of the largest IP packet
	Tag   [2]byte
	MAC   [12]byte // destination and source
	_     [6]byte
}

// Interface is what receiving on an interface takes.
type Interface struct {
	Slot, VRF, Hash uint32
	Sample          uint32 // one of so many is sampled; 0: none
	MAC             [6]byte
	_               [10]byte
}

// Layout is the first thing to look at in the state of another process: an upgrade may
// have other sizes. The second half counts the layouts.
const Layout = layoutMagic<<32 | 1

const layoutMagic = 0x67775850 // "gwXP"

// SameRouter tells that a state of the given layout was made by some version of this package.
func SameRouter(layout uint64) bool { return layout>>32 == layoutMagic }

// State is what all ports share.
type State struct {
	Seed      uint64
	Layout    uint64
	_         [6]uint64
	Filter    [filterWords]uint64
	Group     [Groups]uint64
	Bucket    [Buckets]uint32
	Adjacency [Adjacencies]uint32
	Used      [Adjacencies]uint32
	Rewrite   [Adjacencies]Rewrite
	Interface [Interfaces]Interface
}

// Port is a port's own.
type Port struct {
	On   uint32
	_    [15]uint32
	VLAN [VLANs]uint32
}

// Address is a key of the kernel's tables of neighbours (Scope is the interface) and own addresses
// (Scope is the VRF). IPv4 is in mapped form.
type Address struct {
	Scope, _ uint32
	Hi, Lo   uint64
}

// Kernel is the maps that are no memory. Failures leave packets to AF_XDP.
type Kernel interface {
	SetNeighbor(a Address, adjacency uint32) error
	DeleteNeighbor(a Address) error
	SetLocal(a Address) error
	DeleteLocal(a Address) error
	// Segment is the memory of a segment of the lookup tables, made when it is first asked for; nil if
	// there is none to be had.
	Segment(n int) []uint32
}
