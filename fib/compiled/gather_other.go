//go:build !amd64

package compiled

import "unsafe"

func haveGathers() bool { return false }

// gather4 is not called where haveGathers is false.
func gather4(unsafe.Pointer, uint32, uint32, *uint32, *uint32, int) uint64 { return ^uint64(0) }

// gather6 is not called where haveGathers is false.
func gather6(unsafe.Pointer, uint32, uint32, *[wide][2]uint64, *[wide]uint32) uint64 {
	return ^uint64(0)
}
