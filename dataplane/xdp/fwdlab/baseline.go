package fwdlab

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf/link"
)

// Baseline is an XDP forwarder to compare with.
type Baseline string

// The baselines.
const (
	Redirect  Baseline = "redirect"   // to one neighbour, without a lookup
	FIBLookup Baseline = "fib_lookup" // by the kernel's tables: the kernel forwards, too
)

// Forwarder is a baseline that forwards from In to Out.
type Forwarder struct {
	objs  baselineObjects
	links []link.Link
}

// Forward attaches a baseline to the router's devices.
func (l *Lab) Forward(b Baseline) (*Forwarder, error) {
	f := &Forwarder{}
	err := l.Do(Router, func() error { return f.attach(l, b) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach baseline %s: %w", b, err), f.Close())
	}
	return f, nil
}

func (f *Forwarder) attach(l *Lab, b Baseline) error {
	spec, err := loadBaseline()
	if err != nil {
		return err
	}
	out, err := net.InterfaceByName(l.Out)
	if err != nil {
		return err
	}
	if err := spec.Variables["out"].Set(uint32(out.Index)); err != nil {
		return err
	}
	if err := spec.Variables["macs"].Set([12]byte(append(append([]byte(nil), MACSink...), MACOut...))); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(&f.objs, nil); err != nil {
		return err
	}
	prog := f.objs.Redirect
	if b == FIBLookup {
		prog = f.objs.Fib
	}
	for _, name := range []string{l.In, l.Out} {
		nic, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		if err := f.objs.Devices.Put(uint32(nic.Index), uint32(nic.Index)); err != nil {
			return err
		}
		x, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: nic.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return err
		}
		f.links = append(f.links, x)
	}
	return nil
}

// Close takes the baseline away.
func (f *Forwarder) Close() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, f.objs.Close())...)
}
