package fwdlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Traffic says what the generator sends.
type Traffic struct {
	// Targets are destination addresses of one family, a power of two of them; sent in turn.
	Targets []netip.Addr
	// VLANs, if not 0, has the frames tagged: target k with tag 1 + k mod VLANs. They
	// must arrive with the same tag.
	VLANs int
	// Rate in packets a second; 0: as many as possible.
	Rate int
	// Stamp puts the time into packets, for delays.
	Stamp bool
	// CheckOneOf makes the sink check one packet in so many (a power of two).
	CheckOneOf int
	// Other, if there is one, is a second MAC address to which packets for targets
	// of odd index may be delivered; the sink checks it with the rest.
	Other net.HardwareAddr
	// Share leaves a quarter of the generator's core to others: it sends packet by packet, faster than Rate by
	// a quarter, and sleeps now and then for as long as makes Rate the mean.
	Share bool
	// Calm sends Rate in bursts, each 10 ms, from an ordinary thread that sleeps in
	// between: for tests beside others.
	Calm bool
}

// payloadSize makes IPv4 frames of 60 bytes, without the FCS.
const payloadSize = 18

// Running is traffic on its way.
type Running struct {
	objs trafficObjects
	link link.Link
	keep link.Link // of the generator, nil: none
	stop atomic.Bool
	done chan error

	stamped bool
}

