package router

import (
	"errors"

	"godwit/controlplane/kernel"
	"godwit/event"
)

// Host is the kernel's side of the router: kernel.Host.
type Host interface {
	EnsureVRF(vrf string) (netns string, err error)
	RemoveVRF(vrf string) error
	EnsureInterface(vrf string, want kernel.Interface) error
	RemoveInterface(vrf, name string) error
	Clean() error
}

// Leftovers tells what a former routing engine left: kernel.Host.
type Leftovers interface {
	VRFs() ([]string, error)
	Interfaces(vrf string) ([]string, error)
}

var (
	_ Host      = (*kernel.Host)(nil)
	_ Leftovers = (*kernel.Host)(nil)
)

// hostQueue runs work on the host stack, which blocks, off the loop: one piece
// at a time, in order.
type hostQueue struct {
	h    *event.Handler
	jobs []hostJob
	busy bool
}

type hostJob struct {
	work func() error
	done func(error)
}

// run queues work; done runs on the loop.
func (q *hostQueue) run(work func() error, done func(error)) {
	q.jobs = append(q.jobs, hostJob{work, done})
	q.next()
}

func (q *hostQueue) next() {
	if q.busy || len(q.jobs) == 0 {
		return
	}
	q.busy = true
	job := q.jobs[0]
	q.jobs = q.jobs[1:]
	q.h.Async(job.work, func(err error) {
		q.busy = false
		job.done(err)
		q.next()
	})
}

// add makes and mends what a plan needs. Interfaces in keep exist, and are
// left as they are until their port's MAC address is known.
func (p *hostPlan) add(h Host, keep map[string]bool) error {
	for _, v := range p.addVRFs {
		if _, err := h.EnsureVRF(v); err != nil {
			return err
		}
	}
	for _, i := range p.setIfs {
		if i.MAC == nil && keep[i.vrf+"/"+i.Name] {
			continue
		}
		if err := h.EnsureInterface(i.vrf, i.Interface); err != nil {
			return err
		}
	}
	return nil
}

// remove takes away what a plan does not need any more.
func (p *hostPlan) remove(h Host) error {
	var errs []error
	for _, i := range p.removeIfs {
		errs = append(errs, h.RemoveInterface(i.vrf, i.Name))
	}
	for _, v := range p.removeVRFs {
		errs = append(errs, h.RemoveVRF(v))
	}
	return errors.Join(errs...)
}

// adopt compares what a former routing engine left with what a plan wants: it
// removes the rest, and returns the interfaces that are there.
func (p *hostPlan) adopt(h Host, l Leftovers) (map[string]bool, error) {
	want := map[string]bool{}
	for _, v := range p.addVRFs {
		want[v] = true
	}
	for _, i := range p.setIfs {
		want[i.vrf+"/"+i.Name] = true
	}
	there := map[string]bool{}
	vrfs, err := l.VRFs()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, v := range vrfs {
		if !want[v] {
			errs = append(errs, h.RemoveVRF(v))
			continue
		}
		names, err := l.Interfaces(v)
		errs = append(errs, err)
		for _, name := range names {
			if want[v+"/"+name] {
				there[v+"/"+name] = true
			} else {
				errs = append(errs, h.RemoveInterface(v, name))
			}
		}
	}
	return there, errors.Join(errs...)
}
