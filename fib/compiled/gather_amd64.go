package compiled

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// haveGathers tells whether processor and system have what gather4 and gather6
// need: AVX-512 with its short vectors (servers since 2017, AMD since 2022).
func haveGathers() bool { return cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL }

// gather4 looks n addresses up, 1 to 64, in the table with this root of 16
// bits. Bits of odd are set for those that need more than one step behind it:
// their groups are undefined.
//
//go:noescape
func gather4(base unsafe.Pointer, root, def uint32, addrs, groups *uint32, n int) (odd uint64)

// gather6 looks 32 addresses up in the table with this root of 16 bits. Bits of
// odd are set for those that need the lower half of the address.
//
//go:noescape
func gather6(base unsafe.Pointer, root, def uint32, addrs *[wide][2]uint64, groups *[wide]uint32) (odd uint64)
