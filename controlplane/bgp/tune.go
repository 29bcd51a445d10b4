package bgp

import (
	"os"
	"runtime/debug"
)

// Tune sets the garbage collector for a process that holds a BGP table: a
// collection walks the whole table, and GoBGP makes garbage of the table's size
// several times while it is learned. GOGC and GOMEMLIMIT override it.
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

const (
	gcPercent   = 300
	memoryLimit = 3 << 30 // bytes; soft: above it, collections come more often
)
