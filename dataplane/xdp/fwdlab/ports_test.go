package fwdlab

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp"
	"godwit/fib"
)

// wirer moves packets from In to Out without a lookup: what the ports alone cost.
type wirer struct {
	in, out *xdp.Port
	umem    *xdp.Umem
	stop    atomic.Bool
	tid     chan int
	done    chan error
	rounds  int
	packets int
}

func (w *wirer) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := netdev.UrgentThread(); err != nil {
		w.done <- err
		return
	}
	w.tid <- unix.Gettid()
	var v graph.Vector
	fds := []unix.PollFd{{Fd: int32(w.in.Fds(nil)[0]), Events: unix.POLLIN}}
	for !w.stop.Load() {
		if err := w.in.Rx(&v); err != nil {
			w.done <- err
			return
		}
		if v.N == 0 {
			w.out.Flush()
			unix.Poll(fds, 10)
			continue
		}
		w.rounds++
		w.packets += v.N
		for _, p := range v.P[:v.N] {
			copy(p.Data, MACSink)
			copy(p.Data[6:], MACOut)
			p.Data[22]--
			// RFC 1624: the TTL is the upper byte of its word.
			sum := uint32(binary.BigEndian.Uint16(p.Data[24:])) + 0x100
			binary.BigEndian.PutUint16(p.Data[24:], uint16(sum+sum>>16))
		}
		w.out.Tx(&v)
		w.out.Flush()
	}
	w.done <- nil
}

// TestPorts forwards through AF_XDP ports, slowly and then as fast as it goes.
func TestPorts(t *testing.T) {
	l, err := New("gwt-fwdlab")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	u, err := xdp.NewUmem(xdp.DefaultFrames, xdp.DefaultChunk)
	must(t, err)
	w := &wirer{umem: u, tid: make(chan int, 1), done: make(chan error, 1)}
	var in, out *xdp.Device
	must(t, l.Do(Router, func() (err error) {
		if in, err = xdp.Attach(l.In, xdp.Options{ID: fib.MakePortID(1, 1)}); err != nil {
			return err
		}
		if out, err = xdp.Attach(l.Out, xdp.Options{ID: fib.MakePortID(1, 2)}); err != nil {
			return err
		}
		if w.in, err = in.Open(u, 0); err != nil {
			return err
		}
		w.out, err = out.Open(u, 0)
		return err
	}))
	go w.run()
	tid := <-w.tid
	tr := Traffic{
		Targets: Targets([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, 256, 1),
		Rate:    20_000, Stamp: true, CheckOneOf: 1,
	}
	res, err := l.Measure(tr, []int{tid}, 100*time.Millisecond, 300*time.Millisecond)
	must(t, err)
	if res.Seen.Checked != res.Seen.Good || res.PerFrame < 100 {
		t.Errorf("%v a packet, seen %+v", res.PerFrame, res.Seen)
	}
	tr.Rate, tr.Stamp, tr.CheckOneOf = 2_000_000, false, 16
	res, err = l.Measure(tr, []int{tid}, 200*time.Millisecond, time.Second)
	must(t, err)
	w.stop.Store(true)
	must(t, <-w.done)
	t.Logf("%.0f of %.0f pps, %v a packet, %d packets a round", res.PPS, res.Offered, res.PerFrame, w.packets/max(1, w.rounds))
	in2, out2 := w.in.Counters(), w.out.Counters()
	if in2.RxPackets != uint64(w.packets) || out2.TxPackets+out2.Drops[netdev.TxRingFull] != in2.RxPackets {
		t.Errorf("%d packets moved; in %+v, out %+v", w.packets, in2, out2)
	}
	must(t, w.in.Close())
	must(t, w.out.Close())
	must(t, in.Close())
	must(t, out.Close())
	if u.Pool().Free() != u.Pool().Size() {
		t.Errorf("%d of %d frames came home", u.Pool().Free(), u.Pool().Size())
	}
	must(t, u.Close())
}