// Start starts generator and sink.
func (l *Lab) Start(tr Traffic) (*Running, error) {
	r := &Running{done: make(chan error, 1), stamped: tr.Stamp}
	if err := r.load(tr); err != nil {
		return nil, fmt.Errorf("load traffic programs: %w", err)
	}
	err := l.Do(Sink, func() (err error) {
		nic, err := net.InterfaceByName(l.sink)
		if err != nil {
			return err
		}
		r.link, err = link.AttachXDP(link.XDPOptions{Program: r.objs.Sink, Interface: nic.Index, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach sink: %w", err), r.objs.Close())
	}
	if !tr.Calm {
		if _, err := l.pin(); err != nil { // attaching has restarted the sink's NAPI
			return nil, errors.Join(err, r.link.Close(), r.objs.Close())
		}
	}
	if tr.Calm || tr.Share {
		if err := l.Do(Gen, r.keepGenerator); err != nil {
			return nil, errors.Join(err, r.link.Close(), r.objs.Close())
		}
	}
	// The generator is a thread of the gen namespace on the hosts' core.
	go func() { r.done <- l.Do(Gen, func() error { return r.generate(l.gen, tr) }) }()
	return r, nil
}

// keepGenerator attaches the generator to the loopback device, where it sees nothing. The
// kernel waits for RCU, 20 ms, before and after a run of a program that is attached nowhere.
func (r *Running) keepGenerator() error {
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		r.keep, err = link.AttachXDP(link.XDPOptions{Program: r.objs.Generate, Interface: lo.Index, Flags: link.XDPGenericMode})
	}
	if err != nil {
		return fmt.Errorf("attach generator: %w", err)
	}
	return nil
}

func (r *Running) load(tr Traffic) error {
	n := len(tr.Targets)
	if n == 0 || n&(n-1) != 0 || tr.CheckOneOf < 1 || tr.CheckOneOf&(tr.CheckOneOf-1) != 0 {
		return fmt.Errorf("%d targets, check one of %d: want powers of two", n, tr.CheckOneOf)
	}
	if tr.Share && (tr.Rate <= 0 || tr.Calm) {
		return fmt.Errorf("share the generator's core at %d packets a second, calm: %v", tr.Rate, tr.Calm)
	}
	spec, err := loadTraffic()
	if err != nil {
		return err
	}
	v6, targets := uint32(0), "targets"
	if tr.Targets[0].Is6() {
		v6, targets = 1, "targets6"
	}
	spec.Maps[targets].MaxEntries = uint32(n)
	var dst, other [8]byte
	copy(dst[:], MACSink)
	copy(other[:], tr.Other)
	pace := interval(tr.Rate)
	switch {
	case tr.Calm:
		pace = 0
	case tr.Share:
		pace = interval(tr.Rate + tr.Rate/4)
	}
	stamp := uint32(0)
	if tr.Stamp {
		stamp = 1
	}
	for name, v := range map[string]any{
		"template": [21]uint32(words(tr.frame())), "six": v6, "vlans": uint32(tr.VLANs),
		"target_mask": uint32(n - 1), "stamp": stamp, "flows": uint32(min(n, 1<<14) - 1),
		"interval": pace, "check_mask": uint32(tr.CheckOneOf - 1), "want_dst": binary.NativeEndian.Uint64(dst[:]), "want_ttl": uint8(63),
		"other_dst": binary.NativeEndian.Uint64(other[:]),
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&r.objs, nil); err != nil {
		return err
	}
	if v6 != 0 {
		err = fillTargets(r.objs.Targets6, tr.Targets, netip.Addr.As16)
	} else {
		err = fillTargets(r.objs.Targets, tr.Targets, netip.Addr.As4)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write targets: %w", err), r.objs.Close())
	}
	return nil
}

func fillTargets[T any](m *ebpf.Map, list []netip.Addr, bytes func(netip.Addr) T) error {
	keys, values := make([]uint32, len(list)), make([]T, len(list))
	for i, a := range list {
		keys[i], values[i] = uint32(i), bytes(a)
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}

// words is a frame in the generator's template.
func words(f []byte) []uint32 {
	w := make([]uint32, 21)
	for i := range w {
		var b [4]byte
		copy(b[:], f[min(4*i, len(f)):])
		w[i] = binary.NativeEndian.Uint32(b[:])
	}
	return w
}

// frame is a UDP packet to be completed by the generator program.
func (tr *Traffic) frame() []byte {
	f := append(append([]byte(nil), MACIn...), MACGen...)
	if tr.VLANs > 0 {
		f = append(f, 0x81, 0, 0, 0)
	}
	const l4 = 8 + payloadSize
	if tr.Targets[0].Is6() {
		src := Source6.As16()
		f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, l4, 17, 64)
		f = append(f, src[:]...)
		f = append(f, make([]byte, 16)...)
	} else {
		src := Source.As4()
		f = append(f, 8, 0, 0x45, 0, 0, 20+l4, 0, 0, 0x40, 0, 64, 17, 0, 0)
		f = append(f, src[:]...)
		f = append(f, 0, 0, 0, 0)
	}
	f = append(f, 4, 0, 0, 9, 0, l4, 0, 0)
	return append(f, make([]byte, payloadSize)...)
}

// xdpMD is struct xdp_md.
type xdpMD struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }

// interval is the time between packets in ns.
func interval(rate int) uint64 {
	if rate <= 0 {
		return 0
	}
	return uint64(time.Second) / uint64(rate)
}

// runsPerCall is how often one system call runs the generator: a call costs
// milliseconds of setting up. runBatch is how many frames it takes at a time, the
// most the kernel allows: as many pages wait to be used again, so that the router,
// which frees them, need not give them back to the system (a NIC keeps its own, too).
const (
	runsPerCall = 1 << 19
	runBatch    = 256
)

func (r *Running) generate(dev string, tr Traffic) error {
	nic, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	if !tr.Calm {
		if err := pinThread(unix.Gettid(), HostCore, generatorPriority); err != nil {
			return err
		}
	}
	f := tr.frame()
	run := newTestRun(r.objs.Generate.FD(), f, xdpMD{DataEnd: uint32(len(f)), Ingress: uint32(nic.Index)})
	defer run.release()
	next := r.pacer(tr)
	for !r.stop.Load() {
		n, err := next()
		if err != nil {
			return err
		}
		run.attr.repeat = uint32(n)
		if err := run.call(); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("generate: %w", err)
		}
	}
	return nil
}

