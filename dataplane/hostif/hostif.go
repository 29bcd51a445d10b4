// Package hostif opens the host stack's side of a router: the TAP of an
// interface and the TUN of a VRF, which live in the VRF's network namespace and
// are made there, persistent, by somebody else.
//
//	host stack of the VRF ── TAP/TUN ──▶ one reader goroutine a Device ──▶ receive
//	                              ◀──── Write (never blocks)
//
// Promises: frames are read in order; receive is called by the reader only, one
// frame at a time, and may block (then frames wait in the kernel's queue, which
// drops); after Close returned, receive is not called again. Write, SetCarrier
// and Close belong to one goroutine.
package hostif

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrMissing says that the namespace or the device does not exist (yet).
var ErrMissing = errors.New("no such host interface")

// Kind is what a Device carries.
type Kind uint16

// The kinds of devices.
const (
	TAP Kind = unix.IFF_TAP // Ethernet frames
	TUN Kind = unix.IFF_TUN // IP packets; one queue of a multi-queue TUN
)

func (k Kind) String() string {
	if k == TUN {
		return "TUN"
	}
	return "TAP"
}

// maxFrame is the longest frame read, in bytes: there is a buffer for each
// device, and no MTU that a router uses is above 9,216.
const maxFrame = 16384

// Stats counts what a device has carried, seen from here.
type Stats struct {
	RxPackets, RxBytes uint64 // from the host stack
	TxPackets, TxBytes uint64 // to the host stack
	TxErrors           uint64 // refused by the host stack: the device is down
	TooLong            uint64 // from the host stack, longer than any buffer here: dropped
}

// Device is one attached TAP, or queue of a TUN.
type Device struct {
	kind Kind
	name string
	fd   int
	file *os.File
	done chan struct{} // closed when the reader has ended

	rxPackets, rxBytes, txPackets, txBytes, txErrors, tooLong atomic.Uint64
}

// Open attaches to the device name in the namespace (a path; empty: the
// caller's own) and starts its reader. lost is called by the reader, once, when
// the device goes away other than by Close.
func Open(kind Kind, netns, name string, receive func([]byte), lost func(error)) (*Device, error) {
	fd, err := attach(kind, netns, name)
	if err != nil {
		return nil, fmt.Errorf("open %v %s: %w", kind, name, err)
	}
	d := &Device{
		kind: kind, name: name, fd: fd,
		file: os.NewFile(uintptr(fd), name), // not blocking: read through the poller
		done: make(chan struct{}),
	}
	go d.read(receive, lost)
	return d, nil
}

// attach opens a queue of the device from a thread that has entered the
// namespace for that. A thread that can't come back is not used again.
func attach(kind Kind, netns, name string) (int, error) {
	if netns == "" {
		return attachHere(kind, name)
	}
	type result struct {
		fd  int
		err error
	}
	res := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		fd, back, err := attachThere(kind, netns, name)
		if back {
			runtime.UnlockOSThread()
		}
		res <- result{fd, err}
	}()
	r := <-res
	return r.fd, r.err
}

// attachThere reports, besides, whether the thread is back where it was.
func attachThere(kind Kind, netns, name string) (fd int, back bool, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, true, fmt.Errorf("open own namespace: %w", err)
	}
	defer unix.Close(home)
	ns, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, true, fmt.Errorf("%w: namespace %s", ErrMissing, netns)
	}
	if err != nil {
		return -1, true, fmt.Errorf("open namespace %s: %w", netns, err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, true, fmt.Errorf("enter namespace %s: %w", netns, err)
	}
	fd, err = attachHere(kind, name)
	if e := unix.Setns(home, unix.CLONE_NEWNET); e != nil {
		return fd, false, err
	}
	return fd, true, err
}

// attachHere opens a queue of a device that exists in the thread's namespace.
func attachHere(kind Kind, name string) (int, error) {
	if err := exists(name); err != nil {
		return -1, err
	}
	// A persistent device is only joined with the queue mode that it was made with.
	modes := []uint16{0, unix.IFF_MULTI_QUEUE}
	if kind == TUN {
		modes = []uint16{unix.IFF_MULTI_QUEUE, 0}
	}
	var err error
	for _, m := range modes {
		var fd int
		if fd, err = setIff(name, uint16(kind)|unix.IFF_NO_PI|m); err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return -1, err
}

// exists keeps TUNSETIFF from making a device that nobody has configured.
func exists(name string) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(s)
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr); errors.Is(err, unix.ENODEV) {
		return ErrMissing
	} else if err != nil {
		return fmt.Errorf("find device: %w", err)
	}
	return nil
}

func setIff(name string, flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		// No offload, whatever an earlier owner has set: checksums are complete.
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attach: %w", err)
	}
	return fd, nil
}

func (d *Device) read(receive func([]byte), lost func(error)) {
	defer close(d.done)
	buf := make([]byte, maxFrame+1) // one more tells what was cut
	for {
		n, err := d.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			lost(fmt.Errorf("read %v %s: %w", d.kind, d.name, err))
			return
		}
		if n > maxFrame {
			d.tooLong.Add(1)
			continue
		}
		d.rxPackets.Add(1)
		d.rxBytes.Add(uint64(n))
		receive(buf[:n])
	}
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Write hands one frame, or packet, to the host stack. It never blocks: what
// the stack refuses is counted.
func (d *Device) Write(frame []byte) bool {
	n, err := unix.Write(d.fd, frame)
	if err != nil {
		d.txErrors.Add(1)
		return false
	}
	d.txPackets.Add(1)
	d.txBytes.Add(uint64(n))
	return true
}

// SetCarrier tells the host stack whether there is a link.
func (d *Device) SetCarrier(up bool) error {
	v := 0
	if up {
		v = 1
	}
	if err := unix.IoctlSetPointerInt(d.fd, unix.TUNSETCARRIER, v); err != nil {
		return fmt.Errorf("set carrier of %s: %w", d.name, err)
	}
	return nil
}

// Stats may be called from any goroutine.
func (d *Device) Stats() Stats {
	return Stats{
		RxPackets: d.rxPackets.Load(), RxBytes: d.rxBytes.Load(),
		TxPackets: d.txPackets.Load(), TxBytes: d.txBytes.Load(), TxErrors: d.txErrors.Load(), TooLong: d.tooLong.Load(),
	}
}

// Close detaches and waits for the reader. The device itself, persistent, stays.
func (d *Device) Close() error {
	err := d.file.Close()
	<-d.done
	if err != nil {
		return fmt.Errorf("close %v %s: %w", d.kind, d.name, err)
	}
	return nil
}
