package netdev

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// UrgentThread makes the calling thread, to which its goroutine is locked, run
// before all ordinary ones (SCHED_FIFO at WorkerPriority; needs CAP_SYS_NICE).
// It is for forwarding workers:
//
// A worker often shares a core with the NAPI thread or softirq that feeds it.
// As equals, that one goes on receiving when the worker's ring is full, and
// under overload the core's time goes into frames that are thrown away. With the
// worker first, frames that are too many are lost before they cost anything.
// A worker sleeps when it has no packet, and the kernel reserves 5 % of a core
// for ordinary threads.
func UrgentThread() error { return Urgent(0, WorkerPriority) }

// Real-time priorities. NAPI threads are ordinary, unless an administrator
// makes them urgent too; a worker must be above them.
const (
	NAPIPriority   = 1
	WorkerPriority = 2
)

// Urgent makes a thread run before all of lower priorities; 0 is the calling thread.
func Urgent(tid int, priority uint32) error {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}
	if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
		return fmt.Errorf("make thread urgent: %w", err)
	}
	return nil
}
