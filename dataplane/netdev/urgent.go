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

// Cores are the processor cores that a thread may run on; 0 is the calling thread.
func Cores(tid int) (list []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(tid, &set) != nil {
		return nil
	}
	for c := range len(set) * 64 {
		if set.IsSet(c) {
			list = append(list, c)
		}
	}
	return list
}

// UrgentNow tells that the calling thread is urgent.
func UrgentNow() bool {
	attr, err := unix.SchedGetAttr(0, 0)
	return err == nil && attr.Policy == unix.SCHED_FIFO
}

// SwapThreads exchanges what the scheduler knows of two threads: cores and, if a is
// urgent, policy and priority. If it is not, then others have made it what it is now.
func SwapThreads(a, b int) error {
	var cores [2]unix.CPUSet
	var attrs [2]*unix.SchedAttr
	for i, tid := range []int{a, b} {
		var err error
		if attrs[i], err = unix.SchedGetAttr(tid, 0); err != nil {
			return fmt.Errorf("read thread's urgency: %w", err)
		}
		if err := unix.SchedGetaffinity(tid, &cores[i]); err != nil {
			return fmt.Errorf("read thread's cores: %w", err)
		}
	}
	for i, tid := range []int{b, a} {
		if err := unix.SchedSetaffinity(tid, &cores[i]); err != nil {
			return fmt.Errorf("set thread's cores: %w", err)
		}
		if attrs[0].Policy != unix.SCHED_FIFO {
			continue
		}
		if err := unix.SchedSetAttr(tid, attrs[i], 0); err != nil {
			return fmt.Errorf("set thread's urgency: %w", err)
		}
	}
	return nil
}
