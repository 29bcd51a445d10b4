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
