package bgp

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tuner sets the garbage collector of a process that holds a BGP table. While a
// table is learned, GoBGP makes garbage of several times its size, and each
// collection walks what is there already: half of the processor time of a full
// table. So collections wait, within bounds, until the table is in; then the
// memory goes back to the system.
type Tuner struct {
	limit   uint64 // bytes of heap before the first collection of a bulk load
	bulk    bool
	entered time.Time
	spread  bool // spreadHeap was called
}

// Bounds of a bulk load's heap, in bytes: a quarter of the memory that is free
// when the process starts, within these. A full IPv4 table makes some 3 GiB in all.
const (
	minBulk = 256 << 20
	maxBulk = 6 << 30
)

// bulkQuiet without a change ends a bulk load.
const bulkQuiet = 3 * time.Second

// NewTuner makes the tuner of this process; nil if GOGC or GOMEMLIMIT say what
// to do.
func NewTuner() *Tuner {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	return &Tuner{limit: min(max(availableMemory()/4, minBulk), maxBulk)}
}

// begin begins a bulk load.
func (t *Tuner) begin(now time.Time) {
	if t == nil {
		return
	}
	t.entered = now
	if !t.bulk {
		t.bulk = true
		debug.SetGCPercent(-1)
		t.spreadHeap()
		debug.SetMemoryLimit(int64(t.limit))
	}
}

// spreadHeap asks the kernel, once, for huge pages where the heap of a bulk load
// will be: otherwise each 4 KiB of it cost a page fault, and each step of a walk
// through the table a miss of the TLB. The runtime finds addresses for a slice,
// which nobody touches, and uses them again for what comes. Where there are no
// huge pages, nothing changes.
func (t *Tuner) spreadHeap() {
	if t.spread {
		return
	}
	t.spread = true
	// Less than the limit: what is free counts against it.
	ballast := make([]byte, t.limit/4*3)
	_ = unix.Madvise(ballast, unix.MADV_HUGEPAGE) // refused where there are none
	runtime.KeepAlive(ballast)
	ballast = nil
	runtime.GC()
}

// tick ends the bulk load when nothing has changed for a while, or what is
// really in use fills half of the bound, so that collections would follow each
// other closely. It tells whether memory should go back to the system.
func (t *Tuner) tick(now, lastChange time.Time) bool {
	if t == nil || !t.bulk {
		return false
	}
	quiet := now.Sub(t.entered) >= bulkQuiet && now.Sub(lastChange) >= bulkQuiet
	if !quiet && liveHeap() < t.limit/2 {
		return false
	}
	t.bulk = false
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(math.MaxInt64)
	return quiet
}

// liveHeap is what the last collection found in use, in bytes.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

// availableMemory is MemAvailable in bytes, 0 if unknown.
func availableMemory() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), "MemAvailable:"); ok {
			var kb uint64
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
