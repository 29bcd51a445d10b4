package linecard

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"godwit/cluster/wire"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp"
	"godwit/event"
	"godwit/fib"
)

// changes runs what takes the kernel long (a first configuration, a port that
// comes) one after the other, as a task that waits for the kernel elsewhere: the
// loop goes on meanwhile.
type changes struct {
	jobs    []func(*event.Task)
	running bool
	work    sync.WaitGroup // what was begun elsewhere; Close waits for it
	flight  *attached      // a port that is being opened or closed: the job's alone, and Close's
}

// stretch is for how long a job may keep the loop before others have their turn.
const stretch = 2 * time.Millisecond

// change queues a job.
func (a *Agent) change(job func(*event.Task)) {
	a.changes.jobs = append(a.changes.jobs, job)
	a.runChanges()
}

// runChanges starts the task that runs the jobs. If the loop is full the next
// tick does it.
func (a *Agent) runChanges() {
	c := &a.changes
	if c.running || len(c.jobs) == 0 {
		return
	}
	c.running = a.requests.Go(func(t *event.Task) {
		for len(c.jobs) > 0 {
			job := c.jobs[0]
			c.jobs = c.jobs[1:]
			job(t)
			if t.Yield() != nil {
				return // the loop has ended
			}
		}
		c.running = false
	}) == nil
}

// await waits for work, which touches nothing of the loop's. When the loop ends
// meanwhile the work is done or never begins.
func (a *Agent) await(t *event.Task, work func() error) error {
	a.changes.work.Add(1)
	var begun atomic.Bool
	err := t.Await(func() error {
		if !begun.CompareAndSwap(false, true) {
			return event.ErrStopped
		}
		defer a.changes.work.Done()
		return work()
	})
	if begun.CompareAndSwap(false, true) {
		a.changes.work.Done()
	}
	return err
}

// release gives a port's device back while others run. It fails only when the
// loop has ended: settle goes on then.
func (a *Agent) release(t *event.Task, p *port) error {
	a.express.removePort(a, p)
	at := p.attached
	p.attached = attached{link: p.link}
	a.changes.flight = &at
	err := a.await(t, at.close)
	if errors.Is(err, event.ErrStopped) {
		return err
	}
	a.changes.flight = nil
	if err != nil {
		a.log.Warn("close port", "device", p.cfg.Device, "error", err)
	}
	return nil
}

// breather returns a function that lets others have their turn when the job has
// run for a stretch. It fails when the loop has ended.
func breather(t *event.Task) func() error {
	begin := time.Now()
	return func() error {
		if time.Since(begin) < stretch {
			return nil
		}
		err := t.Yield()
		begin = time.Now()
		return err
	}
}

// settle ends what jobs have begun, when the loop has ended.
func (a *Agent) settle() error {
	a.changes.work.Wait()
	if at := a.changes.flight; at != nil {
		a.changes.flight = nil
		return at.close()
	}
	return nil
}

// attached is a device as the workers have it.
type attached struct {
	plane  *plane
	id     fib.PortID
	hold   *netdev.Hold
	dev    device
	shares []share // by worker; nil: handed over
	link   netdev.Link

	express *xdp.Express // to attach with; nil: none
	estate  *xdp.Estate
}

// open takes the device and gives it to the workers. It runs beside the loop,
// on which only the job waits that owns it: nobody stops the workers meanwhile.
func (at *attached) open(c wire.PortConfig) error {
	link, err := netdev.Get(c.Device)
	if err != nil {
		return err
	}
	at.link = link
	if at.hold, err = netdev.Take(c.Device, netdev.HoldOptions{}); err != nil {
		return err
	}
	if at.dev, err = attach(c, at.plane.ring, at.express, at.estate); err != nil {
		return errors.Join(err, at.close())
	}
	if err := at.openShares(); err != nil {
		return errors.Join(err, at.close())
	}
	// Take may have set it up; a change behind this is an event.
	if l, err := netdev.Get(c.Device); err == nil {
		at.link = l
	}
	return nil
}

// openShares gives each worker its queues, or the worker to hand frames to.
func (at *attached) openShares() error {
	workers := at.plane.workers
	owner := -1
	for i := range workers {
		var s share
		var err error
		// A port is opened by its worker: the pool is its own.
		workers[i].Do(func() { s, err = at.dev.open(i, len(workers), at.plane.umems[i]) })
		if err != nil {
			return err
		}
		at.shares = append(at.shares, s)
		if s != nil && owner < 0 {
			owner = i
		}
	}
	if owner < 0 {
		return errNoShare
	}
	for i, s := range at.shares {
		if s == nil {
			workers[i].AddRemote(at.id, workers[owner])
			continue
		}
		workers[i].AddPort(s)
	}
	return nil
}

// close takes the port from the workers and gives the device back.
func (at *attached) close() error {
	var errs []error
	for i, s := range at.shares {
		w := at.plane.workers[i]
		w.RemovePort(at.id, nil)
		if s != nil {
			w.Do(func() { errs = append(errs, s.Close()) })
		}
	}
	if at.dev != nil {
		errs = append(errs, at.dev.close())
	}
	if at.hold != nil {
		errs = append(errs, at.hold.Release())
	}
	*at = attached{link: at.link}
	return errors.Join(errs...)
}
