package netdev

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUrgentThread(t *testing.T) {
	done := make(chan *unix.SchedAttr, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := UrgentThread(); err != nil {
			t.Error(err)
		}
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
		}
		done <- attr
	}()
	if a := <-done; a != nil && (a.Policy != unix.SCHED_FIFO || a.Priority != WorkerPriority) {
		t.Errorf("policy %d, priority %d", a.Policy, a.Priority)
	}
	if err := Urgent(0, 1000); err == nil {
		t.Error("priority 1000 accepted")
	}
}

func TestSwapThreads(t *testing.T) {
	// Threads of the runtime are not touched: both end with their goroutines.
	type thread struct {
		tid  int
		core int
	}
	threads := make(chan thread)
	end := make(chan struct{})
	defer close(end)
	cores := []int{0, runtime.NumCPU() - 1}
	for _, c := range cores {
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(c)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Error(err)
			}
			threads <- thread{unix.Gettid(), c}
			<-end
		}()
	}
	a, b := <-threads, <-threads
	if err := Urgent(a.tid, NAPIPriority); err != nil {
		t.Fatal(err)
	}
	if err := SwapThreads(a.tid, b.tid); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		tid, core        int
		policy, priority uint32
	}{{a.tid, b.core, unix.SCHED_NORMAL, 0}, {b.tid, a.core, unix.SCHED_FIFO, NAPIPriority}} {
		attr, err := unix.SchedGetAttr(want.tid, 0)
		if err != nil {
			t.Fatal(err)
		}
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(want.tid, &set); err != nil {
			t.Fatal(err)
		}
		if attr.Policy != want.policy || attr.Priority != want.priority || set.Count() != 1 || !set.IsSet(want.core) {
			t.Errorf("policy %d, priority %d, cores %v; want %+v", attr.Policy, attr.Priority, set, want)
		}
	}
	if err := SwapThreads(a.tid, -1); err == nil {
		t.Error("swapped with no thread")
	}
}