// pacer returns a function that waits until the next call is due and says how many runs it has.
func (r *Running) pacer(tr Traffic) func() (int, error) {
	start, sent := time.Now(), 0
	switch {
	case tr.Calm:
		return func() (int, error) {
			if sent > 0 {
				sleep(burst)
			}
			n := max(int(time.Since(start).Seconds()*float64(tr.Rate))-sent, 1)
			sent += n
			return min(n, mostAtOnce), nil
		}
	case tr.Share:
		return func() (int, error) {
			var sent uint64
			if err := r.objs.Sent.Get(&sent); err != nil {
				return 0, fmt.Errorf("read generator: %w", err)
			}
			if sent > 0 {
				due := start.Add(time.Duration(float64(sent) / float64(tr.Rate) * float64(time.Second)))
				sleep(max(time.Until(due), leastPause))
			}
			return runsPerTurn, nil
		}
	}
	return func() (int, error) { return runsPerCall, nil }
}

// A generator that shares its core runs about 10 ms at a time. Having paused for more than
// 1 ms it goes on at its pace, and makes up for nothing.
const (
	runsPerTurn = 1 << 17
	leastPause  = 1500 * time.Microsecond
)

// burst is the time between those of a calm generator, mostAtOnce the most packets in one,
// less than a veth's ring takes. What is beyond that is not sent at all.
const (
	burst      = 10 * time.Millisecond
	mostAtOnce = 128
)

// Halt ends the generator's sending: what is on its way still arrives, to be seen before Stop.
func (r *Running) Halt() error {
	if err := r.objs.Halt.Set(uint32(1)); err != nil {
		return fmt.Errorf("halt generator: %w", err)
	}
	return nil
}

// Seen is what came to the sink.
type Seen struct {
	Good, Bad, Foreign, Checked uint64
	Odd, Other                  uint64 // good ones of targets of odd index; of them, at Traffic.Other
	Sent                        uint64 // by the generator
}

// Seen reads the sink's counters.
func (r *Running) Seen() (Seen, error) {
	var perCPU []trafficCounts
	if err := r.objs.Seen.Lookup(uint32(0), &perCPU); err != nil {
		return Seen{}, fmt.Errorf("read sink: %w", err)
	}
	var s Seen
	if err := r.objs.Sent.Get(&s.Sent); err != nil {
		return Seen{}, fmt.Errorf("read generator: %w", err)
	}
	for _, c := range perCPU {
		s.Good += c.Good
		s.Bad += c.Bad
		s.Foreign += c.Foreign
		s.Checked += c.Checked
		s.Odd += c.Odd
		s.Other += c.Other
	}
	return s, nil
}

// delayUnit is the width of a bucket of delays.
const delayUnit = 512 * time.Nanosecond

// Delays reads the histogram of times on the way, in buckets of 512 ns.
func (r *Running) Delays() ([]uint64, error) {
	h := make([]uint64, r.objs.Delays.MaxEntries())
	var perCPU []uint64
	for i := range h {
		if err := r.objs.Delays.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read delays: %w", err)
		}
		for _, n := range perCPU {
			h[i] += n
		}
	}
	return h, nil
}

// Quantile finds the delay that the share q of the packets did not exceed.
func Quantile(h []uint64, q float64) time.Duration {
	total := uint64(0)
	for _, n := range h {
		total += n
	}
	left := uint64(q * float64(total))
	for i, n := range h {
		if n > left {
			return time.Duration(i+1) * delayUnit
		}
		left -= n
	}
	return time.Duration(len(h)) * delayUnit
}

// Stop ends the traffic and frees its programs.
func (r *Running) Stop() error {
	r.stop.Store(true)
	halted := r.objs.Halt.Set(uint32(1))
	err := <-r.done
	if r.keep != nil {
		err = errors.Join(err, r.keep.Close())
	}
	return errors.Join(halted, err, r.link.Close(), r.objs.Close())
}
