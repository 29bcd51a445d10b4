package worker

import (
	"fmt"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
)

// SetUrgent makes the worker's thread run before all ordinary ones (see
// netdev.UrgentThread), or makes it ordinary again. The worker runs. Leave a core to the rest
// of the machine: urgent workers that are busy on all cores starve routing.
func (w *Worker) SetUrgent(on bool) (err error) {
	w.Do(func() {
		if w.urgent == on {
			return
		}
		if on {
			err = netdev.UrgentThread()
		} else {
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
			if e := unix.SchedSetAttr(0, &attr, 0); e != nil {
				err = fmt.Errorf("make thread ordinary: %w", e)
			}
		}
		if err == nil {
			w.urgent = on
		}
	})
	return err
}
